"""SQLite under concurrent writers and readers, across snapshots, reverts and a remount."""

import contextlib
import sqlite3
import subprocess
import sys
import time

from harness.shell import Failed, stop_group
from harness.snapper import Snapper

MODES = ["WAL", "DELETE"]
# Accounts and what they hold together: transactions move money and write down what they did.
ACCOUNTS = 200
TOTAL = ACCOUNTS * 1000

CHECK = """
def consistent(db):
    db.execute("BEGIN")
    total, = db.execute("SELECT sum(balance) FROM account").fetchone()
    moved = db.execute(
        "SELECT a.id FROM account a WHERE a.balance != 1000"
        " + coalesce((SELECT sum(amount) FROM move WHERE target = a.id), 0)"
        " - coalesce((SELECT sum(amount) FROM move WHERE source = a.id), 0)").fetchall()
    db.execute("COMMIT")
    if total != %d or moved:
        sys.exit(f"inconsistent: {total} in all, accounts {moved[:5]} against their moves")
""" % TOTAL
# Writes until its stdin ends; killed writers are part of the test.
WRITER = """
import random, sqlite3, sys, threading
path, mode, seed = sys.argv[1:4]
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
db = sqlite3.connect(path, timeout=60, isolation_level=None)
rng = random.Random(seed)
count = 0
while not ended.is_set():
    db.execute("BEGIN IMMEDIATE")
    for _ in range(rng.randint(1, 5)):
        a, b, n = rng.randrange(200), rng.randrange(200), rng.randint(1, 90)
        db.execute("UPDATE account SET balance = balance - ? WHERE id = ?", (n, a))
        db.execute("UPDATE account SET balance = balance + ? WHERE id = ?", (n, b))
        db.execute("INSERT INTO move (source, target, amount, note) VALUES (?, ?, ?, ?)",
                   (a, b, n, rng.randbytes(rng.randint(0, 3000))))
    db.execute("ROLLBACK" if rng.random() < 0.05 else "COMMIT")
    # Without a pause one writer would keep the other one out for minutes.
    ended.wait(0.005)
    count += 1
    if count % 200 == 0:
        db.execute("UPDATE move SET note = x'' WHERE id % 3 = 0")
    if count == 1:
        print("going", flush=True)
print(count, flush=True)
"""
READER = (
    """
import sqlite3, sys, threading
path, mode, seed = sys.argv[1:4]
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
"""
    + CHECK
    + """
db = sqlite3.connect(path, timeout=60, isolation_level=None)
count = 0
while not ended.is_set():
    consistent(db)
    # In mode DELETE readers that never pause keep every writer out.
    ended.wait(0.02)
    count += 1
    if count == 1:
        print("going", flush=True)
print(count, flush=True)
"""
)


def create(path, mode):
    """A database in which nothing has moved yet."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        set_mode, = db.execute(f"PRAGMA journal_mode = {mode}").fetchone()
        if set_mode.upper() != mode:
            raise Failed(f"the journal mode is {set_mode} instead of {mode}")
        db.execute("CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL)")
        db.execute(
            "CREATE TABLE move (id INTEGER PRIMARY KEY, source INTEGER, target INTEGER,"
            " amount INTEGER, note BLOB)"
        )
        db.execute("CREATE INDEX by_source ON move (source, amount)")
        db.execute("CREATE INDEX by_target ON move (target, amount)")
        db.executemany("INSERT INTO account VALUES (?, 1000)", [(i,) for i in range(ACCOUNTS)])


@contextlib.contextmanager
def at_work(path, mode, kill=False):
    """Two writers and three readers work on the database inside this block."""
    programs = [WRITER, WRITER, READER, READER, READER]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", text, str(path), mode, str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        for seed, text in enumerate(programs)
    ]
    try:
        for process in processes:
            if process.stdout.readline() != b"going\n":
                raise Failed(f"a process did not start: {process.stderr.read().decode()}")
        yield
        if kill:
            return
        for process in processes:
            process.stdin.close()
        for process in processes:
            process.wait(90)
            if process.returncode != 0:
                raise Failed(f"a process ended in {process.returncode}: {process.stderr.read().decode()}")
            if int(process.stdout.read()) < 2:
                raise Failed("a process got nothing done")
    finally:
        for process in processes:
            stop_group(process)
            process.stdout.close()
            process.stderr.close()


def sound(path, when):
    """integrity_check and the bookkeeping; returns the number of moves."""
    with contextlib.closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as db:
        said = db.execute("PRAGMA integrity_check").fetchall()
        if said != [("ok",)]:
            raise Failed(f"{when}: integrity_check says {said[:5]}")
        namespace = {"sys": sys}
        exec(CHECK, namespace)
        try:
            namespace["consistent"](db)
        except SystemExit as error:
            raise Failed(f"{when}: {error}") from error
        return db.execute("SELECT count(*), coalesce(max(id), 0) FROM move").fetchone()


def exercise(place, mode, seconds):
    """The whole story of one journal mode; without llfs the part that needs no snapshots."""
    path = place.directory / f"{mode.lower()}.db"
    llfs = place.llfs
    if not path.exists():
        create(path, mode)
    with Snapper(llfs), at_work(path, mode):
        time.sleep(seconds)
    sound(path, "after the load")
    with at_work(path, mode, kill=True):
        time.sleep(seconds / 2)
    sound(path, "after killing all writers")
    if not llfs:
        return
    quiet = sound(path, "before the quiet snapshot")
    llfs.ctl("snap", f"{mode}-quiet")
    during = []
    with at_work(path, mode):
        for i in range(5):
            time.sleep(seconds / 5)
            during.append(f"{mode}-during-{i}")
            llfs.ctl("snap", during[-1])
    end = sound(path, "at the end")
    if end <= quiet:
        raise Failed(f"the writers wrote nothing: {quiet} and then {end}")
    previous = quiet
    for name in during:
        llfs.ctl("revert", name)
        moves = sound(path, f"reverted to {name}, taken while it was written to")
        if not previous <= moves <= end:
            raise Failed(f"{name}: {moves} moves, outside of {previous} to {end}")
        previous = moves
    llfs.ctl("revert", f"{mode}-quiet")
    if sound(path, "reverted to the quiet snapshot") != quiet:
        raise Failed("the quiet snapshot holds another number of moves than it did")
    with at_work(path, mode):
        time.sleep(seconds / 4)
    sound(path, "worked on after the revert")
    llfs.ctl("undo")
    sound(path, "after undo")
    llfs.ctl("revert", f"{mode}-quiet")
    llfs.remount()
    if sound(path, "remounted") != quiet:
        raise Failed("after the remount the database is another one")
    llfs.ctl("delete", "--yes", f"{mode}-quiet", *during)
