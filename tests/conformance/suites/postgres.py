"""PostgreSQL under pgbench: a snapshot taken meanwhile is what a power cut leaves; it recovers."""

import contextlib
import os
import pwd
import shutil
import subprocess
import time
from pathlib import Path

from harness.shell import Failed, attempt, must, poll, stop_group
from harness.tools import need

# pgbench's bookkeeping: the four sums are equal after any number of transactions.
SUMS = """SELECT (SELECT coalesce(sum(abalance), 0) FROM pgbench_accounts),
    (SELECT coalesce(sum(tbalance), 0) FROM pgbench_tellers),
    (SELECT coalesce(sum(bbalance), 0) FROM pgbench_branches),
    (SELECT coalesce(sum(delta), 0) FROM pgbench_history),
    (SELECT count(*) FROM pgbench_history)"""


def programs():
    """The directory of PostgreSQL's programs; the Debian package is installed when missing."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        need("pg_lsclusters", "postgresql-15")
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        raise Failed("no initdb below /usr/lib/postgresql")
    return found[-1].parent


class Server:
    """A server of its own in the directory under test; it listens on a socket in scratch only."""

    def __init__(self, place):
        self.bin = programs()
        self.data = place.directory / "postgres"
        self.sockets = place.scratch / "sockets"
        self.log = place.scratch / "postgres.log"
        # The server refuses to run as root.
        self.user = None
        if os.geteuid() == 0:
            names = {entry.pw_name for entry in pwd.getpwall()}
            self.user = "postgres" if "postgres" in names else "nobody"
        for directory in (self.data, self.sockets):
            directory.mkdir()
            if self.user:
                shutil.chown(directory, self.user)
            directory.chmod(0o700)
        self.process = None

    def run(self, program, *args, timeout=120):
        """One of PostgreSQL's programs, as the server's user."""
        return must([self.bin / program, *args], timeout, user=self.user, cwd="/")

    def init(self, scale):
        """A cluster with data checksums, and pgbench's tables."""
        self.run("initdb", "-D", self.data, "-k", "-U", "bench", "-A", "trust", "-E", "UTF8", "--locale=C")
        with self.running():
            self.run("pgbench", "-h", self.sockets, "-U", "bench", "-i", "-q", "-s", str(scale), "postgres")

    @contextlib.contextmanager
    def running(self, crash=False):
        """The server runs inside this block; it is shut down, or killed, at the end."""
        self.start()
        try:
            yield
        except BaseException:
            stop_group(self.process)
            raise
        if crash:
            stop_group(self.process)
            return
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired as error:
            stop_group(self.process)
            raise Failed("the server does not shut down") from error

    def start(self):
        """Starts and waits until it takes connections, recovery included."""
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    self.bin / "postgres", "-D", self.data, "-k", self.sockets,
                    "-c", "listen_addresses=", "-c", "checkpoint_timeout=30s",
                    "-c", "max_wal_size=64MB", "-c", "shared_buffers=32MB",
                    "-c", "autovacuum_naptime=1s",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=self.user,
                cwd="/",
                start_new_session=True,
            )  # fmt: skip

        def ready():
            if self.process.poll() is not None:
                raise Failed(f"the server ended:\n{self.tail()}")
            args = [self.bin / "pg_isready", "-q", "-h", self.sockets, "-U", "bench", "-d", "postgres"]
            return attempt(args, 10, cwd="/").status == 0

        try:
            poll("a server that takes connections", 120, ready, 0.1)
        except Failed:
            stop_group(self.process)
            raise

    def tail(self):
        """The end of the server's log."""
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-12:])

    def query(self, text):
        """One row as numbers."""
        args = ["-h", self.sockets, "-U", "bench", "-Atq", "-F", " ", "-c", text, "postgres"]
        return [int(word) for word in self.run("psql", *args).out.split()]

    def load(self, seconds):
        """pgbench with four clients; returns the process."""
        return subprocess.Popen(
            [
                self.bin / "pgbench", "-h", self.sockets, "-U", "bench", "-n", "-c", "4", "-j", "2",
                "-T", str(seconds), "postgres",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            user=self.user,
            cwd="/",
            start_new_session=True,
        )  # fmt: skip

    def consistent(self, when):
        """The four sums are equal, every row can be read and every index agrees; returns the transactions."""
        accounts, tellers, branches, history, count = self.query(SUMS)
        if not accounts == tellers == branches == history:
            raise Failed(f"{when}: accounts {accounts}, tellers {tellers}, branches {branches}, history {history}")
        self.run("pg_dump", "-h", self.sockets, "-U", "bench", "-f", "/dev/null", "postgres")
        self.run("pg_amcheck", "-h", self.sockets, "-U", "bench", "--install-missing", "--heapallindexed", "postgres")
        return count

    def checksums(self, when):
        """Every page of the stopped cluster has the checksum it was written with."""
        try:
            self.run("pg_checksums", "--check", "-D", self.data)
        except Failed as error:
            raise Failed(f"{when}: {error}") from error


def ended(load, seconds):
    """pgbench has to end by itself and well."""
    out, _ = load.communicate(timeout=seconds + 90)
    if load.returncode != 0 or b"number of failed transactions: 0" not in out:
        raise Failed(f"pgbench: exit status {load.returncode}\n{out.decode()[-800:]}")


def exercise(place):
    """Snapshots while pgbench runs; each is reverted to, recovers, and is consistent."""
    server = Server(place)
    server.init(5)
    llfs = place.llfs
    names = []
    seconds = 20
    with server.running(crash=True):
        load = server.load(seconds)
        try:
            begun = time.monotonic()
            while llfs and time.monotonic() < begun + seconds - 3:
                time.sleep(3)
                names.append(f"pgbench-{len(names)}")
                llfs.ctl("snap", names[-1])
            ended(load, seconds)
        finally:
            stop_group(load)
        final = server.consistent("with the server that ran")
    if final < 100:
        raise Failed(f"only {final} transactions")
    with server.running():
        if server.consistent("after killing the server") != final:
            raise Failed("transactions were lost when the server was killed")
    server.checksums("after a clean shutdown")
    previous = 0
    for name in names:
        llfs.ctl("revert", name)
        with server.running():
            count = server.consistent(f"reverted to {name}")
        server.checksums(f"reverted to {name}")
        if not previous <= count <= final:
            raise Failed(f"{name}: {count} transactions, outside of {previous} to {final}")
        previous = count
    if names:
        if previous < 50:
            raise Failed(f"the last snapshot held only {previous} transactions")
        llfs.remount()
        with server.running():
            load = server.load(3)
            try:
                ended(load, 3)
            finally:
                stop_group(load)
            server.consistent("after the remount")
        llfs.ctl("delete", "--yes", *names)


CASES = [("PostgreSQL, pgbench", exercise)]
