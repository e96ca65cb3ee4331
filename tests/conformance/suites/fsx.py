"""fsx, the file system exerciser: random operations on one file, every read compared.

`base` starts from a file that was in the directory before it was mounted, `layer` takes a snapshot
every 50 operations while fsx goes on, `revert` goes back to a snapshot at random points.
"""

import mmap
import os
import random
import subprocess
import threading

from harness.place import Inside, Llfs, Place
from harness.shell import Failed, must, stop_group
from harness.snapper import Snapper
from harness.tools import cargo_tool, say

SETTINGS = ["plain", "empty", "base", "layer", "revert"]
VERSION = "0.3.2"
# The longest file, bytes; `fsx.toml` below says the same.
LENGTH = 262144
# fsx truncates its file when it starts. With FSX_KEEP=FILE it leaves the file under test as it is
# and expects the bytes of FILE (kept on another filesystem) in it.
EDITS = [
    (
        "src/main.rs",
        "oo.create(true).truncate(true);",
        'oo.create(true).truncate(std::env::var_os("FSX_KEEP").is_none());',
    ),
    (
        "src/main.rs",
        "let file_size = if conf.blockmode { flen } else { 0 };",
        """let kept = std::env::var_os("FSX_KEEP").map(|path| fs::read(path).unwrap());
        let file_size = match &kept {
            Some(bytes) => bytes.len() as u64,
            None if conf.blockmode => flen,
            None => 0,
        };""",
    ),
    (
        "src/main.rs",
        "let good_buf = vec![0u8; flen as usize];",
        """let mut good_buf = vec![0u8; flen as usize];
        if let Some(bytes) = &kept {
            good_buf[..bytes.len()].copy_from_slice(bytes);
        }""",
    ),
    # fsx never unmaps what it read through: after 100,000 operations every truncate walks through
    # thousands of mappings, on any filesystem.
    (
        "src/main.rs",
        "size);\n        }\n    }\n\n    fn domapwrite",
        "size);\n            munmap(p, map_size).unwrap();\n        }\n    }\n\n    fn domapwrite",
    ),
]
WEIGHTS = f"""flen = {LENGTH}
nomsyncafterwrite = %s
[opsize]
min = 1
max = %d
[weights]
close_open = 1
invalidate = 2
mapread = 8
mapwrite = 10
read = 10
write = 15
truncate = 6
fsync = 0.2
fdatasync = 0.2
posix_fallocate = 4
punch_hole = 5
sendfile = 6
posix_fadvise = 2
copy_file_range = 6
"""
# Operation sizes, and whether fsx leaves out msync after stores through a mapping.
SHAPES = [(65536, "false"), (4500, "true"), (65536, "true"), (9000, "false")]


def start_bytes():
    """What the file of the setting `base` holds before the mount: not a whole number of blocks."""
    return random.Random(7).randbytes(LENGTH - 60000)


def place(setting, directory):
    """Where to run; `base` has the files of every seed in the base."""
    if directory:
        return Inside(directory)
    if setting == "plain":
        return Place()
    if setting != "base":
        return Llfs()

    def fill(base):
        for seed in range(1, 5):
            (base / f"fsx-{seed}").write_bytes(start_bytes())

    return Llfs(fill)


