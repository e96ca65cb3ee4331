//! What the kernel holds: lookups to be forgotten, generations of directories that went and came back.
//!
//! It is kept where the next worker finds it, see [`crate::relay`].

use std::io;
use std::sync::Arc;

use crate::relay::{Entry, Relay, Table};
use crate::tree::Ino;

/// Lookup counts and generations.
pub(super) struct Held {
    relay: Arc<Relay>,
    table: Table,
}

impl Held {
    /// What is held as `relay` has it.
    ///
    /// # Errors
    /// The system's.
    pub fn of(relay: &Arc<Relay>) -> io::Result<Held> {
        Ok(Held {
            relay: relay.clone(),
            table: Table::attach(relay.clone())?,
        })
    }

    /// Counts a lookup that the kernel is about to learn of; the inode's generation, and whether it was not held before.
    pub fn hold(&mut self, ino: Ino) -> (u64, bool) {
        let (generation, first) = self.table.hold(ino);
        (generation.into(), first)
    }

    /// Notes the directory of the base in which a held inode is.
    pub fn place(&mut self, ino: Ino, parent: Ino) {
        self.table.place(ino, parent);
    }

    /// The inode's generation.
    pub fn generation(&self, ino: Ino) -> u64 {
        self.table.generation(ino).into()
    }

    /// Takes `n` lookups back; `true` when the kernel holds the inode no longer.
    pub fn forget(&mut self, ino: Ino, n: u64) -> bool {
        self.table.forget(ino, n)
    }

    /// Whether the kernel holds the inode.
    pub fn holds(&self, ino: Ino) -> bool {
        self.table.holds(ino)
    }

    /// Everything that the kernel holds.
    pub fn all(&self) -> Vec<Entry> {
        self.table.iter().filter(|e| e.lookups > 0).collect()
    }

    /// The directory is about to be removed, which [`Held::retire`] follows.
    pub fn dying(&self, ino: Ino) {
        self.relay.set_dying(ino);
    }

    /// A directory was removed: the kernel marks what it has of it as dead for ever, and must be told another
    /// generation should a revert bring the directory back.
    pub fn retire(&mut self, ino: Ino) {
        self.table.retire(ino);
        self.relay.set_dying(0);
    }
}
