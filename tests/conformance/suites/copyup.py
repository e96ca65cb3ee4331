"""Copy-up: every kind of object that was there before, times every first change to it.

The same is done in a plain directory. What comes out has to be the same: errno, bytes, attributes,
which times moved, who is whose inode, and what a descriptor that was opened before shows. Afterwards a
revert has to bring everything back, inode numbers included, and the base must not have been touched.
"""

import os

from harness.place import Llfs
from harness.shell import Failed
from suites import changes, objects

SETTINGS = ["base", "layer"]


def place(setting, directory):
    """Where to run: `base` has the objects in the base, `layer` gets them through the mount."""
    if directory:
        raise Failed("copyup compares llfs with a plain directory: it has settings only")
    return Llfs(fill if setting == "base" else None)


def pairs():
    """Every (object, change) that makes sense, by name."""
    for thing, make in objects.KINDS.items():
        for change, apply in changes.CHANGES.items():
            if changes.fits(change, thing):
                yield f"{thing}, {change}", make, apply


def fill(root):
    """A directory for each pair, with the object, another file, and another name where there is one."""
    for case, make, _ in pairs():
        directory = root / case
        directory.mkdir()
        (directory / "other").write_text("the other file\n")
        make(directory / "it")
        for name in os.listdir(directory):
            if name != "it":
                os.utime(directory / name, ns=(0, 1_300_000_000_000_000_009), follow_symlinks=False)
        os.utime(directory, ns=(0, 1_200_000_000_000_000_007))


class Side:
    """One of the two sides of a comparison, with what was known before the change."""

    def __init__(self, directory):
        self.directory = directory
        self.before = objects.tree(directory)
        self.path = directory / "it"
        status = os.lstat(self.path)
        how = os.O_RDONLY if objects.readable(status) else os.O_PATH | os.O_NOFOLLOW
        self.fd = os.open(self.path, how)

    def change(self, apply):
        """Applies the change; returns its errno, 0 for none."""
        try:
            apply(self.path)
        except OSError as error:
            return error.errno
        return 0

    def after(self):
        """What is comparable between two filesystems: facts, moved times, identities, and the descriptor."""
        # Of several names the first one stands for the inode.
        identities = {self.before[name]["inode"]: name for name in sorted(self.before, reverse=True)}
        found = {}
        for name, facts in objects.tree(self.directory).items():
            was = identities.get(facts["inode"], "new")
            found[name] = objects.comparable(facts, self.before.get(was)) | {"is": was}
        seen = objects.facts(self.fd, None)
        found["the descriptor"] = objects.comparable(seen, self.before["it"])
        return found


def compare(case, apply, mounted, plain):
    """One pair on both sides."""
    outcomes = [side.change(apply) for side in (mounted, plain)]
    if outcomes[0] != outcomes[1]:
        names = [os.strerror(code) if code else "no error" for code in outcomes]
        raise Failed(f"{names[0]} instead of {names[1]}")
    differences = objects.differences(mounted.after(), plain.after())
    if differences:
        raise Failed("\n".join(differences[:10]))


def reverted(place, sides, whole):
    """Everything is as it was, through paths and through the old descriptors."""
    place.llfs.ctl("revert", "start")
    lines = objects.differences(objects.whole(place.directory), whole)
    for case, side in sides.items():
        facts = objects.facts(side.fd, None)
        wanted = {key: value for key, value in side.before["it"].items() if key in facts}
        lines += [f"{case}: the descriptor: {line}" for line in objects.differences({"": facts}, {"": wanted})]
    if lines:
        raise Failed(f"{len(lines)} differences after the revert\n" + "\n".join(lines[:15]))


def untouched(place, base):
    """The base shows again when it is unmounted: nothing in it moved, not even a change time."""
    place.llfs.unmount()
    lines = objects.differences(objects.whole(place.directory, change_times=True), base)
    if lines:
        raise Failed(f"the base was written\n" + "\n".join(lines[:15]))
    place.llfs.mount()


def run(place, setting, quick, report, only=None):
    """All pairs (some hundreds, in seconds); `quick` changes nothing."""
    if setting == "base":
        place.llfs.unmount()
        base = objects.whole(place.directory, change_times=True)
        place.llfs.mount()
    else:
        fill(place.directory)
    plain = place.scratch / "plain"
    plain.mkdir()
    fill(plain)
    place.llfs.ctl("snap", "start")
    whole = objects.whole(place.directory)
    sides = {}
    try:
        for case, _, apply in pairs():
            if only and only not in case:
                continue
            mounted, reference = Side(place.directory / case), Side(plain / case)
            sides[case] = mounted
            try:
                compare(case, apply, mounted, reference)
                report.passes(case)
            except Exception as error:  # whatever went wrong, the next pair is tried
                report.fails(case, f"{type(error).__name__}: {error}")
            finally:
                os.close(reference.fd)
        report.check("a revert brings everything back", reverted, place, sides, whole)
    finally:
        for side in sides.values():
            os.close(side.fd)
    if setting == "base":
        report.check("the base is untouched", untouched, place, base)
    report.check("llctl verify", place.llfs.ctl, "verify")
