"""Groups of workloads, their rows, and what takes the times."""

from dataclasses import dataclass, field
from typing import Callable

from harness.proc import drop_caches, run, timed


@dataclass
class Row:
    """A line of the table.

    `unit` is "s" for times; "B" for bytes, "x" for a factor. `goal` is a bound for llfs: as a ratio to the plain
    directory if `ratio`, else in `unit`."""

    title: str
    goal: float = None
    ratio: bool = True
    unit: str = "s"


@dataclass
class Group:
    """`run(meter)` runs the workloads. `kind` says on what: "files" on every backend that has files, "snapshots" on
    those with snapshots, "llfs" on llfs alone, "same" on those that are checked. `base` is "tree", "big" or "million"; groups of the same kind and base share one session
    of a round, in the order of the list, unless `alone`."""

    name: str
    rows: dict
    run: Callable
    kind: str = "files"
    base: str = "tree"
    alone: bool = False


@dataclass
class Meter:
    """Takes the times of one session."""

    ctx: object
    session: object
    base: object
    samples: dict = field(default_factory=dict)  # row id -> list of values of this round

    @property
    def root(self):
        return self.session.root

    def time(self, row, argv, cold=False):
        """Times a whole command. With `cold`, the kernel's caches are dropped before; without the right to, it is left out."""
        if cold and not drop_caches():
            return None
        took = timed(argv, self.ctx.env)
        self.value(row, took)
        return took

    def value(self, row, value):
        self.samples.setdefault(row, []).append(value)

    def do(self, *argv):
        """Runs a command that is not measured."""
        return run(argv, self.ctx.env)

    def ops(self, *args):
        """A command line of the program ops."""
        return [self.ctx.ops, *args]
