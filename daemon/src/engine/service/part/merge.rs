//! The head, step by step with less of what is to be taken back.

use std::collections::{BTreeMap, BTreeSet};

use llctl::globs::Globs;
use llctl::protocol::OnConflict;

use super::super::diff::{Names, Peeks, links};
use super::super::states::{View, Which};
use super::back::{self, Back};
use super::conflicts::{self, Since};
use super::groups::{self, Group, alive, meaning};
use super::{Step, conflict, inode_in};
use crate::engine::snapshot::Conflict;
use crate::engine::{Answer, Engine};
use crate::tree::diff::Changes;
use crate::tree::{Dentry, FIRST_INO, Ino, Inode, Kind, ROOT, Root, Slot, StateId, Time};

/// A head in the making, and where its parts come from.
pub(super) struct Merge<'a> {
    pub root: Root,
    /// Inodes as they are in other states.
    pub inodes: BTreeMap<Ino, StateId>,
    /// Names as other states have them.
    pub slots: BTreeMap<Slot, StateId>,
    /// Inodes as no state has them.
    pub set: BTreeMap<Ino, Inode>,
    /// Names that mean nothing, whatever the base has.
    pub hidden: BTreeSet<Slot>,
    /// What is in the way.
    pub conflicts: BTreeSet<Conflict>,
    globs: &'a Globs,
    on_conflict: OnConflict,
    engine: &'a Engine,
    now: Time,
}

/// What taking groups does to the directories around them.
#[derive(Default)]
struct Dirs {
    /// Entries of it were taken: how many more subdirectories it has.
    touched: BTreeMap<Ino, i32>,
    /// Its own inode was taken.
    taken: BTreeSet<Ino>,
}

impl<'a> Merge<'a> {
    pub fn new(engine: &'a Engine, root: Root, globs: &'a Globs, on_conflict: OnConflict) -> Self {
        Merge {
            root,
            inodes: BTreeMap::new(),
            slots: BTreeMap::new(),
            set: BTreeMap::new(),
            hidden: BTreeSet::new(),
            conflicts: BTreeSet::new(),
            globs,
            on_conflict,
            engine,
            now: Time::now(),
        }
    }

    /// Takes back what a step did, as far as it is selected.
    pub fn undo(&mut self, peeks: &Peeks<'_>, step: &Step) -> Answer<()> {
        let live = View {
            which: Which::Live,
            root: self.root.clone(),
            name: String::new(),
        };
        let (after, before) = (
            Names::new(peeks, &step.after),
            Names::new(peeks, &step.before),
        );
        let now = Names::new(peeks, &live);
        let changes = Changes::between(&step.after.root, &step.before.root);
        let mut dirs = Dirs::default();
        let mut untaken: BTreeSet<Ino> = BTreeSet::new();
        let since = (step.after.which != Which::Live).then_some(Since {
            after: &after,
            before: &before,
            now: &now,
        });
        let groups = groups::find(&after, &before, &changes, self.globs)?;
        let mut wanted = Vec::new();
        let mut returning = Vec::new();
        for group in &groups {
            let back = match &since {
                None if self.is_parted(group) => {
                    back::find((&before, &now), group, self.globs, self.now)?
                }
                _ => None,
            };
            wanted.push(back.is_none() && self.wants(group, since.as_ref())?);
            returning.push(back);
        }
        self.keep_parents(&groups, &mut wanted, (&before, &now))?;
        for ((group, wanted), back) in groups.iter().zip(wanted).zip(returning) {
            if wanted {
                self.take(group, step, (&before, &now), &mut dirs)?;
            } else {
                untaken.extend(group.slots.iter().map(|slot| slot.parent));
            }
            if let Some(back) = back {
                self.bring_back(back, step, &mut dirs)?;
            }
        }
        self.finish_dirs((&before, &now), &dirs, &untaken)
    }

