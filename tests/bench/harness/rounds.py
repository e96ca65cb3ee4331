"""The rounds: every backend in turn within each, so that a change in the machine's mood meets all of them."""

import itertools
import time

from workloads.group import Meter

from .proc import Failed


class Rounds:
    """Runs them and keeps what they gave."""

    def __init__(self, ctx, groups, backends, bases):
        self.ctx = ctx
        self.groups = groups
        self.backends = backends
        self.bases = bases
        self.samples = {}  # row -> backend -> list, one list of samples a round
        self.failures = {}  # backend -> workload -> message
        self.done = 0

    def round(self, number):
        """Each round begins with another backend."""
        turn = number % max(1, len(self.backends))
        for backend in self.backends[turn:] + self.backends[:turn]:
            begun = time.monotonic()
            for groups in self.sessions(backend):
                self.session(backend, groups, number)
            print(f"bench: round {number + 1}: {backend.name}: {time.monotonic() - begun:.0f} s", flush=True)
        self.done = number + 1

    def sessions(self, backend):
        """The groups for a backend, those that share a session together."""
        fits = [g for g in self.groups if wanted(g, backend)]
        shared = itertools.groupby([g for g in fits if not g.alone], key=lambda g: (g.kind, g.base))
        return [list(groups) for _, groups in shared] + [[g] for g in fits if g.alone]

    def session(self, backend, groups, number):
        where = self.ctx.tmp / f"{backend.name.replace(' ', '-')}-{groups[0].name}-{number}"
        where.mkdir()
        base = self.bases[groups[0].base]
        try:
            session = backend.open(self.ctx, base, where)
        except Failed as failure:
            for group in groups:
                self.failed(backend, group, failure)
            return
        try:
            for group in groups:
                meter = Meter(self.ctx, session, base)
                try:
                    group.run(meter)
                except (Failed, OSError) as failure:
                    self.failed(backend, group, failure)
                for row, values in meter.samples.items():
                    self.samples.setdefault(row, {}).setdefault(backend.name, []).append(values)
        finally:
            session.close()

    def failed(self, backend, group, failure):
        print(f"bench: {backend.name}: {group.name}: {failure}", flush=True)
        self.failures.setdefault(backend.name, {})[group.name] = str(failure)


def wanted(group, backend):
    if group.kind == "files":
        return backend.workloads and (backend.only is None or group.name in backend.only)
    if group.kind == "snapshots":
        return backend.snapshots
    if group.kind == "same":
        return backend.checked
    return backend.name == "llfs"
