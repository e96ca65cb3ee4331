"""First changes to an object: what copies it up in a filesystem of layers."""

import ctypes
import errno
import mmap
import os

LIBC = ctypes.CDLL(None, use_errno=True)
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
PUNCH_HOLE, ZERO_RANGE = 0x1 | 0x2, 0x10


def opened(flags, do):
    """A change through a descriptor of its own."""

    def apply(path):
        fd = os.open(path, flags | os.O_NOFOLLOW)
        try:
            do(fd)
        finally:
            os.close(fd)

    return apply


def renameat2(one, other, flags):
    """renameat2 with flags."""
    if LIBC.renameat2(-100, os.fsencode(one), -100, os.fsencode(other), flags) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def fallocate(fd, mode, offset, length):
    """fallocate with a mode."""
    call = LIBC.fallocate
    call.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_longlong, ctypes.c_longlong]
    if call(fd, mode, offset, length) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def mapped(fd):
    """Stores through a shared mapping, across a block boundary where there is one."""
    size = os.fstat(fd).st_size
    if size == 0:
        raise OSError(errno.EINVAL, "nothing to map")
    # The last two pages: 10 GiB need not be mapped.
    start = max(0, (size - 1) // mmap.PAGESIZE - 1) * mmap.PAGESIZE
    with mmap.mmap(fd, size - start, offset=start) as view:
        at = min(4090, size - start - 20)
        view[at : at + 20] = b"through the mapping!"
        view.flush()


def copied(fd):
    """copy_file_range out of the other file into this one."""
    source = os.open(os.path.join(os.path.dirname(os.readlink(f"/proc/self/fd/{fd}")), "other"), os.O_RDONLY)
    try:
        os.copy_file_range(source, fd, 10, 2, 4093)
    finally:
        os.close(source)



def unlinked(path):
    """Unlinked; the suite's own descriptor still has it."""
    os.unlink(path)


def exchanged(path):
    """The object and the other file swap their names."""
    renameat2(path, path.parent / "other", RENAME_EXCHANGE)


def moved(path):
    """Into a directory made just now."""
    (path.parent / "new").mkdir()
    os.rename(path, path.parent / "new" / "it")


def removed_attribute(path):
    """The first extended attribute goes; there may be none."""
    os.removexattr(path, "user.small", follow_symlinks=False)


BYTES = {
    "write": opened(os.O_RDWR, lambda fd: os.pwrite(fd, b"written" * 20, 4050)),
    "append": opened(os.O_WRONLY | os.O_APPEND, lambda fd: os.write(fd, b"appended")),
    "truncate to 100": lambda path: os.truncate(path, 100),
    "truncate to 5,000": lambda path: os.truncate(path, 5000),
    "truncate up": lambda path: os.truncate(path, os.stat(path).st_size + 9000),
    "open with O_TRUNC": opened(os.O_WRONLY | os.O_TRUNC, lambda fd: None),
    "mmap write": opened(os.O_RDWR, mapped),
    "fallocate": opened(os.O_RDWR, lambda fd: fallocate(fd, 0, 3000, 20_000)),
    "punch hole": opened(os.O_RDWR, lambda fd: fallocate(fd, PUNCH_HOLE, 1000, 6000)),
    "zero range": opened(os.O_RDWR, lambda fd: fallocate(fd, ZERO_RANGE, 1000, 6000)),
    "copy_file_range": opened(os.O_RDWR, copied),
}
NAMES = {
    "chmod": lambda path: os.chmod(path, 0o640),
    "chown": lambda path: os.chown(path, 1, 1, follow_symlinks=False),
    "chown to the same": lambda path: os.chown(path, -1, -1, follow_symlinks=False),
    "utimens": lambda path: os.utime(path, ns=(5, 6_000_000_007), follow_symlinks=False),
    "setxattr": lambda path: os.setxattr(path, "user.new", b"new", follow_symlinks=False),
    "trusted xattr": lambda path: os.setxattr(path, "trusted.new", b"n", follow_symlinks=False),
    "removexattr": removed_attribute,
    "link": lambda path: os.link(path, path.parent / "linked", follow_symlinks=False),
    "rename": lambda path: os.rename(path, path.parent / "renamed"),
    "rename into a new directory": moved,
    "rename over": lambda path: os.rename(path, path.parent / "other"),
    "renamed over": lambda path: os.rename(path.parent / "other", path),
    "rename, no replace": lambda path: renameat2(path, path.parent / "other", RENAME_NOREPLACE),
    "exchange": exchanged,
    "unlink while open": unlinked,
}
INSIDE = {
    "rmdir": os.rmdir,
    "create in it": lambda path: (path / "new").write_text("new\n"),
    "unlink in it": lambda path: os.unlink(path / "in it"),
    "write in it": lambda path: os.truncate(path / "in it", 2),
    "rename out of it": lambda path: os.rename(path / "in it", path.parent / "out"),
    "mkdir in it": lambda path: (path / "sub").mkdir(),
}
CHANGES = BYTES | NAMES | INSIDE


def fits(change, kind):
    """Whether a change makes sense for a kind of object: opening a fifo would wait for its other end."""
    if change in INSIDE:
        return kind == "directory"
    if change in BYTES:
        return kind not in ("fifo", "socket", "symlink")
    # chmod follows a symbolic link: that is the other file's change.
    return not (change == "chmod" and kind == "symlink")