    /// A directory that would go must be empty then: what is in it and is to stay keeps it. That is said first, and then done
    /// whoever wins, since nobody changed the same thing.
    fn keep_parents(
        &mut self,
        groups: &[Group],
        wanted: &mut [bool],
        (before, now): (&Names<'_>, &Names<'_>),
    ) -> Answer<()> {
        loop {
            let taken: BTreeSet<&Slot> = (groups.iter().zip(&*wanted))
                .filter(|(_, wanted)| **wanted)
                .flat_map(|(group, _)| &group.slots)
                .collect();
            let mut keep = Vec::new();
            for (at, group) in groups.iter().enumerate().filter(|(at, _)| wanted[*at]) {
                for slot in &group.slots {
                    let Some((dir, Kind::Dir)) = meaning(now, slot)? else {
                        continue;
                    };
                    if alive(before, dir)? {
                        continue;
                    }
                    // Entries of the base go with it.
                    let mut staying = (now.view.root.entries(dir))
                        .filter(|(child, dentry)| {
                            matches!(dentry, Dentry::Here(..)) && !taken.contains(*child)
                        })
                        .filter_map(|(child, _)| now.path(child));
                    let Some(path) = staying.next() else { continue };
                    if self.on_conflict != OnConflict::Stop {
                        keep.push(at);
                        break;
                    }
                    for path in [path].into_iter().chain(staying) {
                        self.conflicts
                            .insert(conflict(path, "is in a directory that would go"));
                    }
                }
            }
            if keep.is_empty() {
                keep = self.within_themselves(groups, wanted, (before, now))?;
            }
            if keep.is_empty() {
                return Ok(());
            }
            // What stays may keep the directory above in its turn.
            keep.into_iter().for_each(|at| wanted[at] = false);
        }
    }

    /// Groups with directories that would lie within themselves: one goes back into another that stays where it is, below the
    /// first one. They stay as well; where that is a conflict it is noted instead.
    fn within_themselves(
        &mut self,
        groups: &[Group],
        wanted: &[bool],
        (before, now): (&Names<'_>, &Names<'_>),
    ) -> Answer<Vec<usize>> {
        // Where directories go, with their groups.
        let mut going: BTreeMap<Ino, (&Slot, usize)> = BTreeMap::new();
        for (at, group) in groups.iter().enumerate().filter(|(at, _)| wanted[*at]) {
            for slot in &group.slots {
                if let Some((dir, Kind::Dir)) = meaning(before, slot)? {
                    going.insert(dir, (slot, at));
                }
            }
        }
        let above = |dir: Ino| match going.get(&dir) {
            Some((slot, _)) => Some(slot.parent),
            None => (now.dir_slot(dir).or_else(|| before.dir_slot(dir))).map(|slot| slot.parent),
        };
        let mut led: BTreeMap<Ino, Ino> = BTreeMap::new();
        let mut within = BTreeSet::new();
        for &first in going.keys() {
            let mut at = first;
            while at != ROOT {
                match led.insert(at, first) {
                    // Here somebody was before, on this way or on another.
                    Some(who) if who != first => break,
                    Some(_) => {
                        within.insert(at);
                        break;
                    }
                    None => {}
                }
                let Some(next) = above(at) else { break };
                at = next;
            }
        }
        let mut keep = BTreeSet::new();
        for first in within {
            let mut at = first;
            while let Some(next) = above(at) {
                if let Some((slot, group)) = going.get(&at) {
                    if self.on_conflict == OnConflict::Stop {
                        let path = now.dir_path(at).or_else(|| before.path(slot));
                        let path = path.unwrap_or_default();
                        self.conflicts
                            .insert(conflict(path, "would lie within itself"));
                    } else {
                        keep.insert(*group);
                    }
                }
                at = next;
                if at == first {
                    break;
                }
            }
        }
        Ok(keep.into_iter().collect())
    }

    /// Whether the patterns choose some of a group, and not all of it.
    fn is_parted(&self, group: &Group) -> bool {
        let chosen = |path: &Vec<u8>| self.globs.matches(path);
        let any = !group.below.is_empty() || group.paths.iter().any(chosen);
        any && !group.paths.iter().all(chosen)
    }

    /// Makes a part of what is gone what it was.
    fn bring_back(&mut self, back: Back, step: &Step, dirs: &mut Dirs) -> Answer<()> {
        let from = &step.before.root;
        for slot in back.slots {
            if self.root.dentry(slot.at()) != from.dentry(slot.at()) {
                self.root.take_slot(from, &slot);
                self.slots.insert(slot, step.from);
            }
        }
        for ino in back.inodes {
            if self.root.inode(ino) != from.inode(ino) || !self.root.same_data(from, ino) {
                self.take_inode(step, ino);
            }
        }
        for slot in back.hidden {
            self.root.hide(&slot);
            self.hidden.insert(slot);
        }
        for (ino, inode) in back.set {
            self.set(ino, inode)?;
        }
        for (dir, more) in back.into {
            *dirs.touched.entry(dir).or_default() += more;
        }
        Ok(())
    }

