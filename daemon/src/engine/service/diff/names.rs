//! What names mean in one state, and where things are in it.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeSet, HashMap};

use nix::errno::Errno;

use crate::base::{self, BaseStat};
use crate::engine::circle::Circle;
use crate::engine::service::states::View;
use crate::engine::{Answer, Engine};
use crate::tree::{Dentry, FIRST_INO, Ino, Inode, Kind, ROOT, Root, Slot};

/// Objects of the base that a comparison looked at. Their places are known for as long as this lives, whatever the kernel
/// forgets: each is held as if the kernel held it once more.
pub(in crate::engine::service) struct Peeks<'a> {
    pub engine: &'a Engine,
    held: RefCell<Vec<Ino>>,
    /// The gate is or will be closed: a walk, which lets go of what it held, would wait for it for ever.
    still: Cell<bool>,
    /// Entries of directories of the base that may yet be looked at; `None`: as many as there are.
    left: Cell<Option<usize>>,
}

impl<'a> Peeks<'a> {
    pub fn new(engine: &'a Engine) -> Peeks<'a> {
        Peeks {
            engine,
            held: RefCell::default(),
            still: Cell::new(false),
            left: Cell::new(None),
        }
    }

    /// For a comparison that somebody waits for: instead of looking at more than `most` entries of the base's directories it fails
    /// with `E2BIG`, and with `EAGAIN` instead of walking all of the base.
    pub fn few(engine: &'a Engine, most: usize) -> Peeks<'a> {
        let peeks = Peeks::new(engine);
        peeks.left.set(Some(most));
        peeks
    }

    /// So many entries will be looked at.
    fn look_at(&self, entries: usize) -> Answer<()> {
        if let Some(left) = self.left.get() {
            let left = left.checked_sub(entries).ok_or(Errno::E2BIG)?;
            self.left.set(Some(left));
        }
        Ok(())
    }

    /// The base is not to be walked any more.
    pub fn walk_no_more(&self) {
        self.still.set(true);
    }

    /// Whether the base may be walked.
    pub fn may_walk(&self) -> bool {
        !self.still.get()
    }

    /// Whether no time is to be taken.
    pub fn is_hurried(&self) -> bool {
        self.left.get().is_some()
    }

    /// What the base has at a name.
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> Answer<Option<BaseStat>> {
        let stat = match self.engine.base.lookup(parent, name) {
            Ok(stat) => stat,
            Err(Errno::ENOENT) => return Ok(None),
            Err(e) => return Err(e),
        };
        self.held.borrow_mut().push(stat.ino);
        let mut held = self.engine.held.lock();
        if held.hold(stat.ino).1 {
            held.place(stat.ino, parent);
            // The kernel may have forgotten it between the two.
            self.engine.base.hold(stat.ino, parent, name)?;
        }
        Ok(Some(stat))
    }
}

impl Drop for Peeks<'_> {
    fn drop(&mut self) {
        for ino in self.held.take() {
            self.engine.forget(ino, 1);
        }
    }
}

/// The names of one state.
pub(in crate::engine::service) struct Names<'a> {
    pub peeks: &'a Peeks<'a>,
    pub view: &'a View,
    /// Paths of directories; `None`: it isn't there.
    paths: RefCell<HashMap<Ino, Option<Vec<u8>>>>,
    /// Names that the overlay has for files besides those where they were put last, once somebody asked.
    strays: OnceCell<HashMap<Ino, Vec<Slot>>>,
}

/// An inode as one state has it.
pub(in crate::engine::service) enum Object<'a> {
    /// In the overlay.
    Over(&'a Inode),
    /// As in the base.
    Base(Box<BaseStat>),
}

impl<'a> Names<'a> {
    pub fn new(peeks: &'a Peeks<'a>, view: &'a View) -> Names<'a> {
        let top = HashMap::from([(ROOT, Some(Vec::new()))]);
        Names {
            peeks,
            view,
            paths: RefCell::new(top),
            strays: OnceCell::new(),
        }
    }

    /// What a name means.
    pub fn meaning(&self, slot: &Slot) -> Answer<Option<(Ino, Kind)>> {
        match self.view.root.dentry(slot.at()) {
            Some(Dentry::Here(ino, kind)) => Ok(Some((ino, kind))),
            Some(Dentry::Whiteout) => Ok(None),
            None if slot.parent >= FIRST_INO => Ok(None),
            None => {
                let found = self.peeks.lookup(slot.parent, slot.name.as_bytes())?;
                Ok(found.map(|stat| (stat.ino, stat.kind)))
            }
        }
    }

    /// Whether a name that may be one of the inode's is.
    pub fn binds(&self, slot: &Slot, ino: Ino) -> bool {
        match self.view.root.dentry(slot.at()) {
            Some(Dentry::Here(found, _)) => found == ino,
            Some(Dentry::Whiteout) => false,
            None => self.place(ino).is_some_and(|place| place == *slot),
        }
    }

    /// Whether a name means the inode; of several names that it has in the base, too.
    pub fn means(&self, slot: &Slot, ino: Ino) -> Answer<bool> {
        if self.binds(slot, ino) {
            return Ok(true);
        }
        Ok(self.has_dir(slot.parent) && self.meaning(slot)?.is_some_and(|(found, _)| found == ino))
    }

    /// The inode, if this state has it; it may have no name.
    pub fn object(&self, ino: Ino) -> Answer<Object<'_>> {
        match self.view.root.inode(ino) {
            Some(inode) => Ok(Object::Over(inode)),
            None if ino >= FIRST_INO => Err(Errno::ESTALE),
            None => {
                let stat = self.peeks.engine.base.stat(ino)?;
                Ok(Object::Base(Box::new(stat)))
            }
        }
    }

