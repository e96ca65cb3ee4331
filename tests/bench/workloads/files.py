"""Many small files: new ones, and those of the base."""

from .group import Group, Row


def small(m):
    where, n = m.root / "bench-small", m.ctx.sizes.small_files
    where.mkdir()
    m.time("create", m.ops("create", where, n, m.ctx.sizes.small_bytes))
    m.time("edit", m.ops("edit", where, n))
    m.do(*m.ops("read", where, n))
    m.time("read", m.ops("read", where, n))
    m.time("rename", m.ops("rename", where, n))
    m.time("unlink", m.ops("unlink", where, n))
    where.rmdir()


GROUPS = [
    Group("small", {
        "create": Row("3,000 files of 2 KB: create", 2),
        "edit": Row("… edit in place", 3),
        "read": Row("… read, warm", 1.5),
        "rename": Row("… rename", 2),
        "unlink": Row("… unlink", 2.5),
    }, small),
]