    /// Whether a group is to be taken back; where that is in question, notes the conflicts.
    fn wants(&mut self, group: &Group, since: Option<&Since<'_>>) -> Answer<bool> {
        let (mut inside, outside): (Vec<_>, Vec<_>) =
            (group.paths.iter()).partition(|path| self.globs.matches(path));
        inside.extend(&group.below);
        if inside.is_empty() {
            return Ok(false);
        }
        let with = String::from_utf8_lossy(inside[0]).into_owned();
        let mut soft: Vec<Conflict> = (outside.into_iter())
            .map(|path| {
                let why = format!("goes together with {with}, and is not selected");
                conflict(path.clone(), why)
            })
            .collect();
        let mut hard = Vec::new();
        if let Some(since) = since {
            conflicts::find(since, group, &mut soft, &mut hard)?;
        }
        let wants = match self.on_conflict {
            OnConflict::Keep => soft.is_empty() && hard.is_empty(),
            OnConflict::Revert => {
                self.conflicts.extend(hard);
                true
            }
            OnConflict::Stop => {
                self.conflicts.extend(soft.into_iter().chain(hard));
                true
            }
        };
        Ok(wants)
    }

    /// Makes a group what it was before.
    fn take(
        &mut self,
        group: &Group,
        step: &Step,
        (before, now): (&Names<'_>, &Names<'_>),
        dirs: &mut Dirs,
    ) -> Answer<()> {
        let mut inodes = group.inodes.clone();
        // Names that inodes gain and lose.
        let mut links: BTreeMap<Ino, i64> = BTreeMap::new();
        let mut named = BTreeSet::new();
        for slot in &group.slots {
            let (is, was) = (meaning(now, slot)?, meaning(before, slot)?);
            let is_dir = |m: Option<(Ino, Kind)>| i32::from(m.is_some_and(|m| m.1 == Kind::Dir));
            if let Some((ino, _)) = is {
                *links.entry(ino).or_default() -= 1;
                inodes.insert(ino);
            }
            if let Some((ino, _)) = was {
                *links.entry(ino).or_default() += 1;
                named.insert(ino);
                inodes.insert(ino);
            }
            if is.map(|m| m.0) != was.map(|m| m.0) {
                *dirs.touched.entry(slot.parent).or_default() += is_dir(was) - is_dir(is);
            }
            self.root.take_slot(&step.before.root, slot);
            self.slots.insert(slot.clone(), step.from);
        }
        for ino in inodes {
            let is = inode_in(now, ino)?;
            let was = inode_in(before, ino)?;
            let dir = (is.as_ref().or(was.as_ref())).is_some_and(|i| i.kind == Kind::Dir);
            if dir && is.is_some() && was.is_some() && !named.contains(&ino) {
                self.take_dir(step, ino, is.as_ref(), was.as_ref(), dirs);
                continue;
            }
            if is.is_none() && was.is_some() && !named.contains(&ino) {
                // With a directory that comes back, or else under the name that it had.
                let name = before.bound(ino)?.into_iter().next();
                let with_dir = |slot: &Slot| group.inodes.contains(&slot.parent);
                match name {
                    Some(slot) if with_dir(&slot) => {}
                    Some(slot) if !dir && conflicts::is_free(now, &slot)? => {
                        self.root.take_slot(&step.before.root, &slot);
                        dirs.touched.entry(slot.parent).or_default();
                        *links.entry(ino).or_default() += 1;
                        self.slots.insert(slot, step.from);
                        named.insert(ino);
                    }
                    _ => continue,
                }
            }
            self.take_inode(step, ino);
            if dir {
                dirs.taken.insert(ino);
                continue;
            }
            let Some(was) = was else { continue };
            let gained = links.get(&ino).copied().unwrap_or(0);
            let mut inode = was.clone();
            let nlink = is.as_ref().map_or(0, |i| i64::from(i.nlink)) + gained;
            inode.nlink = u32::try_from(nlink.max(1)).unwrap_or(u32::MAX);
            // One that was renamed since keeps the name that it has now.
            if !named.contains(&ino)
                && let Some(is) = &is
            {
                inode.home.clone_from(&is.home);
            }
            if inode != was {
                self.set(ino, inode)?;
            }
        }
        Ok(())
    }

    /// A directory that stays where it is becomes what it was, unless others have changed it since: then only what the step
    /// changed of it.
    fn take_dir(
        &mut self,
        step: &Step,
        ino: Ino,
        is: Option<&Inode>,
        was: Option<&Inode>,
        dirs: &mut Dirs,
    ) {
        let (Some(is), Some(was)) = (is, was) else {
            return;
        };
        let after = step.after.root.inode(ino);
        if self.root.inode(ino) == after {
            self.take_inode(step, ino);
            dirs.taken.insert(ino);
            return;
        }
        let changed =
            after.is_some_and(|after| conflicts::attributes(after) != conflicts::attributes(was));
        if changed {
            let mut inode = is.clone();
            (inode.perm, inode.uid, inode.gid) = (was.perm, was.uid, was.gid);
            inode.xattrs.clone_from(&was.xattrs);
            inode.ctime = self.now;
            // Nothing else can be said of a directory that the overlay has.
            if self.set(ino, inode).is_err() {
                tracing::error!(ino, "a directory's attributes could not be set");
            }
        }
    }

