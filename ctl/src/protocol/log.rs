//! What happened to a file, checkpoint by checkpoint.

use serde::{Deserialize, Serialize};

use super::{BytePath, ChangeCounts, ChangeKind, UnixNanos};

/// What one state changed of a file or directory, compared with the state that it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// The snapshot's name, or `@live` for what no snapshot holds yet.
    pub state: String,
    /// The snapshot's number; none for `@live`.
    #[serde(default)]
    pub id: Option<u64>,
    /// When the snapshot was taken.
    #[serde(default)]
    pub created: Option<UnixNanos>,
    /// What the user said about it.
    #[serde(default)]
    pub message: Option<String>,
    /// The state with which it is compared: a snapshot's name, or `@base`.
    pub since: String,
    /// Where the file is in this state, or was if it was removed.
    pub path: BytePath,
    /// Where it was before, if it was renamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<BytePath>,
    /// What happened to it; of a directory none, if only what is below it changed.
    #[serde(default)]
    pub kind: Option<ChangeKind>,
    /// Of a directory: how many paths changed below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<ChangeCounts>,
    /// The processes that did it, in the order in which they began to. Empty if that was not recorded.
    pub by: Vec<Author>,
}

/// A process that changed a file between two checkpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    /// Its name; empty if it is not known, as for stores through a mapping.
    pub command: String,
    /// The beginning of its command line.
    pub line: String,
    /// Its process id; 0 if it is not known.
    pub pid: u32,
    /// The user for whom it ran.
    pub uid: u32,
    /// What it did.
    pub did: Vec<Deed>,
    /// When it began to.
    pub at: UnixNanos,
}

/// What a process did to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// Made it.
    Made,
    /// Changed its content.
    Wrote,
    /// Changed its mode, owner, times, or extended attributes.
    Attributes,
    /// Renamed it, or gave it another name.
    Named,
    /// Removed it, or one of its names.
    Removed,
    /// Something that this client does not know; never sent.
    #[serde(other)]
    Other,
}

impl Deed {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Made => "made",
            Self::Wrote => "wrote",
            Self::Attributes => "attributes",
            Self::Named => "renamed",
            Self::Removed => "removed",
            Self::Other => "other",
        }
    }
}
