"""SQLite and PostgreSQL: written to while snapshots are taken, reverted, and checked."""

from harness.place import Inside, Llfs, Place
from suites import postgres, sqlite

SETTINGS = ["plain", "base", "revert"]


def place(setting, directory):
    """Where to run; in `base` the SQLite databases are there before the mount."""
    if directory:
        return Inside(directory)
    if setting == "plain":
        return Place()

    def fill(base):
        for mode in sqlite.MODES:
            sqlite.create(base / f"{mode.lower()}.db", mode)

    return Llfs(fill if setting == "base" else None)


def run(place, setting, quick, report, only=None):
    """SQLite in both journal modes, and PostgreSQL unless `quick`."""
    for mode in sqlite.MODES:
        case = f"SQLite, journal mode {mode}"
        if not only or only in case:
            report.check(case, sqlite.exercise, place, mode, 3 if quick else 15)
    for name, case in postgres.CASES:
        if not quick and (not only or only in name):
            report.check(name, case, place)
    if place.llfs:
        report.check("llctl verify", place.llfs.ctl, "verify")
