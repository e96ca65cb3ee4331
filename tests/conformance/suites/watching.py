"""A program with an inotify watch sees what other processes do."""

import ctypes
import os
import select
import struct

from harness.shell import Failed, must

EVENTS = {
    0x2: "MODIFY", 0x4: "ATTRIB", 0x8: "CLOSE_WRITE", 0x40: "MOVED_FROM", 0x80: "MOVED_TO",
    0x100: "CREATE", 0x200: "DELETE", 0x400: "DELETE_SELF",
}  # fmt: skip
SCRIPT = """
    echo one > a
    echo two >> a
    chmod 600 a
    mv a b
    ln b c
    mkdir d
    rmdir d
    rm b
    truncate -s 0 c
"""
# What has to be among the events, in this order.
WANTED = [
    ("CREATE", "a"), ("MODIFY", "a"), ("CLOSE_WRITE", "a"), ("MODIFY", "a"), ("ATTRIB", "a"),
    ("MOVED_FROM", "a"), ("MOVED_TO", "b"), ("CREATE", "c"), ("CREATE", "d"), ("DELETE", "d"),
    ("DELETE", "b"), ("MODIFY", "c"), ("CLOSE_WRITE", "c"),
]  # fmt: skip


def inotify(place, _):
    """Watches a directory and the file in it while a shell changes both."""
    directory = place.directory / "watched"
    directory.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    if fd < 0 or libc.inotify_add_watch(fd, os.fsencode(directory), sum(EVENTS)) < 0:
        raise Failed(f"inotify: {os.strerror(ctypes.get_errno())}")
    try:
        must(["bash", "-ec", SCRIPT], 20, cwd=directory)
        os.rmdir(_emptied(directory))
        seen = list(events(fd))
    finally:
        os.close(fd)
    rest = iter(seen)
    for event in WANTED:
        if event not in rest:
            raise Failed(f"{event} did not come, or too early; all events: {seen}")
    if ("DELETE_SELF", "") not in seen:
        raise Failed(f"the watched directory's removal was not told: {seen}")


def _emptied(directory):
    """Removes the files of a directory and returns it."""
    for name in os.listdir(directory):
        os.unlink(directory / name)
    return directory


def events(fd):
    """(event, name) of everything that waits to be read."""
    while select.select([fd], [], [], 0.2)[0]:
        data = os.read(fd, 1 << 16)
        while data:
            _, mask, _, length = struct.unpack_from("iIII", data)
            name = data[16 : 16 + length].rstrip(b"\0").decode()
            data = data[16 + length :]
            for bit, word in EVENTS.items():
                if mask & bit:
                    yield word, name
