"""Concurrency: several processes of several threads change one directory, one file, one tree at once.

The program is `llfs-contend` of the tests crate (`tests/src/contend` says what its threads do). Here it is
started several times over, snapshots, reverts and undos go on beside it, and whenever all is quiet
everything that must be true is checked. Seeds that ever found something are in `concurrency-seeds.tsv` and are
run again first; a seed chooses what every thread does, not in which order the kernel lets them run.
"""

import functools
import os
import random
import signal
import subprocess
import time
from pathlib import Path

from harness.place import REPOSITORY, Inside, Llfs, Place
from harness.shell import Failed, must, poll, stop_group
from harness.tools import say
from suites import objects
from suites.copyup import untouched

SETTINGS = ["plain", "empty", "base", "snapshot", "revert"]
SEEDS = Path(__file__).resolve().parent.parent / "concurrency-seeds.tsv"
FIRST = 20_261_121
PROCESSES, THREADS = 4, 3
# Seeds and seconds for each.
QUICK, FULL = (2, 5), (5, 20)
# Seconds for a seed that is run again.
AGAIN = 4
# Snapshots that are looked into after each seed.
SAMPLES = 6


@functools.cache
def contend():
    """The program: in LLFS_BIN_DIR, or the release build, brought up to date."""
    given = os.environ.get("LLFS_BIN_DIR")
    if given and (Path(given) / "llfs-contend").exists():
        return Path(given) / "llfs-contend"
    say("building llfs-contend")
    must(["cargo", "build", "--release", "-p", "llfs-tests", "--bin", "llfs-contend"], 1800, cwd=REPOSITORY)
    target = Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target")
    return target / "release" / "llfs-contend"


def place(setting, directory):
    """Where to run; `base` has what the threads work on in the base."""
    if directory:
        return Inside(directory)
    if setting == "plain":
        return Place()
    return Llfs(fill if setting == "base" else None)


def fill(root):
    """Directories for as many seeds as there may be."""
    for number in range(len(known("base")) + max(QUICK[0], FULL[0])):
        prepare(root / f"seed-{number}")


def prepare(directory):
    """What the threads of one seed work on, always the same."""
    directory.mkdir()
    must([contend(), "prepare", directory, "1"], 60)


def known(setting):
    """Seeds that found something in this setting."""
    rows = [line.split("\t") for line in SEEDS.read_text().splitlines() if not line.startswith("#")]
    return [int(seed) for seed, of, _ in rows if of == setting]


class Beside:
    """What goes on beside the threads: nothing, until a subclass says more."""

    exact = True

    def __init__(self, llfs, ledger, seed):
        self.llfs = llfs
        self.ledger = ledger
        self.random = random.Random(seed)
        # (name, ledger before, ledger after) of the snapshots that are still there
        self.taken = []
        self.count = 0
        self.reverts = 0

    def snap(self):
        """One snapshot, and what the threads had finished before it and begun after it."""
        name = f"{self.ledger.name}-{self.count}"
        self.count += 1
        before = self.ledger.read_bytes()
        self.llfs.ctl("snap", name)
        self.taken.append((name, before, self.ledger.read_bytes()))

    def delete(self):
        """Deletes any of the snapshots."""
        name, _, _ = self.taken.pop(self.random.randrange(len(self.taken)))
        self.llfs.ctl("delete", "--yes", name)

    def past(self):
        """What has happened to the directory, for `check`."""
        return "quiet" if self.exact else str(self.reverts)

    def step(self):
        """Called over and over while the threads work."""
        time.sleep(0.05)


class Snapshots(Beside):
    """A snapshot every 100 ms; those that are kept are spread over the time."""

    def step(self):
        """One snapshot."""
        started = time.monotonic()
        self.snap()
        if len(self.taken) > SAMPLES:
            self.delete()
        time.sleep(max(0.0, 0.1 - (time.monotonic() - started)))


class Reverts(Beside):
    """Snapshots, reverts to any of them, undos and undos of undos, deletions."""

    exact = False

    def step(self):
        """Any of them."""
        choice = self.random.random()
        if choice < 0.5 or not self.taken:
            self.snap()
        elif choice < 0.8:
            self.llfs.ctl("revert", self.random.choice(self.taken)[0])
            self.reverts += 1
        elif choice < 0.9 and self.reverts:
            self.llfs.ctl("undo")
            self.reverts += 1
        if len(self.taken) > SAMPLES:
            self.delete()
        time.sleep(self.random.random() * 0.15)


