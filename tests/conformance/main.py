"""The command line of the conformance suites: `run SUITE DIR` or `run SUITE --setting NAME`."""

import argparse
import importlib
import signal
import sys
import time

import harness.place
from harness.report import Report
from harness.shell import Failed
from harness.tools import say

SUITES = ["pjdfstest", "fsx", "stress", "programs", "databases", "copyup", "concurrency"]
# What CI runs: minutes, not hours.
QUICK = [
    ("pjdfstest", "empty"),
    ("pjdfstest", "snapshot"),
    ("fsx", "empty"),
    ("fsx", "base"),
    ("fsx", "layer"),
    ("fsx", "revert"),
    ("stress", "snapshot"),
    ("programs", "snapshot"),
    ("databases", "revert"),
    ("copyup", "base"),
    ("copyup", "layer"),
    ("concurrency", "base"),
    ("concurrency", "snapshot"),
    ("concurrency", "revert"),
]


def arguments():
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="run",
        description="Runs a conformance suite in a directory, or on an llfs mount of its own. "
        "The last line of each run is `SUITE SETTING: N passed, N failed, N excluded`; "
        "the exit status is 1 when anything failed.",
        epilog="Examples: run all --setting all | run fsx /mnt/x | run pjdfstest --setting layer | "
        "run quick",
    )
    parser.add_argument("suite", choices=[*SUITES, "all", "quick"], help="quick: the list that CI runs")
    parser.add_argument("directory", nargs="?", help="run below this directory, whatever it is on")
    parser.add_argument("--setting", help="plain, empty, base, layer, snapshot, revert (as the suite has them) or all")
    parser.add_argument("--quick", action="store_true", help="fewer operations and shorter runs")
    parser.add_argument("--only", metavar="CASE", help="only the cases whose name contains this (stress, programs, databases)")
    parser.add_argument("--seed", type=int, help="only this seed (concurrency)")
    return parser, parser.parse_args()


def one(suite, setting, directory, quick, only=None, seed=None):
    """One suite in one setting; returns whether nothing failed."""
    module = importlib.import_module(f"suites.{suite}")
    report = Report(suite, setting or "dir", quick)
    say(f"{suite} {report.setting} begins")
    started = time.monotonic()
    harness.place.LIMIT = 900 if quick else 3 * 3600
    try:
        with module.place(setting, directory) as place:
            options = {"only": only} if only else {}
            if seed is not None:
                options["seed"] = seed
            module.run(place, report.setting, quick, report, **options)
    except Exception as error:  # a suite that cannot run is a failed case, not a lost one
        report.fails("the suite itself", f"{type(error).__name__}: {error}")
    good = report.finish(record=not only and seed is None)
    say(f"{suite} {report.setting} took {time.monotonic() - started:.0f} s")
    return good


def main():
    """Runs what was asked for; returns the exit status."""
    parser, args = arguments()
    good = True
    if args.suite == "quick":
        if args.directory or args.setting:
            parser.error("`quick` brings its own settings")
        for suite, setting in QUICK:
            good &= one(suite, setting, None, True)
        return 0 if good else 1
    if bool(args.directory) == bool(args.setting):
        parser.error("give a directory or --setting")
    if args.seed is not None and args.suite != "concurrency":
        parser.error("only `concurrency` has seeds to choose from")
    for suite in SUITES if args.suite == "all" else [args.suite]:
        if args.directory:
            good &= one(suite, None, args.directory, args.quick, args.only, args.seed)
            continue
        known = importlib.import_module(f"suites.{suite}").SETTINGS
        if args.setting == "all":
            chosen = known
        elif args.setting in known:
            chosen = [args.setting]
        elif args.suite == "all":
            continue
        else:
            parser.error(f"{suite} has the settings {', '.join(known)}")
        for setting in chosen:
            good &= one(suite, setting, None, args.quick, args.only, args.seed)
    return 0 if good else 1


if __name__ == "__main__":
    # Whoever ends us gets everything unmounted first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except Failed as error:
        sys.exit(f"conformance: {error}")
