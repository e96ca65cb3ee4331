//! What a verification finds.

use serde::{Deserialize, Serialize};

use super::BytePath;

/// What kind of damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// File content is not what was written: reading it gives EIO.
    Content,
    /// A file of the store is missing or too short.
    Missing,
    /// A record, image or superblock does not have its checksum.
    Metadata,
    /// A file of the base was changed behind the mount.
    Base,
    /// Two parts of the store contradict each other.
    Inconsistent,
    /// A kind that this client does not know; never sent.
    #[serde(other)]
    Other,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Finding {
    /// What kind.
    pub kind: FindingKind,
    /// What is wrong, for people.
    pub what: String,
    /// The path that is affected, relative to the mount's root, where it is a file of the tree; else a file of the store.
    #[serde(default)]
    pub path: Option<BytePath>,
    /// The snapshots in which the path is affected; `@live` for the tree now.
    #[serde(default)]
    pub states: Vec<String>,
}

/// What was verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifySummary {
    /// Files checked, each once however many snapshots hold it.
    pub files: u64,
    /// Bytes read and compared with their checksums.
    pub bytes: u64,
    /// Snapshots checked.
    pub snapshots: u64,
    /// Findings sent.
    pub findings: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}
