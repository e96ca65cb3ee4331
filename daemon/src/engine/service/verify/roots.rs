//! Whether each state is consistent in itself: names mean inodes that are there, link counts are those of the
//! names, blocks belong to files.

use std::collections::{BTreeSet, HashMap, HashSet};

use imbl::ordmap::DiffItem;
use llctl::protocol::FindingKind;

use super::{Affected, Scrub, Step, path_in};
use crate::engine::Engine;
use crate::engine::circle::Circle;
use crate::engine::service::diff::{Names, Peeks};
use crate::engine::service::states::View;
use crate::tree::diff::key;
use crate::tree::{Dentry, FIRST_INO, FileBlock, Ino, Kind, Places, ROOT, Root, Slot};

/// Names by which the overlay of one state knows each inode; kept from state to state by what differs.
#[derive(Default)]
struct Counts(HashMap<Ino, u32>);

impl Counts {
    fn change(&mut self, dentry: Dentry, by: i32) -> Option<Ino> {
        let Dentry::Here(ino, _) = dentry else {
            return None;
        };
        let count = self.0.entry(ino).or_default();
        *count = count.saturating_add_signed(by);
        if *count == 0 {
            self.0.remove(&ino);
        }
        Some(ino)
    }

    fn of(&self, ino: Ino) -> u32 {
        self.0.get(&ino).copied().unwrap_or(0)
    }
}

/// What is wrong with an inode or a name.
type Wrong = (Ino, String);

/// Checks all states. A state's faults are told once, with all states that share them.
pub(super) fn check(engine: &Engine, scrub: &mut Scrub<'_>) -> Step {
    let views = View::all(engine);
    let of_base = engine.state.read().places.clone();
    let places: HashSet<Ino> = of_base.keys().copied().collect();
    let mut files = HashSet::new();
    let mut counts = Counts::default();
    let mut wrong: HashMap<Wrong, Affected> = HashMap::new();
    let mut faults: BTreeSet<Wrong> = BTreeSet::new();
    let mut misplaced: BTreeSet<Wrong> = BTreeSet::new();
    let mut before = Root::default();
    for view in &views {
        let root = &view.root;
        let touched = differences(&before, root, &mut counts);
        for ino in &touched.inos {
            if root.inode(*ino).is_some_and(|i| i.kind == Kind::File) {
                files.insert(*ino);
            }
        }
        // What was wrong before and was not touched is wrong still.
        faults.retain(|(ino, _)| !touched.inos.contains(ino) && !touched.parents.contains(ino));
        for ino in &touched.inos {
            faults.extend(inode_faults(root, *ino, counts.of(*ino), &places));
        }
        for slot in &touched.slots {
            faults.extend(name_faults(root, slot, &places));
        }
        // Whether one is below itself is a matter of all that are above it.
        let moved = touched.slots.iter().filter_map(|slot| {
            let Dentry::Here(ino, Kind::Dir) = root.dentry(slot.at())? else {
                return None;
            };
            Some(ino)
        });
        let dirs: BTreeSet<Ino> = moved.chain(misplaced.iter().map(|(ino, _)| *ino)).collect();
        let peeks = Peeks::new(engine);
        let names = Names::new(&peeks, view);
        let each = dirs.into_iter();
        misplaced = each
            .flat_map(|dir| place_faults(&names, dir, &of_base))
            .collect();
        for fault in faults.iter().chain(&misplaced) {
            let path = path_in(engine, view, fault.0);
            wrong
                .entry(fault.clone())
                .or_default()
                .add(path, &view.name);
        }
        before = root.clone();
    }
    scrub.summary.files = files.len() as u64;
    let mut wrong: Vec<(Wrong, Affected)> = wrong.into_iter().collect();
    wrong.sort_by(|a, b| a.0.cmp(&b.0));
    for ((_, what), affected) in wrong {
        for finding in affected.findings(FindingKind::Inconsistent, &what) {
            scrub.found(finding)?;
        }
    }
    Ok(())
}

/// Inodes and names that two neighbouring states don't agree on.
struct Touched {
    inos: BTreeSet<Ino>,
    slots: Vec<Slot>,
    parents: BTreeSet<Ino>,
}

