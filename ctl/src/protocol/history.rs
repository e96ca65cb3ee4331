//! What was done to the snapshots and the tree: by whom, when, why, and with what result.

use serde::{Deserialize, Serialize};

use super::{ErrorKind, UnixNanos};

/// The longest reason of an act, in bytes.
pub const WHY_MAX: usize = 256;
/// Names that an act keeps; `more` counts the rest.
pub const TARGETS_MAX: usize = 16;

/// What kind of act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deal {
    /// A snapshot was taken.
    Snap,
    /// The tree was reverted.
    Revert,
    /// Reverts were taken back.
    Undo,
    /// Undos were taken back.
    Redo,
    /// Snapshots were deleted.
    Delete,
    /// A snapshot got another name.
    Rename,
    /// What a snapshot says of itself was changed.
    Describe,
    /// Snapshots were given up by retention.
    Prune,
    /// The tree was written into the base.
    Apply,
    /// Snapshots came from an export.
    Import,
    /// Data of snapshots was compressed.
    Archive,
    /// Of a later version; never sent.
    #[serde(other)]
    Other,
}

impl Deal {
    /// All that there are.
    pub const ALL: [Self; 11] = [
        Self::Snap,
        Self::Revert,
        Self::Undo,
        Self::Redo,
        Self::Delete,
        Self::Rename,
        Self::Describe,
        Self::Prune,
        Self::Apply,
        Self::Import,
        Self::Archive,
    ];

    /// As it is written in JSON and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Snap => "snap",
            Self::Revert => "revert",
            Self::Undo => "undo",
            Self::Redo => "redo",
            Self::Delete => "delete",
            Self::Rename => "rename",
            Self::Describe => "describe",
            Self::Prune => "prune",
            Self::Apply => "apply",
            Self::Import => "import",
            Self::Archive => "archive",
            Self::Other => "other",
        }
    }
}

/// One act. The store keeps it as the same map of named fields (docs/FORMAT.md).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// When it was done, or had failed.
    pub at: UnixNanos,
    /// What it was.
    pub what: Deal,
    /// The snapshots that it was about, at most [`TARGETS_MAX`]; of a rename the old name and the new one.
    #[serde(default)]
    pub targets: Vec<String>,
    /// How many more it was about.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u64,
    /// How many steps of undo or redo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u32>,
    /// Why, in the words of whoever did it: of a snapshot its message.
    #[serde(default)]
    pub why: Option<String>,
    /// The user who did it.
    pub uid: u32,
    /// The process; 0 if it was of another process namespace.
    pub pid: u32,
    /// The beginning of its command line.
    #[serde(default)]
    pub command: String,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// How many files it changed, where that is known.
    #[serde(default)]
    pub files: Option<u64>,
    /// How many bytes it wrote, where that is known.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// Why it failed, if it did.
    #[serde(default)]
    pub error: Option<String>,
    /// What kind of failure that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_kind: Option<ErrorKind>,
}

/// Which acts. What is not given does not matter.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HistoryQuery {
    /// Of these kinds; empty: all.
    pub what: Vec<Deal>,
    /// About this snapshot, by the name that it had then.
    pub target: Option<String>,
    /// Of this user.
    pub uid: Option<u32>,
    /// At that time or later.
    pub since: Option<UnixNanos>,
    /// At that time or earlier.
    pub until: Option<UnixNanos>,
    /// Only failures.
    pub failed: bool,
    /// At most so many, the newest.
    pub limit: Option<u32>,
}

impl HistoryQuery {
    /// Whether it asks for this act; the limit is not looked at.
    pub fn selects(&self, act: &Act) -> bool {
        let about = |name: &String| act.targets.contains(name);
        (self.what.is_empty() || self.what.contains(&act.what))
            && self.target.as_ref().is_none_or(about)
            && self.uid.is_none_or(|uid| uid == act.uid)
            && self.since.is_none_or(|since| act.at >= since)
            && self.until.is_none_or(|until| act.at <= until)
            && (!self.failed || act.error.is_some())
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}
