"""What llfs cannot do it refuses in the way that programs know how to fall back from."""

import ctypes
import errno
import fcntl
import os
import tempfile

from harness.shell import Failed, must
from harness.tools import need

FICLONE = 0x40049409
FS_IOC_FIEMAP = 0xC020660B
STATX_BTIME = 0x800
STATX_BASIC = 0x7FF


def refused(what, wanted, call):
    """A call has to fail with this errno."""
    try:
        call()
    except OSError as error:
        if error.errno == wanted:
            return
        raise Failed(f"{what}: {errno.errorcode[error.errno]} instead of {errno.errorcode[wanted]}") from error
    raise Failed(f"{what} works: take it out of the limits in docs/CONFORMANCE.md")


def tmpfile(place, _):
    """O_TMPFILE is EOPNOTSUPP, and Python's own temporary file falls back from it."""
    directory = place.directory

    def unnamed():
        os.close(os.open(directory, os.O_TMPFILE | os.O_RDWR, 0o600))

    refused("O_TMPFILE", errno.EOPNOTSUPP, unnamed)
    before = sorted(os.listdir(directory))
    with tempfile.TemporaryFile(dir=directory) as file:
        file.write(b"bytes" * 10_000)
        file.seek(0)
        if file.read() != b"bytes" * 10_000:
            raise Failed("the temporary file holds other bytes")
    if sorted(os.listdir(directory)) != before:
        raise Failed("the temporary file left a name")


def clone(place, _):
    """FICLONE is EOPNOTSUPP; cp and copy_file_range copy, and leave holes holes."""
    source, target = place.directory / "clone-from", place.directory / "clone-to"
    with source.open("wb") as file:
        file.write(b"begin" * 1000)
        file.seek(20 << 20)
        file.write(b"end")

    def ioctl():
        with source.open("rb") as one, target.open("wb") as other:
            fcntl.ioctl(other, FICLONE, one.fileno())

    refused("FICLONE", errno.EOPNOTSUPP, ioctl)
    must([need("cp", "coreutils"), "--reflink=auto", "--sparse=auto", source, target], 30)
    if source.read_bytes() != target.read_bytes():
        raise Failed("cp made another file")
    if os.stat(target).st_blocks > 256:
        raise Failed(f"the copy's hole is filled: {os.stat(target).st_blocks} blocks")


def extents(place, _):
    """FIEMAP is not there; SEEK_DATA and SEEK_HOLE say where the holes are."""
    path = place.directory / "extents"
    fd = os.open(path, os.O_CREAT | os.O_RDWR)
    try:
        os.pwrite(fd, b"x", 1 << 20)
        refused("FIEMAP", errno.EOPNOTSUPP, lambda: fcntl.ioctl(fd, FS_IOC_FIEMAP, bytes(64)))
        data, hole = os.lseek(fd, 0, os.SEEK_DATA), os.lseek(fd, 0, os.SEEK_HOLE)
        if (data, hole) != (1 << 20, 0):
            raise Failed(f"data begins at {data}, the first hole at {hole}")
    finally:
        os.close(fd)


def birth(place, _):
    """statx answers without a birth time, which is how it says that there is none."""
    path = place.directory / "birth"
    path.write_text("x")
    answer = ctypes.create_string_buffer(256)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.statx(-100, os.fsencode(path), 0, STATX_BASIC | STATX_BTIME, answer) != 0:
        raise Failed(f"statx: {os.strerror(ctypes.get_errno())}")
    mask = int.from_bytes(answer.raw[:4], "little")
    if mask & STATX_BTIME:
        raise Failed("there is a birth time: take it out of the limits in docs/CONFORMANCE.md")
    if mask & STATX_BASIC != STATX_BASIC:
        raise Failed(f"statx leaves out more than the birth time: {mask:#x}")


def access_time(place, _):
    """Reading changes no access time (as under noatime); setting one works."""
    path = place.directory / "access"
    path.write_text("x")
    os.utime(path, ns=(1_000_000_007, 2_000_000_011))
    path.read_text()
    if os.stat(path).st_atime_ns != 1_000_000_007:
        raise Failed(f"the access time is {os.stat(path).st_atime_ns} after a read")


def links(place, _):
    """The 65,000th link is the last one, as on ext4; pjdfstest cannot find this limit out."""
    path = place.directory / "links"
    path.mkdir()
    (path / "0").write_text("x")
    for i in range(1, 65_000):
        os.link(path / "0", path / str(i))
    refused("the link after 65,000", errno.EMLINK, lambda: os.link(path / "0", path / "more"))
    if os.stat(path / "64999").st_nlink != 65_000:
        raise Failed(f"{os.stat(path / '64999').st_nlink} links")
    must(["rm", "-r", path], 120)


CASES = [
    ("limit: O_TMPFILE", tmpfile),
    ("limit: FICLONE", clone),
    ("limit: FIEMAP", extents),
    ("limit: birth time", birth),
    ("limit: access times", access_time),
    ("limit: EMLINK", links),
]