    fn take_inode(&mut self, step: &Step, ino: Ino) {
        self.root.take_inode(&step.before.root, ino);
        self.inodes.insert(ino, step.from);
        self.set.remove(&ino);
    }

    pub fn set(&mut self, ino: Ino, inode: Inode) -> Answer<()> {
        let set = self.root.set(ino, &inode);
        set.map_err(|_| nix::errno::Errno::EIO)?;
        self.set.insert(ino, inode);
        Ok(())
    }

    /// Files gain and lose the names that only the base has with the directories that they are in, which nothing in the overlay says. So
    /// names are counted when all is done: of files that have several in the base, and of those whose one came or went with a directory.
    pub fn count_links(&mut self, peeks: &Peeks<'_>, steps: &[Step], old: &View) -> Answer<()> {
        let mut changed: BTreeSet<Ino> = BTreeSet::new();
        for step in steps {
            let changes = Changes::between(&step.before.root, &step.after.root);
            changed.extend(changes.inodes.union(&changes.data));
        }
        let view = View {
            which: Which::Live,
            root: self.root.clone(),
            name: String::new(),
        };
        let (before, names) = (Names::new(peeks, old), Names::new(peeks, &view));
        let mut of_base = peeks.links_of_base(&changed)?;
        // Of what a walk does not come to, the names are not known.
        of_base.retain(|_, slots| !slots.is_empty());
        for ino in changed.into_iter().filter(|ino| *ino < FIRST_INO) {
            let Some(place) = names.place(ino) else {
                continue;
            };
            let is_there =
                |names: &Names<'_>| names.binds(&place, ino) && names.has_dir(place.parent);
            if !of_base.contains_key(&ino) && is_there(&before) != is_there(&names) {
                of_base.insert(ino, [place].into());
            }
        }
        let of_overlay = links(&view.root, &of_base.keys().copied().collect());
        for (ino, of_base) in of_base {
            let inode = match view.root.inode(ino) {
                Some(inode) => (**inode).clone(),
                None => self.engine.base_inode(ino)?,
            };
            if inode.kind == Kind::Dir {
                continue;
            }
            let all = of_overlay.get(&ino).into_iter().flatten().cloned();
            let mut all: BTreeSet<Slot> = all.filter(|slot| names.has_dir(slot.parent)).collect();
            for slot in of_base {
                if names.has_dir(slot.parent) && names.means(&slot, ino)? {
                    all.insert(slot);
                }
            }
            let nlink = u32::try_from(all.len()).unwrap_or(u32::MAX);
            if nlink > 0 && nlink != inode.nlink {
                self.set(ino, Inode { nlink, ..inode })?;
            }
        }
        Ok(())
    }

    /// Directories count their subdirectories, and have the time of the last change of their entries: that of before where all of
    /// these are those of before, else now.
    fn finish_dirs(
        &mut self,
        (before, now): (&Names<'_>, &Names<'_>),
        dirs: &Dirs,
        untaken: &BTreeSet<Ino>,
    ) -> Answer<()> {
        let all: BTreeSet<Ino> = (dirs.touched.keys().chain(&dirs.taken)).copied().collect();
        for ino in all {
            // What is gone has no count, and what is back has that of before.
            if !alive(now, ino)? || dirs.taken.contains(&ino) && !alive(before, ino)? {
                continue;
            }
            let Some(is) = inode_in(now, ino)? else {
                continue;
            };
            let current = match self.root.inode(ino) {
                Some(inode) if inode.nlink == 0 => continue,
                Some(inode) => (**inode).clone(),
                None => self.engine.base_inode(ino)?,
            };
            let mut inode = current.clone();
            let subdirs = dirs.touched.get(&ino).copied();
            if is.nlink >= 2 {
                inode.nlink = is.nlink.saturating_add_signed(subdirs.unwrap_or(0)).max(2);
            }
            let exact = dirs.taken.contains(&ino) && !untaken.contains(&ino);
            if subdirs.is_some() && !exact {
                inode.mtime = self.now;
                inode.ctime = self.now;
            }
            if inode != current {
                self.set(ino, inode)?;
            }
        }
        Ok(())
    }
}
