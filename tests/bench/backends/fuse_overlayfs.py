"""fuse-overlayfs, the overlay that rootless containers use."""

import os

from harness.proc import run
from .backend import Backend, Session, needs, unmount


class FuseOverlaySession(Session):
    def close(self):
        unmount(self.root)
        super().close()


class FuseOverlayfs(Backend):
    name = "fuse-overlayfs"

    def missing(self, ctx):
        return needs(["fuse-overlayfs"], root=False) or (None if os.geteuid() == 0 else "needs root")

    def open(self, ctx, base, where):
        for part in ("upper", "work", "merged"):
            (where / part).mkdir()
        options = f"lowerdir={base.path},upperdir={where}/upper,workdir={where}/work"
        run(["fuse-overlayfs", "-o", options, where / "merged"], ctx.env, limit=60)
        return FuseOverlaySession(ctx, where / "merged", where)
