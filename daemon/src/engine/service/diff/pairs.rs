//! From lost and gained names to removals, additions, renames and paths to compare.

use std::collections::{BTreeMap, BTreeSet};

use super::moves::Moves;
use super::names::Names;
use crate::engine::Answer;
use crate::tree::diff::Changes;
use crate::tree::{Dentry, Ino, Root, Slot};

/// One path that may differ.
#[derive(Debug)]
pub(in crate::engine::service) struct Item {
    /// In the newer state; in the older one if it was removed.
    pub path: Vec<u8>,
    /// In the older state, if it was renamed.
    pub from: Option<Vec<u8>>,
    /// What it means in the older state; `None`: nothing.
    pub old: Option<Ino>,
    /// What it means in the newer state; `None`: nothing.
    pub new: Option<Ino>,
}

/// A name that one state has and the other has not, or not for the same inode.
struct Loose {
    path: Vec<u8>,
    slot: Slot,
    ino: Ino,
}

/// Pairs them: the same inode under another path is renamed; else the same name, or the same path, is to be compared.
pub(super) fn pair(old: &Names<'_>, new: &Names<'_>, mut moves: Moves) -> Vec<Item> {
    let mut items = Vec::new();
    let (mut lost, mut gained) = (Vec::new(), Vec::new());
    // Names that a rename took, whatever had them before is overwritten.
    let mut taken = BTreeSet::new();
    let inos: BTreeSet<Ino> = moves
        .lost
        .keys()
        .chain(moves.gained.keys())
        .copied()
        .collect();
    for ino in inos {
        let mut from = loose(old, ino, moves.lost.remove(&ino));
        let mut to = loose(new, ino, moves.gained.remove(&ino));
        for (was, is) in cancel(&mut from, &mut to) {
            let went_along = carried(old, new, &was.slot).is_none_or(|path| path == is.path);
            items.push(Item {
                path: is.path,
                // Its directory went elsewhere without it.
                from: (!went_along).then_some(was.path),
                old: Some(ino),
                new: Some(ino),
            });
        }
        while let (false, false) = (from.is_empty(), to.is_empty()) {
            let (f, t) = (from.remove(0), to.remove(0));
            taken.insert(t.slot);
            taken.insert(Slot::new(0, &t.path));
            items.push(Item {
                path: t.path,
                from: Some(f.path),
                old: Some(ino),
                new: Some(ino),
            });
        }
        lost.extend(from);
        gained.extend(to);
    }
    // If its directory went elsewhere, what has its path now did not take its place.
    let stayed = |l: &Loose| carried(old, new, &l.slot).is_none_or(|path| path == l.path);
    let by_slot = |l: &Loose| l.slot.clone();
    replaced(&mut lost, &mut gained, &mut items, by_slot, |_| true);
    // Inode number 0 is nobody's: such slots stand for whole paths.
    let by_path = |l: &Loose| Slot::new(0, &l.path);
    replaced(&mut lost, &mut gained, &mut items, by_path, stayed);
    lost.retain(|l| {
        let overwritten = taken.contains(&by_path(l)) && stayed(l);
        !taken.contains(&l.slot) && !overwritten
    });
    items.extend(lost.into_iter().map(|l| Item {
        path: l.path,
        from: None,
        old: Some(l.ino),
        new: None,
    }));
    items.extend(gained.into_iter().map(|g| Item {
        path: g.path,
        from: None,
        old: None,
        new: Some(g.ino),
    }));
    items
}

/// The names with their paths, in order of these; names in directories that are not there are left out.
fn loose(names: &Names<'_>, ino: Ino, slots: Option<BTreeSet<Slot>>) -> Vec<Loose> {
    let slots = slots.unwrap_or_default().into_iter();
    let mut all: Vec<Loose> = slots
        .filter_map(|slot| {
            let path = names.path(&slot)?;
            Some(Loose { path, slot, ino })
        })
        .collect();
    all.sort_by(|a, b| a.path.cmp(&b.path));
    all
}

/// Takes out, and gives back, those that have a path in both.
fn cancel(from: &mut Vec<Loose>, to: &mut Vec<Loose>) -> Vec<(Loose, Loose)> {
    let mut before: BTreeMap<Vec<u8>, Loose> = std::mem::take(from)
        .into_iter()
        .map(|l| (l.path.clone(), l))
        .collect();
    let mut same = Vec::new();
    for l in std::mem::take(to) {
        match before.remove(&l.path) {
            Some(was) => same.push((was, l)),
            None => to.push(l),
        }
    }
    from.extend(before.into_values());
    same
}

