//! Writing the head into the base: afterwards the base directory is what the mount showed, and the overlay is empty.
//!
//! # Phases
//! 1. *Survey.* What there is to do, what space it takes, and whatever would stop it half-way: then it is refused.
//! 2. `Begin` is journaled. *Stage*: a directory `.llfs-apply-…` is made in the base's root, and every new object in
//!    it, complete with contents and attributes, under its inode number. Space that base files will grow by is
//!    taken. Layers that will be written in place are read once, so that damage is found now. Everything is synced.
//! 3. `Staged` is journaled and synced. From here on it only goes forward, and needs no space but for directory entries.
//! 4. *Park*: each base object whose place the head hides or gives to another goes into the staging area, under
//!    its inode number. *Place*: everything that has a name in the overlay is linked or renamed there; a directory moves
//!    with all that is in it. Since all that is displaced was parked before, names may be swapped in any way.
//! 5. *In place*: base files get their changed blocks, straight from the layers, and keep their inode numbers and
//!    all their hard links. Attributes are set, those of deeper directories first. Everything is synced.
//! 6. The staging area becomes `.llfs-applied-…`, of which nothing is needed any more, and is removed. The root's
//!    times are set again. Synced.
//! 7. `Done` is journaled and synced: the overlay is empty, its states are given up.
//!
//! # After a crash
//! The head is the same until `Done`, so every step can be derived again, and each looks whether it was done. The sign is
//! always an identity, never a name: base objects keep their inode numbers, and a new object has its name in the
//! staging area until it has all its others. Blocks that are written in place come from the store, so writing
//! them twice does no harm. No inode is freed before phase 6, so that no number can mean two objects.
//! Before `Staged` the area is thrown away. After it the next mount goes on, before it serves anything.
//!
//! # What it does not keep
//! ctime, which cannot be set. Snapshots and discarded states, which are relative to a base that is gone. Open descriptors
//! of files that were new: they get another inode number.

mod area;
mod attrs;
mod content;
mod error;
mod hand;
mod job;
mod map;
mod moves;
mod refind;
mod survey;
#[cfg(test)]
mod tests;
mod xattr;

use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::{Answer, Engine, errno};
use crate::base::{self, Base};
use crate::store::{self, Store};
use crate::tree::diff::Changes;
use crate::tree::{self, Apply, Ino, LayerId, ROOT, Record, Root, State};
use error::During;
pub use error::{ApplyError, Trouble};
use hand::Hook;
use job::{Job, Work};
pub use survey::ApplyPlan;

/// What an apply did.
#[derive(Clone, Debug)]
pub struct ApplyDone {
    /// What was planned, and is done.
    pub plan: ApplyPlan,
    /// How long it took.
    pub took: Duration,
}

impl Engine {
    /// What [`Engine::apply`] would do.
    ///
    /// # Errors
    /// The base cannot be looked at.
    pub fn plan_apply(&self) -> Result<ApplyPlan, ApplyError> {
        let _gate = self.gate.read();
        let (head, places) = self.head_and_places();
        let layers = |layer, at, out: &mut [u8]| self.get_bytes(layer, at, out);
        let work = self.work(&head, &places, &layers, &|_| Ok(()));
        let job = Job::new(&work, None).during("open", here);
        job.and_then(|j| j.plan()).map_err(ApplyError::Unprepared)
    }

