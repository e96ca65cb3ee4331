"""Counting cases: passed, failed, or excluded for a named reason; never silently dropped."""

import fnmatch
import os
import subprocess
import time
from pathlib import Path

from .tools import CACHE, say

HERE = Path(__file__).resolve().parent.parent
EXCLUSIONS = HERE / "exclusions.tsv"
RESULTS = Path(os.environ.get("LLFS_CONFORMANCE_RESULTS") or CACHE / "results.tsv")
# Failures told in full; a suite that fails everywhere says nothing more after so many.
SHOWN = 40
COLUMNS = "time commit kernel suite setting mode passed failed excluded seconds".split()


def exclusions():
    """The table of exclusions: (suite, setting pattern, case, reason)."""
    rows = []
    for line in EXCLUSIONS.read_text().splitlines():
        if line and not line.startswith("#"):
            suite, setting, case, reason = line.split("\t")
            rows.append((suite, setting, case, reason))
    return rows


class Report:
    """The cases of one suite in one setting."""

    def __init__(self, suite, setting, quick):
        self.suite = suite
        self.setting = setting
        self.quick = quick
        self.started = time.monotonic()
        self.passed = []
        self.failed = []
        self.excluded = []
        self.reasons = {
            case: reason
            for of, pattern, case, reason in exclusions()
            if of == suite and fnmatch.fnmatchcase(setting, pattern)
        }

    def reason(self, case):
        """Why a case is excluded here, or None."""
        for pattern, reason in self.reasons.items():
            if fnmatch.fnmatchcase(case, pattern):
                return reason
        return None

    def passes(self, case):
        """Records a case that passed. An exclusion that it did not need is pointed out."""
        self.passed.append(case)
        if self.reason(case):
            say(f"{self.suite} {self.setting}: {case} passed: its exclusion can go")

    def fails(self, case, why):
        """Records a case that failed, or that its exclusion covers."""
        reason = self.reason(case)
        if reason:
            self.excluded.append((case, reason))
            say(f"{self.suite} {self.setting}: {case} excluded: {reason}")
            return
        self.failed.append((case, why))
        if len(self.failed) > SHOWN:
            return
        indented = "\n".join("    " + line for line in str(why).splitlines()[:40])
        say(f"{self.suite} {self.setting}: {case} FAILED\n{indented}")

    def skipped(self, case, why):
        """A case that its program did not run: a failure, unless an exclusion names it."""
        self.fails(case, f"did not run: {why}")

    def excludes(self, case):
        """Records a case that is not even tried; there must be a reason for it."""
        reason = self.reason(case)
        if reason:
            self.excluded.append((case, reason))
        else:
            self.failed.append((case, "left out with no reason given"))

    def check(self, case, function, *args):
        """Runs a check and records how it went; returns whether it passed."""
        started = time.monotonic()
        try:
            function(*args)
        except Exception as error:  # any exception is a failed case, and the next case still runs
            self.fails(case, f"{type(error).__name__}: {error}")
            return False
        self.passes(case)
        say(f"{self.suite} {self.setting}: {case} ok ({time.monotonic() - started:.1f} s)")
        return True

    def finish(self, record=True):
        """Prints the last line, adds the row to the results file, returns whether all is well."""
        seconds = time.monotonic() - self.started
        row = [
            time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            commit(),
            os.uname().release,
            self.suite,
            self.setting,
            "quick" if self.quick else "full",
            len(self.passed),
            len(self.failed),
            len(self.excluded),
            f"{seconds:.0f}",
        ]
        if record:
            RESULTS.parent.mkdir(parents=True, exist_ok=True)
            fresh = not RESULTS.exists()
            with RESULTS.open("a") as file:
                if fresh:
                    file.write("\t".join(COLUMNS) + "\n")
                file.write("\t".join(str(field) for field in row) + "\n")
        print(
            f"{self.suite} {self.setting}: {len(self.passed)} passed, "
            f"{len(self.failed)} failed, {len(self.excluded)} excluded",
            flush=True,
        )
        return not self.failed and bool(self.passed)


def commit():
    """The commit under test: LLFS_COMMIT (for LLFS_BIN_DIR), or the repository's; `-` outside of one."""
    if os.environ.get("LLFS_COMMIT"):
        return os.environ["LLFS_COMMIT"]
    done = subprocess.run(
        ["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    )
    return done.stdout.strip() or "-"
