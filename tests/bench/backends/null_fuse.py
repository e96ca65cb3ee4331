"""A FUSE daemon that only answers (nullfs.c): what a FUSE daemon costs at the least. It keeps no data, so that not every workload can
run on it, and shows an empty directory instead of the base."""

from harness.proc import run
from .backend import Backend, Session, needs, unmount


class NullSession(Session):
    def close(self):
        unmount(self.root)  # its daemon ends with the mount
        super().close()


class KeepingFuse(Backend):
    """The same, but that it loses nothing when it dies: the least that a daemon with such a promise costs."""

    name = "keeping FUSE"
    only = ("small", "large", "writes", "sqlite")

    def missing(self, ctx):
        return needs([])

    def open(self, ctx, base, where):
        for name in ("mnt", "keep"):
            (where / name).mkdir()
        run([ctx.nullfs, where / "mnt", where / "keep"], ctx.env, limit=60)
        return NullSession(ctx, where / "mnt", where)


class NullFuse(Backend):
    name = "null FUSE"
    only = ("small", "large", "writes")

    def missing(self, ctx):
        return needs([])

    def open(self, ctx, base, where):
        (where / "mnt").mkdir()
        run([ctx.nullfs, where / "mnt"], ctx.env, limit=60)
        return NullSession(ctx, where / "mnt", where)
