//! What a worker does when one before it was killed: the kernel goes on with what it holds, and was in the middle of
//! something.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;

use super::Engine;
use super::snapshot::Reverting;
use super::untold::Untold;
use crate::relay::Relay;
use crate::store::Watch;
use crate::tree::diff::Changes;
use crate::tree::{FIRST_INO, Ino, ROOT, Root};

impl Watch for Relay {
    fn appending(&self, after: u64, record: &[u8]) {
        Relay::appending(self, after, record);
    }

    fn appended(&self) {
        Relay::appended(self);
    }

    fn latched(&self) {
        self.latch();
    }
}

impl Engine {
    /// Before anything is served: the state is what the journal says, and what the kernel holds means the same as before.
    pub(super) fn take_over(&self) {
        if self.relay.latched() {
            self.store
                .latch_readonly("a sync failed, and a worker before this one knew what was lost");
        }
        if let Some(ino) = self.relay.dying()
            && self.inode(ino).is_some_and(|i| i.nlink == 0)
        {
            self.held.lock().retire(ino);
        }
        self.find_places();
        if let Some((old, changes)) = self.unfinished_revert() {
            let inodes = changes.inodes.union(&changes.data).copied().collect();
            *self.reverting.write() = Some(Reverting {
                inodes,
                dropped: Mutex::default(),
            });
            if self.relay.reverting().is_some_and(|r| !r.retired) {
                self.retire_dirs(&old, &self.state.read().head, &changes);
                self.relay.revert_retired();
            }
            *self.untold.write() = Some(Untold::new(Arc::new(changes)));
        }
    }

    /// When requests are served, before anybody may ask for a snapshot or a revert: tells the kernel what the worker before
    /// this one did not live to tell. To be called by no handler.
    pub fn catch_up(&self) {
        if let Some((_, changes)) = self.unfinished_revert() {
            tracing::info!("telling the kernel the rest of a revert");
            self.forget_caches(&changes);
            self.forget_dropped();
            *self.untold.write() = None;
            self.collect_orphans();
        }
        self.relay.end_revert();
        if self.relay.applying() {
            self.forget_everything();
            self.relay.set_applying(false);
        }
    }

    /// No operation begins or goes on from here on, for the rest of this process: what comes now is for the next worker.
    /// What it has to read is kept short.
    pub fn hand_over(&self) {
        let _turn = self.turn.lock();
        if let Err(error) = self.image_if_many() {
            tracing::warn!(%error, "no image for the next worker");
        }
        std::mem::forget(self.gate.write());
        self.write_authors();
    }

    /// The kernel took another end for the file's: what it has of the file is old.
    pub fn appended_elsewhere(&self, ino: Ino) {
        self.house.forget_inode(ino);
    }

    /// What a revert discarded of which the kernel was not told everything, and what differs since.
    fn unfinished_revert(&self) -> Option<(Root, Changes)> {
        let reverting = self.relay.reverting()?;
        let state = self.state.read();
        let old = state.discarded.get(&reverting.kept)?.root.clone();
        let changes = Changes::between(&old, &state.head);
        Some((old, changes))
    }

    fn forget_everything(&self) {
        let Some(kernel) = self.kernel.get() else {
            return;
        };
        if let Err(error) = kernel.forget_all_names() {
            tracing::warn!(%error, "the kernel may show names from before the apply");
        }
        let held = self.held.lock().all();
        kernel.forget_inode(ROOT);
        for entry in held {
            kernel.forget_inode(entry.ino);
        }
    }

    /// Finds the objects of the base again that the kernel holds and no state relies on: each in the directory in which it
    /// was found before, or else wherever it is.
    fn find_places(&self) {
        let mut wanted: HashMap<Ino, HashSet<Ino>> = HashMap::new();
        for entry in self.held.lock().all() {
            let of_base = entry.ino < FIRST_INO && entry.ino != ROOT;
            if of_base && self.base.place_of(entry.ino).is_none() {
                wanted.entry(entry.parent).or_default().insert(entry.ino);
            }
        }
        let known = |dir: Ino| dir == ROOT || self.base.place_of(dir).is_some();
        let mut dirs: Vec<Ino> = wanted.keys().copied().filter(|d| known(*d)).collect();
        while let Some(dir) = dirs.pop() {
            let Some(mut children) = wanted.remove(&dir) else {
                continue;
            };
            let all = children.clone();
            self.find_in(dir, &mut children);
            let found = all.difference(&children).copied();
            dirs.extend(found.filter(|ino| wanted.contains_key(ino)));
            if !children.is_empty() {
                wanted.entry(0).or_default().extend(children);
            }
        }
        let mut lost: HashSet<Ino> = wanted.into_values().flatten().collect();
        if !lost.is_empty() {
            tracing::info!("looking for {} objects in the whole base", lost.len());
            self.find_anywhere(&mut lost);
        }
        if !lost.is_empty() {
            tracing::warn!(?lost, "objects that the kernel holds are not in the base");
        }
    }

    /// Finds what it can of `wanted` in one directory, and takes that out.
    fn find_in(&self, dir: Ino, wanted: &mut HashSet<Ino>) {
        let Ok(entries) = self.base.list(dir) else {
            return;
        };
        for entry in &entries {
            if wanted.contains(&entry.ino) && self.base.hold(entry.ino, dir, &entry.name).is_ok() {
                wanted.remove(&entry.ino);
            }
        }
        // Some file systems list other numbers than they show (overlays).
        for entry in &entries {
            if wanted.is_empty() {
                break;
            }
            if let Ok(stat) = self.base.lookup(dir, &entry.name)
                && !wanted.remove(&stat.ino)
                && !self.held.lock().holds(stat.ino)
            {
                self.base.forget(stat.ino);
            }
        }
    }

    /// Walks the base from the root on until all of `wanted` are found.
    fn find_anywhere(&self, wanted: &mut HashSet<Ino>) {
        let mut dirs = vec![ROOT];
        let (mut entered, mut seen) = (HashSet::new(), HashSet::new());
        while let Some(dir) = dirs.pop() {
            if wanted.is_empty() {
                break;
            }
            let Ok(entries) = self.base.list(dir) else {
                continue;
            };
            for entry in entries {
                let Ok(stat) = self.base.lookup(dir, &entry.name) else {
                    continue;
                };
                let is_dir = stat.kind == crate::tree::Kind::Dir;
                if !wanted.remove(&stat.ino) && !self.held.lock().holds(stat.ino) {
                    match is_dir {
                        // What is below needs its place for now.
                        true => drop(entered.insert(stat.ino)),
                        false => self.base.forget(stat.ino),
                    }
                }
                if is_dir && seen.insert(stat.ino) {
                    dirs.push(stat.ino);
                }
            }
        }
        for dir in entered {
            self.base.forget(dir);
        }
    }
}
