"""Changes a tree in many ways, or prints what it holds: change ROOT TOP TAR, print ROOT. TOP is a directory of ROOT."""

import ctypes
import errno
import hashlib
import mmap
import os
import shutil
import subprocess
import sys
from pathlib import Path

EXCHANGE = 2
MIB = 1 << 20
NAMES = 3_000  # more than one listing of a directory has


def archive(here, tar):
    (here / "untar").mkdir()
    subprocess.run(["tar", "-C", here / "untar", "-xf", tar], check=True)


def base(here, files):
    """Of the base: edits, a truncation that is taken back, a replacement, a removal."""
    with files[0].open("r+b") as f:
        f.seek(700)
        f.write(b"edited")
    with files[1].open("r+b") as f:
        f.truncate(100)
        f.truncate(9_000)
    os.rename(files[2], files[3])
    files[4].unlink()
    with files[5].open("ab") as f:
        f.write(b"x" * 100_000)
    shutil.copy(files[6], here / "copied")


def names(here):
    (here / "a").write_text("a")
    (here / "b").write_text("b")
    os.link(here / "a", here / "c")
    (here / "c").write_text("through the link")
    (here / "a").unlink()
    os.symlink("c", here / "link")
    (here / "d" / "e").mkdir(parents=True)
    (here / "d" / "e" / "f").write_text("f")
    expect(errno.ENOTEMPTY, os.rmdir, here / "d")
    expect(errno.EEXIST, os.open, here / "b", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    exchange(here / "b", here / "d")
    os.rename(here / "b" / "e", here / "e")
    here.joinpath("many").mkdir()
    for i in range(NAMES):
        (here / "many" / f"{i}-{'n' * 100}").touch()
    with os.scandir(here / "many") as listing:
        for entry in listing:
            if int(entry.name.split("-")[0]) % 5:
                os.unlink(entry.path)


def exchange(a, b):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(-100, os.fsencode(a), -100, os.fsencode(b), EXCHANGE) != 0:
        raise OSError(ctypes.get_errno(), "renameat2", str(a))


def expect(code, what, *args):
    try:
        what(*args)
    except OSError as error:
        if error.errno == code:
            return
        raise
    sys.exit(f"{what.__name__} {args} did not fail")


def content(here):
    """Places that were used before must not show what was there."""
    for i in range(50):
        (here / f"used{i}").write_bytes(b"\xff" * (3_000 * (i + 1)))
    for i in range(50):
        (here / f"used{i}").unlink()
    for i in range(50):
        with (here / f"sparse{i}").open("wb") as f:
            f.write(b"head")
            f.seek(2_500 * (i + 1))
            f.write(b"tail")
            f.truncate(3_500 * (i + 1))
    with (here / "mapped").open("w+b") as f:
        f.truncate(3 * MIB)
        with mmap.mmap(f.fileno(), 3 * MIB) as mapped:
            for at in range(0, 3 * MIB, 70_001):
                mapped[at : at + 5] = b"store"
    with (here / "gone").open("w+b") as f:
        f.write(b"still there")
        (here / "gone").unlink()
        f.seek(0)
        (here / "kept").write_bytes(f.read())
    with (here / "allocated").open("wb") as f:
        os.posix_fallocate(f.fileno(), 0, 50_000)
        f.write(b"begin")
        os.fsync(f.fileno())
    with (here / "mapped").open("rb") as source, (here / "range").open("wb") as f:
        os.copy_file_range(source.fileno(), f.fileno(), 2 * MIB, 500, 10)


def attributes(here):
    script = here / "script"
    script.write_text("#!/bin/sh\necho run\n")
    script.chmod(0o4755)
    os.chown(here / "kept", 12, 34)
    (here / "mapped").chmod(0o600)
    os.utime(here / "copied", (123_456_789, 123_456_789))
    os.setxattr(here / "kept", "user.floor", b"value")
    said = subprocess.run([script], check=True, stdout=subprocess.PIPE).stdout
    (here / "said").write_bytes(said)
    os.fsync(os.open(here, os.O_RDONLY))


def change(root, top, tar):
    here = root / "bench-same"
    here.mkdir()
    os.rename(root / top, here / "base")
    files = sorted(p for p in (here / "base").rglob("*") if p.is_file() and p.stat().st_size > 1_000)
    base(here, files)
    archive(here, tar)
    names(here)
    content(here)
    attributes(here)


def describe(path):
    st = path.lstat()
    told = [f"{st.st_mode:o}", st.st_uid, st.st_gid, st.st_mtime_ns if st.st_mtime < 1e9 else "recent"]
    if path.is_symlink():
        return [*told, os.readlink(path)]
    if path.is_dir():
        return told
    xattrs = [(name, os.getxattr(path, name)) for name in sorted(os.listxattr(path))]
    return [*told, st.st_size, st.st_nlink, hashlib.sha256(path.read_bytes()).hexdigest(), xattrs]


def show(root):
    for path in sorted((root / "bench-same").rglob("*")):
        print(path.relative_to(root), *describe(path))


if __name__ == "__main__":
    if sys.argv[1] == "change":
        change(Path(sys.argv[2]), sys.argv[3], sys.argv[4])
    else:
        show(Path(sys.argv[2]))
