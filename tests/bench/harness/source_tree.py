"""The tree: made up, the same in every run, in the shape of a source tree; or a copy of one that is given."""

import os
import random
import shutil
import subprocess
from pathlib import Path

from .proc import run

SEED = 20_261_121
WORDS = (
    "static int struct return if else for while unsigned long void const char ret err goto out len size offset page "
    "inode dentry buffer device driver register unregister probe remove lock unlock irq flags mask state queue list"
).split()


class Base:
    """A directory to overlay, with what the workloads need of it."""

    def __init__(self, path, tar):
        self.path = path
        self.tar = tar
        self.files = []

    def scan(self):
        """The regular files outside of .git and the small workspace, relative to the root, in order."""
        for parent, dirs, names in os.walk(self.path):
            dirs[:] = sorted(d for d in dirs if d not in (".git", "tiny"))
            for name in sorted(names):
                path = Path(parent, name)
                if path.is_file() and not path.is_symlink():
                    self.files.append(str(path.relative_to(self.path)))
        return self


def make(ctx, given):
    """A base in ctx.tmp: `given` copied, or one made up; with a git repository of two commits, a tar archive beside
    it and a small cargo workspace in it."""
    from .workspace import make_workspace

    root = ctx.tmp / "base"
    if given:
        run(["cp", "-a", "--reflink=auto", given, root], ctx.env)
        if (root / ".git").is_file():
            (root / ".git").unlink()
        if (root / "tiny").exists():
            shutil.rmtree(root / "tiny")
    else:
        invent(root, ctx.sizes.tree_files)
    make_workspace(root / "tiny")
    base = Base(root, ctx.tmp / "part.tar").scan()
    listed = "".join(f"{name}\0" for name in base.files[: ctx.sizes.tar_files])
    run(["tar", "-C", root, "-cf", base.tar, "--null", "-T", "-"], ctx.env, input=listed)
    commit_twice(ctx, base)
    return base


def invent(root, count):
    """`count` files: median about 4 KiB, a few of 100 KiB and more, about 10 in a directory, three to five levels."""
    dice = random.Random(SEED)
    text = "".join(
        "\t" * dice.randint(0, 3) + " ".join(dice.choices(WORDS, k=dice.randint(2, 9))) + ";\n" for _ in range(60_000)
    ).encode()
    made = 0
    while made < count:
        top = dice.choice(WORDS[:20])
        below = [dice.choice(WORDS[:10]), *[f"{dice.choice(WORDS)}{dice.randint(0, 2)}" for _ in range(dice.randint(0, 2))]]
        where = root.joinpath(top, *below)
        where.mkdir(parents=True, exist_ok=True)
        for _ in range(min(count - made, 1 + int(dice.expovariate(1 / 13)))):
            size = min(int(dice.lognormvariate(8.3, 1.2)), 1_000_000)
            start = dice.randrange(len(text) - size)
            suffix = dice.choice((".c", ".c", ".c", ".h", ".h", ".txt", ".S", ""))
            head = f"/* file {made} */\n".encode()
            (where / f"{dice.choice(WORDS)}_{made}{suffix}").write_bytes(head + text[start : start + size])
            made += 1


def commit_twice(ctx, base):
    """Two commits, the second on the branch `other` with changes to as many files as a checkout is to touch."""
    git = ["git", "-C", base.path, "-c", "core.fsync=none"]
    if not (base.path / ".git").exists():
        run([*git, "init", "-q", "-b", "bench-main"], ctx.env)
    else:
        run([*git, "checkout", "-q", "-B", "bench-main"], ctx.env)
    ignore = base.path / ".git" / "info" / "exclude"
    ignore.parent.mkdir(exist_ok=True)
    with ignore.open("a") as f:
        f.write("/tiny/target/\n/bench-*/\n")
    run([*git, "add", "-A"], ctx.env)
    run([*git, "commit", "-q", "--allow-empty", "--no-verify", "-m", "one"], ctx.env)
    tracked = subprocess.run(
        [str(a) for a in [*git, "ls-files", "-z"]], env=ctx.env, check=True, stdout=subprocess.PIPE
    ).stdout.split(b"\0")
    known = {os.fsdecode(name) for name in tracked}
    chosen = [name for name in base.files if name in known]
    step = max(1, len(chosen) // ctx.sizes.checkout_files)
    run([*git, "checkout", "-q", "-b", "bench-other"], ctx.env)
    for name in chosen[::step][: ctx.sizes.checkout_files]:
        with open(base.path / name, "ab") as f:
            f.write(b"/* changed */\n")
    run([*git, "commit", "-q", "-a", "--no-verify", "-m", "two"], ctx.env)
    run([*git, "checkout", "-q", "bench-main"], ctx.env)


def make_big(ctx):
    """A base that holds one large file, really written."""
    root = ctx.tmp / "big-base"
    root.mkdir()
    run([ctx.ops, "bigwrite", root / "file.img", ctx.sizes.base_file_mib], ctx.env)
    return Base(root, None).scan()


def make_flat(ctx, where, count, hot, hot_bytes):
    """A base of `count` files: `hot` of them, of `hot_bytes` bytes, below hot/ and the others, empty, below cold/."""
    for below, files, size in (("hot", hot, hot_bytes), ("cold", count - hot, 0)):
        (where / below).mkdir(parents=True)
        run([ctx.ops, "create", where / below, files, size], ctx.env)
    return Base(where, None)
