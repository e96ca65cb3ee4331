"""Inserts rows into a new SQLite database, one transaction each: DATABASE JOURNAL SYNCHRONOUS COUNT."""

import sqlite3
import sys

path, journal, synchronous, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
db = sqlite3.connect(path, isolation_level=None)
db.execute(f"PRAGMA journal_mode={journal}")
db.execute(f"PRAGMA synchronous={synchronous}")
db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, data BLOB)")
for i in range(count):
    db.execute("INSERT INTO t (name, data) VALUES (?, ?)", (f"row {i}", b"x" * 200))
assert db.execute("SELECT count(*) FROM t").fetchone() == (count,)
db.close()
