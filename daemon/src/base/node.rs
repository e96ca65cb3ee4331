//! Which base inode is where: the compact table behind [`super::Base`].

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use nix::errno::Errno;

use super::ROOT;
use crate::tree::ShortName;

/// Where a base object is: a directory of the base and a name in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Inode number of the directory.
    pub parent: u64,
    /// The name in it, as bytes.
    pub name: Box<[u8]>,
}

/// Index into the slab that stands for "none".
const NONE: u32 = u32::MAX;

/// The root's index in the slab.
const ROOT_SLOT: u32 = 0;

/// One inode. A million of them must stay below 60 MB with most names and the index over them, hence the parent
/// as a slab index, names in place, and the flags beside a count in 32 bits.
struct Node {
    ino: u64,
    /// Empty while only a child's place named this inode (and for the root).
    name: ShortName,
    /// [`NONE`] while the place is not known. In a free slot: the next free one.
    parent: u32,
    keep: Keep,
}

/// Why a node stays: flags, and below them the count of nodes whose parent it is.
#[derive(Clone, Copy, Default)]
struct Keep(u32);

impl Keep {
    /// The journal recorded this place: never dropped.
    const PINNED: u32 = 1 << 31;
    /// The kernel may know the inode: kept until it is forgotten.
    const HELD: u32 = 1 << 30;

    fn set(&mut self, flag: u32) {
        self.0 |= flag;
    }

    fn clear(&mut self, flag: u32) {
        self.0 &= !flag;
    }

    fn is(self, flag: u32) -> bool {
        self.0 & flag != 0
    }

    fn add_child(&mut self) {
        self.0 += 1;
        debug_assert!(
            self.0 & !Self::PINNED & !Self::HELD != 0,
            "too many children"
        );
    }

    fn remove_child(&mut self) {
        debug_assert!(self.0 & !Self::PINNED & !Self::HELD != 0, "a child too few");
        self.0 -= 1;
    }
}

/// Base inodes and their places. A node stays while it is pinned, held, or the parent of one that stays.
pub(super) struct NodeTable {
    slots: Vec<Node>,
    /// Slots by inode number.
    index: HashTable<u32>,
    /// First of the chain of free slots.
    free: u32,
}

/// One step of a path: an inode number and its name in the directory above.
pub(super) type Link = (u64, Box<[u8]>);

/// Why a node is put into the table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    Pin,
    Hold,
}

impl NodeTable {
    /// A table that knows the root only.
    pub fn new() -> Self {
        let mut table = NodeTable {
            slots: Vec::new(),
            index: HashTable::new(),
            free: NONE,
        };
        let root = table.slot_of(ROOT);
        debug_assert_eq!(root, ROOT_SLOT);
        table.slots[ROOT_SLOT as usize].keep.set(Keep::PINNED);
        table
    }

    /// The parent and the name of `ino`; `None` for the root and for what is not known.
    pub fn place(&self, ino: u64) -> Option<(u64, &[u8])> {
        let node = &self.slots[self.find(ino)? as usize];
        let parent = self.slots.get(node.parent as usize)?;
        Some((parent.ino, node.name.as_bytes()))
    }

    /// Whether `ino` is there with a place and held, so that [`Self::add`] to hold it changes nothing.
    pub fn is_held(&self, ino: u64) -> bool {
        self.find(ino).is_some_and(|slot| {
            let node = &self.slots[slot as usize];
            node.keep.is(Keep::HELD) && node.parent != NONE
        })
    }

    /// Records that `ino` is at (`parent`, `name`), pinned or held. A place that is known stays as it is.
    ///
    /// # Errors
    /// EINVAL, ENAMETOOLONG: not a place that an object can have.
    pub fn add(&mut self, ino: u64, parent: u64, name: &[u8], why: Reason) -> Result<(), Errno> {
        let slot = self.admit(ino, parent, name)?;
        if self.slots[slot as usize].parent == NONE {
            self.attach(slot, parent, name);
        }
        let node = &mut self.slots[slot as usize];
        match why {
            Reason::Pin => node.keep.set(Keep::PINNED),
            Reason::Hold => node.keep.set(Keep::HELD),
        }
        Ok(())
    }

    /// Records that `ino` is now at (`parent`, `name`), pinned, wherever it was before.
    ///
    /// # Errors
    /// As for [`Self::add`].
    pub fn relocate(&mut self, ino: u64, parent: u64, name: &[u8]) -> Result<(), Errno> {
        let slot = self.admit(ino, parent, name)?;
        let old = self.slots[slot as usize].parent;
        self.attach(slot, parent, name);
        self.slots[slot as usize].keep.set(Keep::PINNED);
        if old != NONE {
            self.slots[old as usize].keep.remove_child();
            self.reap(old);
        }
        Ok(())
    }

