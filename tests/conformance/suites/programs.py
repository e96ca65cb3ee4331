"""Real programs doing what they do all day, while snapshots are taken every 100 ms."""

import json
import os
import socket
import stat

from harness import manifest
from harness.place import Inside, Llfs, Place
from harness.shell import Failed, must
from harness.snapper import Snapper
from harness.tools import need, say
from suites import limits, locks, standing, watching

SETTINGS = ["plain", "empty", "snapshot"]
# An author for commits, and no configuration of this machine's user.
GIT = {
    "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.org",
    "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null",
}  # fmt: skip


def place(setting, directory):
    """Where to run."""
    if directory:
        return Inside(directory)
    return Place() if setting == "plain" else Llfs()


def git(place, quick):
    """1,000 commits, then every object checked, packed, and checked again."""
    need("git", "git")
    commits = 150 if quick else 1000
    repository = place.directory / "repository"
    must(["git", "init", "-q", repository], 20, env=GIT)
    script = """
        for ((i = 0; i < COMMITS; i++)); do
            mkdir -p "d$((i % 17))"
            echo "line $i" >> "d$((i % 17))/f$((i % 5))"
            ((i % 9)) || git mv -f "d$((i % 17))/f$((i % 5))" "moved$((i % 4))"
            git add -A && git commit -q -m "commit $i" || exit 1
        done"""
    env = dict(GIT, COMMITS=str(commits))
    must(["bash", "-c", script], 120 + commits, cwd=repository, env=env)
    for _ in range(2):
        must(["git", "fsck", "--full", "--strict", "--no-dangling"], 120, cwd=repository, env=GIT)
        count = must(["git", "rev-list", "--count", "HEAD"], 20, cwd=repository, env=GIT).out
        if int(count) != commits:
            raise Failed(f"{int(count)} commits instead of {commits}")
        dirty = must(["git", "status", "--porcelain"], 60, cwd=repository, env=GIT).out
        if dirty:
            raise Failed(f"git status shows changes:\n{dirty.decode()}")
        must(["git", "gc", "-q", "--aggressive", "--prune=now"], 120, cwd=repository, env=GIT)
    clone = place.directory / "clone"
    must(["git", "clone", "-q", repository, clone], 60, env=GIT)
    must(["git", "fsck", "--full", "--strict"], 60, cwd=clone, env=GIT)


def npm(place, quick):
    """A web framework with its dependencies, installed, checked against npm's own list, and run."""
    need("npm", "npm")
    project = place.directory / "npm"
    project.mkdir()
    (project / "package.json").write_text('{"name": "a", "version": "1.0.0", "private": true}')
    packages = ["express@4.21.2"] if quick else ["express@4.21.2", "typescript@5.6.3"]
    cache = {"npm_config_cache": str(place.scratch / "npm-cache"), "npm_config_update_notifier": "false"}
    must(["npm", "install", "--no-audit", "--no-fund", *packages], 300, cwd=project, env=cache)
    must(["npm", "ls", "--all"], 60, cwd=project, env=cache)
    load = 'const e = require("express"); const a = e(); if (typeof a.listen !== "function") process.exit(1)'
    must(["node", "-e", load], 30, cwd=project)
    before = manifest.manifest(project / "node_modules")
    must(["npm", "ci", "--no-audit", "--no-fund"], 300, cwd=project, env=cache)
    after = manifest.manifest(project / "node_modules")
    names = {path for path in before if not path.endswith(b".package-lock.json")}
    if names - set(after):
        raise Failed(f"npm ci left out {sorted(names - set(after))[:5]}")


def cargo(place, quick):
    """Twelve crates built in parallel, run, found fresh, and rebuilt where one source changed."""
    root = place.directory / "cargo"
    members = [f"part{i}" for i in range(12)]
    for i, name in enumerate(members):
        source = root / name / "src"
        source.mkdir(parents=True)
        needs = "".join(f'part{j} = {{ path = "../part{j}" }}\n' for j in range(i % 3, i, 3))
        (root / name / "Cargo.toml").write_text(
            f'[package]\nname = "{name}"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\n{needs}'
        )
        (root / name / "build.rs").write_text(
            'fn main() { let d = std::env::var("OUT_DIR").unwrap();\n'
            'std::fs::write(format!("{d}/n.rs"), "pub const N: u64 = 1;").unwrap(); }\n'
        )
        total = " + ".join([f"part{j}::total()" for j in range(i % 3, i, 3)] or ["0"])
        (source / "lib.rs").write_text(
            'include!(concat!(env!("OUT_DIR"), "/n.rs"));\n'
            f"pub fn total() -> u64 {{ N + {total} }}\n"
        )
    (root / "part11" / "src" / "main.rs").write_text('fn main() { println!("{}", part11::total()) }\n')
    (root / "Cargo.toml").write_text(f'[workspace]\nresolver = "2"\nmembers = {json.dumps(members)}\n')
    env = {"CARGO_TARGET_DIR": str(root / "target"), "CARGO_TERM_COLOR": "never"}
    build = ["cargo", "build", "-j", "4", "--offline"]

    def built(expected):
        text = must(build, 300, cwd=root, env=env).err.decode()
        count = text.count("Compiling ")
        if count != expected:
            raise Failed(f"{count} crates compiled instead of {expected}:\n{text}")
        return int(must([root / "target" / "debug" / "part11"], 20).out)

    if built(12) != 8:
        raise Failed("the program printed another number than the sources say")
    built(0)
    library = root / "part8" / "src" / "lib.rs"
    library.write_text(library.read_text().replace("N +", "100 + N +"))
    # part8 and what depends on it: part11.
    if built(2) <= 8:
        raise Failed("the rebuilt program does not have the changed source")
    if not quick:
        must(["cargo", "build", "-j", "4", "--offline", "--release"], 300, cwd=root, env=env)


