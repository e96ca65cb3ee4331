"""cargo in the small workspace of the base."""

import shutil

from harness.proc import Failed
from .group import Group, Row


def cargo(m):
    if not shutil.which("cargo"):
        raise Failed("cargo is not installed")
    where = m.root / "tiny"
    build = ["cargo", "build", "-q", "--offline", "--manifest-path", where / "Cargo.toml"]
    m.time("build", build)
    m.time("no-op", build)
    with (where / "beta" / "src" / "lib.rs").open("a") as f:
        f.write("pub fn newer() -> u32 { 2 }\n")
    m.time("incremental", build)
    m.do("rm", "-rf", where / "target")


GROUPS = [
    Group("cargo", {
        "build": Row("cargo build", 1.05),
        "no-op": Row("cargo build, nothing to do", 1.3),
        "incremental": Row("cargo build, one file changed", 1.1),
    }, cargo),
]