    /// Whether it has other names besides.
    pub fn is_linked(&self, ino: Ino) -> bool {
        match self.object(ino) {
            Ok(Object::Over(inode)) => inode.kind != Kind::Dir && inode.nlink > 1,
            Ok(Object::Base(stat)) => stat.kind != Kind::Dir && stat.nlink > 1,
            Err(_) => false,
        }
    }

    /// Whether its names have to be looked for: it has several, or has lost the one that it is likely to have.
    pub fn is_scattered(&self, ino: Ino) -> bool {
        match self.object(ino) {
            Ok(Object::Over(i)) if i.kind != Kind::Dir && i.nlink == 1 => {
                self.likely_bound(ino).next().is_none()
            }
            _ => self.is_linked(ino),
        }
    }

    /// Names that the inode has: where it is likely to be, or else, at the cost of all names of the overlay, where it is.
    pub fn bound(&self, ino: Ino) -> Answer<Vec<Slot>> {
        let mut slots: Vec<Slot> = self.likely_bound(ino).collect();
        if slots.is_empty() && self.is_scattered(ino) {
            let strays = self.strays.get_or_init(|| strays(&self.view.root));
            slots.extend(strays.get(&ino).into_iter().flatten().cloned());
            let of_base = self.peeks.links_of_base(&BTreeSet::from([ino]))?;
            for slot in of_base.into_values().flatten() {
                if self.means(&slot, ino)? {
                    slots.push(slot);
                }
            }
            slots.retain(|slot| self.has_dir(slot.parent));
        }
        Ok(slots)
    }

    /// Those of its likely names that it has. Of a directory that is gone neither overlay nor base say anything that counts.
    fn likely_bound(&self, ino: Ino) -> impl Iterator<Item = Slot> {
        let likely = self.likely(ino);
        likely.filter(move |slot| self.binds(slot, ino) && self.has_dir(slot.parent))
    }

    /// Where the base has it.
    pub fn place(&self, ino: Ino) -> Option<Slot> {
        if ino >= FIRST_INO {
            return None;
        }
        let base::Place { parent, name } = self.peeks.engine.base.place_of(ino)?;
        Some(Slot::new(parent, &name))
    }

    /// Names that an inode is likely to have: where it was put last, and where the base has it.
    pub fn likely(&self, ino: Ino) -> impl Iterator<Item = Slot> {
        let home = self.view.root.inode(ino).and_then(|i| i.home.clone());
        home.into_iter().chain(self.place(ino))
    }

    /// The one name of a directory; `None` if it is not there.
    pub fn dir_slot(&self, dir: Ino) -> Option<Slot> {
        if self.view.root.inode(dir).is_some_and(|i| i.nlink == 0) {
            return None;
        }
        self.likely(dir).find(|slot| self.binds(slot, dir))
    }

    /// The path of a directory; `None` if it is not there.
    pub fn dir_path(&self, dir: Ino) -> Option<Vec<u8>> {
        let mut way: Vec<(Ino, Slot)> = Vec::new();
        let mut circle = Circle::default();
        let mut at = dir;
        let mut path = loop {
            if let Some(known) = self.paths.borrow().get(&at) {
                break known.clone();
            }
            match self.dir_slot(at) {
                Some(slot) if !circle.closes(at) => {
                    let above = slot.parent;
                    way.push((at, slot));
                    at = above;
                }
                _ => {
                    self.paths.borrow_mut().insert(at, None);
                    break None;
                }
            }
        };
        for (ino, slot) in way.into_iter().rev() {
            path = path.map(|above| join(above, slot.name.as_bytes()));
            self.paths.borrow_mut().insert(ino, path.clone());
        }
        path
    }

    /// Whether a directory is there.
    pub fn has_dir(&self, dir: Ino) -> bool {
        self.dir_path(dir).is_some()
    }

    /// The path of a name; `None` if its directory is not there.
    pub fn path(&self, slot: &Slot) -> Option<Vec<u8>> {
        let above = self.dir_path(slot.parent)?;
        Some(join(above, slot.name.as_bytes()))
    }

    /// What is in a directory, the base's part and the overlay's.
    pub fn children(&self, dir: Ino) -> Answer<Vec<(Slot, Ino, Kind)>> {
        let mut all = Vec::new();
        if dir < FIRST_INO {
            let entries = self.peeks.engine.base.list(dir)?;
            self.peeks.look_at(entries.len())?;
            for entry in entries {
                let slot = Slot::new(dir, &entry.name);
                if self.view.root.dentry(slot.at()).is_some() {
                    continue;
                }
                if let Some(stat) = self.peeks.lookup(dir, &entry.name)? {
                    all.push((slot, stat.ino, stat.kind));
                }
            }
        }
        for (slot, dentry) in self.view.root.entries(dir) {
            if let Dentry::Here(ino, kind) = dentry {
                all.push((slot.clone(), ino, kind));
            }
        }
        Ok(all)
    }
}

fn strays(root: &Root) -> HashMap<Ino, Vec<Slot>> {
    let mut found: HashMap<Ino, Vec<Slot>> = HashMap::new();
    for (slot, dentry) in &root.dentries {
        if let Dentry::Here(ino, kind) = dentry.get()
            && kind != Kind::Dir
            && root
                .inode(ino)
                .is_none_or(|i| i.home.as_ref() != Some(slot))
        {
            found.entry(ino).or_default().push(slot.clone());
        }
    }
    found
}

pub(in crate::engine::service) fn join(mut above: Vec<u8>, name: &[u8]) -> Vec<u8> {
    if !above.is_empty() {
        above.push(b'/');
    }
    above.extend_from_slice(name);
    above
}
