"""stress-ng with --verify: its filesystem class and everything else in it that works on files.

Each stressor runs alone, under a deadline, while snapshots are taken every 100 ms. At the end
the daemon has to be as small as it was, its store clean, and its disk space back.
"""

import os
import re
import shutil

from harness.place import Inside, Llfs, Place
from harness.shell import Failed, attempt, poll
from harness.snapper import Snapper
from harness.tools import need, say

SETTINGS = ["plain", "empty", "snapshot"]
# Free space below which nothing is started, bytes: the stressors are bounded far below this, but
# up to 30 snapshots hold what was overwritten meanwhile.
ROOM = 12 << 30
# Stressors beside the class `filesystem` (file locks and inotify are in the class).
MORE = (
    "aio aiol chroot fault loop mmap mmapaddr mmapfixed mmapmany msync readahead revio rmap seek "
    "sendfile splice"
).split()
# What bounds the bytes that a stressor writes, and what makes it use the directory.
OPTIONS = {
    "copy-file": ["--copy-file-bytes", "128M"],
    "dirdeep": ["--dirdeep-inodes", "4000", "--dirdeep-bytes", "4K"],
    "fallocate": ["--fallocate-bytes", "16M"],
    "fiemap": ["--fiemap-bytes", "16M"],
    "hdd": ["--hdd-bytes", "32M"],
    "iomix": ["--iomix-bytes", "16M"],
    "mmap": ["--mmap-bytes", "16M", "--mmap-file"],
    "msync": ["--msync-bytes", "16M"],
    "readahead": ["--readahead-bytes", "32M"],
    "revio": ["--revio-bytes", "16M"],
    "seek": ["--seek-size", "16M"],
    "sendfile": ["--sendfile-size", "4M"],
    "sync-file": ["--sync-file-bytes", "16M"],
}


def place(setting, directory):
    """Where to run."""
    if directory:
        return Inside(directory)
    return Place() if setting == "plain" else Llfs()


def stressors(program):
    """The class as the installed stress-ng lists it, and ours."""
    listed = attempt([program, "--class", "filesystem?"], 20)
    found = re.search(r"stressors: (.*)", (listed.out + listed.err).decode())
    if not found:
        raise Failed(f"stress-ng does not list its classes:\n{listed.tail()}")
    return sorted(set(found.group(1).split()) | set(MORE))


def one(program, directory, name, seconds):
    """Runs one stressor with two workers; returns (passed, failed or skipped; why)."""
    args = [
        program, "--temp-path", directory, "--timeout", str(seconds), "--verify",
        f"--{name}", "2", *OPTIONS.get(name, []),
    ]  # fmt: skip
    result = attempt(args, seconds + 90)
    text = (result.out + result.err).decode("utf-8", "replace")
    if result.timed_out:
        return "failed", f"hung: not done {seconds + 90} s after it began\n{result.tail()}"
    if result.status != 0 or re.search(r"stress-ng: (fail|error):", text):
        if re.search(r"not (supported|implemented)|disabled", text) and "fail:" not in text:
            return "skipped", result.tail(3)
        return "failed", f"exit status {result.status}\n{result.tail()}"
    if re.search(r"skipping stress", text):
        return "skipped", result.tail(3)
    return "passed", ""


def empty(directory):
    """Takes away what the stressors left."""
    for entry in os.scandir(directory):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)
    left = os.listdir(directory)
    if left:
        raise Failed(f"still there after removing everything: {left}")


def disk(path):
    """Bytes that a tree takes on the disk."""
    total = 0
    for parent, _, files in os.walk(path):
        for name in files:
            try:
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512
            except FileNotFoundError:
                pass
    return total


def flat(before, after, growth):
    """The daemon's usage (resident KiB, descriptors) after has to be about that before."""
    say(f"daemon: {before[0]} KiB and {before[1]} descriptors, then {after[0]} KiB and {after[1]}")
    if after[1] > before[1] + 16:
        raise Failed(f"{before[1]} descriptors before, {after[1]} after")
    if after[0] > before[0] + growth:
        raise Failed(f"{before[0]} KiB resident before, {after[0]} after (allowed: {growth} more)")


def reclaimed(llfs):
    """With all files and snapshots gone, the store has to give their space back.

    The journal goes on holding the newest 200,000 changes until the next image, and the two images what there was when
    they were written: these have bounds of their own. Of blocks that nothing refers to less than 1 MiB stays, once
    nothing more is given up.
    """

    def parts():
        entries = sorted(os.scandir(llfs.store), key=lambda entry: entry.name)
        return {entry.name: disk(entry.path) for entry in entries if entry.is_dir()}

    def small():
        used = parts()
        records = used.pop("journal") + used.pop("images")
        return sum(used.values()) < 32 << 20 and records < 1 << 30

    try:
        poll("the space back", 90, small, 0.5)
    finally:
        say("stress: " + ", ".join(f"{name} {used >> 10} KiB" for name, used in parts().items()))


def run(place, setting, quick, report, only=None):
    """All stressors for 1 second each, or twice for 5 seconds."""
    program = need("stress-ng", "stress-ng")
    free = os.statvfs(place.scratch)
    if free.f_bavail * free.f_frsize < ROOM:
        raise Failed(f"{place.scratch}: less than {ROOM >> 30} GiB free")
    llfs = place.llfs
    usage = [llfs.settle()] if llfs else []
    seconds = 1 if quick else 5
    taken = 0
    for round_ in range(1 if quick else 2):
        for name in stressors(program):
            if only and only not in name:
                continue
            case = name if round_ == 0 else f"{name} again"
            reason = report.reason(name) or ""
            if reason and round_ > 0:
                continue
            if reason.startswith("not run:"):
                report.excludes(name)
                continue
            try:
                # A directory of its own: what one leaves must not be in the way of the next.
                mine = place.directory / f"stress-{name}"
                mine.mkdir()
                with Snapper(llfs if setting == "snapshot" else None) as snapper:
                    outcome, why = one(program, mine, name, seconds)
                taken += snapper.taken
            except (Failed, OSError) as error:
                outcome, why = "failed", str(error)
            if outcome == "passed":
                report.passes(case)
            elif outcome == "skipped":
                report.skipped(case, why)
            else:
                report.fails(case, why)
            say(f"stress {setting}: {case} {outcome}")
        report.check(f"everything removed, round {round_ + 1}", empty, place.directory)
        if llfs:
            usage.append(llfs.settle())
    if setting == "snapshot":
        say(f"stress: {taken} snapshots")
    if llfs:
        # The first round fills caches, and the allocator keeps some of what it had.
        report.check("memory and descriptors after the first round", flat, usage[0], usage[1], 256 << 10)
        if len(usage) > 2:
            report.check("memory and descriptors after the second round", flat, usage[1], usage[2], 48 << 10)
        report.check("disk space given back", reclaimed, llfs)
        report.check("llctl verify", llfs.ctl, "verify")
