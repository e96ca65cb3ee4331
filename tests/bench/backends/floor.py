"""FUSE daemons that do as little as possible (floor/): what a FUSE daemon costs at the least."""

from harness.proc import run
from .backend import Backend, Session, needs, unmount


class FloorSession(Session):
    def close(self):
        unmount(self.root)  # its daemon ends with the mount
        super().close()


class NullFuse(Backend):
    """Only answers: it keeps no data and shows an empty directory instead of the base, so that not every workload can run on it."""

    name = "null FUSE"
    only = ("small", "large", "writes")

    def missing(self, ctx):
        return needs([])

    def open(self, ctx, base, where):
        (where / "mnt").mkdir()
        run([ctx.floor, where / "mnt"], ctx.env, limit=60)
        return FloorSession(ctx, where / "mnt", where)


class KeepingFuse(Backend):
    """Loses nothing when it dies: the least that a daemon with such a promise costs. It writes into a copy of the base in place."""

    name = "keeping FUSE"
    only = ("walk", "archive", "small", "large", "writes", "sqlite", "git", "cargo")
    checked = True

    def missing(self, ctx):
        return needs([])

    def open(self, ctx, base, where):
        for name in ("mnt", "keep"):
            (where / name).mkdir()
        run(["cp", "-a", "--reflink=never", base.path, where / "keep" / "base"], ctx.env)
        run([ctx.floor, where / "mnt", where / "keep"], ctx.env, limit=60)
        return FloorSession(ctx, where / "mnt", where)
