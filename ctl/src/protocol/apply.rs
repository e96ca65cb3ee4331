//! What applying does to the base.

use serde::{Deserialize, Serialize};

use super::ChangeCounts;

/// What writing the tree into the base would do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ApplyPlan {
    /// The paths that change, by kind.
    pub changes: ChangeCounts,
    /// Bytes of content to write.
    pub bytes: u64,
    /// Bytes of space that it needs for a while on the base's disk.
    pub bytes_needed: u64,
    /// Bytes that are free there.
    pub bytes_free: u64,
    /// Snapshots that stay usable afterwards.
    pub snapshots_kept: u64,
    /// Snapshots that are lost by it.
    pub snapshots_lost: u64,
    /// What becomes of older snapshots, for people.
    pub snapshots_note: String,
    /// Stands for the tree that would be written and the snapshots that somebody asked for and would lose: another number, other ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<u64>,
}

/// What an apply did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyDone {
    /// The paths that changed, by kind.
    pub changes: ChangeCounts,
    /// Bytes of content written.
    pub bytes: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}
