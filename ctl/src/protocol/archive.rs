//! Compressing the data of old snapshots.

use serde::{Deserialize, Serialize};

/// What an archive did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ArchiveInfo {
    /// The snapshots, oldest first.
    pub snapshots: Vec<String>,
    /// Files of the store that have their data, and are not compressed yet.
    pub files: u64,
    /// Bytes that these take.
    pub before: u64,
    /// Bytes that they take compressed; none if it was not done.
    #[serde(default)]
    pub after: Option<u64>,
}
