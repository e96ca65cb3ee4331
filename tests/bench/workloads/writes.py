"""Small writes, with and without fsync."""

from .group import Group, Row


def writes(m):
    path = m.root / "bench-log"
    m.time("append", m.ops("append", path, m.ctx.sizes.appends, 100))
    path.unlink()
    m.do("sync", "-f", m.ctx.tmp)
    m.time("fsync", m.ops("sync", path, m.ctx.sizes.syncs))
    path.unlink()


GROUPS = [
    Group("writes", {
        "append": Row("20,000 appends of 100 B", 10),
        "fsync": Row("200 x (4 KB write + fsync)", 1.2),
    }, writes),
]
