"""btrfs on a loop image that holds a copy of the base in a subvolume."""

from harness.proc import run
from .backend import Backend, Session, needs, unmount

IMAGE_GIB = 5


class BtrfsSession(Session):
    def snap(self, name):
        return ["btrfs", "subvolume", "snapshot", "-r", self.root, self.root.parent / f"snap-{name}"]

    def revert(self, name):
        # A new writable subvolume in the place of the old one. Programs that have files open keep the old ones.
        script = 'mv "$1" "$1.old" && exec btrfs subvolume snapshot "$2" "$1"'
        return ["sh", "-c", script, "sh", self.root, self.root.parent / f"snap-{name}"]

    def after_revert(self):
        run(["btrfs", "subvolume", "delete", f"{self.root}.old"], self.ctx.env)

    def close(self):
        unmount(self.where / "mnt")
        super().close()


class Btrfs(Backend):
    name = "btrfs"
    snapshots = True

    def missing(self, ctx):
        return needs(["mkfs.btrfs", "btrfs", "losetup"])

    def open(self, ctx, base, where):
        image, mnt = where / "image", where / "mnt"
        mnt.mkdir()
        with image.open("wb") as f:
            f.truncate(IMAGE_GIB << 30)
        run(["mkfs.btrfs", "-q", image], ctx.env)
        # mount sets the loop device up so that the unmount detaches it.
        run(["mount", "-o", "loop,noatime", image, mnt], ctx.env)
        session = BtrfsSession(ctx, mnt / "tree", where)
        try:
            run(["btrfs", "subvolume", "create", mnt / "tree"], ctx.env)
            run(["cp", "-a", "--reflink=never", f"{base.path}/.", mnt / "tree"], ctx.env)
            run(["sync", "-f", mnt], ctx.env)
        except BaseException:
            session.close()
            raise
        return session
