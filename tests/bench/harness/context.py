"""What a run of the benchmark knows: where it works, how much of everything, with which programs."""

import os
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Sizes:
    """How much each workload does. A quick run is for trying things out, a long one adds the largest rows."""

    tree_files: int = 21_000
    small_files: int = 3_000
    small_bytes: int = 2_048
    tar_files: int = 1_300
    big_mib: int = 512
    base_file_mib: int = 1_024
    appends: int = 20_000
    random_writes: int = 20_000
    syncs: int = 200
    wal_inserts: int = 5_000
    full_inserts: int = 150
    checkout_files: int = 500
    changed_files: int = 1_000
    memory_files: int = 10_000
    snapshots: int = 1_000
    journaled: int = 20_000
    huge_revert: int = 0
    million_files: int = 0

    @staticmethod
    def quick():
        return Sizes(
            tree_files=6_000, big_mib=64, base_file_mib=64, syncs=50, wal_inserts=1_000, full_inserts=40,
            memory_files=5_000, snapshots=200, journaled=5_000,
        )

    @staticmethod
    def long():
        return Sizes(snapshots=10_000, journaled=1_000_000, huge_revert=100_000, million_files=1_000_000)


@dataclass
class Context:
    """One run."""

    tmp: Path
    repo: Path
    sizes: Sizes
    llfs: Path = None
    llctl: Path = None
    ops: Path = None
    floor: Path = None
    env: dict = field(default_factory=dict)

    def prepare_env(self):
        """An environment in which neither the user's git configuration nor cargo's settings matter."""
        runtime = self.tmp / "run"
        runtime.mkdir(mode=0o700)
        env = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "LLFS_", "CARGO_TARGET", "CARGO_BUILD"))}
        env.pop("RUSTFLAGS", None)
        env.update(
            LC_ALL="C", XDG_RUNTIME_DIR=str(runtime), GIT_CONFIG_NOSYSTEM="1", GIT_CONFIG_GLOBAL=os.devnull,
            GIT_AUTHOR_NAME="bench", GIT_AUTHOR_EMAIL="bench@example.org", GIT_AUTHOR_DATE="2026-01-01T00:00:00Z",
            GIT_COMMITTER_NAME="bench", GIT_COMMITTER_EMAIL="bench@example.org", GIT_COMMITTER_DATE="2026-01-01T00:00:00Z",
            GIT_CONFIG_COUNT="2", GIT_CONFIG_KEY_0="gc.auto", GIT_CONFIG_VALUE_0="0",
            GIT_CONFIG_KEY_1="safe.directory", GIT_CONFIG_VALUE_1="*",
        )
        for setting in ("LLFS_LOG", "LLFS_FOLLOW"):
            if setting in os.environ:
                env[setting] = os.environ[setting]
        self.env = env
