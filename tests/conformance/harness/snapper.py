"""Snapshots taken beside a running suite."""

import collections
import threading
import time

from .shell import Failed


class Snapper:
    """Takes a snapshot every `interval` seconds and keeps the last `keep`.

    A snapshot that fails is remembered and raised when the block ends: a snapshot never fails
    because something is in use. `forgiving` leaves the error to be looked at in `error`.
    """

    def __init__(self, llfs, interval=0.1, keep=20, forgiving=False):
        self.llfs = llfs
        self.interval = interval
        self.keep = keep
        self.forgiving = forgiving
        self.taken = 0
        self.error = None
        self.names = collections.deque()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.loop, daemon=True)

    def take(self):
        """One snapshot, and the deletion of those that are too old (ten at a time)."""
        name = f"beside-{self.taken}"
        self.llfs.ctl("snap", name)
        self.taken += 1
        self.names.append(name)
        if len(self.names) >= self.keep + 10:
            self.llfs.ctl("delete", "--yes", *[self.names.popleft() for _ in range(10)])

    def loop(self):
        while not self.ended.is_set():
            started = time.monotonic()
            try:
                self.take()
            except Failed as error:
                self.error = error
                return
            self.ended.wait(max(0.0, self.interval - (time.monotonic() - started)))

    def __enter__(self):
        if self.llfs:
            self.thread.start()
        return self

    def __exit__(self, kind, *_):
        self.ended.set()
        if self.llfs:
            self.thread.join(90)
            if self.names:
                self.llfs.ctl("delete", "--yes", *self.names)
                self.names.clear()
        if self.error and kind is None and not self.forgiving:
            raise self.error
