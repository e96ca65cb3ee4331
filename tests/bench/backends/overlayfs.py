"""The kernel's overlayfs, with the base as its lower directory."""

from harness.proc import run
from .backend import Backend, Session, needs, unmount


class OverlaySession(Session):
    def close(self):
        unmount(self.root)
        super().close()


class Overlayfs(Backend):
    name = "overlayfs"

    def missing(self, ctx):
        with open("/proc/filesystems") as known:
            if "overlay" not in known.read():
                return "the kernel has no overlayfs"
        return needs(["mount"])

    def open(self, ctx, base, where):
        for part in ("upper", "work", "merged"):
            (where / part).mkdir()
        options = f"lowerdir={base.path},upperdir={where}/upper,workdir={where}/work"
        run(["mount", "-t", "overlay", "overlay", "-o", options, where / "merged"], ctx.env)
        return OverlaySession(ctx, where / "merged", where)
