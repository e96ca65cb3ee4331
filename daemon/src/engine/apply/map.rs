//! Where things are: in the head, in the base, in the staging area, at any moment of an apply.
//!
//! Nothing of this is remembered across a crash. What is where is found out by looking, in this order: the staging
//! area, the place that the head gives, the place that the base gave. Objects of the base are known by their inode
//! numbers, which no step changes; a new object is in the staging area until its last name is in place.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc::stat as RawStat;
use nix::sys::stat::fstat;

use super::super::Answer;
use super::super::circle::Circle;
use super::area::Area;
use super::hand::{Hand, Spot, is_dir, open_beneath};
use crate::tree::{At, Dentry, FIRST_INO, Ino, Kind, Place, Places, ROOT, Root, Slot};

/// Directories that are kept open at most.
const OPEN_DIRS: usize = 256;

/// The head, the base, and what is staged.
pub(super) struct Map<'a> {
    pub head: &'a Root,
    places: &'a Places,
    /// The names that the head gives to objects, by object.
    names: BTreeMap<Ino, Vec<&'a Slot>>,
    root: Rc<OwnedFd>,
    pub area: Area,
    /// Directories by number. A descriptor stays right wherever the directory is moved.
    dirs: RefCell<HashMap<Ino, Rc<OwnedFd>>>,
    pub hand: Hand<'a>,
}

impl<'a> Map<'a> {
    pub fn new(
        head: &'a Root,
        places: &'a Places,
        root: Rc<OwnedFd>,
        area: Area,
        hand: Hand<'a>,
    ) -> Self {
        let mut names: BTreeMap<Ino, Vec<&Slot>> = BTreeMap::new();
        for (slot, dentry) in &head.dentries {
            if let Dentry::Here(ino, _) = dentry.get() {
                names.entry(ino).or_default().push(slot);
            }
        }
        Map {
            head,
            places,
            names,
            root,
            area,
            dirs: RefCell::default(),
            hand,
        }
    }

    /// The base directory.
    pub fn root(&self) -> &Rc<OwnedFd> {
        &self.root
    }

    /// The names that the overlay gives to an object, in order; a base object may have others.
    pub fn names(&self, ino: Ino) -> &[&'a Slot] {
        self.names.get(&ino).map_or(&[], Vec::as_slice)
    }

