//! Which names each inode lost and gained between two states.

use std::collections::{BTreeMap, BTreeSet};

use super::names::Names;
use crate::engine::Answer;
use crate::tree::diff::Changes;
use crate::tree::{Ino, Kind, Slot};

/// Names by inode.
pub(super) type ByInode = BTreeMap<Ino, BTreeSet<Slot>>;

/// Names that only the older, and that only the newer state has.
#[derive(Default)]
pub(super) struct Moves {
    pub lost: ByInode,
    pub gained: ByInode,
}

/// Finds them: names that the overlay changed, and all that is below directories that only one of the two has.
pub(super) fn find(old: &Names<'_>, new: &Names<'_>, changes: &Changes) -> Answer<Moves> {
    let mut moves = Moves::default();
    let mut lost_dirs = Vec::new();
    let mut gained_dirs = Vec::new();
    for slot in changes.names.values().flatten() {
        // Of a directory that is not there, the overlay may still have something to say, which means nothing.
        let was = if old.has_dir(slot.parent) {
            old.meaning(slot)?
        } else {
            None
        };
        let is = if new.has_dir(slot.parent) {
            new.meaning(slot)?
        } else {
            None
        };
        if was.map(|w| w.0) == is.map(|i| i.0) {
            continue;
        }
        note(&mut moves.lost, &mut lost_dirs, slot, was);
        note(&mut moves.gained, &mut gained_dirs, slot, is);
    }
    follow(old, new, lost_dirs, &mut moves.lost, &mut moves.gained)?;
    follow(new, old, gained_dirs, &mut moves.gained, &mut moves.lost)?;
    Ok(moves)
}

fn note(names: &mut ByInode, dirs: &mut Vec<Ino>, slot: &Slot, meaning: Option<(Ino, Kind)>) {
    if let Some((ino, kind)) = meaning {
        names.entry(ino).or_default().insert(slot.clone());
        if kind == Kind::Dir {
            dirs.push(ino);
        }
    }
}

/// Notes all that is below those of `dirs` (of `here`) that `there` has not. Of those that it has, their name there.
fn follow(
    here: &Names<'_>,
    there: &Names<'_>,
    mut dirs: Vec<Ino>,
    names: &mut ByInode,
    others: &mut ByInode,
) -> Answer<()> {
    let mut seen = BTreeSet::new();
    while let Some(dir) = dirs.pop() {
        if !seen.insert(dir) {
            continue;
        }
        if there.has_dir(dir) {
            others.entry(dir).or_default().extend(there.dir_slot(dir));
            continue;
        }
        for (slot, ino, kind) in here.children(dir)? {
            note(names, &mut dirs, &slot, Some((ino, kind)));
        }
    }
    Ok(())
}
