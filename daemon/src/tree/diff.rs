//! What differs between two roots, at the cost of what differs.

use std::collections::{BTreeMap, BTreeSet};

use imbl::ordmap::DiffItem;

use super::{Ino, Root, Slot};

/// Inodes and names that two roots don't agree on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Inodes whose attributes differ, or that only one of the two has.
    pub inodes: BTreeSet<Ino>,
    /// Files whose data differ.
    pub data: BTreeSet<Ino>,
    /// Names that differ, by directory.
    pub names: BTreeMap<Ino, Vec<Slot>>,
}

impl Changes {
    /// What differs between `old` and `new`.
    pub fn between(old: &Root, new: &Root) -> Changes {
        let mut c = Changes::default();
        for item in old.inodes.diff(&new.inodes) {
            c.inodes.insert(*key(&item));
        }
        for item in old.extents.diff(&new.extents) {
            c.data.insert(key(&item).ino());
        }
        for item in old.dentries.diff(&new.dentries) {
            let slot = key(&item).clone();
            c.names.entry(slot.parent).or_default().push(slot);
        }
        c
    }

    /// Nothing differs.
    pub fn is_empty(&self) -> bool {
        self.inodes.is_empty() && self.data.is_empty() && self.names.is_empty()
    }
}

/// The key that a difference is about.
pub fn key<'a, K, V>(item: &DiffItem<'a, 'a, K, V>) -> &'a K {
    match item {
        DiffItem::Add(k, _) | DiffItem::Remove(k, _) => k,
        DiffItem::Update { new: (k, _), .. } => k,
    }
}