    /// Objects to which the overlay gives names.
    pub fn named(&self) -> impl Iterator<Item = Ino> + '_ {
        self.names.keys().copied()
    }

    /// Where the base had it.
    pub fn place(&self, ino: Ino) -> Option<&'a Place> {
        self.places.get(&ino).map(|place| &**place)
    }

    /// The type of an inode of the overlay.
    pub fn kind(&self, ino: Ino) -> Option<Kind> {
        self.head.inode(ino).map(|i| i.kind)
    }

    /// Whether what is at a place is `ino`, which is the base's.
    pub fn is(&self, stat: &RawStat, ino: Ino) -> bool {
        stat.st_ino == ino
    }

    /// The directory, wherever it is now; `None` if it is nowhere.
    pub fn dir(&self, ino: Ino) -> Answer<Option<Rc<OwnedFd>>> {
        self.find_dir(ino, &mut Vec::new())
    }

    /// The directory and the name, if the directory is anywhere.
    pub fn spot(&self, at: At<'_>) -> Answer<Option<Spot>> {
        match self.dir(at.0)? {
            Some(dir) => Spot::new(&dir, at.1).map(Some),
            None => Ok(None),
        }
    }

    /// An object, wherever it is now; `None` if it is nowhere.
    pub fn object(&self, ino: Ino) -> Answer<Option<Spot>> {
        if ino == ROOT {
            return Spot::new(&self.root, b".").map(Some);
        }
        if let Some((staged, _)) = self.area.get(ino)? {
            return Ok(Some(staged));
        }
        let place = self.place(ino).map(Place::at);
        for at in self.names(ino).iter().map(|s| s.at()).chain(place) {
            if let Some(spot) = self.spot(at)?
                && self.holds(&spot, ino)?
            {
                return Ok(Some(spot));
            }
        }
        Ok(None)
    }

    /// Whether the object is there. A new one that is not staged any more is at all of its names.
    fn holds(&self, spot: &Spot, ino: Ino) -> Answer<bool> {
        let stat = self.look(spot)?;
        Ok(stat.is_some_and(|s| ino >= FIRST_INO || self.is(&s, ino)))
    }

    /// What is at a spot, opening the directory up if it keeps its owner out.
    pub fn look(&self, spot: &Spot) -> Answer<Option<RawStat>> {
        match spot.stat() {
            Err(Errno::EACCES) if self.hand.open_up(spot.dir.as_fd())? => spot.stat(),
            answer => answer,
        }
    }

    fn find_dir(&self, ino: Ino, trail: &mut Vec<Ino>) -> Answer<Option<Rc<OwnedFd>>> {
        if ino == ROOT {
            return Ok(Some(self.root.clone()));
        }
        if let Some(dir) = self.dirs.borrow().get(&ino) {
            return Ok(Some(dir.clone()));
        }
        // Old and new places may lead in a circle while neither is where the directory is.
        if trail.contains(&ino) {
            return Ok(None);
        }
        if let Some((staged, _)) = self.area.get(ino)?
            && let Some(dir) = self.open_dir(&staged, ino)?
        {
            return Ok(Some(dir));
        }
        trail.push(ino);
        let place = self.place(ino).map(Place::at);
        let mut found = None;
        for at in self.names(ino).iter().map(|s| s.at()).chain(place) {
            if let Some(parent) = self.find_dir(at.0, trail)? {
                let spot = Spot::new(&parent, at.1)?;
                found = self.open_dir(&spot, ino)?;
            }
            if found.is_some() {
                break;
            }
        }
        trail.pop();
        Ok(found)
    }

    /// Opens a directory if it is there.
    fn open_dir(&self, spot: &Spot, ino: Ino) -> Answer<Option<Rc<OwnedFd>>> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let open = || open_beneath(spot.dir.as_fd(), &spot.name, flags);
        let opened = match open() {
            Err(Errno::EACCES) if self.hand.open_up(spot.dir.as_fd())? => open(),
            answer => answer,
        };
        let fd = match opened {
            Ok(fd) => fd,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(None),
            Err(e) => return Err(e),
        };
        let stat = fstat(&fd)?;
        if !is_dir(&stat) || ino < FIRST_INO && !self.is(&stat, ino) {
            return Ok(None);
        }
        let mut dirs = self.dirs.borrow_mut();
        if dirs.len() >= OPEN_DIRS {
            dirs.clear();
        }
        let fd = Rc::new(fd);
        dirs.insert(ino, fd.clone());
        Ok(Some(fd))
    }

    /// The directory in which the head has an object, for its depth and its path.
    fn above(&self, ino: Ino) -> Option<At<'a>> {
        let place = self.place(ino).map(Place::at);
        self.names(ino).first().map(|s| s.at()).or(place)
    }

    /// Directories above it in the head.
    pub fn depth(&self, ino: Ino) -> usize {
        let mut depth = 0;
        let mut at = ino;
        while let Some(above) = self.above(at)
            && depth < 1 << 16
        {
            at = above.0;
            depth += 1;
        }
        depth
    }

    /// Whether the head has a directory below itself, as only a damaged state has one.
    pub fn is_below_itself(&self, dir: Ino) -> bool {
        let mut circle = Circle::default();
        let mut at = dir;
        while let Some(above) = self.above(at) {
            if circle.closes(at) {
                return true;
            }
            at = above.0;
        }
        false
    }

    /// Its path in the head below the base directory, for messages.
    pub fn path(&self, ino: Ino) -> PathBuf {
        match self.above(ino) {
            Some(at) => self.path_of(at),
            None => PathBuf::from("."),
        }
    }

    /// The path of a slot of the head, for messages.
    pub fn path_of(&self, slot: At<'_>) -> PathBuf {
        let mut parts = vec![slot.1];
        let mut at = slot.0;
        while let Some(above) = self.above(at)
            && parts.len() < 1 << 12
        {
            parts.push(above.1);
            at = above.0;
        }
        parts.iter().rev().map(|p| OsStr::from_bytes(p)).collect()
    }
}