    /// Writes the head into the base. Nothing else goes on meanwhile; `progress` is told how much of how much is done, in
    /// bytes and what counts like bytes, and must not block. Snapshots and discarded states are given up.
    ///
    /// # Errors
    /// See [`ApplyError`]. After [`ApplyError::Halfway`] and [`ApplyError::Lost`] the store takes no more writes, and
    /// what the mount shows means nothing: the daemon must end.
    pub fn apply(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<ApplyDone, ApplyError> {
        self.apply_for(None, progress, &mut |_| ())
    }

    /// The same for a client, if it is what was `shown` ([`Engine::fingerprint`]). The next record that this thread writes
    /// after `staged` was called is the one after which the apply is finished in any case, by the next worker if need be.
    pub(super) fn apply_for(
        &self,
        shown: Option<u64>,
        progress: &mut dyn FnMut(u64, u64),
        staged: &mut dyn FnMut(&ApplyPlan),
    ) -> Result<ApplyDone, ApplyError> {
        self.apply_with(shown, progress, staged, &|_| Ok(()))
    }

    fn apply_with(
        &self,
        shown: Option<u64>,
        progress: &mut dyn FnMut(u64, u64),
        staged: &mut dyn FnMut(&ApplyPlan),
        hook: Hook<'_>,
    ) -> Result<ApplyDone, ApplyError> {
        let _turn = self.turn.lock();
        let begun = Instant::now();
        self.flush_mappings();
        // A worker that comes after this one makes the kernel forget everything.
        self.relay.set_applying(true);
        let done = {
            let _gate = self.gate.write();
            self.check_shown(shown).and_then(|()| {
                self.other_base();
                let done = self.apply_alone(progress, staged, hook);
                self.other_base();
                done
            })
        };
        let (plan, old) = done.inspect_err(|_| self.relay.set_applying(false))?;
        self.forget_old_names(&old);
        self.views_anew();
        self.forget_authors();
        self.relay.set_applying(false);
        self.freed_much();
        tracing::info!(?plan, "the head was written into the base");
        Ok(ApplyDone {
            plan,
            took: begun.elapsed(),
        })
    }

    /// Whether an apply would write what was `shown` to whoever wants it.
    ///
    /// # Errors
    /// It would not.
    pub(super) fn check_shown(&self, shown: Option<u64>) -> Result<(), ApplyError> {
        match shown.is_none_or(|shown| shown == self.fingerprint()) {
            true => Ok(()),
            false => Err(ApplyError::Changed),
        }
    }

    /// The apply, with the gate held exclusively; the head as it was before.
    fn apply_alone(
        &self,
        progress: &mut dyn FnMut(u64, u64),
        staged: &mut dyn FnMut(&ApplyPlan),
        hook: Hook<'_>,
    ) -> Result<(ApplyPlan, Root), ApplyError> {
        // The area comes and goes in the base's root: what its times were must be known.
        let kept = self.keep_root().during("look at", here);
        kept.map_err(ApplyError::Unprepared)?;
        let ours = self.state.read().applying.is_some();
        let (head, places) = self.head_and_places();
        let layers = |layer, at, out: &mut [u8]| self.get_bytes(layer, at, out);
        let work = self.work(&head, &places, &layers, hook);
        let job = |progress| {
            let job = Job::new(&work, progress).during("open", here);
            job.map_err(ApplyError::Unprepared)
        };
        let plan = {
            let before = job(None)?;
            let plan = before.plan().map_err(ApplyError::Unprepared)?;
            before.check(&plan, ours)?;
            self.note(Apply::Begin).map_err(ApplyError::Unprepared)?;
            // What an earlier attempt may have left.
            let cleared = before.undo().during("remove the old staging area", here);
            cleared.map_err(ApplyError::Unprepared)?;
            plan
        };
        let mut running = job(Some(progress))?;
        if let Err(trouble) = running.stage(&plan) {
            // What fails here is done by the next apply, or the next mount.
            if let Err(e) = running.undo() {
                tracing::warn!("the staging area was not removed: {e}");
            }
            return Err(ApplyError::Unprepared(trouble));
        }
        // The layers are synced with it, from which base files will be written.
        staged(&plan);
        if let Err(trouble) = self.note(Apply::Staged) {
            self.store.latch_readonly(&trouble.to_string());
            return Err(ApplyError::Unprepared(trouble));
        }
        self.base.evict();
        let finished = running.finish();
        let done = finished.and_then(|()| self.note(Apply::Done).map_err(ApplyError::Halfway));
        if let Err(e) = done {
            self.store.latch_readonly(&e.to_string());
            return Err(e);
        }
        self.base.evict();
        self.seal_written();
        self.listings.lock().clear();
        if let Err(e) = relearn(&work) {
            tracing::warn!("some places in the base are found anew at the next mount: {e}");
        }
        Ok((plan, head))
    }

    fn work<'a>(
        &'a self,
        head: &'a Root,
        places: &'a tree::Places,
        layers: content::Layers<'a>,
        hook: Hook<'a>,
    ) -> Work<'a> {
        Work {
            base: &self.base,
            store: self.store.uuid(),
            head,
            places,
            layers,
            hook,
        }
    }

    fn head_and_places(&self) -> (Root, tree::Places) {
        let state = self.state.read();
        (state.head.clone(), state.places.clone())
    }

    /// Takes the root directory into the overlay as it is, if it isn't there yet.
    fn keep_root(&self) -> Answer<()> {
        let seed = self.seed(ROOT)?;
        if self.inode(ROOT).is_some() {
            return Ok(());
        }
        self.change(|tx| tx.edit(ROOT, &seed, |_, _| ()))
    }

    /// Journals a step, durably.
    fn note(&self, step: Apply) -> Result<(), Trouble> {
        let noted = self.commit(&mut self.state.write(), &Record::Apply(step));
        let noted = noted.and_then(|()| self.store.sync().map_err(|e| errno(&e)));
        noted.during("write the journal for", here)
    }

    /// Makes the kernel forget what it knew by names and numbers that changed.
    fn forget_old_names(&self, old: &Root) {
        let Some(kernel) = self.kernel.get() else {
            return;
        };
        self.await_answers();
        let changes = Changes::between(old, &Root::default());
        let held = |ino: Ino| ino == ROOT || self.held.lock().holds(ino);
        for slot in changes.names.values().flatten() {
            if held(slot.parent) {
                kernel.forget_name(slot.parent, slot.name.as_bytes());
            }
        }
        let dirs = changes.names.keys();
        for ino in changes.inodes.iter().chain(&changes.data).chain(dirs) {
            if held(*ino) {
                kernel.forget_inode(*ino);
            }
        }
    }
}

