//! What a client may ask.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{BytePath, HistoryQuery, ListQuery, MetaEdit, OnConflict, Part, SnapMeta, UnixNanos};
use crate::config::Retention;
use crate::name::{SnapName, StateRef};

/// The longest message of a snapshot, in bytes.
pub const MESSAGE_MAX: usize = 4096;

/// One request. What comes back is said at each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Take a snapshot: [`super::Response::Snap`].
    Snap {
        /// Its name; without one the daemon makes one from the local time.
        name: Option<SnapName>,
        /// What the user says about it; at most [`MESSAGE_MAX`] bytes.
        message: Option<String>,
        /// What else it says of itself.
        #[serde(default)]
        meta: SnapMeta,
        /// Not if nothing has changed since there was one: then [`super::Response::Unchanged`].
        #[serde(default)]
        only_if_changed: bool,
    },
    /// All snapshots and discarded states: [`super::Response::List`] several times, then `ListEnd`.
    List {
        /// Which snapshots; discarded states are told only where all are asked for.
        #[serde(default)]
        query: ListQuery,
    },
    /// One snapshot: [`super::Response::Show`].
    Show {
        /// Its name.
        name: SnapName,
    },
    /// What differs between two states: [`super::Response::Change`] for each path in byte order, then `DiffEnd`.
    Diff {
        /// The older state; without one, the last snapshot (or the base if there is none).
        from: Option<StateRef>,
        /// The newer state.
        to: StateRef,
        /// Only these paths, relative to the mount's root, and what is below them; empty for everything.
        paths: Vec<BytePath>,
        /// Send both contents of changed files too.
        patch: bool,
    },
    /// What each state changed of a file or directory, newest first: [`super::Response::LogEntry`]s, then `LogEnd`.
    Log {
        /// The path as it is now, or was last, relative to the mount's root.
        path: BytePath,
        /// Not more than so many.
        limit: Option<u64>,
    },
    /// What is at a path in a state, links not followed: [`super::Response::Stat`].
    Stat {
        /// The state.
        state: StateRef,
        /// The path, relative to the mount's root.
        path: BytePath,
    },
    /// The content of a file as it is in a state: [`super::Response::Content`] in pieces, then `ContentEnd`.
    Cat {
        /// The state.
        state: StateRef,
        /// The file, relative to the mount's root.
        path: BytePath,
        /// From this byte on.
        from: u64,
    },
    /// Make the tree what a state was: [`super::Response::Reverted`].
    Revert {
        /// The state; `@live` is refused.
        to: StateRef,
        /// Although it ends what git is in the middle of.
        #[serde(default)]
        force: bool,
    },
    /// What speaks against a revert, without doing it: [`super::Response::CanRevert`].
    CanRevert {
        /// The state; `@live` is refused.
        to: StateRef,
    },
    /// Undo a part, and keep the rest: [`super::Response::Reverted`].
    RevertPart {
        /// Which.
        part: Part,
        /// What becomes of files that others have changed since.
        on_conflict: OnConflict,
        /// Although it ends what git is in the middle of.
        force: bool,
    },
    /// What `RevertPart` would change: [`super::Response::Change`] for each path in byte order, then `DiffEnd`.
    PreviewPart {
        /// Which.
        part: Part,
        /// What would become of files that others have changed since.
        on_conflict: OnConflict,
        /// Send both contents of changed files too.
        patch: bool,
    },
    /// Take back the last reverts, all or none: [`super::Response::Reverted`].
    Undo {
        /// How many; 0 counts as 1.
        steps: u32,
    },
    /// Take back the last undos, all or none: [`super::Response::Reverted`].
    Redo {
        /// How many; 0 counts as 1.
        steps: u32,
    },
    /// Delete snapshots, all or none: [`super::Response::Deleted`].
    Delete {
        /// Their names.
        names: Vec<SnapName>,
        /// The numbers of those that whoever said yes to it was shown: if one of the names is another snapshot by now, none goes.
        #[serde(default)]
        shown: Option<Vec<u64>>,
    },
    /// Give a snapshot another name: [`super::Response::Renamed`].
    Rename {
        /// The name now.
        from: SnapName,
        /// The name afterwards; must not exist.
        to: SnapName,
    },
    /// Change what a snapshot says of itself: [`super::Response::Described`].
    Describe {
        /// Its name.
        name: SnapName,
        /// What to change.
        edit: MetaEdit,
    },
    /// What was done: [`super::Response::Acts`] several times, then `ActsEnd`.
    History {
        /// Which acts.
        query: HistoryQuery,
    },
    /// What happens from now on: [`super::Response::Event`]s, then `WatchEnd` when the daemon stops, or when the client asks
    /// for something else.
    Watch {
        /// First what happened after the event of this number, as far back as that is kept.
        #[serde(default)]
        after: Option<u64>,
    },
    /// The rules in force, and the file in the tree: [`super::Response::Config`].
    Config,
    /// From here on what this text of an `llfs.toml` says is in force; the empty one brings back the defaults:
    /// [`super::Response::Config`].
    Trust {
        /// The text, at most [`crate::config::TEXT_MAX`] bytes.
        text: String,
    },
    /// Give up what retention does not keep: [`super::Response::Pruned`].
    Prune {
        /// By these rules; without any, by those in force.
        rules: Option<Retention>,
        /// Do it; else only say what would go.
        yes: bool,
        /// The numbers of those that whoever said yes to it was shown: no others go, and none at all if one of them would stay by now.
        #[serde(default)]
        shown: Option<Vec<u64>>,
    },
    /// Compress the data of old snapshots in place: [`super::Response::Progress`], then `Archived`.
    Archive {
        /// These,
        names: Vec<SnapName>,
        /// and those taken at that time or before.
        until: Option<UnixNanos>,
        /// Do it; else only say what there is to be done.
        yes: bool,
    },
    /// Another phase of the work begins: a snapshot, if anything has changed; those that the daemon takes by itself say
    /// this phase from here on: [`super::Response::Snap`] or `Unchanged`.
    Phase {
        /// Its name, at most [`super::FIELD_MAX`] bytes.
        name: String,
        /// The session that it belongs to.
        session: Option<String>,
    },
    /// Another session of the work begins: a snapshot of what there was before it, if anything has changed; those that the daemon takes
    /// by itself say this session from here on: [`super::Response::Snap`] or `Unchanged`.
    Session {
        /// Its id, at most [`super::FIELD_MAX`] bytes.
        id: String,
    },
    /// What the mount has counted: [`super::Response::Metrics`].
    Metrics,
    /// The mount, its store and their health: [`super::Response::Status`].
    Status,
    /// Read everything stored and check it: `Progress` and `Finding`s, then [`super::Response::Verified`].
    Verify,
    /// Write the tree into the base: [`super::Response::Plan`]; and with `yes` then `Progress`, and `Applied` at the end.
    Apply {
        /// Do it; else only plan.
        yes: bool,
        /// What [`super::ApplyPlan::shown`] was in the plan that somebody said yes to: nothing is done if it would be another one by now.
        #[serde(default)]
        shown: Option<u64>,
    },
    /// Stop the daemon and unmount: `Progress` if it applies, then [`super::Response::ShuttingDown`].
    Shutdown {
        /// Apply before.
        apply: bool,
    },
    /// Tell all of some snapshots: [`super::Response::Content`] for each block of items (see [`crate::transfer`]), then
    /// `ContentEnd`.
    Export {
        /// Which, in this order; each but the first as what differs from the one before.
        names: Vec<SnapName>,
        /// The first as what differs from this one.
        from: Option<SnapName>,
        /// Not the first so many blocks,
        skip: u64,
        /// of which this is the checksum.
        skipped: u64,
    },
    /// An import begins, or goes on: [`super::Response::Importing`] with the blocks that are known already.
    ImportBegin {
        /// Which import, a number that follows from what is imported.
        import: u64,
        /// What the snapshots are to be called, in their order; those without one here keep their names.
        names: Vec<SnapName>,
    },
    /// A block of items: [`super::Response::Importing`].
    ImportBlock {
        /// Which import.
        import: u64,
        /// The block's number, from 0 on.
        number: u64,
        /// The checksum of the blocks before it: XXH3-64 of each with that of those before as its seed, which is 0 at first.
        before: u64,
        /// The items.
        block: ByteBuf,
    },
    /// There are no more blocks: the snapshots are there from here on, all of them: [`super::Response::Imported`].
    ImportEnd {
        /// Which import.
        import: u64,
        /// How many blocks there were.
        blocks: u64,
        /// Their checksum.
        sum: u64,
    },
    /// What was imported so far is given up: [`super::Response::Pong`].
    ImportDrop {
        /// Which import.
        import: u64,
    },
    /// Is anybody there: [`super::Response::Pong`].
    Ping,
}
