"""How the time for a snapshot and for a revert grows: with the tree, with the changed files, with the snapshots."""

import json
import shutil
import tempfile
import time
from dataclasses import dataclass, field

from backends import Llfs
from harness import source_tree
from harness.control import Control
from harness.proc import Failed, run, timed

HOT, HOT_BYTES = 100, 1_000  # files that are changed where their number is not what grows, and the bytes of a file


@dataclass
class Scale:
    """A panel. The largest point of each is left out of a quick run."""

    name: str
    title: str
    unit: str
    points: tuple
    samples: dict = field(default_factory=dict)  # point -> series -> seconds
    left_out: dict = field(default_factory=dict)  # point -> why


SERIES = {
    "snap": "llctl snap",
    "snap-daemon": "… on the control socket",
    "revert": "llctl revert",
    "revert-daemon": "… in the daemon",
}


def scales():
    return [
        Scale("tree", f"files in the base ({HOT} changed)", "files", (10**3, 10**4, 10**5, 10**6)),
        Scale("changed", "changed and cached files", "changed files", (1, 10, 10**2, 10**3, 10**4, 10**5)),
        Scale("snapshots", f"snapshots ({HOT} changed)", "snapshots", (1, 10, 10**2, 10**3, 10**4)),
    ]


class Late(Exception):
    """No time is left for this point."""


class Scaling:
    """Runs the panels within `limit` seconds; points that are not done by then are left out."""

    def __init__(self, ctx, quick, limit):
        self.ctx = ctx
        self.quick = quick
        self.end = time.monotonic() + limit
        self.names = 0

    def run(self):
        """The panels, measured."""
        done = scales()
        # The dearest last: if time runs out, little is missing.
        for scale, measure in ((done[1], self.changed), (done[2], self.snapshots), (done[0], self.tree)):
            points = scale.points[:-1] if self.quick else scale.points
            for left in scale.points[len(points):]:
                scale.left_out[left] = "a quick run"
            begun = time.monotonic()
            try:
                measure(scale, points)
            except Late:
                scale.left_out.update((point, "out of time") for point in points if point not in scale.samples)
            print(f"bench: scaling: {scale.name}: {time.monotonic() - begun:.0f} s", flush=True)
        return done

    def remaining(self):
        left = self.end - time.monotonic()
        if left <= 0:
            raise Late
        return left

    def do(self, *argv):
        """A command that is not measured, and that is given up soon after the end of the time."""
        try:
            return run(argv, self.ctx.env, limit=self.remaining() + 15)
        except Failed:
            self.remaining()
            raise

    def session(self, base, where):
        where.mkdir()
        session = Llfs().open(self.ctx, base, where)
        try:
            self.do(self.ctx.ops, "walk", session.root)
        except BaseException:
            session.close()
            raise
        return session

    def tree(self, scale, points):
        for files in points:
            where = self.ctx.tmp / f"scaling-tree-{files}"
            try:
                base = source_tree.make_flat(self.ctx, where / "base", files, HOT, HOT_BYTES)
                session = self.session(base, where / "llfs")
                try:
                    self.point(scale, files, session, HOT, 5, entries=int(self.do(self.ctx.ops, "walk", session.root)))
                finally:
                    session.close()
            finally:
                shutil.rmtree(where, ignore_errors=True)

    def changed(self, scale, points):
        where = self.ctx.tmp / "scaling-changed"
        base = source_tree.make_flat(self.ctx, where / "base", points[-1], points[-1], HOT_BYTES)
        session = self.session(base, where / "llfs")
        try:
            for files in points:
                self.point(scale, files, session, files, 3 if files > 10**4 else 5)
        finally:
            session.close()
            shutil.rmtree(where, ignore_errors=True)

    def snapshots(self, scale, points):
        """Each snapshot has a change of its own in it; they pile up from point to point."""
        where = self.ctx.tmp / "scaling-snapshots"
        base = source_tree.make_flat(self.ctx, where / "base", 2_000, HOT, HOT_BYTES)
        session = self.session(base, where / "llfs")
        taken = 0
        try:
            for count in points:
                with Control(self.ctx, session.root) as control:
                    # One is the point's own: the snapshot that is gone back to.
                    for taken in range(taken + 1, count):
                        name = session.root / "hot" / "d000" / f"f{taken % HOT:05}.txt"
                        with name.open("r+b") as f:
                            f.write(f"change {taken}".encode())
                        control.snap(f"many{taken}")
                        self.remaining()
                self.point(scale, count, session, HOT, 5)
        finally:
            session.close()
            shutil.rmtree(where, ignore_errors=True)

    def point(self, scale, point, session, changed, repeat, entries=None):
        """`repeat` times: `changed` files are changed before each snapshot and before the revert to what was at the start."""
        hot = session.root / "hot"

        def digest():
            return self.do(self.ctx.ops, "digest", hot, changed)

        def edit():
            self.do(self.ctx.ops, "edit", hot, changed)

        kept = {name: [] for name in SERIES}
        start = self.name("start")
        self.do(*session.snap(start))
        before = digest()
        for _ in range(repeat):
            edit()
            by_command, by_socket = self.name("snap"), self.name("snap")
            kept["snap"].append(timed(session.snap(by_command), self.ctx.env))
            edit()
            with Control(self.ctx, session.root) as control:
                kept["snap-daemon"].append(control.snap(by_socket))
            edit()
            if digest() == before:
                raise Failed(f"{scale.name} {point}: the edits cannot be seen")
            took, told = self.reverted(session, start)
            kept["revert"].append(took)
            kept["revert-daemon"].append(told)
            if digest() != before:
                raise Failed(f"{scale.name} {point}: the revert did not bring everything back")
            self.do(self.ctx.llctl, "-C", session.root, "delete", "--yes", by_command, by_socket)
        if entries is not None and int(self.do(self.ctx.ops, "walk", session.root)) != entries:
            raise Failed(f"{scale.name} {point}: the reverts lost or added names")
        self.do(self.ctx.llctl, "-C", session.root, "delete", "--yes", start)
        scale.samples[point] = kept

    def reverted(self, session, name):
        """(seconds of the whole command, seconds that the daemon says it took)"""
        with tempfile.TemporaryFile() as said:
            took = timed([self.ctx.llctl, "-C", session.root, "--json", "revert", name], self.ctx.env, output=said)
            said.seek(0)
            return took, json.load(said)["took_us"] / 1e6

    def name(self, prefix):
        """A name that no other snapshot has."""
        self.names += 1
        return f"{prefix}-{self.names}"
