"""SQLite, one transaction for each insert."""

import sys
from pathlib import Path

from .group import Group, Row

CHILD = Path(__file__).with_name("sqlite_child.py")


def sqlite(m):
    where = m.root / "bench-sqlite"
    where.mkdir()
    for row, journal, synchronous, count in (
        ("wal", "WAL", "NORMAL", m.ctx.sizes.wal_inserts),
        ("full", "DELETE", "FULL", m.ctx.sizes.full_inserts),
    ):
        m.do("sync", "-f", m.ctx.tmp)
        m.time(row, [sys.executable, "-I", "-S", CHILD, where / f"{row}.db", journal, synchronous, count])
    m.do("rm", "-rf", where)


GROUPS = [
    Group("sqlite", {
        "wal": Row("SQLite inserts, WAL/NORMAL", 1.5),
        "full": Row("SQLite inserts, DELETE/FULL", 1.5),
    }, sqlite),
]
