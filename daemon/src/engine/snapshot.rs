//! Snapshots, reverts, and their undoing.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use llctl::protocol::{MetaEdit, MetaError, SnapMeta};
use nix::errno::Errno;
use parking_lot::Mutex;

use super::circle::Circle;
use super::unchanged;
use super::untold::Untold;
use super::{Answer, Engine, errno};
use crate::tree::diff::Changes;
use crate::tree::{
    BASE_STATE, Dentry, FIRST_INO, FileBlock, Ino, Kind, LayerId, Meta, Move, ROOT, Record, Root,
    Slot, Snapshot, Src, State, StateId, Time, piles,
};

/// States that reverts discarded are kept for `undo`, the newest so many.
const DISCARDED_KEPT: usize = 64;

/// Directories that are looked up after a switch, at most.
const LOOKED_UP: usize = 10_000;
/// Inodes that one record forgets: it fits in the room that the journal keeps for records that free space.
const FORGET_MAX: usize = 10_000;

/// Why a snapshot or a revert was not done.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No such snapshot.
    #[error("there is no snapshot named {0:?}")]
    Unknown(String),
    /// There is one of that name.
    #[error("there is a snapshot named {0:?} already")]
    Exists(String),
    /// No revert was done, or what it discarded is gone.
    #[error("there is nothing to undo: no revert discarded anything that is still kept")]
    NothingToUndo,
    /// Nothing was undone since the last revert.
    #[error("there is nothing to redo: no undo came after the last revert")]
    NothingToRedo,
    /// Not so many steps are left.
    #[error("cannot {what} {wanted} steps, but {there} at most")]
    TooFar {
        /// `undo` or `redo`.
        what: &'static str,
        /// Steps that there are.
        there: usize,
        /// Steps that were asked for.
        wanted: usize,
    },
    /// What a snapshot would say of itself breaks a rule.
    #[error(transparent)]
    Metadata(#[from] MetaError),
    /// Git would lose track of something that it is in the middle of.
    #[error("a git {what} is in progress in {at:?}, which the revert would end")]
    Underway {
        /// What git is doing.
        what: &'static str,
        /// The repository's own directory, from the mount's root on.
        at: PathBuf,
    },
    /// A part of the tree cannot be reverted without changes that were to be kept.
    #[error("changes that are to be kept touch the same files")]
    Conflicts(Vec<Conflict>),
    /// What it would bring back is not all there.
    #[error("the revert would bring back damaged files: {0}")]
    Damaged(String),
    /// There is more to do than one record can say.
    #[error("{0} changes are too many for the revert of a part")]
    TooMany(usize),
    /// The name is another snapshot's than when it was asked for.
    #[error("the snapshot named {0:?} is another one now")]
    Another(String),
    /// Something that was asked for is not there, as it says.
    #[error("{0}")]
    NotThere(String),
    /// A state is not what it was planned with.
    #[error("{0} was deleted meanwhile")]
    Gone(String),
    /// The disk.
    #[error("{what}: {error}", error = .errno.desc())]
    Failed {
        /// What failed.
        what: &'static str,
        /// How.
        errno: Errno,
    },
}

/// A path in the way of the revert of a part.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// The path, from the mount's root on.
    pub path: Vec<u8>,
    /// What is in the way.
    pub why: String,
}

/// A revert that is under way.
pub(super) struct Reverting {
    /// Inodes that it changed and of which the kernel still writes back old pages, to be dropped.
    pub inodes: BTreeSet<Ino>,
    /// Those of which pages were dropped.
    pub dropped: Mutex<BTreeSet<Ino>>,
}

impl Refusal {
    pub(super) fn failed(what: &'static str) -> impl Fn(Errno) -> Refusal {
        move |errno| Refusal::Failed { what, errno }
    }
}

/// Another head.
pub(super) struct Turned {
    /// The state that it is, or of which it has parts.
    pub to: StateId,
    /// What `record` makes of the head.
    pub head: Root,
    /// Says so in the journal.
    pub record: Record,
}

/// What became of the wish for a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was taken.
    New(StateId),
    /// Nothing has changed since this one.
    Unchanged(StateId),
}

