//! A chosen part of directories that are gone: it comes back with the directories above it as they were, and without what else was in
//! them.

use std::collections::{BTreeMap, BTreeSet};

use llctl::globs::Globs;

use super::super::diff::Names;
use super::groups::{Group, alive, meaning};
use super::inode_in;
use crate::engine::Answer;
use crate::tree::{Dentry, FIRST_INO, Ino, Inode, Kind, Slot, Time};

/// Levels of directories that come back in part; where there are more, all of it does or nothing.
const DEPTH_MAX: usize = 2000;

/// What comes back.
#[derive(Debug, Default)]
pub(super) struct Back {
    /// Names as they were, what was hidden in the directories included.
    pub slots: BTreeSet<Slot>,
    /// Inodes as they were, but for those of `set`.
    pub inodes: BTreeSet<Ino>,
    /// What the base has in the directories and is not to be seen.
    pub hidden: BTreeSet<Slot>,
    /// Inodes that come back with less than they had: in a directory, or of names.
    pub set: BTreeMap<Ino, Inode>,
    /// The directories that are there, in which something comes back, and how many directories do.
    pub into: BTreeMap<Ino, i32>,
}

struct Walk<'a> {
    before: &'a Names<'a>,
    now: &'a Names<'a>,
    globs: &'a Globs,
    at: Time,
    back: Back,
    /// Names by file.
    named: BTreeMap<Ino, Vec<Slot>>,
    /// Something of it is somewhere else now, or too deep.
    elsewhere: bool,
}

/// What of a group comes back, if it was all removed, nothing is at its place, and that is the path that it had: `None` otherwise.
pub(super) fn find(
    (before, now): (&Names<'_>, &Names<'_>),
    group: &Group,
    globs: &Globs,
    at: Time,
) -> Answer<Option<Back>> {
    for slot in &group.slots {
        if meaning(now, slot)?.is_some() {
            return Ok(None);
        }
    }
    for ino in &group.inodes {
        if alive(now, *ino)? {
            return Ok(None);
        }
    }
    let mut walk = Walk {
        before,
        now,
        globs,
        at,
        back: Back::default(),
        named: BTreeMap::new(),
        elsewhere: false,
    };
    for slot in group.slots.iter().filter(|slot| now.has_dir(slot.parent)) {
        let Some((ino, kind)) = meaning(before, slot)? else {
            continue;
        };
        // In a directory that has moved it would come back at a path that nobody chose.
        if before.path(slot) != now.path(slot) {
            return Ok(None);
        }
        if walk.visit(slot, ino, kind, 0)? {
            let dirs = walk.back.into.entry(slot.parent).or_default();
            *dirs += i32::from(kind == Kind::Dir);
        }
    }
    walk.count_names()?;
    Ok((!walk.elsewhere && !walk.back.slots.is_empty()).then_some(walk.back))
}

impl Walk<'_> {
    /// Takes what is chosen of an object and of all that is below it. Whether anything is.
    fn visit(&mut self, slot: &Slot, ino: Ino, kind: Kind, depth: usize) -> Answer<bool> {
        let path = self.before.path(slot);
        let chosen = path.is_some_and(|path| self.globs.matches(&path));
        if kind != Kind::Dir {
            if chosen {
                self.elsewhere |= alive(self.now, ino)?;
                self.take(slot, ino);
                self.named.entry(ino).or_default().push(slot.clone());
            }
            return Ok(chosen);
        }
        if depth == DEPTH_MAX {
            self.elsewhere = true;
            return Ok(false);
        }
        let mut any = chosen;
        let mut left_out = Vec::new();
        for (child, ino, kind) in self.before.children(ino)? {
            match self.visit(&child, ino, kind, depth + 1)? {
                true => any = true,
                false => left_out.push((child, kind)),
            }
        }
        if !any {
            return Ok(false);
        }
        self.elsewhere |= alive(self.now, ino)?;
        self.take(slot, ino);
        let entries = self.before.view.root.entries(ino);
        let hidden = entries.filter(|(_, dentry)| matches!(dentry, Dentry::Whiteout));
        self.back.slots.extend(hidden.map(|(slot, _)| slot.clone()));
        if !left_out.is_empty() {
            self.leave_out(ino, &left_out)?;
        }
        Ok(true)
    }

    fn take(&mut self, slot: &Slot, ino: Ino) {
        self.back.slots.insert(slot.clone());
        self.back.inodes.insert(ino);
    }

    /// A directory comes back without these.
    fn leave_out(&mut self, dir: Ino, children: &[(Slot, Kind)]) -> Answer<()> {
        for (child, _) in children {
            let peeks = self.before.peeks;
            if dir < FIRST_INO && peeks.lookup(dir, child.name.as_bytes())?.is_some() {
                self.back.hidden.insert(child.clone());
            }
        }
        let Some(mut inode) = inode_in(self.before, dir)? else {
            return Ok(());
        };
        // Some file systems count no subdirectories.
        if inode.nlink >= 2 {
            let dirs = children.iter().filter(|(_, kind)| *kind == Kind::Dir);
            let dirs = u32::try_from(dirs.count()).unwrap_or(u32::MAX);
            inode.nlink = inode.nlink.saturating_sub(dirs).max(2);
        }
        (inode.mtime, inode.ctime) = (self.at, self.at);
        self.back.set.insert(dir, inode);
        Ok(())
    }

    /// A file has as many links as names came back.
    fn count_names(&mut self) -> Answer<()> {
        for (ino, slots) in &self.named {
            let Some(mut inode) = inode_in(self.before, *ino)? else {
                continue;
            };
            let names = u32::try_from(slots.len()).unwrap_or(u32::MAX);
            if inode.nlink == names {
                continue;
            }
            inode.nlink = names;
            if inode.home.as_ref().is_none_or(|home| !slots.contains(home)) {
                inode.home = slots.first().cloned();
            }
            self.back.set.insert(*ino, inode);
        }
        Ok(())
    }
}