fn differences(old: &Root, new: &Root, counts: &mut Counts) -> Touched {
    let mut inos: BTreeSet<Ino> = old
        .inodes
        .diff(&new.inodes)
        .map(|item| *key(&item))
        .collect();
    inos.extend(old.extents.diff(&new.extents).map(|item| key(&item).ino()));
    for (some, others) in [(old, new), (new, old)] {
        inos.extend(
            some.orphans
                .iter()
                .filter(|ino| !others.orphans.contains(*ino)),
        );
    }
    let (mut slots, mut parents) = (Vec::new(), BTreeSet::new());
    for item in old.dentries.diff(&new.dentries) {
        let slot = key(&item).clone();
        parents.insert(slot.parent);
        slots.push(slot);
        let (gone, came) = match item {
            DiffItem::Add(_, new) => (None, Some(new.get())),
            DiffItem::Remove(_, old) => (Some(old.get()), None),
            DiffItem::Update { old, new } => (Some(old.1.get()), Some(new.1.get())),
        };
        inos.extend(gone.and_then(|d| counts.change(d, -1)));
        inos.extend(came.and_then(|d| counts.change(d, 1)));
    }
    Touched {
        inos,
        slots,
        parents,
    }
}

/// What is wrong with an inode that has so many names in the overlay.
fn inode_faults(root: &Root, ino: Ino, names: u32, places: &HashSet<Ino>) -> Vec<Wrong> {
    let mut faults = Vec::new();
    let mut fault = |what: String| faults.push((ino, what));
    let has_blocks =
        (root.extents.get_next(&FileBlock::new(ino, 0))).is_some_and(|(at, _)| at.ino() == ino);
    let orphan = root.orphans.contains(&ino);
    let Some(inode) = root.inode(ino) else {
        if has_blocks {
            fault(format!("inode {ino} has blocks but does not exist"));
        }
        if orphan {
            fault(format!("inode {ino} has no name and does not exist"));
        }
        return faults;
    };
    if has_blocks && inode.kind != Kind::File {
        fault(format!("inode {ino} has blocks but is no file"));
    }
    if orphan != (inode.nlink == 0) {
        fault(format!(
            "inode {ino} is listed without a name, or not, contrary to its {} links",
            inode.nlink
        ));
    }
    if ino < FIRST_INO && ino != ROOT && !places.contains(&ino) {
        fault(format!(
            "inode {ino} is the base's, but nothing says where it is there"
        ));
    }
    let wanted = match inode.kind {
        Kind::Dir => u32::from(inode.nlink > 0),
        _ => inode.nlink,
    };
    // An object of the base has names there, too.
    let right = match ino {
        FIRST_INO.. => names == wanted,
        _ => names <= wanted,
    };
    if !right {
        fault(format!(
            "inode {ino} has {names} names, and should have {wanted}"
        ));
    }
    faults
}

/// What is wrong with where a directory is.
fn place_faults(names: &Names<'_>, dir: Ino, of_base: &Places) -> Vec<Wrong> {
    let mut faults = Vec::new();
    let root = &names.view.root;
    if let Some(place) = of_base.get(&dir)
        && root.dentry(place.at()).is_none()
        && names.has_dir(place.parent)
        && root.inode(dir).is_none_or(|inode| inode.nlink > 0)
    {
        faults.push((dir, format!("the directory {dir} is in two places")));
    }
    // A path that leads to the top leads nowhere twice.
    if names.has_dir(dir) {
        return faults;
    }
    let mut circle = Circle::default();
    let mut at = dir;
    while let Some(slot) = names.dir_slot(at) {
        if circle.closes(at) {
            faults.push((dir, format!("the directory {dir} is below itself")));
            break;
        }
        at = slot.parent;
    }
    faults
}

/// What is wrong with a name; told of its directory.
fn name_faults(root: &Root, slot: &Slot, places: &HashSet<Ino>) -> Option<Wrong> {
    let Dentry::Here(ino, kind) = root.dentry(slot.at())? else {
        return None;
    };
    let name = llctl::escape::escaped(slot.name.as_bytes());
    let wrong = |what: String| Some((slot.parent, what));
    match root.inode(slot.parent) {
        Some(dir) if dir.kind != Kind::Dir => {
            return wrong(format!(
                "the name {name} is in inode {}, which is no directory",
                slot.parent
            ));
        }
        Some(dir) if dir.nlink == 0 => {
            return wrong(format!(
                "the name {name} is in a directory that was removed"
            ));
        }
        None if slot.parent >= FIRST_INO => {
            return wrong(format!(
                "the name {name} is in a directory that does not exist"
            ));
        }
        _ => {}
    }
    match root.inode(ino) {
        Some(inode) if inode.kind != kind => wrong(format!(
            "the name {name} says {kind:?}, but inode {ino} is {:?}",
            inode.kind
        )),
        None if ino >= FIRST_INO || !places.contains(&ino) => wrong(format!(
            "the name {name} means inode {ino}, which does not exist"
        )),
        _ => None,
    }
}
