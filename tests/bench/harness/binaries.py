"""The programs that are measured: found or built."""

import os
import shutil
from pathlib import Path

from .proc import Failed, run

HERE = Path(__file__).resolve().parent.parent
CFLAGS = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread"]
SOURCES = {"ops": [HERE / "ops.c"], "floor": sorted((HERE / "floor").glob("*.c"))}


def provide(ctx):
    """Sets ctx.llfs, ctx.llctl, ctx.ops and ctx.floor."""
    given = os.environ.get("LLFS_BIN_DIR")
    where = Path(given) if given else target_dir(ctx) / "release"
    if not given and not all((where / name).exists() for name in ("llfs", "llctl")):
        print("bench: building llfs and llctl (release)", flush=True)
        run(["cargo", "build", "--release", "-p", "llfs", "-p", "llctl"], dict(os.environ), cwd=ctx.repo, limit=1800)
    for name in ("llfs", "llctl"):
        program = where / name
        if not program.exists():
            raise Failed(f"{program} is missing")
        # A copy: whoever rebuilds meanwhile does not change what is measured.
        setattr(ctx, name, Path(shutil.copy2(program, ctx.tmp / name)))
    for name, sources in SOURCES.items():
        setattr(ctx, name, ctx.tmp / name)
        run(["gcc", *CFLAGS, "-o", ctx.tmp / name, *sources], ctx.env)


def target_dir(ctx):
    return Path(os.environ.get("CARGO_TARGET_DIR") or ctx.repo / "target")
