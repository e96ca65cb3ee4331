"""One large file."""

from harness.proc import timed

from .group import Group, Row


def large(m):
    path = m.root / "bench-large.img"
    m.time("big-write", m.ops("bigwrite", path, m.ctx.sizes.big_mib))
    m.time("big-read-cold", m.ops("bigread", path), cold=True)
    m.do(*m.ops("bigread", path))
    m.time("big-read-warm", m.ops("bigread", path))
    m.time("random", m.ops("random", path, m.ctx.sizes.random_writes, m.ctx.sizes.big_mib))
    took = timed(m.ops("remove", path, m.ctx.sizes.big_mib, m.ctx.tmp), m.ctx.env)
    # Where there is no disk below, or one in an image that does not shrink, it was waited for in vain.
    if took < 5:
        m.value("big-remove", took)


GROUPS = [
    Group("large", {
        "big-write": Row("write 512 MB + fsync", 1.2),
        "big-read-cold": Row("read it, cold", 1.2),
        "big-read-warm": Row("read it, warm", 1.1),
        "random": Row("20,000 random 4 KB writes into it", 1.5),
        "big-remove": Row("remove it, until the disk has its space"),
    }, large),
]