class Fsx:
    """fsx on one file, with the configuration that belongs to a seed."""

    def __init__(self, place, seed):
        self.binary = cargo_tool("fsx", VERSION, EDITS)
        self.seed = seed
        self.scratch = place.scratch / f"seed-{seed}"
        self.scratch.mkdir(exist_ok=True)
        self.file = place.directory / f"fsx-{seed}"
        self.kept = self.scratch / "kept"
        self.config = self.scratch / "fsx.toml"
        size, lazy = SHAPES[(seed - 1) % len(SHAPES)]
        self.config.write_text(WEIGHTS % (lazy, size))

    def args(self, operations, seed, *more):
        """The command line of a run."""
        return [
            self.binary, *more, "-f", self.config, "-P", self.scratch,
            "-N", str(operations), "-S", str(seed), self.file,
        ]  # fmt: skip

    def run(self, operations, seed, keep=False):
        """A run to its end; `keep` starts from what `kept` holds."""
        env = {"FSX_KEEP": str(self.kept)} if keep else {}
        must(self.args(operations, seed), 60 + operations / 100, env=env)

    def watched(self, operations, seed, keep, each, every):
        """A run that calls `each(count)` at every `every` operations while fsx goes on.

        fsx writes a line for each operation into a pipe of one page, so it can be some fifty
        operations ahead and no more. `each` returns False to have fsx killed there.
        """
        env = dict(os.environ)
        if keep:
            env["FSX_KEEP"] = str(self.kept)
        process = subprocess.Popen(
            [str(a) for a in self.args(operations, seed, "-v")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=env,
            pipesize=4096,
            start_new_session=True,
        )
        watchdog = threading.Timer(120 + operations / 20, stop_group, [process])
        watchdog.start()
        count = 0
        tail = []
        try:
            for line in process.stderr:
                tail = [*tail[-30:], line]
                if line.startswith(b"[INFO"):
                    count += 1
                    if count % every == 0 and each(count) is False:
                        stop_group(process)
                        return count
            status = process.wait(30)
        finally:
            watchdog.cancel()
            stop_group(process)
        if status != 0:
            end = b"".join(tail).decode("utf-8", "replace")
            raise Failed(f"fsx -S {seed}: exit status {status} after {count} operations\n{end}")
        return count


def with_snapshots(fsx, place, operations):
    """A snapshot for every 50 operations, from another process."""
    snapper = Snapper(place.llfs)
    fsx.watched(operations, fsx.seed, False, lambda _: snapper.take(), 50)
    if snapper.taken < operations / 200:
        raise Failed(f"only {snapper.taken} snapshots were taken")
    say(f"fsx seed {fsx.seed}: {snapper.taken} snapshots")
    place.llfs.ctl("delete", "--yes", *snapper.names)


class Witness:
    """What a program sees that had the file open and mapped before anything was reverted."""

    def __init__(self, path):
        self.path = path
        self.fd = os.open(path, os.O_RDONLY)
        size = os.fstat(self.fd).st_size
        self.map = mmap.mmap(self.fd, size, mmap.MAP_SHARED, mmap.PROT_READ) if size else None
        if self.map:
            self.map[:]

    def close(self):
        if self.map:
            self.map.close()
        os.close(self.fd)

    def compare(self, name, bytes_, facts):
        """Path, descriptor and mapping have to show these bytes and attributes."""
        if read(self.path) != bytes_:
            raise Failed(f"{name}: other bytes through the path{first(read(self.path), bytes_)}")
        seen = os.pread(self.fd, LENGTH + 1, 0)
        if seen != bytes_:
            raise Failed(f"{name}: other bytes through the old descriptor{first(seen, bytes_)}")
        if self.map and self.map[: len(bytes_)] != bytes_[: len(self.map)]:
            raise Failed(f"{name}: other bytes through the old mapping")
        for where, now in (("path", os.stat(self.path)), ("descriptor", os.fstat(self.fd))):
            if facts_of(now) != facts:
                raise Failed(f"{name}: {where}: {facts_of(now)} instead of {facts}")


def first(seen, wanted):
    """Where two byte strings differ first, in words."""
    at = next((i for i, (a, b) in enumerate(zip(seen, wanted)) if a != b), None)
    where = f"first at {at:#x}" if at is not None else "one is the other's beginning"
    return f" ({where}; {len(seen)} instead of {len(wanted)} bytes)"


def read(path):
    """All bytes of a file."""
    with open(path, "rb") as file:
        return file.read()


def facts_of(status):
    """The attributes that a revert restores."""
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode, status.st_nlink)


def with_reverts(fsx, place, operations):
    """Rounds of: run, snapshot, run on (every other time killed in the middle), revert, compare."""
    rng = random.Random(fsx.seed)
    done = rounds = 0
    llfs = place.llfs
    while done < operations:
        first_run, second_run = rng.randint(20, 900), rng.randint(20, 900)
        seeds = rng.randrange(1 << 32), rng.randrange(1 << 32)
        where = f"seed {fsx.seed}, round {rounds}"
        fsx.run(first_run, seeds[0], keep=rounds > 0)
        name = f"round-{fsx.seed}-{rounds}"
        llfs.ctl("snap", name)
        before = read(fsx.file)
        facts = facts_of(os.stat(fsx.file))
        fsx.kept.write_bytes(before)
        witness = Witness(fsx.file)
        try:
            if rng.random() < 0.5:
                stop = rng.randint(1, second_run)
                fsx.watched(second_run, seeds[1], True, lambda n, at=stop: n < at, 1)
            else:
                fsx.run(second_run, seeds[1], keep=True)
            after = read(fsx.file)
            after_facts = facts_of(os.stat(fsx.file))
            llfs.ctl("revert", name)
            witness.compare(f"{where}, revert", before, facts)
            # A revert that changes nothing keeps nothing that could be undone.
            if rng.random() < 0.25 and (after, after_facts) != (before, facts):
                llfs.ctl("undo")
                witness.compare(f"{where}, undo", after, after_facts)
                llfs.ctl("redo")
                witness.compare(f"{where}, undo of the undo", before, facts)
        finally:
            witness.close()
        llfs.ctl("delete", "--yes", name)
        done += first_run + second_run
        rounds += 1
    say(f"fsx seed {fsx.seed}: {rounds} reverts")


def run(place, setting, quick, report):
    """Two seeds of 10,000 operations, or four of 200,000."""
    operations, seeds = (10_000, 2) if quick else (200_000, 4)
    for seed in range(1, seeds + 1):
        fsx = Fsx(place, seed)
        case = f"seed {seed}, {operations} operations"
        if setting == "layer":
            report.check(case, with_snapshots, fsx, place, operations)
        elif setting == "revert":
            report.check(case, with_reverts, fsx, place, operations)
        elif setting == "base":
            fsx.kept.write_bytes(start_bytes())
            report.check(case, fsx.run, operations, seed, True)
        else:
            report.check(case, fsx.run, operations, seed)
