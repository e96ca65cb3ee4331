//! What each slot has begun and finished writing, in shared memory outside of the directory.

use std::fs::File;
use std::io;
use std::path::Path;

use super::SLOTS;
use crate::sys::Mapping;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Lines of the log.
    Line,
    /// Blocks of the slot's own.
    Block,
    /// Stores through a mapping.
    Store,
    /// Blocks of the file that others cut.
    Cut,
}

/// Bytes for a slot: two counters for each of four things.
const RECORD: usize = 64;

/// The counters of all slots.
#[derive(Debug)]
pub struct Ledger(Mapping);

impl Ledger {
    /// Opens the ledger at `path`, made when it is not there.
    ///
    /// # Errors
    /// What the filesystem says.
    pub fn open(path: &Path) -> io::Result<Ledger> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        file.set_len((SLOTS * RECORD) as u64)?;
        Ok(Ledger(Mapping::new(&file, SLOTS * RECORD, true)?))
    }

    fn place(slot: usize, what: What, finished: bool) -> usize {
        slot * RECORD + what as usize * 16 + usize::from(finished) * 8
    }

    /// The number of the last thing begun.
    #[must_use]
    pub fn begun(&self, slot: usize, what: What) -> u64 {
        self.0.load(Self::place(slot, what, false))
    }

    /// The number of the last thing finished.
    #[must_use]
    pub fn finished(&self, slot: usize, what: What) -> u64 {
        self.0.load(Self::place(slot, what, true))
    }

    /// Counts one more as begun; its number.
    pub fn begin(&self, slot: usize, what: What) -> u64 {
        let number = self.begun(slot, what) + 1;
        self.0.store(Self::place(slot, what, false), number);
        number
    }

    /// The last thing begun is finished.
    pub fn finish(&self, slot: usize, what: What) {
        let number = self.begun(slot, what);
        self.0.store(Self::place(slot, what, true), number);
    }
}
