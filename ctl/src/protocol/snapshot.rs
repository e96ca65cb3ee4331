//! What is said about snapshots and discarded states.

use serde::{Deserialize, Serialize};

use super::{ChangeCounts, SnapMeta, UnixNanos};

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapInfo {
    /// Its name.
    pub name: String,
    /// Its number: never used twice in a store, greater for later snapshots.
    pub id: u64,
    /// When it was taken.
    pub created: UnixNanos,
    /// What the user said about it.
    #[serde(default)]
    pub message: Option<String>,
    /// How many paths differ from the snapshot before it, where that is known.
    #[serde(default)]
    pub changed: Option<u64>,
    /// Bytes in the store that deleting only this snapshot would free, where that is known.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// Bytes in the store that it has in common with other states, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<u64>,
    /// The checksum of its whole state in hex, once it is computed, which is soon after; equal ones mean equal states, whichever
    /// the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// What else it says of itself.
    #[serde(default, skip_serializing_if = "SnapMeta::is_empty")]
    pub meta: SnapMeta,
}

/// A state that a revert discarded and that retention has not freed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscardedInfo {
    /// Its number, from the same series as [`SnapInfo::id`].
    pub id: u64,
    /// When it was discarded.
    pub discarded: UnixNanos,
    /// What the tree was reverted to then: a snapshot's name, `@base`, `@undo` for another discarded state, or `@part` if a part
    /// of it was reverted.
    pub reverted_to: String,
    /// How many paths were lost by that revert, where that is known.
    #[serde(default)]
    pub changed: Option<u64>,
    /// Bytes in the store that only this state holds, where that is known.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// Whether this is the state that `undo` brings back.
    pub undo: bool,
    /// Whether it was discarded by an undo, so that `redo` leads to it and not `undo`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub redo: bool,
}

/// Snapshots, oldest first, and discarded states, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Listing {
    /// The snapshots.
    pub snapshots: Vec<SnapInfo>,
    /// The discarded states.
    pub discarded: Vec<DiscardedInfo>,
}

/// All about one snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapDetail {
    /// The snapshot.
    pub snapshot: SnapInfo,
    /// The snapshot taken before it.
    #[serde(default)]
    pub previous: Option<String>,
    /// What changed from `previous` (or the base) to this one.
    #[serde(default)]
    pub since_previous: Option<ChangeCounts>,
    /// What changed from this one to the live tree: what a revert to it would discard.
    #[serde(default)]
    pub to_live: Option<ChangeCounts>,
    /// Bytes of what it holds that are compressed in the store; none where nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archived: Option<u64>,
    /// The text of the `llfs.toml` that was in force when it was taken, if one was and is still known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
}

/// A revert or an undo that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevertInfo {
    /// What the tree is now: a snapshot's name, `@base`, `@undo` or `@redo`.
    pub to: String,
    /// How many paths differ from before, as a diff counts them: about, if they are thousands.
    pub changed: u64,
    /// The number of the state that was discarded and that `undo` brings back; none if nothing had changed.
    #[serde(default)]
    pub discarded: Option<u64>,
    /// How many paths were not as in any snapshot, and are in `discarded` only; where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsaved: Option<u64>,
    /// Whether `changed` and `unsaved` are lower bounds: to count all of it would have taken longer than the revert.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_least: bool,
    /// How long it took, in microseconds.
    pub took_us: u64,
}

/// What a revert would meet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevertCheck {
    /// What the tree would be: a snapshot's name, `@base` or `@undo`.
    pub to: String,
    /// How many paths it would change.
    pub changed: u64,
    /// How many paths differ from what the tree was at the last snapshot or revert. They are kept for undo.
    pub unsaved: u64,
    /// What git is in the middle of that the revert would end, in a sentence.
    #[serde(default)]
    pub underway: Option<String>,
    /// What is known to be damaged of what the revert would bring back, in sentences.
    #[serde(default)]
    pub damage: Vec<String>,
    /// The version of the store's format.
    pub format: u32,
}
