"""A plain directory: what everything is compared with."""

from harness.proc import run
from .backend import Backend, Session


class Plain(Backend):
    name = "plain"

    def open(self, ctx, base, where):
        run(["cp", "-a", "--reflink=never", base.path, where / "tree"], ctx.env)
        return Session(ctx, where / "tree", where)
