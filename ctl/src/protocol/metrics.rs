//! Counts and times of a mount, for those who draw curves.

use serde::{Deserialize, Serialize};

use super::{BytePath, Deal};

/// The upper bounds of the buckets of a [`Times`], in microseconds; one more bucket has what is longer.
pub const BOUNDS_US: [u64; 23] = [
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000,
    200_000, 500_000, 1_000_000, 2_000_000, 5_000_000, 20_000_000, 60_000_000,
];

/// What a mount counts. What is counted begins at 0 when the daemon's worker begins, but for the restarts and the events.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MetricsInfo {
    /// The absolute path that is mounted.
    pub mountpoint: BytePath,
    /// The daemon's version.
    pub version: String,
    /// Seconds since the daemon's worker started.
    pub uptime_secs: u64,
    /// Workers that died or were exchanged since the mount was made.
    pub restarts: u64,
    /// Whether the store cannot be written.
    pub read_only: bool,
    /// What was done, by kind.
    pub acts: Vec<ActMetrics>,
    /// What the kernel asked for, by kind.
    pub operations: Vec<OperationMetrics>,
    /// Errors that the kernel was answered, by kind.
    pub errors: Vec<ErrorMetrics>,
    /// Events since the mount was made.
    pub events: u64,
    /// Those who watch now.
    pub watchers: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// Discarded states that undo or redo can bring back.
    pub discarded: u64,
    /// Files and directories of the tree that differ from the base.
    pub changed_inodes: u64,
    /// Layer files in the store.
    pub layers: u64,
    /// Bytes that they take on the disk.
    pub layer_bytes: u64,
    /// Bytes of the journal.
    pub journal_bytes: u64,
    /// Bytes of images of the tree.
    pub image_bytes: u64,
    /// Bytes of the history, of who changed what, and of other things that are good to know.
    #[serde(default)]
    pub note_bytes: u64,
    /// Bytes kept back for a full disk.
    pub reserve_bytes: u64,
    /// Bytes that were given up and not taken back yet, about.
    pub garbage_bytes: u64,
    /// Bytes that the store may take, if it is limited.
    pub store_limit: Option<u64>,
    /// Bytes free on its disk.
    pub store_free: u64,
}

/// Acts of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActMetrics {
    /// Which.
    pub act: Deal,
    /// How many were done.
    pub finished: u64,
    /// How many failed.
    pub failed: u64,
    /// How long those that were done took.
    pub times: Times,
}

/// Requests of the kernel of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationMetrics {
    /// Which, such as `lookup`.
    pub operation: String,
    /// How many.
    pub count: u64,
    /// How long every 64th of them took.
    pub times: Times,
}

/// Errors of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorMetrics {
    /// Its name, such as `ENOSPC`.
    pub errno: String,
    /// How many.
    pub count: u64,
}

/// How long things took.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Times {
    /// How many took as long as the bucket says, and longer than the bucket before: one for each of [`BOUNDS_US`], and one for what
    /// is longer than all.
    pub counts: Vec<u64>,
    /// All of them together, in nanoseconds.
    pub sum_ns: u64,
}