def tree_of_everything(root):
    """A tree with one of everything that rsync -aHAXS can carry (as root: owners and devices too)."""
    root.mkdir()
    root.joinpath("file").write_bytes(os.urandom(300_001))
    root.joinpath("empty").write_bytes(b"")
    with root.joinpath("sparse").open("wb") as file:
        file.write(b"head")
        file.seek(50 << 20)
        file.write(b"tail")
    directory = root / "directory"
    directory.mkdir()
    for i in range(200):
        (directory / f"f{i}").write_text(f"{i}\n" * i)
    os.link(root / "file", directory / "hard link")
    os.link(root / "empty", directory / "empty too")
    (root / "link").symlink_to("directory/f7")
    (root / "dangling").symlink_to("/no/where" * 40)
    os.mkfifo(root / "fifo", 0o620)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(root / "socket"))
    listener.close()
    os.close(os.open(os.fsencode(root) + b"/" + bytes([0xFF, 0x0A, 0x1B]) + b"x" * 252, os.O_CREAT | os.O_WRONLY, 0o600))
    os.setxattr(root / "file", "user.a", b"\0bytes\xff")
    os.setxattr(directory, "user.b", b"v" * 1000)
    must([need("setfacl", "acl"), "-m", "u:nobody:rw,g:daemon:r", root / "file"], 10)
    must(["setfacl", "-d", "-m", "u:nobody:rwx,o::-", directory], 10)
    (root / "old").write_text("before 1970")
    (root / "read-only").write_text("no")
    if os.geteuid() == 0:
        os.chown(root / "old", 65534, 1)
        os.mknod(root / "char", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        must([need("setcap", "libcap2-bin"), "cap_net_raw+ep", directory / "f3"], 10)
    os.chmod(root / "old", 0o6755)
    os.chmod(root / "read-only", 0o400)
    os.chmod(directory, 0o1775)
    # rsync leaves the times of a fresh object alone that are right to the second: long ago, then.
    for n, (parent, directories, files) in enumerate(os.walk(os.fsencode(root), topdown=False)):
        for name in [*files, *directories, b"."]:
            when = 1_000_000_000_000_000_001 + 7_000_000_013 * (n + len(name))
            os.utime(os.path.join(parent, name), ns=(when, when), follow_symlinks=False)
    for path, when in (("old", -1_234_567_890_123_456_789), ("file", 4_102_444_800_999_999_999)):
        os.utime(root / path, ns=(0, when))
    os.utime(root / "link", ns=(5, 5_000_000_007), follow_symlinks=False)


def rsync(place, _):
    """There and back with rsync -aHAXS: both copies equal the original in every attribute."""
    need("rsync", "rsync")
    outside = place.scratch / "rsync"
    outside.mkdir()
    original, there, back = outside / "original", place.directory / "there", outside / "back"
    tree_of_everything(original)
    copy = ["rsync", "-aHAXS", "--numeric-ids"]
    must([*copy, f"{original}/", there], 120)
    wanted = manifest.manifest(original)
    manifest.same("there", manifest.manifest(there), wanted)
    used = os.stat(there / "sparse").st_blocks * 512
    if used > 1 << 20:
        raise Failed(f"the sparse file takes {used} bytes")
    must([*copy, f"{there}/", back], 120)
    manifest.same("back", manifest.manifest(back), wanted)
    again = must([*copy, "--checksum", "--itemize-changes", "--dry-run", f"{original}/", there], 120).out
    if again:
        raise Failed(f"rsync would copy again:\n{again.decode('utf-8', 'replace')}")
    for i in range(50):
        os.unlink(original / "directory" / f"f{i}")
    os.rename(original / "directory", original / "renamed")
    for path, seconds in ((original / "renamed", 3), (original, 4)):
        os.utime(path, ns=(0, seconds * 1_000_000_001))
    must([*copy, "--delete", f"{original}/", there], 120)
    manifest.same("after --delete", manifest.manifest(there), manifest.manifest(original))


CASES = [
    ("git fsck after many commits", git),
    ("npm install", npm),
    ("parallel cargo build", cargo),
    ("rsync -aHAXS there and back", rsync),
    ("inotify watchers", watching.inotify),
    ("flock across processes", locks.flock),
    ("fcntl locks across processes", locks.fcntl_ranges),
    ("open file description locks", locks.descriptions),
    ("fcntl deadlock found", locks.deadlock),
]
ONLY_LLFS = [
    *limits.CASES,
    ("a shell in a directory that is reverted", standing.changed),
    ("a shell in a directory that was removed and comes back", standing.removed),
    ("a shell in a directory that goes with the revert", standing.newer),
]


def run(place, setting, quick, report, only=None):
    """Every program once."""
    beside = place.llfs if setting == "snapshot" else None
    for name, case in CASES:
        if only and only not in name:
            continue

        def beside_snapshots(case=case):
            with Snapper(beside) as snapper:
                case(place, quick)
            if beside:
                say(f"{snapper.taken} snapshots meanwhile")

        report.check(name, beside_snapshots)
    for name, case in ONLY_LLFS:
        if (only and only not in name) or (quick and case is limits.links):
            continue
        if place.llfs:
            report.check(name, case, place, quick)
        else:
            report.excludes(name)
    if place.llfs:
        report.check("llctl verify", place.llfs.ctl, "verify")
