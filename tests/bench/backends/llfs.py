"""llfs, mounted over the base in place."""

import json
import os
import signal

from harness.proc import Failed, run
from .backend import Backend, Session, unmount


class LlfsSession(Session):
    def __init__(self, ctx, base, where):
        super().__init__(ctx, base.path, where)
        self.mount()

    def mount_command(self):
        return [self.ctx.llfs, "mount", "--json", "--store", self.where / "store", self.root]

    def mount(self):
        self.pid = json.loads(run(self.mount_command(), self.ctx.env, limit=120))["pid"]
        self.found()

    def found(self):
        """Who serves the mount, whoever made it: the process that answers, and the one that holds the mount."""
        said = run([self.ctx.llctl, "-C", self.root, "status", "--json"], self.ctx.env, limit=60)
        status = json.loads(said)
        self.pid = status["pid"]
        self.worker = status.get("worker") or self.pid

    def unmount(self):
        run([self.ctx.llfs, "unmount", self.root], self.ctx.env, limit=120)
        self.pid = None

    def snap(self, name):
        return [self.ctx.llctl, "-C", self.root, "snap", name]

    def revert(self, name):
        return [self.ctx.llctl, "-C", self.root, "revert", name]

    def close(self):
        if os.path.ismount(self.root):
            try:
                self.unmount()
            except Failed as failure:
                print(f"bench: {failure}", flush=True)
                unmount(self.root)
                self.kill()
        super().close()

    def kill(self):
        try:
            if self.pid:
                os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # what was wanted


class Llfs(Backend):
    name = "llfs"
    snapshots = True
    checked = True

    def missing(self, ctx):
        return None if os.path.exists("/dev/fuse") else "no /dev/fuse"

    def open(self, ctx, base, where):
        return LlfsSession(ctx, base, where)
