//! Whether anything that a user could see has changed since a snapshot.

use llctl::config::is_automatic;
use xxhash_rust::xxh3::Xxh3;

use super::Engine;
use crate::tree::diff::key;
use crate::tree::{Ino, Root, State, StateId};

/// The snapshot that holds what the head holds: the one that the head came from, or the newest. At the cost of what differs
/// until the first difference.
pub(super) fn since(state: &State) -> Option<StateId> {
    let newest = state.snapshots.keys().next_back().copied();
    [Some(state.line.from), newest]
        .into_iter()
        .flatten()
        .find(|id| {
            let snapshot = state.snapshots.get(id);
            snapshot.is_some_and(|snapshot| same(&snapshot.root, &state.head))
        })
}

/// Files without a name are passed over: they go when the last program closes them, and nobody sees a change.
fn same(old: &Root, new: &Root) -> bool {
    let nameless = |root: &Root, ino: Ino| root.orphans.contains(&ino) || root.inode(ino).is_none();
    let hidden = |ino: Ino| nameless(old, ino) && nameless(new, ino);
    old.dentries.diff(&new.dentries).next().is_none()
        && old.inodes.diff(&new.inodes).all(|item| hidden(*key(&item)))
        && old
            .extents
            .diff(&new.extents)
            .all(|item| hidden(key(&item).ino()))
}

impl Engine {
    /// A number for what an apply would write, and for the snapshots that somebody asked for and that it gives up: another one if
    /// these are others. Files without a name are passed over. At the cost of all that differs from the base.
    pub(super) fn fingerprint(&self) -> u64 {
        let state = self.state.read().clone();
        let (mut sum, mut bytes) = (Xxh3::new(), Vec::new());
        let head = &state.head;
        let named = |ino: Ino| !head.orphans.contains(&ino);
        for (slot, entry) in &head.dentries {
            add(&mut sum, &mut bytes, &(slot, entry.get()));
        }
        for (ino, inode) in head.inodes.iter().filter(|(ino, _)| named(**ino)) {
            add(&mut sum, &mut bytes, &(ino, &**inode));
        }
        for (at, extent) in head.extents.iter().filter(|(at, _)| named(at.ino())) {
            add(&mut sum, &mut bytes, &(at.ino(), at.block(), extent));
        }
        for (id, _) in (state.snapshots.iter()).filter(|(_, s)| !is_automatic(&s.meta)) {
            add(&mut sum, &mut bytes, id);
        }
        sum.digest()
    }
}

fn add(sum: &mut Xxh3, bytes: &mut Vec<u8>, part: &impl serde::Serialize) {
    bytes.clear();
    // Memory takes all of it.
    rmp_serde::encode::write(bytes, part).unwrap_or_default();
    sum.update(bytes);
}