/// Where a name of the older state would be in the newer one, had it gone with its directory: with the nearest that is still there.
fn carried(old: &Names<'_>, new: &Names<'_>, slot: &Slot) -> Option<Vec<u8>> {
    let (mut dir, mut rest) = (slot.parent, slot.name.as_bytes().to_vec());
    while !new.has_dir(dir) {
        let above = old.dir_slot(dir)?;
        rest = [above.name.as_bytes(), b"/", &rest].concat();
        dir = above.parent;
    }
    new.path(&Slot::new(dir, &rest))
}

/// Moves those that have the same key on both sides, and of which the lost one may be `replaceable`, to `items`, to be compared.
fn replaced(
    lost: &mut Vec<Loose>,
    gained: &mut Vec<Loose>,
    items: &mut Vec<Item>,
    key: impl Fn(&Loose) -> Slot,
    replaceable: impl Fn(&Loose) -> bool,
) {
    let mut by_key: BTreeMap<Slot, Loose> = std::mem::take(lost)
        .into_iter()
        .map(|l| (key(&l), l))
        .collect();
    gained.retain(|g| {
        let key = key(g);
        if !by_key.get(&key).is_some_and(&replaceable) {
            return true;
        }
        items.extend(by_key.remove(&key).map(|l| Item {
            path: g.path.clone(),
            from: None,
            old: Some(l.ino),
            new: Some(g.ino),
        }));
        false
    });
    lost.extend(by_key.into_values());
}

/// The inodes that differ, each with all the names that it may have in one of the states.
pub(in crate::engine::service) fn slots_of_changed(
    old: &Names<'_>,
    new: &Names<'_>,
    changes: &Changes,
) -> Answer<BTreeMap<Ino, BTreeSet<Slot>>> {
    let inos: BTreeSet<Ino> = changes.inodes.union(&changes.data).copied().collect();
    let scattered: BTreeSet<Ino> = inos
        .iter()
        .copied()
        .filter(|ino| old.is_scattered(*ino) || new.is_scattered(*ino))
        .collect();
    let mut others = links(&old.view.root, &scattered);
    for (ino, slots) in links(&new.view.root, &scattered) {
        others.entry(ino).or_default().extend(slots);
    }
    for (ino, slots) in old.peeks.links_of_base(&scattered)? {
        others.entry(ino).or_default().extend(slots);
    }
    let slots = |ino: Ino| {
        let mut slots: BTreeSet<Slot> = others.remove(&ino).unwrap_or_default();
        slots.extend(old.likely(ino).chain(new.likely(ino)));
        (ino, slots)
    };
    Ok(inos.into_iter().map(slots).collect())
}

/// The inodes that changed without losing this name: each under all its names that both states have.
pub(super) fn in_place(old: &Names<'_>, new: &Names<'_>, changes: &Changes) -> Answer<Vec<Item>> {
    let mut items = Vec::new();
    for (ino, slots) in slots_of_changed(old, new, changes)? {
        if ino == crate::tree::ROOT {
            items.push(Item {
                path: Vec::new(),
                from: None,
                old: Some(ino),
                new: Some(ino),
            });
            continue;
        }
        for slot in slots {
            if !old.means(&slot, ino)? || !new.means(&slot, ino)? {
                continue;
            }
            if let (Some(_), Some(path)) = (old.path(&slot), new.path(&slot)) {
                items.push(Item {
                    path,
                    from: None,
                    old: Some(ino),
                    new: Some(ino),
                });
            }
        }
    }
    Ok(items)
}

/// The names that the overlay has for some inodes, at the cost of all its names.
pub(in crate::engine::service) fn links(
    root: &Root,
    inos: &BTreeSet<Ino>,
) -> BTreeMap<Ino, BTreeSet<Slot>> {
    let mut found: BTreeMap<Ino, BTreeSet<Slot>> = BTreeMap::new();
    if inos.is_empty() {
        return found;
    }
    for (slot, dentry) in &root.dentries {
        if let Dentry::Here(ino, _) = dentry.get()
            && inos.contains(&ino)
        {
            found.entry(ino).or_default().insert(slot.clone());
        }
    }
    found
}
