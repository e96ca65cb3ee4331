//! What the disk last said of a few objects, so that the steps of one operation need not ask it again.
//!
//! A write into a file of the base is a question for its capabilities, a look at what it is, and reading of a
//! block: parts of one operation, and one object. Before a name is made it is looked up, and then again, to be sure. Only what
//! follows such a question is answered from here ([`super::Base::describe`], opening a file, the second lookup of a
//! name that is not there), and an opened file is compared with it. Attributes that the kernel asks for, and whether
//! the base drifted, are always the disk's own.

use parking_lot::Mutex;

use super::BaseStat;
use super::node::hash;

/// Objects that are remembered; a power of two.
const COUNT: usize = 16;

/// An object as the disk last had it.
#[derive(Clone)]
pub(super) struct Seen {
    pub stat: BaseStat,
    /// It has no extended attributes at all; `false`: it may have some.
    pub bare: bool,
}

/// The last few objects, each in the slot that its number says, and the last name that there was not.
pub(super) struct Recent {
    seen: Mutex<[Option<Seen>; COUNT]>,
    absent: Mutex<Absent>,
}

#[derive(Default)]
struct Absent {
    parent: u64,
    /// Empty: none.
    name: Vec<u8>,
}

impl Recent {
    /// Nothing yet.
    pub fn new() -> Recent {
        Recent {
            seen: Mutex::new([const { None }; COUNT]),
            absent: Mutex::default(),
        }
    }

    /// Remembers an object.
    pub fn note(&self, stat: &BaseStat, bare: bool) {
        let seen = Seen {
            stat: stat.clone(),
            bare,
        };
        self.seen.lock()[slot(stat.ino)] = Some(seen);
    }

    /// The object, if it is one of the last few.
    pub fn get(&self, ino: u64) -> Option<Seen> {
        let seen = self.seen.lock();
        seen[slot(ino)]
            .as_ref()
            .filter(|s| s.stat.ino == ino)
            .cloned()
    }

    /// Remembers that `parent` has no such entry.
    pub fn note_absent(&self, parent: u64, name: &[u8]) {
        let mut absent = self.absent.lock();
        absent.parent = parent;
        absent.name.clear();
        absent.name.extend_from_slice(name);
    }

    /// Whether that was the last that was remembered; it is so once.
    pub fn take_absent(&self, parent: u64, name: &[u8]) -> bool {
        let mut absent = self.absent.lock();
        let same = absent.parent == parent && absent.name == name && !name.is_empty();
        if same {
            absent.name.clear();
        }
        same
    }

    /// Forgets everything.
    pub fn clear(&self) {
        *self.seen.lock() = [const { None }; COUNT];
        *self.absent.lock() = Absent::default();
    }
}

fn slot(ino: u64) -> usize {
    hash(ino) as usize % COUNT
}
