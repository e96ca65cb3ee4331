"""What is measured. A group's workloads run one after the other in one session."""

from . import cargo, copy_up, daemon, files, git, large, same, snapshots, sqlite, tree, writes

GROUPS = [*tree.GROUPS, *files.GROUPS, *large.GROUPS, *writes.GROUPS, *sqlite.GROUPS, *git.GROUPS, *cargo.GROUPS,
          *copy_up.GROUPS, *same.GROUPS, *snapshots.GROUPS, *daemon.GROUPS]
