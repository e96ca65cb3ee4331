"""Snapshots and reverts: whole commands, each checked for having done its work."""

import hashlib

from harness.proc import Failed
from .group import Group, Row

REPEAT = 5


def digest(m, names):
    """What the named files hold, and how many entries the tree has."""
    told = hashlib.sha256(m.do(*m.ops("walk", m.root)).encode())
    for name in names:
        told.update((m.root / name).read_bytes())
    return told.hexdigest()


def change(m, names, mark):
    for name in names:
        with (m.root / name).open("ab") as f:
            f.write(f"/* {mark} */\n".encode())


def durable(m, row):
    """What no command that makes something durable goes below, with whatever the disk has to do at this moment."""
    path = m.session.where / "record"
    if not path.exists():
        path.write_bytes(bytes(4096))
        m.do("sync", "-f", path)
    m.time(row, m.ops("record", path))


def snap(m):
    files = m.base.files[:: max(1, len(m.base.files) // m.ctx.sizes.changed_files)][: m.ctx.sizes.changed_files]
    m.do(*m.session.snap("warm"))
    for i in range(REPEAT):
        durable(m, "snap-floor")
        m.time("snap-clean", m.session.snap(f"clean{i}"))
    for i in range(REPEAT):
        change(m, files, i)
        m.time("snap-changed", m.session.snap(f"changed{i}"))


def revert(m):
    files = m.base.files[:: max(1, len(m.base.files) // m.ctx.sizes.changed_files)][: m.ctx.sizes.changed_files]
    tops = sorted({name.split("/")[0] for name in m.base.files if "/" in name})
    m.do(*m.session.snap("start"))
    before = digest(m, files)

    def back(row):
        m.time(row, m.session.revert("start"))
        durable(m, "revert-floor")
        m.session.after_revert()
        if digest(m, files) != before:
            raise Failed(f"{row}: the revert did not bring everything back")

    for i in range(3):
        change(m, files[:1], i)
        back("revert-1")
    for i in range(3):
        change(m, files, i)
        back("revert-1000")
    for _ in range(3):
        m.do("rm", "-rf", *[m.root / top for top in tops[: len(tops) * 9 // 10]])
        back("revert-rm")


def huge(m):
    n = m.ctx.sizes.huge_revert
    if not n:
        return
    where = m.root / "bench-huge"
    where.mkdir()
    m.do(*m.ops("create", where, n, 100))
    m.do(*m.session.snap("made"))
    content = m.ops("digest", where, n)
    before = m.do(*content)
    m.do(*m.ops("edit", where, n))
    if m.do(*content) == before:
        raise Failed("the edits cannot be seen")
    m.time("revert-100000", m.session.revert("made"))
    m.session.after_revert()
    if m.do(*content) != before:
        raise Failed("the revert did not bring everything back")


GROUPS = [
    Group("snap", {
        "snap-floor": Row("a program that makes 200 bytes durable", ratio=False),
        "snap-clean": Row("snap, clean tree", 0.005, ratio=False),
        "snap-changed": Row("snap after 1,000 changed files", 0.006, ratio=False),
    }, snap, kind="snapshots"),
    Group("revert", {
        "revert-floor": Row("a program that makes 200 bytes durable, right after each of these", ratio=False),
        "revert-1": Row("revert of 1 file", 0.005, ratio=False),
        "revert-1000": Row("revert of 1,000 files", 0.012, ratio=False),
        "revert-rm": Row("revert of rm -rf of most of the tree", 0.012, ratio=False),
    }, revert, kind="snapshots"),
    Group("huge", {
        "revert-100000": Row("revert of 100,000 changed and cached files (--long)", 0.5, ratio=False),
    }, huge, kind="snapshots", alone=True),
]