impl Taken {
    fn id(self) -> StateId {
        let (Taken::New(id) | Taken::Unchanged(id)) = self;
        id
    }
}

/// What a switch of the head did.
#[derive(Clone, Debug)]
pub struct Switched {
    /// The state that the head is now.
    pub to: StateId,
    /// The state that holds what was discarded; none if nothing differs, and nothing was done.
    pub kept: Option<StateId>,
    /// Inodes that differ.
    pub inodes: usize,
    /// What the head was, and what it became.
    pub roots: (Root, Root),
    /// How long no operation went on.
    pub paused: Duration,
    /// How long it took.
    pub took: Duration,
}

impl Engine {
    /// Takes a snapshot: durable when this returns. `name` gets the names that exist, and makes one that doesn't.
    ///
    /// # Errors
    /// The name exists, or the disk failed; then there is no snapshot, unless the disk latched the store read-only.
    pub fn snapshot(
        &self,
        name: impl FnOnce(&dyn Fn(&str) -> bool) -> String,
        message: &str,
    ) -> Result<StateId, Refusal> {
        self.snapshot_with(name, message, SnapMeta::default())
    }

    /// The same with more to say of it.
    ///
    /// # Errors
    /// The same, or `meta` is too long or cannot be printed.
    pub fn snapshot_with(
        &self,
        name: impl FnOnce(&dyn Fn(&str) -> bool) -> String,
        message: &str,
        meta: SnapMeta,
    ) -> Result<StateId, Refusal> {
        self.take(name, message, meta, false).map(Taken::id)
    }

    /// The same, unless nothing that a user could see has changed since there was one.
    ///
    /// # Errors
    /// The same.
    pub fn snapshot_if_changed(
        &self,
        name: impl FnOnce(&dyn Fn(&str) -> bool) -> String,
        message: &str,
        meta: SnapMeta,
    ) -> Result<Taken, Refusal> {
        self.take(name, message, meta, true)
    }

