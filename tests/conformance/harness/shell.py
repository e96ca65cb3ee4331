"""Running external programs: every one has a deadline, and none outlives it."""

import os
import signal
import subprocess
import time


class Failed(Exception):
    """A check or a program that did not do what it should."""


class Result:
    """What a program left: exit status (negative: the signal that ended it), output, seconds."""

    def __init__(self, status, out, err, seconds, timed_out):
        self.status = status
        self.out = out
        self.err = err
        self.seconds = seconds
        self.timed_out = timed_out

    def tail(self, lines=12):
        """The last lines of both streams, for a failure message."""
        text = (self.out + self.err).decode("utf-8", "replace").strip().splitlines()
        return "\n".join(text[-lines:])


def stop_group(process):
    """Kills a program started in a session of its own with all its children."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        # Stuck in the kernel: the caller's mount is torn down later, which frees it.
        pass


def attempt(args, timeout, cwd=None, env=None, stdin=None, user=None):
    """Runs a program and returns its Result, whatever its exit status. `env` is added to ours."""
    started = time.monotonic()
    full = dict(os.environ, **(env or {}))
    process = subprocess.Popen(
        [os.fspath(a) for a in args],
        cwd=cwd,
        env=full,
        stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        user=user,
    )
    timed_out = False
    try:
        out, err = process.communicate(stdin, timeout=timeout)
    except subprocess.TimeoutExpired:
        timed_out = True
        stop_group(process)
        try:
            out, err = process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            out, err = b"", b"(stuck in the kernel: no output)"
    return Result(process.returncode, out, err, time.monotonic() - started, timed_out)


def must(args, timeout, **options):
    """Runs a program that has to succeed; returns its Result or raises Failed."""
    result = attempt(args, timeout, **options)
    if result.status != 0:
        why = f"did not end in {timeout} s" if result.timed_out else f"exit status {result.status}"
        words = " ".join(os.fspath(a) for a in args)
        raise Failed(f"{words[:200]}: {why}\n{result.tail()}")
    return result


def poll(what, timeout, ready, interval=0.02):
    """Waits until `ready()` is true; raises Failed after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = ready()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {timeout} s")
        time.sleep(interval)
