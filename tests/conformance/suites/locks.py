"""Locks of every kind, held by one process and asked for by another."""

import contextlib
import os
import subprocess
import sys

from harness.shell import Failed, stop_group

# A process that takes the lock it is told of, says `held`, and gives it up when its stdin ends.
HOLDER = """
import fcntl, os, struct, sys
path, kind, start, length = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
file = open(path, "r+b")
if kind == "flock":
    fcntl.flock(file, fcntl.LOCK_EX)
elif kind == "shared":
    fcntl.flock(file, fcntl.LOCK_SH)
elif kind == "fcntl":
    fcntl.lockf(file, fcntl.LOCK_EX, length, start)
elif kind == "description":
    fcntl.fcntl(file, 38, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, start, length, 0))
print("held", flush=True)
sys.stdin.read()
"""
# Tries the lock without waiting: exit status 0 taken, 1 refused because somebody has it.
TRIER = HOLDER.replace("LOCK_EX", "LOCK_EX | fcntl.LOCK_NB").replace(
    "LOCK_SH", "LOCK_SH | fcntl.LOCK_NB"
).replace(", 38,", ", 37,").replace("sys.stdin.read()", "").replace('print("held", flush=True)', "")
TRIER = "try:\n" + "".join(f"    {line}\n" for line in TRIER.strip().splitlines()) + (
    "except (BlockingIOError, PermissionError):\n    sys.exit(1)\n"
)


@contextlib.contextmanager
def held(path, kind, start=0, length=0):
    """Another process holds a lock inside this block."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, path, kind, str(start), str(length)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        if process.stdout.readline() != b"held\n":
            raise Failed(f"{kind}: the lock was not given")
        yield process
        process.stdin.close()
        process.wait(20)
    finally:
        stop_group(process)
        process.stdout.close()


def wants(path, kind, start=0, length=0):
    """Whether a third process gets a lock at once."""
    done = subprocess.run(
        [sys.executable, "-c", TRIER, path, kind, str(start), str(length)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
    )
    if done.returncode not in (0, 1):
        raise Failed(f"{kind}: {done.stderr.decode()}")
    return done.returncode == 0


def expect(what, seen, wanted):
    """One expectation."""
    if seen != wanted:
        raise Failed(f"{what}: {'taken' if seen else 'refused'}, which is wrong")


def fresh(place, name):
    """A file to lock."""
    path = place.directory / name
    path.write_bytes(bytes(1000))
    return str(path)


def flock(place, _):
    """flock: exclusive against shared, through two names of one file, gone with its holder."""
    path = fresh(place, "flock")
    other = path + "-link"
    os.link(path, other)
    with held(path, "flock"):
        expect("exclusive over exclusive", wants(path, "flock"), False)
        expect("shared over exclusive, by another name", wants(other, "shared"), False)
        expect("fcntl beside flock", wants(path, "fcntl"), True)
    expect("after the holder let go", wants(path, "flock"), True)
    with held(path, "shared"):
        expect("shared over shared", wants(other, "shared"), True)
        expect("exclusive over shared", wants(other, "flock"), False)
    with held(path, "flock") as process:
        process.kill()
        process.wait(20)
        expect("after the holder was killed", wants(path, "flock"), True)


def fcntl_ranges(place, _):
    """fcntl: ranges are separate, and go with the process."""
    path = fresh(place, "fcntl")
    with held(path, "fcntl", 100, 50):
        expect("the same range", wants(path, "fcntl", 100, 50), False)
        expect("one shared byte", wants(path, "fcntl", 149, 10), False)
        expect("the range behind", wants(path, "fcntl", 150, 0), True)
        expect("the range before", wants(path, "fcntl", 0, 100), True)
        expect("the whole file", wants(path, "fcntl"), False)
        os.rename(path, path + "-renamed")
        expect("after a rename", wants(path + "-renamed", "fcntl", 120, 1), False)
    with held(path + "-renamed", "fcntl") as process:
        process.kill()
        process.wait(20)
        expect("after the holder was killed", wants(path + "-renamed", "fcntl"), True)


def descriptions(place, _):
    """Open file description locks."""
    path = fresh(place, "descriptions")
    with held(path, "description", 10, 10):
        expect("the same range", wants(path, "description", 15, 1), False)
        expect("fcntl over the same range", wants(path, "fcntl", 15, 1), False)
        expect("another range", wants(path, "description", 20, 5), True)
    expect("after the holder let go", wants(path, "description", 10, 10), True)


# Two processes that wait for each other's byte: one of them has to be told EDEADLK.
CROSS = """
import fcntl, errno, os, sys
file = open(sys.argv[1], "r+b")
a, b = (0, 1) if sys.argv[2] == "0" else (1, 0)
fcntl.lockf(file, fcntl.LOCK_EX, 1, a)
print("ready", flush=True)
sys.stdin.readline()
try:
    fcntl.lockf(file, fcntl.LOCK_EX, 1, b)
    print("taken", flush=True)
except OSError as error:
    print("deadlock" if error.errno == errno.EDEADLK else error, flush=True)
"""


def deadlock(place, _):
    """fcntl's deadlock detection."""
    path = fresh(place, "deadlock")
    pair = [
        subprocess.Popen(
            [sys.executable, "-c", CROSS, path, str(i)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        for i in range(2)
    ]
    try:
        for process in pair:
            process.stdout.readline()
        for process in pair:
            process.stdin.write(b"go\n")
            process.stdin.flush()
        said = sorted(process.communicate(timeout=20)[0].strip() for process in pair)
        if said != [b"deadlock", b"taken"]:
            raise Failed(f"the two said {said}")
    finally:
        for process in pair:
            stop_group(process)
