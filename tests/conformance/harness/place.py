"""Where a suite runs: a plain directory, an ext4 of its own, or an llfs mount of its own."""

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .shell import Failed, attempt, must, poll
from .tools import need, say

# After so many seconds a mount counts as hung and is aborted; `run` shortens it for quick runs.
LIMIT = 3 * 3600
# Aborts a FUSE connection unless its stdin ends first. A process of its own: a thread of ours that
# touches a mapping of a hung file stops all the others.
WATCHDOG = """
import select, sys
if not select.select([sys.stdin], [], [], float(sys.argv[1]))[0]:
    open(sys.argv[2], "w").write("1")
    sys.stderr.write("conformance: the mount hung and was aborted\\n")
"""
REPOSITORY = Path(__file__).resolve().parents[3]


@functools.cache
def binaries():
    """The directory with `llfs` and `llctl`: LLFS_BIN_DIR, or the release build, brought up to date."""
    given = os.environ.get("LLFS_BIN_DIR")
    if given:
        directory = Path(given)
    else:
        target = os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target"
        directory = Path(target) / "release"
        say("building llfs and llctl")
        must(["cargo", "build", "--release", "-p", "llfs", "-p", "llctl"], 1800, cwd=REPOSITORY)
    for name in ("llfs", "llctl"):
        if not (directory / name).exists():
            raise Failed(f"{directory / name}: no such program")
    return directory


class Place:
    """A directory to run in, and a scratch directory outside of it. Both go when it closes."""

    llfs = None
    remountable = False

    def __init__(self, parent=None):
        self.scratch = Path(tempfile.mkdtemp(prefix="llfs-conformance-", dir=parent))
        # The suites' unprivileged users have to reach what is below.
        self.scratch.chmod(0o755)
        self.directory = self.scratch / "work"

    def open(self):
        """Makes the directory usable."""
        self.directory.mkdir()
        return self

    def close(self):
        """Takes everything away."""
        shutil.rmtree(self.scratch, ignore_errors=True)

    def __enter__(self):
        try:
            return self.open()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_):
        self.close()


class Inside(Place):
    """A fresh directory in one that the caller named."""

    def __init__(self, directory):
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="conformance-", dir=directory))
        self.directory.chmod(0o755)

    def open(self):
        return self

    def close(self):
        shutil.rmtree(self.directory, ignore_errors=True)
        super().close()


class Ext4(Place):
    """A loop-mounted ext4: the reference that llfs is compared with, and free to be remounted."""

    remountable = True

    def open(self):
        image = self.scratch / "image"
        with image.open("wb") as file:
            file.truncate(4 << 30)
        must([need("mkfs.ext4", "e2fsprogs"), "-q", "-F", image], 60)
        self.directory.mkdir()
        must(["mount", "-o", "loop", image, self.directory], 30)
        self.directory.chmod(0o755)
        return self

    def close(self):
        if os.path.ismount(self.directory):
            if attempt(["umount", self.directory], 60).status != 0:
                attempt(["umount", "-l", self.directory], 60)
        super().close()


class Llfs(Place):
    """An llfs mount over a base that `fill(base)` may put things into first."""

    remountable = True

    def __init__(self, fill=None):
        super().__init__()
        self.llfs = self
        self.watchdog = None
        self.fill = fill
        self.bin = binaries()
        self.store = self.scratch / "store"
        # Sockets and logs of this run stay apart from any other mount of this machine.
        self.env = {
            "XDG_RUNTIME_DIR": str(self.scratch / "run"),
            "XDG_STATE_HOME": str(self.scratch / "state"),
        }

    def open(self):
        if not os.path.exists("/dev/fuse"):
            raise Failed("/dev/fuse: not there; llfs cannot be tested on this machine")
        for name in ("run", "state", "work"):
            (self.scratch / name).mkdir()
        (self.scratch / "run").chmod(0o700)
        if self.fill:
            self.fill(self.directory)
        self.mount()
        return self

    def mount(self):
        """Mounts; returns when it is usable."""
        must([self.bin / "llfs", "mount", self.directory, "--store", self.store], 60, env=self.env)
        if not os.path.ismount(self.directory):
            raise Failed("llfs mount said that all went well, but nothing is mounted")
        self.watchdog = subprocess.Popen(
            [sys.executable, "-c", WATCHDOG, str(LIMIT), self.abort_file()], stdin=subprocess.PIPE
        )

    def unmount(self):
        """Unmounts as a user would; the changes stay in the store."""
        must([self.bin / "llfs", "unmount", self.directory], 120, env=self.env)
        self.calm()

    def calm(self):
        """Sends the watchdog home."""
        if self.watchdog:
            self.watchdog.stdin.close()
            self.watchdog.wait(10)
            self.watchdog = None

    def remount(self):
        """Unmount and mount again: what a reboot does."""
        self.unmount()
        self.mount()

    def ctl(self, *args, timeout=60):
        """`llctl -C <mount> ...`; it has to succeed."""
        return must(
            [self.bin / "llctl", "-C", self.directory, *args], timeout, env=self.env, cwd="/"
        )

    def status(self):
        """What `llctl status --json` says."""
        return json.loads(self.ctl("status", "--json").out)

    def processes(self):
        """Every process of this mount: those whose command line names its directory."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                program = os.readlink(entry / "exe")
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.path.basename(program.split(" ")[0]) == "llfs" and os.fsencode(self.scratch) in words:
                found.append(int(entry.name))
        pid = self.status().get("pid")
        if pid and pid not in found:
            found.append(pid)
        return found

    def usage(self):
        """Resident KiB and open descriptors of the daemon, all its processes together."""
        resident = descriptors = 0
        for pid in self.processes():
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    resident += int(line.split()[1])
            descriptors += len(os.listdir(f"/proc/{pid}/fd"))
        return resident, descriptors

    def device(self):
        """The minor device number of the mount, which names its connection; None when there is none."""
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            fields = line.split()
            if fields[4] == str(self.directory):
                return fields[2].split(":")[1]
        return None

    def abort_file(self):
        """The kernel's file that ends a hung mount: every waiting request fails, and its callers can be killed."""
        control = Path("/sys/fs/fuse/connections")
        if not os.path.ismount(control):
            must(["mount", "-t", "fusectl", "fusectl", control], 10)
        return control / self.device() / "abort"

    def close(self):
        if self.device():
            done = attempt([self.bin / "llfs", "unmount", self.directory], 60, env=self.env)
            if done.status != 0 and self.device():
                say(f"llfs unmount failed, detaching: {done.tail(3)}")
                self.abort_file().write_text("1")
                attempt(["umount", "-l", self.directory], 30)
        self.calm()
        super().close()

    def settle(self, timeout=20):
        """Waits until the daemon's memory stands still; returns its usage."""
        last = [self.usage(), time.monotonic()]

        def still():
            now = self.usage()
            if abs(now[0] - last[0][0]) > 256 or now[1] != last[0][1]:
                last[:] = [now, time.monotonic()]
            return time.monotonic() - last[1] > 1.0

        try:
            poll("steady memory", timeout, still, 0.2)
        except Failed:
            pass
        return self.usage()
