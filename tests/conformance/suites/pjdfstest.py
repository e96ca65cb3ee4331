"""pjdfstest, the POSIX conformance suite: every case that passes on a plain ext4 has to pass.

In the setting `layer` every file that a case makes for itself is in an earlier layer than the
call under test: a hook at the end of the suite's file builder asks us for a snapshot.
"""

import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time

from harness.place import Ext4, Inside, Llfs
from harness.shell import Failed, stop_group
from harness.snapper import Snapper
from harness.tools import cargo_tool, need

SETTINGS = ["plain", "empty", "layer", "snapshot"]
VERSION = "0.2.2"
# The bound on the whole suite, seconds.
DEADLINE = 900

# The hook: one byte to descriptor PJDFSTEST_LAYER_FD, one byte back. A descriptor, not a path,
# because the suite changes its user identity.
HOOK = """
pub(crate) fn earlier_layer() {
    use std::os::fd::FromRawFd;
    let Some(fd) = std::env::var("PJDFSTEST_LAYER_FD").ok().and_then(|v| v.parse().ok()) else {
        return;
    };
    let file = unsafe { std::fs::File::from_raw_fd(fd) };
    let mut file = std::mem::ManuallyDrop::new(file);
    std::io::Write::write_all(&mut *file, b"s").unwrap();
    std::io::Read::read_exact(&mut *file, &mut [0u8]).unwrap();
}
"""
# The suite remounts through mount(8). A filesystem can be busy for a moment after its last writer
# has gone, and mount(8) must not look for a helper program of ours.
SHIM = """#!/bin/bash
for _ in {{1..100}}; do
    words=$({mount} -i "$@" 2>&1) && exit 0
    [[ $words == *busy* ]] || break
    sleep 0.05
done
echo "$words" >&2
exit 32
"""
# The order of cases is the linker's. Some leave a descriptor open for writing, after which nothing
# can be remounted read-only (ext4 neither): the cases that remount go first.
ORDER = """
    let mut test_cases = test_cases;
    test_cases.sort_by_key(|case| (!case.name.contains("::erofs_"), case.name));
    umask(Mode::empty());"""
EDITS = [
    ("src/main.rs", "static BACKTRACE", HOOK + "\nstatic BACKTRACE"),
    ("src/main.rs", "\n    umask(Mode::empty());", ORDER),
    (
        "src/context.rs",
        "        }?;\n\n        Ok(path)\n    }\n\n    /// Create the file according",
        "        }?;\n\n        crate::earlier_layer();\n        Ok(path)\n    }\n\n"
        "    /// Create the file according",
    ),
    (
        "src/context.rs",
        ".map(|fd| (path, fd))",
        ".map(|fd| { crate::earlier_layer(); (path, fd) })",
    ),
]


def place(setting, directory):
    """Where to run: `plain` is an ext4 of its own, since cases remount it read-only."""
    if directory:
        return Inside(directory)
    return Ext4() if setting == "plain" else Llfs()


def config(remountable):
    """Every feature that Linux has, and two users that every Debian has."""
    return f"""[features]
posix_fallocate = {{}}
rename_ctime = {{}}
utime_now = {{}}
utimensat = {{}}
[settings]
naptime = 0.02
allow_remount = {"true" if remountable else "false"}
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"""


def another_filesystem(place):
    """A directory on another filesystem than the one under test, for the cases of EXDEV."""
    tested = os.stat(place.directory).st_dev
    for parent in (place.scratch, "/dev/shm", "/var/tmp"):
        if os.path.isdir(parent) and os.stat(parent).st_dev != tested:
            path = tempfile.mkdtemp(prefix="llfs-conformance-", dir=parent)
            os.chmod(path, 0o777)
            return path
    raise Failed("no second filesystem on this machine")


class Layers(threading.Thread):
    """Answers the hook: a snapshot for each byte, then a byte back."""

    def __init__(self, llfs, ours):
        super().__init__(daemon=True)
        self.snapper = Snapper(llfs)
        self.ours = ours
        self.error = None

    def run(self):
        with self.ours:
            while self.ours.recv(1):
                try:
                    if not self.error:
                        self.snapper.take()
                except Failed as error:
                    self.error = error
                self.ours.send(b"k")


def outcomes(text):
    """Case name -> (ok, skipped or FAILED, the lines below it)."""
    cases = {}
    name = None
    for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines():
        found = re.match(r"^(\S+::\S+)\s+(ok|skipped|FAILED)$", line)
        if found:
            name = found.group(1)
            cases[name] = (found.group(2), [])
        elif name and line.strip():
            if line.startswith("Backtrace:") or line.strip() == "Stack backtrace:":
                name = None  # what follows is the suite's own stack
                continue
            cases[name][1].append(line.strip())
    return cases


def run(place, setting, quick, report):
    """Runs the whole suite (it takes seconds); `quick` changes nothing."""
    binary = cargo_tool("pjdfstest", VERSION, EDITS)
    need("getfacl", "acl")
    settings = place.scratch / "pjdfstest.toml"
    settings.write_text(config(place.remountable and os.geteuid() == 0))
    shim = place.scratch / "bin" / "mount"
    shim.parent.mkdir()
    shim.write_text(SHIM.format(mount=need("mount", "mount")))
    shim.chmod(0o755)
    elsewhere = another_filesystem(place)
    args = [binary, "-c", settings, "-s", elsewhere, "-p", place.directory]
    env = dict(os.environ, PATH=f"{shim.parent}:{os.environ['PATH']}")
    layers = None
    theirs = None
    if setting == "layer":
        ours, theirs = socket.socketpair()
        env["PJDFSTEST_LAYER_FD"] = str(theirs.fileno())
        layers = Layers(place.llfs, ours)
        layers.start()
    beside = place.llfs if setting == "snapshot" else None
    output = place.scratch / "pjdfstest.out"
    with Snapper(beside, forgiving=True) as snapper, output.open("wb") as file:
        process = subprocess.Popen(
            [str(a) for a in args],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=env,
            pass_fds=[theirs.fileno()] if theirs else [],
            start_new_session=True,
        )
        if theirs:
            theirs.close()
        deadline = time.monotonic() + DEADLINE
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        hung = process.poll() is None
        if hung:
            stop_group(process)
    shutil.rmtree(elsewhere, ignore_errors=True)
    cases = outcomes(output.read_text("utf-8", "replace"))
    for case, (outcome, lines) in cases.items():
        if outcome == "ok":
            report.passes(case)
        elif outcome == "skipped":
            report.skipped(case, "; ".join(lines) or "skipped")
        else:
            report.fails(case, "\n".join(lines) or "failed")
    if hung:
        report.fails("the whole suite", f"hung: not done in {DEADLINE} s after {len(cases)} cases")
    if setting == "layer":
        layers.join(10)
        taken = layers.snapper.taken
        if layers.error or taken < 300:
            report.fails("a snapshot before each call", f"{taken} taken: {layers.error}")
    if beside and (snapper.error or snapper.taken < 3):
        report.fails("snapshots beside the suite", f"{snapper.taken} were taken: {snapper.error}")
