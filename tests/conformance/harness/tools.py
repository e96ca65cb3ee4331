"""The programs that the suites need: installed when missing, and said so."""

import hashlib
import os
import shutil
import sys
from pathlib import Path

from .shell import Failed, must

CACHE = Path(
    os.environ.get("LLFS_CONFORMANCE_CACHE")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llfs-conformance"
)


def say(text):
    """One line of progress on stderr; stdout is for results."""
    print(f"conformance: {text}", file=sys.stderr, flush=True)


def need(program, package):
    """The path of a program, from the Debian package when it is not there."""
    path = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"
    found = shutil.which(program, path=path)
    if found:
        return found
    say(f"installing {package} (for {program})")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    if not any(Path("/var/lib/apt/lists").glob("*_Packages*")):
        must(["apt-get", "update", "-qq"], 300, env=quiet)
    must(["apt-get", "install", "-y", "-qq", "--no-install-recommends", package], 600, env=quiet)
    found = shutil.which(program, path=path)
    if not found:
        raise Failed(f"{program}: not there after installing {package}")
    return found


def cargo_tool(name, version, edits):
    """Builds a program from crates.io with our hooks in it, once; returns its path.

    `edits` are (file, anchor, replacement): each anchor must occur exactly once, so that a new
    version of the program cannot silently lose a hook.
    """
    key = hashlib.sha256(repr((name, version, edits)).encode()).hexdigest()[:12]
    root = CACHE / f"{name}-{version}-{key}"
    binary = root / "bin" / name
    if binary.exists():
        return binary
    say(f"building {name} {version} from crates.io")
    work = CACHE / f"{name}-source"
    shutil.rmtree(work, ignore_errors=True)
    (work / "src").mkdir(parents=True)
    (work / "src" / "lib.rs").write_text("")
    (work / "Cargo.toml").write_text(
        '[package]\nname = "sources"\nversion = "0.0.0"\nedition = "2021"\n'
        f'[dependencies]\n{name} = "={version}"\n[workspace]\n'
    )
    must(["cargo", "vendor", "--quiet", "vendor"], 300, cwd=work)
    source = work / name
    (work / "vendor" / name).rename(source)
    (work / "Cargo.toml").unlink()
    for file, anchor, replacement in edits:
        path = source / file
        text = path.read_text()
        if text.count(anchor) != 1:
            raise Failed(f"{name} {version}: {file}: the anchor {anchor!r} is not there exactly once")
        path.write_text(text.replace(anchor, replacement))
    target = {"CARGO_TARGET_DIR": str(work / "target")}
    must(
        ["cargo", "install", "--quiet", "--locked", "--path", source, "--root", root],
        900,
        cwd=work,
        env=target,
    )
    shutil.rmtree(work, ignore_errors=True)
    return binary