    /// The kernel no longer knows `ino`.
    pub fn forget(&mut self, ino: u64) {
        if let Some(slot) = self.find(ino) {
            self.slots[slot as usize].keep.clear(Keep::HELD);
            self.reap(slot);
        }
    }

    /// The places from `ino` up to the child of the root, each with its inode number; empty for the root.
    ///
    /// # Errors
    /// ESTALE where a place is not known; ELOOP where recorded places form a ring.
    pub fn chain(&self, ino: u64) -> Result<Vec<Link>, Errno> {
        let mut chain = Vec::new();
        let mut slot = self.find(ino).ok_or(Errno::ESTALE)?;
        while slot != ROOT_SLOT {
            let node = &self.slots[slot as usize];
            if node.parent == NONE {
                return Err(Errno::ESTALE);
            }
            if chain.len() >= self.slots.len() {
                return Err(Errno::ELOOP);
            }
            chain.push((node.ino, node.name.as_bytes().into()));
            slot = node.parent;
        }
        Ok(chain)
    }

    /// Nodes in the table, the root included.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Checks a place and gives the slot of `ino`, a fresh one if need be.
    fn admit(&mut self, ino: u64, parent: u64, name: &[u8]) -> Result<u32, Errno> {
        check_name(name)?;
        if ino == ROOT || ino == parent {
            return Err(Errno::EINVAL);
        }
        Ok(self.slot_of(ino))
    }

    /// Puts a node below `parent`, without regard to where it was.
    fn attach(&mut self, slot: u32, parent: u64, name: &[u8]) {
        let above = self.slot_of(parent);
        self.slots[above as usize].keep.add_child();
        let node = &mut self.slots[slot as usize];
        node.parent = above;
        node.name = name.into();
    }

    /// Drops the node if nothing keeps it, and then its parents likewise.
    fn reap(&mut self, mut slot: u32) {
        loop {
            let node = &mut self.slots[slot as usize];
            if node.keep.0 != 0 {
                return;
            }
            let (ino, parent) = (node.ino, node.parent);
            node.name = ShortName::EMPTY;
            node.parent = self.free;
            self.free = slot;
            match self.index.find_entry(hash(ino), |other| *other == slot) {
                Ok(entry) => drop(entry.remove()),
                Err(_) => debug_assert!(false, "a node that is not in the index"),
            }
            if parent == NONE {
                return;
            }
            self.slots[parent as usize].keep.remove_child();
            slot = parent;
        }
    }

    fn find(&self, ino: u64) -> Option<u32> {
        self.index
            .find(hash(ino), |slot| self.slots[*slot as usize].ino == ino)
            .copied()
    }

    /// The slot of `ino`, a fresh one without a place if it was not known.
    fn slot_of(&mut self, ino: u64) -> u32 {
        let slots = &self.slots;
        let entry = self.index.entry(
            hash(ino),
            |slot| slots[*slot as usize].ino == ino,
            |slot| hash(slots[*slot as usize].ino),
        );
        let vacant = match entry {
            Entry::Occupied(slot) => return *slot.get(),
            Entry::Vacant(vacant) => vacant,
        };
        let node = Node {
            ino,
            name: ShortName::EMPTY,
            parent: NONE,
            keep: Keep::default(),
        };
        let slot = if self.free == NONE {
            let next = u32::try_from(self.slots.len()).expect("fewer nodes than fit into memory");
            self.slots.push(node);
            next
        } else {
            let slot = self.free;
            self.free = self.slots[slot as usize].parent;
            self.slots[slot as usize] = node;
            slot
        };
        vacant.insert(slot);
        slot
    }

    /// Bytes that the table takes, with what the allocator adds to each name.
    #[cfg(test)]
    pub fn memory(&self) -> usize {
        // glibc: 8 bytes of header, multiples of 16, at least 32.
        let chunk = |name: &ShortName| match name.apart() {
            0 => 0,
            len => (len + 8).next_multiple_of(16).max(32),
        };
        self.slots.len() * size_of::<Node>()
            + self.index.allocation_size()
            + self.slots.iter().map(|n| chunk(&n.name)).sum::<usize>()
    }
}

/// Whether `name` can be one entry's name. What passes never leads out of the directory it is used in.
///
/// # Errors
/// ENAMETOOLONG above 255 bytes; EINVAL for the empty name, `.`, `..`, and names with a slash or a NUL.
pub(super) fn check_name(name: &[u8]) -> Result<(), Errno> {
    if name.len() > 255 {
        return Err(Errno::ENAMETOOLONG);
    }
    if matches!(name, b"" | b"." | b"..") || name.iter().any(|b| matches!(b, b'/' | 0)) {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// Spreads inode numbers, which tend to be neighbours, over all 64 bits.
pub(super) fn hash(ino: u64) -> u64 {
    let mixed = ino.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 32)
}

#[cfg(test)]
mod tests;
