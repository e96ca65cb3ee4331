"""Walking the tree, and unpacking and removing a part of it."""

from .group import Group, Row


def walk(m):
    walk = m.ops("walk", m.root)
    m.time("walk-cold", walk, cold=True)
    m.do(*walk)
    m.time("walk-warm", walk)
    m.time("walk-warm", walk)


def archive(m):
    into = m.root / "bench-untar"
    into.mkdir()
    m.time("untar", ["tar", "-C", into, "-xf", m.base.tar])
    m.time("rm", ["rm", "-rf", into])


GROUPS = [
    Group("walk", {
        "walk-cold": Row("walk + lstat all, cold", 1.5),
        "walk-warm": Row("walk + lstat all, warm", 1.15),
    }, walk),
    Group("archive", {
        "untar": Row("untar 1,300 files", 2),
        "rm": Row("rm -rf them", 2.5),
    }, archive),
]
