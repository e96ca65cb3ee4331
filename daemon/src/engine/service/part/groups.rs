//! What two states differ in, in groups that can only be reverted together.
//!
//! A name goes with the inodes that it means in either state, an inode with all its names that changed, and what is in a
//! directory that was removed with that directory: a rename is one group with both its names, a directory that was
//! removed one with everything that was in it. What is in a directory that was made goes alone; the directory itself goes only if nothing
//! is left in it (`merge.rs`). What is left are files that changed where they are, each a group of its own. Names of a file that only the base
//! has, and nothing ever changed, are not looked for: the file changes under them as it would if it were written.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use llctl::globs::Globs;

use super::super::diff::{Names, links};
use crate::engine::Answer;
use crate::tree::diff::Changes;
use crate::tree::{FIRST_INO, Ino, Kind, ROOT, Slot};

/// Something that two states have differently.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Node {
    /// An inode: its attributes and its data.
    Ino(Ino),
    /// What a name means.
    Slot(Slot),
}

/// Nodes that go together.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub inodes: BTreeSet<Ino>,
    pub slots: BTreeSet<Slot>,
    /// The paths of all of it in both states.
    pub paths: BTreeSet<Vec<u8>>,
    /// Paths that the patterns choose, below directories that come, go, or move with the group.
    pub below: BTreeSet<Vec<u8>>,
}

impl Group {
    /// A path to tell a user, for what has no better one.
    pub fn path(&self) -> Vec<u8> {
        self.paths.first().cloned().unwrap_or_default()
    }
}

/// What a name means in a state; nothing in a directory that is not there.
pub(super) fn meaning(names: &Names<'_>, slot: &Slot) -> Answer<Option<(Ino, Kind)>> {
    if names.has_dir(slot.parent) {
        names.meaning(slot)
    } else {
        Ok(None)
    }
}

/// Whether a state has the inode, under some name.
pub(super) fn alive(names: &Names<'_>, ino: Ino) -> Answer<bool> {
    Ok(match names.view.root.inode(ino) {
        Some(inode) => inode.nlink > 0,
        None => ino == ROOT || !names.bound(ino)?.is_empty(),
    })
}

/// Sets that are joined.
#[derive(Default)]
struct Sets {
    index: HashMap<Node, usize>,
    nodes: Vec<Node>,
    above: Vec<usize>,
}

impl Sets {
    fn at(&mut self, node: Node) -> usize {
        *self.index.entry(node.clone()).or_insert_with(|| {
            self.nodes.push(node);
            self.above.push(self.above.len());
            self.above.len() - 1
        })
    }

    fn top(&mut self, mut at: usize) -> usize {
        while self.above[at] != at {
            self.above[at] = self.above[self.above[at]];
            at = self.above[at];
        }
        at
    }

    fn join(&mut self, a: Node, b: Node) {
        let (a, b) = (self.at(a), self.at(b));
        let (a, b) = (self.top(a), self.top(b));
        self.above[b] = a;
    }
}

/// The groups in which `after` differs from `before`.
pub(super) fn find(
    after: &Names<'_>,
    before: &Names<'_>,
    changes: &Changes,
    globs: &Globs,
) -> Answer<Vec<Group>> {
    let mut sets = Sets::default();
    for slot in changes.names.values().flatten() {
        let dirs = (after.has_dir(slot.parent), before.has_dir(slot.parent));
        if dirs == (false, false) {
            continue;
        }
        let node = Node::Slot(slot.clone());
        sets.at(node.clone());
        for names in [after, before] {
            if let Some((ino, _)) = meaning(names, slot)? {
                sets.join(node.clone(), Node::Ino(ino));
            }
        }
        // A directory that the overlay made can lose some of its entries and stay.
        if dirs.0 != dirs.1 && !(dirs.0 && slot.parent >= FIRST_INO) {
            sets.join(node, Node::Ino(slot.parent));
        }
    }
    let inodes: BTreeSet<Ino> = changes.inodes.union(&changes.data).copied().collect();
    for ino in inodes {
        if !alive(after, ino)? && !alive(before, ino)? {
            continue;
        }
        sets.at(Node::Ino(ino));
        for (names, others) in [(after, before), (before, after)] {
            for slot in names.bound(ino)? {
                let made = std::ptr::eq(names, after) && slot.parent >= FIRST_INO;
                if !made && !others.has_dir(slot.parent) {
                    sets.join(Node::Ino(ino), Node::Ino(slot.parent));
                }
            }
        }
    }
    let mut groups: BTreeMap<usize, Group> = BTreeMap::new();
    for at in 0..sets.nodes.len() {
        let top = sets.top(at);
        let group = groups.entry(top).or_default();
        match sets.nodes[at].clone() {
            Node::Ino(ino) => group.inodes.insert(ino),
            Node::Slot(slot) => group.slots.insert(slot),
        };
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    name(after, before, &mut groups)?;
    if !globs.is_all() {
        for group in &mut groups {
            look_below(after, group, globs, before)?;
            look_below(before, group, globs, after)?;
        }
    }
    Ok(groups)
}

/// Notes what is chosen below the directories of a group that have their own names in it: what is in them comes, goes and moves
/// with them, and need not differ in itself.
fn look_below(
    names: &Names<'_>,
    group: &mut Group,
    globs: &Globs,
    others: &Names<'_>,
) -> Answer<()> {
    let mut dirs = Vec::new();
    for slot in &group.slots {
        // Of one that the overlay made and the other state lacks, everything in it is known by itself.
        if let Some((ino, Kind::Dir)) = meaning(names, slot)?
            && (ino < FIRST_INO || others.has_dir(ino))
        {
            dirs.push(ino);
        }
    }
    while let Some(dir) = dirs.pop() {
        // If the directory is chosen, so is everything in it, and its own path says so.
        match names.dir_path(dir) {
            Some(path) if !globs.matches(&path) => {}
            _ => continue,
        }
        for (slot, ino, kind) in names.children(dir)? {
            if let Some(path) = names.path(&slot).filter(|path| globs.matches(path)) {
                group.below.insert(path);
            } else if kind == Kind::Dir {
                dirs.push(ino);
            }
        }
    }
    Ok(())
}

/// Finds the paths of groups.
fn name(after: &Names<'_>, before: &Names<'_>, groups: &mut [Group]) -> Answer<()> {
    let linked: BTreeSet<Ino> = (groups.iter().flat_map(|g| &g.inodes).copied())
        .filter(|ino| {
            [after, before].iter().any(|names| {
                let inode = names.view.root.inode(*ino);
                inode.is_some_and(|i| i.kind != Kind::Dir && i.nlink > 1)
            })
        })
        .collect();
    for names in [after, before] {
        let others = links(&names.view.root, &linked);
        for group in groups.iter_mut() {
            // Where the name is in each state, whatever it means there: its directory may have moved.
            group
                .paths
                .extend(group.slots.iter().filter_map(|slot| names.path(slot)));
            for ino in &group.inodes {
                if *ino == ROOT {
                    group.paths.insert(Vec::new());
                    continue;
                }
                let mut slots: BTreeSet<Slot> = names.bound(*ino)?.into_iter().collect();
                slots.extend(others.get(ino).into_iter().flatten().cloned());
                group
                    .paths
                    .extend(slots.iter().filter_map(|s| names.path(s)));
            }
        }
    }
    Ok(())
}
