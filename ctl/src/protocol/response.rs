//! What the daemon answers.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{
    Act, ApplyDone, ApplyPlan, ArchiveInfo, Change, ChangeCounts, ConfigInfo, Event, Failure,
    Finding, Listing, LogEntry, MetricsInfo, PruneInfo, RevertCheck, RevertInfo, Side, SnapDetail,
    SnapInfo, StatusInfo, VerifySummary,
};

/// One message of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// The snapshot that was taken.
    Snap(SnapInfo),
    /// No snapshot was taken, for nothing has changed since this one.
    Unchanged(SnapInfo),
    /// A part of the list; more parts or `ListEnd` follow.
    List(Listing),
    /// The list is complete.
    ListEnd,
    /// The snapshot that was asked for.
    Show(SnapDetail),
    /// One path that differs; more follow, or `DiffEnd`.
    Change(Change),
    /// All differences were sent: how many there were.
    DiffEnd(ChangeCounts),
    /// What one state changed of a file; more follow, or `LogEnd`.
    LogEntry(LogEntry),
    /// All was told.
    LogEnd,
    /// What is there.
    Stat(Side),
    /// A piece of a file; more follow, or `ContentEnd`.
    Content(ByteBuf),
    /// The file ends here.
    ContentEnd,
    /// The tree was reverted (by revert or undo).
    Reverted(RevertInfo),
    /// What speaks against a revert.
    CanRevert(RevertCheck),
    /// The snapshots that were deleted.
    Deleted(Vec<String>),
    /// The snapshot under its new name.
    Renamed(SnapInfo),
    /// The snapshot as it describes itself now.
    Described(SnapInfo),
    /// A part of the history, oldest first; more parts or `ActsEnd` follow.
    Acts(Vec<Act>),
    /// The history is complete.
    ActsEnd,
    /// Something that happened; more follow, or `WatchEnd`.
    Event(Event),
    /// Nothing more will be told.
    WatchEnd,
    /// What is in force.
    Config(ConfigInfo),
    /// What retention gave up, or would.
    Pruned(PruneInfo),
    /// What was compressed, or would be.
    Archived(ArchiveInfo),
    /// What the mount has counted.
    Metrics(Box<MetricsInfo>),
    /// The status.
    Status(Box<StatusInfo>),
    /// How far a long operation is; more follows.
    Progress(Progress),
    /// Something that verify found; more follows.
    Finding(Finding),
    /// Verify is done.
    Verified(VerifySummary),
    /// What apply would do, or is about to do.
    Plan(ApplyPlan),
    /// Apply is done.
    Applied(ApplyDone),
    /// The daemon stops, or has begun to.
    ShuttingDown,
    /// So many blocks of an import are there.
    Importing(u64),
    /// The snapshots that were imported.
    Imported(Vec<SnapInfo>),
    /// Somebody is there.
    Pong,
    /// The request failed.
    Error(Failure),
}

impl Response {
    /// Whether this ends the answer to a request. A plan ends it only where the request had no `yes`.
    pub fn is_last(&self, planned_only: bool) -> bool {
        match self {
            Self::List(_)
            | Self::Acts(_)
            | Self::Change(_)
            | Self::LogEntry(_)
            | Self::Content(_)
            | Self::Event(_)
            | Self::Progress(_)
            | Self::Finding(_) => false,
            Self::Plan(_) => planned_only,
            _ => true,
        }
    }
}

/// How far a long operation is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done now, such as `copying src/main.rs`.
    pub what: String,
    /// How much is done, in `unit`s.
    pub done: u64,
    /// How much there is to do, where it is known.
    #[serde(default)]
    pub total: Option<u64>,
    /// What `done` and `total` count.
    pub unit: ProgressUnit,
}

/// What a [`Progress`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProgressUnit {
    /// Bytes.
    Bytes,
    /// Files, records or other things, one by one.
    Items,
}