/// Tells the base where things are now.
fn relearn(work: &Work<'_>) -> Answer<()> {
    let job = Job::new(work, None)?;
    job.places(&mut |ino, parent, name| {
        let name = name.into();
        work.base.relocate(ino, &base::Place { parent, name })
    })
}

/// After a crash, before anything is served: finishes an apply that had begun to change the base, and throws away
/// what one that had not may have left. The base must not have been told any places yet.
///
/// # Errors
/// It could not be finished: the next attempt goes on.
pub(super) fn resume(base: &Base, store: &Store, state: &mut State) -> Result<(), ApplyError> {
    resume_with(base, store, state, &|_| Ok(()))
}

fn resume_with(
    base: &Base,
    store: &Store,
    state: &mut State,
    hook: Hook<'_>,
) -> Result<(), ApplyError> {
    let Some(step) = state.applying.clone() else {
        return Ok(());
    };
    let (head, places) = (state.head.clone(), state.places.clone());
    let layers = |layer: LayerId, at: u64, out: &mut [u8]| {
        let read = store.read(store::LayerId(layer), at, out, true);
        read.map_err(|e| errno(&e))
    };
    let work = Work {
        base,
        store: store.uuid(),
        head: &head,
        places: &places,
        layers: &layers,
        hook,
    };
    let job = Job::new(&work, None).during("open", here);
    let job = job.map_err(ApplyError::Halfway)?;
    if step != Apply::Staged {
        let undone = job.undo().during("remove the old staging area", here);
        return undone.map_err(ApplyError::Unprepared);
    }
    tracing::info!("finishing an apply that was interrupted");
    job.finish()?;
    let done = Record::Apply(Apply::Done);
    let noted = rmp_serde::to_vec(&done)
        .map_err(|_| Errno::EIO)
        .and_then(|bytes| store.append(&bytes).map_err(|e| errno(&e)))
        .and_then(|_| store.sync().map_err(|e| errno(&e)))
        .and_then(|()| state.apply(&done).map_err(|_| Errno::EIO));
    noted
        .during("write the journal for", here)
        .map_err(ApplyError::Halfway)
}

/// Whether an apply of the store with this id was begun and not finished, so that the base may be half-written.
///
/// # Errors
/// The base cannot be looked at.
pub(super) fn is_unfinished(base: &Base, store: &[u8; 16]) -> Answer<bool> {
    let root = base.root_fd().try_clone_to_owned();
    area::is_there(&root.map_err(|_| Errno::EMFILE)?, store)
}

fn here() -> std::path::PathBuf {
    ".".into()
}
