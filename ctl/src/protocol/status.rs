//! How a mount is.

use serde::{Deserialize, Serialize};

use super::{BytePath, ChangeCounts, SnapInfo};

/// A mount and its store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusInfo {
    /// The absolute path that is mounted.
    pub mountpoint: BytePath,
    /// The absolute path of the store.
    pub store: BytePath,
    /// The daemon's process id.
    pub pid: u32,
    /// The process id of the daemon's worker, which may be another one any time.
    #[serde(default)]
    pub worker: Option<u32>,
    /// How many workers there were since the mount was made.
    #[serde(default)]
    pub workers: Option<u32>,
    /// The daemon's version, such as `0.1.0`.
    pub version: String,
    /// Seconds since the daemon started.
    pub uptime_secs: u64,
    /// How many snapshots there are.
    pub snapshots: u64,
    /// How many discarded states are kept.
    pub discarded: u64,
    /// The newest snapshot.
    #[serde(default)]
    pub last_snapshot: Option<SnapInfo>,
    /// How many paths changed since the last snapshot (or, without one, since the base), where that is known.
    #[serde(default)]
    pub changed: Option<u64>,
    /// The same by kind, where that is known soon. A file that was written with what it had counts as modified.
    #[serde(default)]
    pub changes: Option<ChangeCounts>,
    /// Bytes that the store takes on its disk.
    pub store_bytes: u64,
    /// The same by part.
    #[serde(default)]
    pub store_parts: Option<StoreParts>,
    /// Bytes that the store may take, where a quota is set.
    #[serde(default)]
    pub store_limit: Option<u64>,
    /// Bytes free on the store's disk, where that is known.
    #[serde(default)]
    pub store_free: Option<u64>,
    /// Bytes of the base's files, where that is known.
    #[serde(default)]
    pub base_bytes: Option<u64>,
    /// Why the mount cannot be written, if it cannot.
    #[serde(default)]
    pub read_only: Option<String>,
    /// The snapshots that hold most space alone, the largest first; where that is known.
    #[serde(default)]
    pub held: Vec<HeldInfo>,
    /// What else a user should know, one sentence each.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Bytes of a store on its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreParts {
    /// Changes since the last image, and small data that was synced with them.
    pub journal: u64,
    /// File data.
    pub layers: u64,
    /// Images of the names.
    pub images: u64,
    /// What is kept free for reverts and deletions on a full disk.
    pub reserve: u64,
    /// The history, who changed what, and other things that are good to know.
    #[serde(default)]
    pub notes: u64,
    /// Bytes less that file data takes because `archive` has compressed it.
    #[serde(default)]
    pub saved: u64,
}

/// What a snapshot holds that no other state has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldInfo {
    /// The snapshot.
    pub name: String,
    /// Bytes that deleting only this one frees.
    pub bytes: u64,
}
