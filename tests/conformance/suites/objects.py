"""Kinds of objects that a directory can hold, and what can be known about one."""

import errno
import hashlib
import os
import socket
import stat
import time

from harness.shell import must
from harness.tools import need

BLOCK = 4096
# Times from here on count as "now"; those that the suite sets are older.
RECENT = time.time_ns() - 86_400_000_000_000


def file(path, size=10_000, mode=0o644):
    """A file of pseudorandom bytes that ends inside a block."""
    path.write_bytes(hashlib.shake_128(b"bytes").digest(size))
    path.chmod(mode)
    old(path, 1_000_000_000_000_000_003)


def old(path, when):
    """Sets the modification time, nanoseconds."""
    os.utime(path, ns=(0, when), follow_symlinks=False)


def sparse(path, size=1 << 20):
    """Data in the middle of a hole, and at the end."""
    with path.open("wb") as out:
        for at in (size // 2 + 100, size - 50):
            out.seek(at)
            out.write(b"island" * 8)
    old(path, 1_000_000_000_000_000_003)


def pair(path):
    """A file with two names."""
    file(path)
    os.link(path, path.parent / "second name")


def link(path):
    """A symbolic link to the other file."""
    path.symlink_to("other")
    old(path, 1_000_000_000_000_000_003)


def directory(path):
    """A directory with something in it."""
    path.mkdir()
    (path / "in it").write_text("text\n")
    old(path / "in it", 1_000_000_000_000_000_001)
    old(path, 1_000_000_000_000_000_003)


def fifo(path):
    """A named pipe."""
    os.mkfifo(path, 0o640)
    old(path, 1_000_000_000_000_000_003)


def unix_socket(path):
    """A socket that nobody listens on; made from within, since its path may be too long."""
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(here)
    old(path, 1_000_000_000_000_000_003)


def attributed(path):
    """A file with extended attributes, one of them large."""
    file(path)
    os.setxattr(path, "user.small", b"\0\xff")
    os.setxattr(path, "user.large", b"v" * 2000)


def acl(path):
    """A file with an access ACL."""
    file(path)
    must([need("setfacl", "acl"), "-m", "u:nobody:rw,g:daemon:r", path], 10)


def capable(path):
    """A file with capabilities, which a write has to clear."""
    file(path, mode=0o755)
    must([need("setcap", "libcap2-bin"), "cap_net_raw+ep", path], 10)


def before_1970(path):
    """A file with a negative modification time."""
    file(path)
    old(path, -1_234_567_890_000_000_001)


KINDS = {
    "file": file,
    "whole blocks": lambda path: file(path, 3 * BLOCK),
    "empty": lambda path: file(path, 0),
    "sparse": sparse,
    "10 GiB sparse": lambda path: sparse(path, 10 << 30),
    "two names": pair,
    "symlink": link,
    "directory": directory,
    "fifo": fifo,
    "socket": unix_socket,
    "xattrs": attributed,
    "acl": acl,
    "capability": capable,
    "read-only": lambda path: file(path, mode=0o400),
    "setuid": lambda path: file(path, mode=0o4755),
    "setgid": lambda path: file(path, mode=0o2755),
    "before 1970": before_1970,
}


def readable(status):
    """Whether an object can be opened for reading without side effects."""
    return stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)


def contents(fd, size):
    """A hash over all blocks that are not zero; holes are skipped."""
    digest = hashlib.blake2b()
    at = 0
    while at < size:
        try:
            at = os.lseek(fd, at, os.SEEK_DATA) // BLOCK * BLOCK
        except OSError as error:
            if error.errno == errno.ENXIO:
                break
            raise
        end = os.lseek(fd, at, os.SEEK_HOLE)
        while at < end:
            block = os.pread(fd, BLOCK, at)
            if block.strip(b"\0"):
                digest.update(at.to_bytes(8, "little") + block.ljust(BLOCK, b"\0"))
            at += BLOCK
    return digest.hexdigest()


def facts(of, path, change_times=False):
    """Everything about an object, by path or by descriptor."""
    fd = of if path is None else None
    status = os.fstat(fd) if path is None else os.lstat(path)
    found = {
        "mode": oct(status.st_mode),
        "owner": (status.st_uid, status.st_gid),
        "inode": status.st_ino,
        "modified": status.st_mtime_ns,
    }
    if change_times:
        found["changed"] = status.st_ctime_ns
    if not stat.S_ISDIR(status.st_mode):
        found["links"] = status.st_nlink
        found["size"] = status.st_size
    if stat.S_ISLNK(status.st_mode) and path is not None:
        found["target"] = os.readlink(path)
    if readable(status):
        mine = os.open(path, os.O_RDONLY) if path is not None else fd
        try:
            found["xattrs"] = {name: os.getxattr(mine, name) for name in sorted(os.listxattr(mine))}
            if stat.S_ISREG(status.st_mode):
                found["bytes"] = contents(mine, status.st_size)
        finally:
            if mine != fd:
                os.close(mine)
    return found


def tree(directory, change_times=False):
    """Name -> facts for a directory (as `.`) and everything below it."""
    found = {".": facts(None, directory, change_times)}
    for parent, directories, files in os.walk(directory):
        for name in directories + files:
            path = os.path.join(parent, name)
            found[os.path.relpath(path, directory)] = facts(None, path, change_times)
    return found


def whole(root, change_times=False):
    """`tree` without the root itself, whose inode number is llfs's own."""
    found = tree(root, change_times)
    del found["."]
    return found


def comparable(seen, before):
    """Facts without the inode number, and with the modification time as kept, set, or now."""
    found = {key: value for key, value in seen.items() if key != "inode"}
    when = seen["modified"]
    if before and when == before["modified"]:
        found["modified"] = "kept"
    elif when >= RECENT:
        found["modified"] = "now"
    return found


def differences(seen, wanted):
    """Lines that say where two trees of facts differ."""
    lines = []
    for name in sorted(set(seen) | set(wanted)):
        if name not in seen or name not in wanted:
            lines.append(f"{name}: {'missing' if name not in seen else 'should not be there'}")
            continue
        for key in sorted(set(seen[name]) | set(wanted[name])):
            left, right = seen[name].get(key), wanted[name].get(key)
            if left != right:
                lines.append(f"{name}: {key}: {left!r} instead of {right!r}")
    return lines