def storm(directory, seed, seconds, beside):
    """All processes, until each has ended; raises with what they found wrong."""
    how = "exact" if beside.exact else "reverts"
    processes = []
    try:
        for number in range(PROCESSES):
            args = [contend(), "work", directory, beside.ledger, seed, number * THREADS, THREADS, seconds, how]
            processes.append(
                subprocess.Popen(
                    [str(arg) for arg in args],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )
        deadline = time.monotonic() + seconds + 60
        while any(process.poll() is None for process in processes):
            if time.monotonic() > deadline:
                raise Failed(f"not done 60 s after the end of the {seconds} s")
            beside.step()
        said = [process.stdout.read().decode("utf-8", "replace") for process in processes]
        if any(process.returncode for process in processes):
            raise Failed("".join(said))
        steps = sum(int(text.split()[0]) for text in said)
        say(f"seed {seed}: {steps} steps, {beside.count} snapshots, {beside.reverts} reverts and undos")
        if steps < 100 * seconds:
            raise Failed(f"only {steps} steps in {seconds} s: that finds nothing")
    finally:
        for process in processes:
            if process.poll() is None:
                stop_group(process)


def sound(directory, floor, ceiling, past):
    """Everything that must be true of the directory; `past`: "quiet", "snapshot" or the number of reverts."""
    must([contend(), "check", directory, floor, ceiling, past], 120)


def same(directory, wanted, what):
    """The directory has to be what it was, inode numbers and times included."""
    lines = objects.differences(objects.whole(directory), wanted)
    if lines:
        raise Failed(f"{what}: {len(lines)} differences\n" + "\n".join(lines[:15]))


def killed(llfs):
    """kill -9 and a new mount."""
    pid = llfs.status()["pid"]
    os.kill(pid, signal.SIGKILL)
    poll("the daemon's end", 20, lambda: not os.path.exists(f"/proc/{pid}"))
    llfs.calm()
    llfs.mount()


def come_again(llfs, directory, number):
    """A remount, or a kill and a mount, shows the same tree."""
    wanted = objects.whole(directory)
    if number % 2:
        killed(llfs)
    else:
        llfs.remount()
    same(directory, wanted, "after a kill" if number % 2 else "after a remount")


def look_into(place, directory, beside):
    """Each snapshot that was taken while the threads worked holds one moment; then back to the present."""
    llfs = place.llfs
    present = objects.whole(directory)
    llfs.ctl("snap", f"{beside.ledger.name}-present")
    floor, ceiling = place.scratch / "floor", place.scratch / "ceiling"
    for name, before, after in beside.taken:
        llfs.ctl("revert", name)
        floor.write_bytes(before)
        ceiling.write_bytes(after)
        try:
            sound(directory, floor, ceiling, "snapshot" if beside.exact else str(beside.reverts))
        except Failed as error:
            raise Failed(f"snapshot {name}: {error}") from error
        if not objects.differences(objects.whole(directory), present):
            continue  # The last one may be the present: a revert to it left nothing to undo.
        llfs.ctl("undo")
        same(directory, present, f"after the undoing of the revert to {name}")
    llfs.ctl("revert", f"{beside.ledger.name}-present")
    same(directory, present, "after a revert to the present")
    llfs.ctl("delete", "--yes", *[name for name, _, _ in beside.taken])


def back(llfs, directory, name, wanted):
    """A revert to a quiet snapshot shows the tree that was there then, and its undoing the present one."""
    present = objects.whole(directory)
    llfs.ctl("revert", name)
    same(directory, wanted, "after the revert")
    if not objects.differences(wanted, present):
        return  # It left nothing to undo.
    llfs.ctl("undo")
    same(directory, present, "after its undoing")


def one(place, setting, number, seed, seconds, report):
    """One seed: quiet, storm, quiet."""
    llfs = place.llfs
    directory = place.directory / f"seed-{number}"
    ledger = place.scratch / f"ledger-{number}"
    if not directory.exists():
        prepare(directory)
    ledger.touch()
    kind = {"snapshot": Snapshots, "revert": Reverts}.get(setting, Beside)
    beside = kind(llfs, ledger, seed)
    quiet = f"quiet-{number}"
    wanted = None
    if setting == "revert":
        llfs.ctl("snap", quiet)
        wanted = objects.whole(directory)
    name = f"seed {seed}"
    report.check(f"{name}: the threads", storm, directory, seed, seconds, beside)
    report.check(f"{name}: invariants", sound, directory, ledger, ledger, beside.past())
    if not llfs:
        return
    report.check(f"{name}: llctl verify", llfs.ctl, "verify")
    report.check(f"{name}: mounted again", come_again, llfs, directory, number)
    if beside.taken:
        report.check(f"{name}: every snapshot", look_into, place, directory, beside)
    if wanted:
        report.check(f"{name}: back to the quiet snapshot", back, llfs, directory, quiet, wanted)
    report.check(f"{name}: invariants at the end", sound, directory, ledger, ledger, beside.past())
    report.check(f"{name}: llctl verify at the end", llfs.ctl, "verify")


def run(place, setting, quick, report, only=None, seed=None):
    """The known seeds, then new ones; or only `seed`."""
    base = None
    if setting == "base":
        place.llfs.unmount()
        base = objects.whole(place.directory, change_times=True)
        place.llfs.mount()
    count, seconds = QUICK if quick else FULL
    rounds = [(old, AGAIN) for old in known(setting)]
    rounds += [(FIRST + number, seconds) for number in range(count)]
    if seed is not None:
        rounds = [(seed, seconds)]
    for number, (chosen, time_) in enumerate(rounds):
        if only is None or only in f"seed {chosen}":
            one(place, setting, number, chosen, time_, report)
    if base is not None:
        report.check("the base is untouched", untouched, place, base)
