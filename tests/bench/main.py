#!/usr/bin/env python3
"""Measures llfs against a plain directory and what else there is: see docs/PERFORMANCE.md."""

import argparse
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from backends import ALL
from harness import binaries, source_tree
from harness.context import Context, Sizes
from harness.proc import Failed, run
from harness.rounds import Rounds
from report import curves, plot, table
from scaling import Scaling
from workloads import GROUPS


SCALING_LIMIT = 330  # seconds


def arguments():
    parser = argparse.ArgumentParser(
        prog="tests/bench/run", formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__,
        epilog="workloads: " + " ".join(g.name for g in GROUPS) + "\nbackends:  " + ", ".join(b.name for b in ALL)
        + "\n\nLLFS_BIN_DIR names a directory with llfs and llctl; otherwise they are built. Cold rows, overlayfs and btrfs"
        "\nneed root. Less than 8 GiB of disk are used below --tmp and given back at the end.",
    )
    parser.add_argument("--tree", metavar="DIR", type=Path, help="measure on a copy of DIR instead of a made-up tree")
    parser.add_argument("--rounds", metavar="N", type=int, help="how often everything is measured [5; with --quick 2]")
    parser.add_argument("--quick", action="store_true", help="less of everything, to try it out")
    parser.add_argument("--long", action="store_true", help="the largest rows too")
    parser.add_argument("--scaling", action="store_true", help="instead: snap and revert against the numbers of files, changes "
                        "and snapshots; without --quick 6 minutes and 10 GiB of disk at most")
    parser.add_argument("--only", metavar="WORKLOAD", action="append", help="only this workload; may be repeated")
    parser.add_argument("--backend", metavar="NAME", action="append", help="only this backend; may be repeated")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("bench-results"), help="where results go [bench-results]")
    parser.add_argument("--tmp", metavar="DIR", type=Path, help="where to work; not a tmpfs [$TMPDIR or /tmp]")
    args = parser.parse_args()
    known = {g.name for g in GROUPS}
    for name in args.only or []:
        if name not in known:
            parser.error(f"no workload {name}; there are: {' '.join(sorted(known))}")
    if args.tree:
        args.tree = args.tree.resolve()
        if not args.tree.is_dir():
            parser.error(f"{args.tree} is not a directory")
    return args


def machine(ctx):
    """What the numbers were measured on."""
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    memory = next(int(line.split()[1]) for line in open("/proc/meminfo") if line.startswith("MemTotal"))
    return {
        "kernel": platform.release(), "cpu": model, "cpus": os.cpu_count(), "memory_gib": round(memory / (1 << 20)),
        "filesystem": run(["stat", "-f", "-c", "%T", ctx.tmp], ctx.env).strip(),
        "llfs": run([ctx.llfs, "--version"], ctx.env).strip(), "load": os.getloadavg()[0],
    }


def context(args, tmp):
    """A run in `tmp`, with its programs."""
    ctx = Context(tmp=tmp, repo=Path(__file__).resolve().parents[2],
                  sizes=Sizes.quick() if args.quick else Sizes.long() if args.long else Sizes())
    ctx.prepare_env()
    binaries.provide(ctx)
    return ctx


def measure_scaling(ctx, args):
    """Writes the scaling's results and returns what is to be shown."""
    about = machine(ctx)
    scales = Scaling(ctx, args.quick, SCALING_LIMIT).run()
    about["load_after"] = os.getloadavg()[0]
    results = {"machine": about, "quick": args.quick, "scales": [vars(scale) for scale in scales]}
    (args.out / "scaling.json").write_text(json.dumps(results, indent=1) + "\n")
    text = table.about(about, about["llfs"]) + "\n\n" + curves.table(scales)
    (args.out / "scaling.md").write_text(text)
    (args.out / "scaling.svg").write_text(curves.render(scales))
    return f"\n{text}\nbench: scaling.json, scaling.md and scaling.svg are in {args.out}"


def measure(ctx, args):
    groups = [g for g in GROUPS if not args.only or g.name in args.only]
    if not ctx.sizes.million_files:
        groups = [g for g in groups if g.base != "million"]
    backends, skipped = [], {}
    for backend in ALL:
        if args.backend and backend.name not in args.backend:
            continue
        why = backend.missing(ctx)
        if why:
            skipped[backend.name] = why
            print(f"bench: {backend.name} is left out: {why}", flush=True)
        else:
            backends.append(backend)
    about = machine(ctx)
    print("bench: making the trees", flush=True)
    bases = {}
    if any(g.base == "tree" for g in groups):
        bases["tree"] = source_tree.make(ctx, args.tree)
        about["files"] = len(bases["tree"].files)
    if any(g.base == "big" for g in groups):
        bases["big"] = source_tree.make_big(ctx)
    if any(g.base == "million" for g in groups):
        bases["million"] = source_tree.make_flat(ctx, ctx.tmp / "million-base", ctx.sizes.million_files, 100, 1_000)
    rounds = Rounds(ctx, groups, backends, bases)
    try:
        for number in range(args.rounds or (2 if args.quick else 5)):
            rounds.round(number)
    except KeyboardInterrupt:
        print("bench: interrupted; this is what there is", flush=True)
    about["load_after"] = os.getloadavg()[0]
    return {"machine": about, "sizes": vars(ctx.sizes), "quick": args.quick, "rounds": rounds.done, "skipped": skipped,
            "failures": rounds.failures, "samples": rounds.samples}


def main():
    args = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    args.out.mkdir(parents=True, exist_ok=True)
    tmp = Path(tempfile.mkdtemp(prefix="llfs-bench-", dir=args.tmp))
    try:
        ctx = context(args, tmp)
        if args.scaling:
            print(measure_scaling(ctx, args))
            return 0
        results = measure(ctx, args)
    except Failed as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(tmp, ignore_errors=True)
    (args.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    text = table.render(results, GROUPS)
    (args.out / "table.md").write_text(text)
    (args.out / "plot.svg").write_text(plot.render(results, GROUPS))
    print(f"\n{text}\nbench: results.json, table.md and plot.svg are in {args.out}")
    return 1 if {"llfs", "keeping FUSE"} & set(results["failures"]) else 0


if __name__ == "__main__":
    sys.exit(main())
