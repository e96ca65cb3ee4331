"""What only llfs is asked for: mounting, memory, and many snapshots."""

import statistics

from harness.control import Control
from harness.memory import resident
from harness.proc import Failed, drop_caches
from .group import Group, Row


def mount(m):
    m.session.unmount()
    m.do("rm", "-rf", m.session.where / "store")
    m.time("mount", m.session.mount_command())
    m.session.found()
    where, n = m.root / "bench-journal", m.ctx.sizes.journaled
    where.mkdir()
    # A name each for the creation, the write, and the rename: that many records and more.
    m.do(*m.ops("create", where, n // 2, 10))
    m.do(*m.ops("rename", where, n // 2))
    m.session.unmount()
    m.time("remount", m.session.mount_command())
    m.session.found()


def memory(m):
    n = m.ctx.sizes.memory_files
    fresh, _ = resident(m.session.worker)
    m.value("rss-fresh", fresh)
    m.do(*m.ops("walk", m.root))
    walked, _ = resident(m.session.worker)
    m.value("rss-walked", walked)
    where = m.root / "bench-memory"
    where.mkdir()
    m.do(*m.ops("create", where, n, 100))
    created, _ = resident(m.session.worker)
    m.value("rss-file", (created - walked) / n)
    edited = m.base.files[:n]
    for name in edited:
        with (m.root / name).open("r+b") as f:
            f.write(b"/* edited */")
    resident_now, highest = resident(m.session.worker)
    m.value("rss-edited", (resident_now - created) / max(1, len(edited)))
    m.value("rss-highest", highest)


def million(m):
    """A base that nobody changes, looked at once."""
    seen = int(m.do(*m.ops("walk", m.root)))
    if seen < m.ctx.sizes.million_files:
        raise Failed(f"a walk found {seen} entries")
    walked, highest = resident(m.session.worker)
    m.value("rss-million", walked)
    m.value("rss-million-highest", highest)


def many(m):
    """Lookups and reads that reach the daemon, before and after many snapshots, each with a change in it."""
    where = m.root / "bench-many"
    where.mkdir()
    m.do(*m.ops("create", where, 3_000, 2_048))
    look = m.ops("walk", m.root)
    read = m.ops("read", where, 3_000)

    def measure(suffix):
        for _ in range(5):
            if drop_caches():
                m.time(f"lookups-{suffix}", look)
                m.time(f"reads-{suffix}", read, cold=True)

    measure("none")
    changed = [where / f"d{i // 100:03}" / f"f{i:05}.txt" for i in range(3_000)]
    with Control(m.ctx, m.root) as control:
        for i in range(m.ctx.sizes.snapshots):
            with changed[i % len(changed)].open("r+b") as f:
                f.write(f"change {i}".encode())
            control.snap(f"many{i}")
    measure("many")
    for row in ("lookups", "reads"):
        before, after = (m.samples.get(f"{row}-{suffix}") for suffix in ("none", "many"))
        if before and after:
            m.value(f"{row}-ratio", statistics.median(after) / statistics.median(before))
    for i in range(7):
        m.time("snap-many", m.session.snap(f"last{i}"))


GROUPS = [
    Group("mount", {
        "mount": Row("mount", 0.1, ratio=False),
        "remount": Row("remount with journaled changes (20,000; --long 1,000,000)", 3, ratio=False),
    }, mount, kind="llfs", alone=True),
    Group("memory", {
        "rss-fresh": Row("resident memory after mounting", unit="B"),
        "rss-walked": Row("… after a walk", 150 << 20, ratio=False, unit="B"),
        "rss-file": Row("… for each new file", 400, ratio=False, unit="B"),
        "rss-edited": Row("… for each edited file of the base", 400, ratio=False, unit="B"),
        "rss-highest": Row("… at its highest", unit="B"),
    }, memory, kind="llfs", alone=True),
    Group("million", {
        "rss-million": Row("resident memory after walking 1,000,000 files (--long)", 150 << 20, ratio=False, unit="B"),
        "rss-million-highest": Row("… at its highest", unit="B"),
    }, million, kind="llfs", base="million", alone=True),
    Group("many", {
        "lookups-none": Row("walk + lstat all, cold, no snapshots", ratio=False),
        "lookups-many": Row("… with 1,000 snapshots (--long 10,000)", ratio=False),
        "lookups-ratio": Row("… the second by the first", 1.05, ratio=False, unit="x"),
        "reads-none": Row("read 3,000 files, cold, no snapshots", ratio=False),
        "reads-many": Row("… with 1,000 snapshots (--long 10,000)", ratio=False),
        "reads-ratio": Row("… the second by the first", 1.05, ratio=False, unit="x"),
        "snap-many": Row("snap with as many", 0.006, ratio=False),
    }, many, kind="llfs", alone=True),
]