    fn take(
        &self,
        name: impl FnOnce(&dyn Fn(&str) -> bool) -> String,
        message: &str,
        mut meta: SnapMeta,
        only_if_changed: bool,
    ) -> Result<Taken, Refusal> {
        meta.check()?;
        meta.imported = None;
        let meta = Meta::from(self.stamped(meta));
        let _turn = self.turn.lock();
        self.flush_mappings();
        let there = |state: &State| unchanged::since(state).filter(|_| only_if_changed);
        let taken = 'taken: {
            let _gate = self.gate.write();
            let mut state = self.state.write();
            if let Some(id) = there(&state) {
                self.keep_mark(id);
                break 'taken Taken::Unchanged(id);
            }
            let exists = |n: &str| state.snapshot(n).is_some();
            let name = name(&exists);
            if exists(&name) {
                return Err(Refusal::Exists(name));
            }
            let id = state.next_state;
            let record = Record::Snap {
                id,
                name,
                message: message.to_owned(),
                at: Time::now(),
                meta,
            };
            self.commit_ready(&mut state, &record)
                .map_err(Refusal::failed("the snapshot was not written"))?;
            self.seal_written();
            Taken::New(id)
        };
        // One that is there may be a mark, which nobody has made durable.
        if let Err(error) = self.store.sync() {
            if let Taken::New(id) = taken {
                self.untake(id);
            }
            return Err(Refusal::Failed {
                what: "the snapshot was not made durable",
                errno: errno(&error),
            });
        }
        if matches!(taken, Taken::New(_)) {
            self.views_changed();
            self.house.poke_later();
            self.digests.call();
        }
        Ok(taken)
    }

    /// A snapshot that was not made durable is none: whoever asked for it is told so, and may ask again. If even that cannot be
    /// written it stays, which costs a name.
    fn untake(&self, id: StateId) {
        let mut state = self.state.write();
        if let Err(errno) = self.drop_states(&mut state, vec![id]) {
            tracing::warn!(%errno, id, "a snapshot that is not durable stays");
        }
    }

    /// Makes the head what a snapshot is; what it was is kept for [`Engine::undo`]. When this returns nothing
    /// of it can be seen any more, through a path, a descriptor, a mapping or a cache.
    ///
    /// # Errors
    /// No such snapshot, or the disk failed; then nothing changed, or all is done and not durable, as the error says.
    pub fn revert(&self, name: &str) -> Result<Switched, Refusal> {
        self.revert_with(name, false)
    }

    /// The same; with `force`, although it would end a git operation that is in progress.
    ///
    /// # Errors
    /// No such snapshot, or the disk failed; then nothing changed, or all is done and not durable, as the error says.
    pub fn revert_with(&self, name: &str, force: bool) -> Result<Switched, Refusal> {
        let find = |state: &State| {
            let found = state.snapshot(name).map(|(id, _)| id);
            found.ok_or_else(|| Refusal::Unknown(name.to_owned()))
        };
        self.switch(Move::Revert, force, &find)
    }

    /// Makes the head what the base is, keeping what it was as [`Engine::revert`] does.
    ///
    /// # Errors
    /// The disk failed; then nothing changed.
    pub fn revert_base(&self) -> Result<Switched, Refusal> {
        self.revert_base_with(false)
    }

    /// The same; with `force` as [`Engine::revert_with`] has it.
    ///
    /// # Errors
    /// The disk failed; then nothing changed.
    pub fn revert_base_with(&self, force: bool) -> Result<Switched, Refusal> {
        self.switch(Move::Revert, force, &|_| Ok(BASE_STATE))
    }

    /// Takes back the last `steps` reverts: makes the head what they discarded. See [`crate::tree::piles`].
    ///
    /// # Errors
    /// Not so much is kept, or the disk failed; then nothing changed.
    pub fn undo(&self, steps: usize) -> Result<Switched, Refusal> {
        // What an undo discards is a state that a revert brought about.
        self.switch(Move::Undo, true, &|state| nth(state, false, steps))
    }

    /// Takes back the last `steps` undos.
    ///
    /// # Errors
    /// There were not so many since the last revert, or the disk failed; then nothing changed.
    pub fn redo(&self, steps: usize) -> Result<Switched, Refusal> {
        self.switch(Move::Redo, true, &|state| nth(state, true, steps))
    }

    /// Makes the head the state that `find` finds when nothing else goes on.
    ///
    /// # Errors
    /// What `find` says, or the disk failed; then nothing changed.
    pub(super) fn switch(
        &self,
        how: Move,
        force: bool,
        find: &dyn Fn(&State) -> Result<StateId, Refusal>,
    ) -> Result<Switched, Refusal> {
        let _turn = self.turn.lock();
        let begun = Instant::now();
        // Unknown names are told before anything is flushed.
        find(&self.state.read())?;
        self.turn_head(begun, force, &|kept| {
            let state = self.state.read();
            let to = find(&state)?;
            let head = match to {
                BASE_STATE => Root::default(),
                to => state.root(to).cloned().unwrap_or_default(),
            };
            let at = Time::now();
            let record = Record::Switch { to, kept, at, how };
            Ok(Turned { to, head, record })
        })
    }

    /// Makes the head another one, with `turn` held: `plan` says which, with the gate closed, and is given the number of the
    /// state that is discarded.
    pub(super) fn turn_head(
        &self,
        begun: Instant,
        force: bool,
        plan: &dyn Fn(StateId) -> Result<Turned, Refusal>,
    ) -> Result<Switched, Refusal> {
        self.flush_mappings();
        let paused = Instant::now();
        let (switched, changes) = {
            let gate = self.gate.write();
            // Nothing changes the state while the gate is closed but who has the turn.
            let (old, kept) = {
                let state = self.state.read();
                (state.head.clone(), state.next_state)
            };
            let Turned { to, head, record } = plan(kept)?;
            let changes = Arc::new(Changes::between(&old, &head));
            // An undo or a redo is a step back or forth, whatever it changes.
            let step = matches!(&record, Record::Switch { how, .. } if *how != Move::Revert);
            if changes.is_empty() && !step {
                drop(gate);
                // What it says to be there is there after a power cut too, as after any revert.
                let synced = self.store.sync().map_err(|e| errno(&e));
                synced.map_err(Refusal::failed("what is there was not made durable"))?;
                return Ok(Switched {
                    to,
                    kept: None,
                    inodes: 0,
                    roots: (old, head),
                    paused: paused.elapsed(),
                    took: begun.elapsed(),
                });
            }
            if !force {
                self.refuse_underway(&old, &head, &changes)?;
                if let Some(missing) = self.missing_layers(&head, &changes).first() {
                    return Err(Refusal::Damaged(format!("layer {missing} is not there")));
                }
            }
            let mut state = self.state.write();
            // From here on until the kernel was told everything, a worker that comes after this one tells it.
            self.relay.begin_revert(kept);
            if let Err(error) = self.commit_reserved(&mut state, &record) {
                self.relay.end_revert();
                return Err(Refusal::failed("the revert was not written")(error));
            }
            // Who went there relies on it.
            self.keep_mark(to);
            self.mark_anew();
            self.seal_written();
            let dropped: BTreeSet<Ino> = changes.inodes.union(&changes.data).copied().collect();
            let inodes = dropped.len();
            *self.reverting.write() = Some(Reverting {
                inodes: dropped,
                dropped: Mutex::default(),
            });
            *self.untold.write() = Some(Untold::new(changes.clone()));
            self.listings.lock().clear();
            self.retire_dirs(&old, &state.head, &changes);
            self.relay.revert_retired();
            let switched = Switched {
                to,
                kept: Some(kept),
                inodes,
                roots: (old, state.head.clone()),
                paused: paused.elapsed(),
                took: Duration::ZERO,
            };
            (switched, changes)
        };
        // The disk and the kernel are waited for at the same time.
        let synced = std::thread::scope(|s| {
            let sync = s.spawn(|| self.store.sync());
            self.forget_caches(&changes);
            self.forget_dropped();
            *self.untold.write() = None;
            self.collect_orphans();
            self.relay.end_revert();
            self.drop_oldest_discarded();
            sync.join()
                .unwrap_or_else(|_| Err(io::Error::other("the flush died")))
        });
        synced.map_err(|e| Refusal::Failed {
            what: "the revert is done, and was not made durable",
            errno: errno(&e),
        })?;
        self.house.poke_later();
        Ok(Switched {
            took: begun.elapsed(),
            ..switched
        })
    }

    /// Layers that a state has blocks in and that are not there; looked for in the files that `changes` names.
    pub(super) fn missing_layers(&self, root: &Root, changes: &Changes) -> Vec<LayerId> {
        let mut layers = BTreeSet::new();
        for ino in &changes.data {
            let extents = root.extents.range(FileBlock::all_of(*ino));
            layers.extend(extents.filter_map(|(_, extent)| match extent.src() {
                Src::Layer { layer, .. } => Some(layer),
                Src::Zero => None,
            }));
        }
        let missing = |layer: &LayerId| !self.store.has_layer(crate::store::LayerId(*layer));
        layers.into_iter().filter(missing).collect()
    }

    /// Lets the kernel send what programs stored through mappings. A failure loses nothing that was synced by a program,
    /// so it is logged and no more.
    pub fn flush_mappings(&self) {
        if let Some(kernel) = self.kernel.get()
            && let Err(e) = kernel.flush()
        {
            tracing::warn!("dirty mappings could not be flushed: {e}");
        }
    }

    /// Waits until the kernel has every answer that was found before the head was exchanged. Of an inode that it has not heard of yet it
    /// would forget nothing, and then keep what such an answer says of it; it would also take the attributes that a change gave an inode
    /// for newer than being told to forget them.
    pub(super) fn await_answers(&self) {
        if let Some(kernel) = self.kernel.get()
            && let Err(error) = kernel.answers()
        {
            tracing::warn!("answers to the kernel may be under way still: {error}");
        }
    }

    /// Directories that the kernel saw removed, and that exist again, must not be taken for those dead ones.
    pub(super) fn retire_dirs(&self, old: &Root, new: &Root, changes: &Changes) {
        let mut held = self.held.lock();
        for ino in &changes.inodes {
            let gone = |root: &Root| match root.inode(*ino) {
                Some(i) => i.kind == Kind::Dir && i.nlink == 0,
                None => false,
            };
            if gone(old) && !gone(new) {
                held.retire(*ino);
            }
        }
    }

    /// Makes the kernel forget what changed and it holds.
    pub(super) fn forget_caches(&self, changes: &Changes) {
        let Some(kernel) = self.kernel.get() else {
            return;
        };
        self.await_answers();
        let held = |ino: Ino| ino == crate::tree::ROOT || self.held.lock().holds(ino);
        let dirs = changes.names.keys();
        let inodes: BTreeSet<Ino> = (changes.inodes.iter().chain(&changes.data).chain(dirs))
            .copied()
            .collect();
        // Names first: a name that is looked up anew gets the inode's new attributes with it.
        for slot in changes.names.values().flatten() {
            if held(slot.parent) {
                kernel.forget_name(slot.parent, slot.name.as_bytes());
            }
            self.tell(slot.parent, slot.name.as_bytes());
        }
        for ino in inodes {
            if held(ino) {
                kernel.forget_inode(ino);
            }
        }
        // Who stands in a directory that moved is told its path anew.
        for slot in changes.names.values().flatten().take(LOOKED_UP) {
            if self.dir_at(slot).is_some_and(held)
                && let Some(path) = self.path_of(slot)
            {
                kernel.look_up(&path);
            }
        }
    }

    /// From now on pages are written again. A page may have been stored to after its inode was forgotten, and dropped:
    /// the kernel takes what it has of it for written, and must forget it once more.
    pub(super) fn forget_dropped(&self) {
        let reverting = self.reverting.write().take();
        let dropped = reverting
            .map(|r| r.dropped.into_inner())
            .unwrap_or_default();
        if let Some(kernel) = self.kernel.get() {
            dropped.into_iter().for_each(|ino| kernel.forget_inode(ino));
        }
    }

    /// The directory that a name of the head means, if it is one.
    fn dir_at(&self, slot: &Slot) -> Option<Ino> {
        let dentry = self.state.read().head.dentry(slot.at());
        match dentry {
            Some(Dentry::Here(ino, Kind::Dir)) => Some(ino),
            Some(_) => None,
            None if slot.parent >= FIRST_INO => None,
            None => {
                let stat = self.base.lookup(slot.parent, slot.name.as_bytes()).ok()?;
                (stat.kind == Kind::Dir).then_some(stat.ino)
            }
        }
    }

    /// Where a name of the head is, from the root on; `None` if its directory is not in the tree. One that is not may be held,
    /// and remember a place in another one that is not: only places that are still its own lead upwards.
    pub(super) fn path_of(&self, slot: &Slot) -> Option<PathBuf> {
        let mut names = vec![slot.name.clone()];
        let mut at = slot.parent;
        let mut circle = Circle::default();
        while at != ROOT {
            if circle.closes(at) {
                return None;
            }
            let place = self.place_in_head(at)?;
            at = place.parent;
            names.push(place.name);
        }
        let names = names.iter().rev();
        Some(names.map(|n| OsStr::from_bytes(n.as_bytes())).collect())
    }

    /// The name of a directory of the head.
    pub(super) fn place_in_head(&self, dir: Ino) -> Option<Slot> {
        let state = self.state.read();
        let inode = state.head.inode(dir);
        if inode.is_some_and(|inode| inode.nlink == 0) {
            return None;
        }
        if let Some(home) = inode.and_then(|inode| inode.home.clone()) {
            let means = state.head.dentry(home.at());
            return matches!(means, Some(Dentry::Here(ino, _)) if ino == dir).then_some(home);
        }
        let place = self.base.place_of(dir)?;
        let place = Slot::new(place.parent, &place.name);
        let means = state.head.dentry(place.at());
        let hidden =
            means.is_some_and(|means| !matches!(means, Dentry::Here(ino, _) if ino == dir));
        (!hidden).then_some(place)
    }

    /// After a switch, and at a start: orphans of the head that nobody holds go.
    pub(super) fn collect_orphans(&self) {
        let _gate = self.gate.read();
        self.forget_orphans(&self.idle_orphans());
    }

    fn idle_orphans(&self) -> Vec<Ino> {
        let state = self.state.read();
        let held = self.held.lock();
        (state.head.orphans.iter().copied())
            .filter(|ino| !held.holds(*ino))
            .collect()
    }

    /// Gives up inodes without a name that nobody holds. Those for which there is no room stay until there is, or somebody
    /// needs theirs.
    pub(super) fn forget_orphans(&self, inos: &[Ino]) {
        self.forget_orphans_by(inos, Self::commit_later);
    }

    /// Gives up those that stayed, with what is kept back for records that free space.
    pub(super) fn forget_what_stayed(&self) {
        if self.orphans_stayed.swap(false, Relaxed) {
            let _gate = self.gate.read();
            self.forget_orphans_by(&self.idle_orphans(), Self::commit_later_reserved);
        }
    }

    fn forget_orphans_by(
        &self,
        inos: &[Ino],
        commit: fn(&Engine, &mut State, &Record) -> Answer<()>,
    ) {
        for some in inos.chunks(FORGET_MAX) {
            let mut state = self.state.write();
            // What was given up twice (once by the kernel, once by who only looked) goes once.
            let mut still: Vec<Ino> = (some.iter().copied())
                .filter(|i| state.head.orphans.contains(i))
                .collect();
            still.sort_unstable();
            still.dedup();
            if still.is_empty() {
                continue;
            }
            let blocks: u64 = (still.iter())
                .filter_map(|i| state.head.inode(*i))
                .map(|i| u64::from(i.layered))
                .sum();
            // A worker that dies before this is written leaves orphans that nobody holds, which the next one gives up.
            match commit(self, &mut state, &Record::Forget(still)) {
                Ok(()) => self.freed(blocks * crate::tree::BLOCK),
                Err(e) => {
                    tracing::debug!("orphans stay for now: {e}");
                    self.orphans_stayed.store(true, Relaxed);
                }
            }
        }
    }

    fn drop_oldest_discarded(&self) {
        let mut state = self.state.write();
        let excess = state.discarded.len().saturating_sub(DISCARDED_KEPT);
        let ids: Vec<StateId> = state.discarded.keys().take(excess).copied().collect();
        if ids.is_empty() {
            return;
        }
        if let Err(e) = self.drop_states(&mut state, ids.clone()) {
            tracing::warn!("old discarded states could not be given up: {e}");
            return;
        }
        drop(state);
        self.views_gone(&ids);
    }

    /// Gives snapshots up.
    ///
    /// # Errors
    /// One of them doesn't exist, or the disk failed; then all are kept.
    pub fn delete(&self, names: &[String]) -> Result<(), Refusal> {
        self.delete_shown(names, None)
    }

    /// The same, if all of them are among those that were `shown` to whoever wants it.
    ///
    /// # Errors
    /// The same, or one is another snapshot by now.
    pub(super) fn delete_shown(
        &self,
        names: &[String],
        shown: Option<&[StateId]>,
    ) -> Result<(), Refusal> {
        let _turn = self.turn.lock();
        let mut state = self.state.write();
        let mut ids = Vec::new();
        for name in names {
            let (id, _) = state
                .snapshot(name)
                .ok_or_else(|| Refusal::Unknown(name.clone()))?;
            if shown.is_some_and(|shown| !shown.contains(&id)) {
                return Err(Refusal::Another(name.clone()));
            }
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        self.drop_states(&mut state, ids.clone())
            .map_err(Refusal::failed("the snapshots were not deleted"))?;
        drop(state);
        self.views_gone(&ids);
        self.freed_much();
        Ok(())
    }

    /// Gives up those of some snapshots that are still there and of which `may` holds; which ones. That frees so many bytes, about.
    ///
    /// # Errors
    /// The disk failed; then all are kept.
    pub(super) fn give_up(
        &self,
        some: &BTreeSet<StateId>,
        may: &dyn Fn(&State, &Snapshot) -> bool,
        bytes: u64,
    ) -> Result<Vec<StateId>, Refusal> {
        let _turn = self.turn.lock();
        let mut state = self.state.write();
        let still = |id: &StateId| state.snapshots.get(id).is_some_and(|s| may(&state, s));
        let ids: Vec<StateId> = some.iter().copied().filter(still).collect();
        if ids.is_empty() {
            return Ok(ids);
        }
        self.drop_states(&mut state, ids.clone())
            .map_err(Refusal::failed("the snapshots were not given up"))?;
        drop(state);
        self.views_gone(&ids);
        self.freed(bytes);
        Ok(ids)
    }

    /// What a snapshot says of itself, with what held when it was taken.
    pub(super) fn stamped(&self, mut meta: SnapMeta) -> SnapMeta {
        meta.config = self.rules().trusted.as_ref().map(|t| t.hash.clone());
        meta.format = Some(crate::store::FORMAT_VERSION);
        meta
    }

    /// The snapshot of the present state, if there is one; it stays, and is durable.
    pub(super) fn saved_as(&self) -> Option<StateId> {
        let saved = {
            let state = self.state.read();
            let saved = unchanged::since(&state)?;
            // With the state looked at: it is not given up before it is kept.
            self.keep_mark(saved);
            saved
        };
        // Whoever finds none asks for one, and is told why that fails.
        self.store.sync().ok().map(|()| saved)
    }

    fn drop_states(&self, state: &mut State, ids: Vec<StateId>) -> Answer<()> {
        // The maps are dropped where nobody waits for it.
        let roots: Vec<Root> = ids
            .iter()
            .filter_map(|id| state.root(*id).cloned())
            .collect();
        self.commit_reserved(state, &Record::Drop(ids))?;
        self.authors.outdated();
        self.house.bury(roots);
        Ok(())
    }

    /// Gives a snapshot another name.
    ///
    /// # Errors
    /// It doesn't exist, the new name does, or the disk failed.
    pub fn rename_snapshot(&self, from: &str, to: &str) -> Result<(), Refusal> {
        let _turn = self.turn.lock();
        let mut state = self.state.write();
        let (id, _) = state
            .snapshot(from)
            .ok_or_else(|| Refusal::Unknown(from.to_owned()))?;
        if from != to && state.snapshot(to).is_some() {
            return Err(Refusal::Exists(to.to_owned()));
        }
        let name = to.to_owned();
        self.commit_ready(&mut state, &Record::Rename { id, name })
            .map_err(Refusal::failed("the snapshot was not renamed"))?;
        self.keep_mark(id);
        drop(state);
        self.views_changed();
        Ok(())
    }

    /// Changes what a snapshot says of itself.
    ///
    /// # Errors
    /// It doesn't exist, what it would say breaks a rule, or the disk failed.
    pub fn describe(&self, name: &str, edit: &MetaEdit) -> Result<StateId, Refusal> {
        let _turn = self.turn.lock();
        let mut state = self.state.write();
        let (id, snapshot) = state
            .snapshot(name)
            .ok_or_else(|| Refusal::Unknown(name.to_owned()))?;
        let meta = edit.apply(&snapshot.meta);
        meta.check()?;
        let record = Record::Describe {
            id,
            message: edit.message.as_ref().unwrap_or(&snapshot.message).clone(),
            meta: meta.into(),
        };
        self.commit_ready(&mut state, &record)
            .map_err(Refusal::failed("the snapshot was not changed"))?;
        self.keep_mark(id);
        Ok(id)
    }

    /// The names of all snapshots, oldest first.
    pub fn snapshot_names(&self) -> Vec<String> {
        let state = self.state.read();
        state.snapshots.values().map(|s| s.name.clone()).collect()
    }

    /// Makes everything durable that was acknowledged.
    ///
    /// # Errors
    /// What the disk says.
    pub fn sync(&self) -> io::Result<()> {
        self.store.sync()
    }
}

/// The state to which so many steps lead.
fn nth(state: &State, redo: bool, steps: usize) -> Result<StateId, Refusal> {
    let found = piles::nth(&state.discarded, redo, steps.saturating_sub(1));
    found.ok_or_else(|| match piles::height(&state.discarded, redo) {
        0 if redo => Refusal::NothingToRedo,
        0 => Refusal::NothingToUndo,
        there => Refusal::TooFar {
            what: if redo { "redo" } else { "undo" },
            there,
            wanted: steps,
        },
    })
}
