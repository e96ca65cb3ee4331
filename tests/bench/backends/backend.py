"""The interface of a backend."""

import os
import shutil
import subprocess


class Session:
    """A base that is shown at `root` and may be changed there. Close it to get rid of it."""

    def __init__(self, ctx, root, where):
        self.ctx = ctx
        self.root = root
        self.where = where
        self.pid = None  # the daemon's, where its memory counts

    def snap(self, name):
        """The command that takes a snapshot."""
        raise NotImplementedError

    def revert(self, name):
        """The command that goes back to a snapshot."""
        raise NotImplementedError

    def after_revert(self):
        """What need not be waited for."""

    def close(self):
        shutil.rmtree(self.where, ignore_errors=True)


class Backend:
    """Makes sessions."""

    name = ""
    snapshots = False  # has snap and revert
    workloads = True  # runs the ordinary workloads
    checked = False  # must do what a plain directory does
    only = None  # of these, only the groups named

    def missing(self, ctx):
        """Why this machine cannot run it, or None."""
        return None

    def open(self, ctx, base, where):
        """A session over `base`, whose files go below `where`, a directory that exists and is empty."""
        raise NotImplementedError


def unmount(path):
    """Unmounts, lazily if it must be."""
    for argv in (["umount", path], ["umount", "-l", path]):
        try:
            if subprocess.run(argv, stderr=subprocess.DEVNULL, timeout=60).returncode == 0:
                return
        except subprocess.TimeoutExpired:
            continue


def needs(programs, root=True):
    """Why something with these needs cannot run here, or None."""
    if root and os.geteuid() != 0:
        return "needs root"
    for program in programs:
        if not shutil.which(program):
            return f"{program} is not installed"
    return None
