"""Not measured: that a tree which is changed in many ways holds the same as a plain copy of it that is changed alike."""

import shutil
import sys
from collections import Counter
from pathlib import Path

from harness.proc import Failed, drop_caches
from .group import Group

CHILD = Path(__file__).with_name("same_child.py")


def same(m):
    top = Counter(name.split("/")[0] for name in m.base.files if "/" in name).most_common(1)[0][0]
    twin = m.ctx.tmp / "twin"
    twin.mkdir()
    try:
        m.do("cp", "-a", "--reflink=never", m.root / top, twin / top)
        for root in (m.root, twin):
            m.do(sys.executable, "-I", "-S", CHILD, "change", root, top, m.base.tar)
        drop_caches()  # so that the daemon has to know
        found, wanted = (m.do(sys.executable, "-I", "-S", CHILD, "print", root).splitlines() for root in (m.root, twin))
    finally:
        shutil.rmtree(twin)
    if found != wanted:
        differs = next((pair for pair in zip(found, wanted) if pair[0] != pair[1]), (len(found), len(wanted)))
        raise Failed(f"not the same as a plain directory: {differs[0]} instead of {differs[1]}")


GROUPS = [Group("same", {}, same, kind="same")]
