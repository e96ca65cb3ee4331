//! Whether anything that a user could see has changed since a snapshot.

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
