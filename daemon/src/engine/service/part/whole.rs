//! Whether what would be left is a tree.
//!
//! What a snapshot did can be taken back although later ones, which stay, have moved things onto it, out of it and around it. Each
//! group is looked at by itself; what all of them come to together is looked at here, before anything is done: a directory has one name,
//! nothing is lost that nobody wanted back as missing, and a file has as many names as it says.

use std::collections::{BTreeMap, BTreeSet};

use super::super::diff::{Names, Peeks};
use super::super::states::{View, Which};
use super::groups::{alive, meaning};
use super::merge::Merge;
use super::{Step, conflict, inode_in};
use crate::engine::Answer;
use crate::tree::diff::Changes;
use crate::tree::{Dentry, FIRST_INO, Ino, Inode, Kind, ROOT, Slot};

impl Merge<'_> {
    /// Notes what would be lost or found twice, and counts the names of files anew. At the cost of all names of the overlay.
    pub fn check_whole(&mut self, peeks: &Peeks<'_>, steps: &[Step], old: &View) -> Answer<()> {
        let view = View {
            which: Which::Live,
            root: self.root.clone(),
            name: String::new(),
        };
        let (before, names) = (Names::new(peeks, old), Names::new(peeks, &view));
        let touched = self.touched(peeks, (&before, &names))?;
        let named = self.named(peeks, &names, &touched)?;
        for (ino, slots) in named {
            let Some(inode) = inode_in_either(ino, &names, &before)? else {
                continue;
            };
            let is_dir = inode.kind == Kind::Dir;
            // A name may mean what is gone: a directory that was made, moved, and is taken back.
            let exists = (self.root.inode(ino)).map_or(ino < FIRST_INO, |inode| inode.nlink > 0);
            let found = match is_dir {
                true => slots.len() == 1 && names.has_dir(ino),
                false => !slots.is_empty(),
            };
            let found = found && exists;
            if !found && (!slots.is_empty() || self.is_wanted(peeks, steps, ino, &before)?) {
                let was = before.bound(ino)?;
                let path = was.first().and_then(|slot| before.path(slot));
                let path = path.or_else(|| slots.first().and_then(|slot| names.path(slot)));
                let why = match slots.len() {
                    0 | 1 => "would be lost",
                    _ => "would be in two places",
                };
                self.conflicts
                    .insert(conflict(path.unwrap_or_default(), why));
            }
            // A file of the base may have names outside of it, which nobody sees.
            let counts = !is_dir && (ino >= FIRST_INO || touched.contains(&ino));
            let nlink = u32::try_from(slots.len()).unwrap_or(u32::MAX);
            if counts && nlink > 0 && nlink != inode.nlink {
                self.set(ino, Inode { nlink, ..inode })?;
            }
        }
        Ok(())
    }

    /// Inodes that were taken or set, those that a changed name meant or means, and files that come or go with a directory of the base of
    /// those while they have names elsewhere.
    fn touched(
        &self,
        peeks: &Peeks<'_>,
        (before, names): (&Names<'_>, &Names<'_>),
    ) -> Answer<BTreeSet<Ino>> {
        let mut touched: BTreeSet<Ino> =
            self.inodes.keys().chain(self.set.keys()).copied().collect();
        let changes = Changes::between(&before.view.root, &self.root);
        for slot in changes.names.values().flatten() {
            for names in [before, names] {
                touched.extend(meaning(names, slot)?.map(|(ino, _)| ino));
            }
        }
        let mut dirs: Vec<Ino> = Vec::new();
        for ino in touched.range(..FIRST_INO) {
            let inode = inode_in_either(*ino, names, before)?;
            dirs.extend(inode.filter(|inode| inode.kind == Kind::Dir).map(|_| *ino));
        }
        if !dirs.is_empty() {
            let linked = peeks.linked()?.keys().copied().collect();
            for (ino, slots) in peeks.links_of_base(&linked)? {
                for slot in slots {
                    if before.means(&slot, ino)? != names.means(&slot, ino)?
                        || before.has_dir(slot.parent) != names.has_dir(slot.parent)
                    {
                        touched.insert(ino);
                    }
                }
            }
        }
        // What only the base says of what is in a directory is seen again with it, though it may be gone since.
        while let Some(dir) = dirs.pop() {
            if before.has_dir(dir) || !names.has_dir(dir) {
                continue;
            }
            for (_, ino, kind) in names.children(dir)? {
                touched.insert(ino);
                dirs.extend((kind == Kind::Dir && ino < FIRST_INO).then_some(ino));
            }
        }
        Ok(touched)
    }

    /// The names of all that the overlay has, and of what is touched.
    fn named(
        &self,
        peeks: &Peeks<'_>,
        names: &Names<'_>,
        touched: &BTreeSet<Ino>,
    ) -> Answer<BTreeMap<Ino, BTreeSet<Slot>>> {
        let inodes = self.root.inodes.iter().filter(|(_, inode)| inode.nlink > 0);
        let inos = inodes.map(|(ino, _)| ino).chain(touched);
        let mut named: BTreeMap<Ino, BTreeSet<Slot>> =
            inos.map(|ino| (*ino, BTreeSet::new())).collect();
        for (slot, dentry) in &self.root.dentries {
            if let Dentry::Here(ino, _) = dentry.get()
                && names.has_dir(slot.parent)
            {
                named.entry(ino).or_default().insert(slot.clone());
            }
        }
        named.remove(&ROOT);
        let of_base: BTreeSet<Ino> = named.range(..FIRST_INO).map(|(ino, _)| *ino).collect();
        let mut links = peeks.links_of_base(&of_base)?;
        for ino in of_base {
            let places = links.remove(&ino).into_iter().flatten();
            for slot in places.chain(names.place(ino)) {
                if names.has_dir(slot.parent) && names.means(&slot, ino)? {
                    named.entry(ino).or_default().insert(slot);
                }
            }
        }
        Ok(named)
    }

    /// Whether an inode is to be there: in the state that it was taken from, or else until now.
    fn is_wanted(
        &self,
        peeks: &Peeks<'_>,
        steps: &[Step],
        ino: Ino,
        before: &Names<'_>,
    ) -> Answer<bool> {
        let from = self.inodes.get(&ino);
        match steps.iter().find(|step| Some(&step.from) == from) {
            Some(step) => alive(&Names::new(peeks, &step.before), ino),
            None => Ok(!before.bound(ino)?.is_empty()),
        }
    }
}

/// The inode as it would be, or as it was if it would not be there.
fn inode_in_either(ino: Ino, names: &Names<'_>, before: &Names<'_>) -> Answer<Option<Inode>> {
    if let Some(inode) = names.view.root.inode(ino) {
        return Ok(Some((**inode).clone()));
    }
    match inode_in(names, ino)? {
        Some(inode) => Ok(Some(inode)),
        None => inode_in(before, ino),
    }
}
