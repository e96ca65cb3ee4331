//! Parts of one root in another: what a revert of a part does.

use super::extent::{self, Extents, FileBlock};
use super::root::{Contradiction, Dentry};
use super::{Delta, Ino, Inode, Root, Slot};

impl Root {
    /// The inode becomes what it is in `from`, with its data. One that has no name there is not brought back, and one that
    /// is not there is forgotten; whoever takes inodes takes the names that go with them.
    pub fn take_inode(&mut self, from: &Root, ino: Ino) {
        extent::remove_all(&mut self.extents, ino);
        self.orphans.remove(&ino);
        match from.inode(ino) {
            Some(inode) if inode.nlink > 0 => {
                self.inodes.insert(ino, inode.clone());
                for (at, extent) in extents_of(&from.extents, ino) {
                    self.extents.insert(FileBlock::new(ino, at), extent);
                }
            }
            _ => {
                self.inodes.remove(&ino);
            }
        }
    }

    /// The overlay says of the name what it says in `from`.
    pub fn take_slot(&mut self, from: &Root, slot: &Slot) {
        match from.dentry(slot.at()) {
            Some(dentry) => self.dentries.insert(slot.clone(), dentry.into()),
            None => self.dentries.remove(slot),
        };
    }

    /// The name means nothing, whatever the base has.
    pub fn hide(&mut self, slot: &Slot) {
        self.dentries.insert(slot.clone(), Dentry::Whiteout.into());
    }

    /// The inode has these attributes; its data stay.
    ///
    /// # Errors
    /// None that a record of this program leads to.
    pub fn set(&mut self, ino: Ino, inode: &Inode) -> Result<(), Contradiction> {
        self.apply(&Delta::Inode(ino, Box::new(inode.clone())))
    }

    /// Whether a file's blocks are at the same places in both.
    pub fn same_data(&self, other: &Root, ino: Ino) -> bool {
        extents_of(&self.extents, ino).eq(extents_of(&other.extents, ino))
    }
}

fn extents_of(map: &Extents, ino: Ino) -> impl Iterator<Item = (u64, extent::Extent)> {
    map.range(FileBlock::all_of(ino))
        .map(|(at, extent)| (at.block(), *extent))
}
