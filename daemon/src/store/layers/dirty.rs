//! What was written since the last sync: which few blocks, or that they are many; and which files.

use super::LayerId;
use crate::store::disk::DiskFile;
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Blocks written since the last sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Recent {
    /// These.
    Few(Vec<(LayerId, u32)>),
    /// More than the journal should take, or unknown.
    Many,
}

/// A layer's file that has unsynced bytes. `None`: it is not open, and was perhaps not written.
pub(crate) type DirtyFile = (LayerId, Option<Arc<dyn DiskFile>>);

struct Marks {
    recent: Recent,
    /// Blocks were taken, and are not durable yet.
    flushing: bool,
    files: Vec<DirtyFile>,
}

/// Bytes of new blocks after which the medium should begin to write what it was given.
const EARLY: u64 = 1 << 20;

/// Marks of what was written. The lock is a leaf and is held for a few nanoseconds.
pub(crate) struct Dirty {
    most: usize,
    marks: Mutex<Marks>,
    /// Counts changes of the directory, and how many of them are durable.
    names: AtomicU64,
    names_durable: AtomicU64,
    /// Bytes of blocks handed out since the medium was last told to begin.
    unstarted: AtomicU64,
}

impl Dirty {
    /// At first everything counts as written: a daemon that was killed may have left anything.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            marks: Mutex::new(Marks {
                recent: Recent::Many,
                flushing: false,
                files: Vec::new(),
            }),
            names: AtomicU64::new(1),
            names_durable: AtomicU64::new(0),
            unstarted: AtomicU64::new(0),
        }
    }

    /// The layer may have been written before this daemon started.
    pub fn suspect(&self, id: LayerId) {
        self.marks.lock().files.push((id, None));
    }

    /// Bytes of these blocks were written.
    pub fn wrote(&self, id: LayerId, file: &Arc<dyn DiskFile>, blocks: Range<u32>) {
        let mut marks = self.marks.lock();
        match marks.files.iter_mut().rev().find(|(other, _)| *other == id) {
            Some((_, Some(_))) => {}
            Some((_, slot)) => *slot = Some(file.clone()),
            None => marks.files.push((id, Some(file.clone()))),
        }
        let Recent::Few(few) = &mut marks.recent else {
            return;
        };
        if blocks.len() > self.most {
            marks.recent = Recent::Many;
            return;
        }
        for block in blocks {
            if !few.contains(&(id, block)) {
                few.push((id, block));
            }
        }
        if few.len() > self.most {
            marks.recent = Recent::Many;
        }
    }

    /// A layer's file was made or deleted.
    pub fn names_changed(&self) {
        self.renamed();
        self.unstarted.fetch_add(EARLY, Ordering::Relaxed);
    }

    /// A name of the directory has another file behind it.
    pub fn renamed(&self) {
        self.names.fetch_add(1, Ordering::AcqRel);
    }

    /// So many blocks are about to be written for the first time. Only these count: what is written over and over is
    /// better left alone until a sync.
    pub fn handed_out(&self, blocks: u32) {
        let bytes = u64::from(blocks) * super::BLOCK;
        self.unstarted.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Whether so much was written that the medium should begin; says so once for each time.
    pub fn wants_writeback(&self) -> bool {
        self.unstarted.load(Ordering::Relaxed) >= EARLY
            && self.unstarted.swap(0, Ordering::Relaxed) >= EARLY
    }

    /// The open files that have unsynced bytes. They stay marked.
    pub fn open_files(&self) -> Vec<Arc<dyn DiskFile>> {
        let marks = self.marks.lock();
        marks
            .files
            .iter()
            .filter_map(|(_, file)| file.clone())
            .collect()
    }

    /// The layer is gone.
    pub fn forget(&self, id: LayerId) {
        let mut marks = self.marks.lock();
        marks.files.retain(|(other, _)| *other != id);
        if let Recent::Few(few) = &mut marks.recent {
            few.retain(|(other, _)| *other != id);
        }
    }

    /// Takes the blocks; from here on new ones are collected. Whoever does so says when they are [`Self::flushed`].
    pub fn take_recent(&self) -> Recent {
        let fresh = Recent::Few(Vec::with_capacity(self.most + 1));
        let mut marks = self.marks.lock();
        marks.flushing = true;
        std::mem::replace(&mut marks.recent, fresh)
    }

    /// What was taken is durable, or [`Self::set_many`] was called since.
    pub fn flushed(&self) {
        self.marks.lock().flushing = false;
    }

    /// What was taken did not become durable: the next sync must flush everything.
    pub fn set_many(&self) {
        self.marks.lock().recent = Recent::Many;
    }

    /// Whether blocks were written that may not be durable: since they were taken last, or those that were taken.
    pub fn has_news(&self) -> bool {
        let marks = self.marks.lock();
        marks.flushing || marks.recent != Recent::Few(Vec::new())
    }

    /// Takes the files that need a sync.
    pub fn take_files(&self) -> Vec<DirtyFile> {
        std::mem::take(&mut self.marks.lock().files)
    }

    /// Puts files back that could not be synced.
    pub fn return_files(&self, files: Vec<DirtyFile>) {
        self.marks.lock().files.extend(files);
    }

    /// The number of changes to the directory, if some of them are not durable. Whoever has synced it after this call
    /// says so with [`Self::names_synced`]. A change is counted when it was made.
    pub fn unsynced_names(&self) -> Option<u64> {
        let changes = self.names.load(Ordering::Acquire);
        (self.names_durable.load(Ordering::Acquire) < changes).then_some(changes)
    }

    /// The first so many changes to the directory are durable.
    pub fn names_synced(&self, changes: u64) {
        self.names_durable.fetch_max(changes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sync that comes while a flush runs must not take what that has taken for durable: it may yet fail.
    #[test]
    fn what_was_taken_is_news_until_it_is_durable() {
        let dirty = Dirty::new(2);
        assert!(dirty.has_news(), "a daemon that was killed left anything");
        dirty.take_recent();
        assert!(dirty.has_news());
        dirty.flushed();
        assert!(!dirty.has_news());
        dirty.set_many();
        dirty.take_recent();
        dirty.set_many();
        dirty.flushed();
        assert!(dirty.has_news(), "that flush failed");
    }
}
