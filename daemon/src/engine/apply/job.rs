//! The phases of an apply, in their order.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;

use super::super::Answer;
use super::area::{Area, Names};
use super::content::{self, Layers};
use super::error::{ApplyError, During, Trouble};
use super::hand::{Hand, Hook, Spot, open_beneath};
use super::map::Map;
use super::refind::{Found, refind};
use super::survey::{self, ApplyPlan, alive};
use super::{attrs, moves};
use crate::base::Base;
use crate::tree::{BLOCK, FIRST_INO, Ino, Inode, Kind, Places, ROOT, Root};

/// Told how many of how many bytes, or what counts like bytes, are done.
pub(super) type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// What an apply works on.
pub(super) struct Work<'a> {
    pub base: &'a Base,
    pub store: [u8; 16],
    pub head: &'a Root,
    pub places: &'a Places,
    pub layers: Layers<'a>,
    pub hook: Hook<'a>,
}

/// An apply under way.
pub(super) struct Job<'a> {
    map: Map<'a>,
    layers: Layers<'a>,
    names: Names,
    /// The area under its first and under its second name.
    staging: Spot,
    remains: Spot,
    meter: RefCell<Meter<'a>>,
}

struct Meter<'a> {
    done: u64,
    total: u64,
    tell: Option<Progress<'a>>,
}

impl<'a> Job<'a> {
    /// Looks at the base; changes nothing.
    pub fn new(work: &Work<'a>, tell: Option<Progress<'a>>) -> Answer<Job<'a>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        // A descriptor of our own: syncing it tells of failed writes since now, and of no earlier ones.
        let root = Rc::new(open_beneath(work.base.root_fd(), c".", flags)?);
        let names = Names::find(&root, &work.store)?;
        let staging = Spot::new(&root, &names.staging)?;
        let remains = Spot::new(&root, &names.remains)?;
        let hand = Hand::new(work.hook);
        let area = match Area::open(&staging)? {
            Some(area) => area,
            None => Area::none(),
        };
        let map = Map::new(work.head, work.places, root, area, hand);
        Ok(Job {
            map,
            layers: work.layers,
            names,
            staging,
            remains,
            meter: RefCell::new(Meter {
                done: 0,
                total: 0,
                tell,
            }),
        })
    }

    /// Afterwards: tells where each object is that is not where the base had it.
    pub fn places(&self, tell: Found<'_>) -> Answer<()> {
        for ino in self.map.named() {
            for slot in self.map.names(ino) {
                let Some(spot) = self.map.spot(slot.at())? else {
                    continue;
                };
                if let Some(stat) = spot.stat()? {
                    let parent = match slot.parent {
                        ROOT => ROOT,
                        _ => fstat(&*spot.dir)?.st_ino,
                    };
                    tell(stat.st_ino, parent, slot.name.as_bytes())?;
                }
            }
        }
        // Of a file with several names in the base the one that was known may be gone.
        let mut astray = BTreeSet::new();
        for (ino, inode) in alive(&self.map) {
            if ino >= FIRST_INO || inode.kind == Kind::Dir {
                continue;
            }
            match self.map.object(ino) {
                Ok(None) => drop(astray.insert(ino)),
                // Behind a directory that keeps us out, where it was.
                Ok(Some(_)) | Err(Errno::EACCES) => {}
                Err(e) => return Err(e),
            }
        }
        refind(self.map.root(), astray, tell)
    }

    /// What there is to do.
    pub fn plan(&self) -> Result<ApplyPlan, Trouble> {
        survey::plan(&self.map)
    }

    /// Refuses what cannot be done. `ours`: what has the area's names was left by this store.
    pub fn check(&self, plan: &ApplyPlan, ours: bool) -> Result<(), ApplyError> {
        for spot in [&self.staging, &self.remains] {
            let name = spot.name.as_bytes();
            let slot = crate::tree::Slot::new(ROOT, name);
            let there = spot
                .stat()
                .during("look at", || self.map.path_of(slot.at()));
            let in_base = there.map_err(ApplyError::Unprepared)?.is_some() && !ours;
            if in_base || self.map.head.dentry(slot.at()).is_some() {
                return Err(ApplyError::Refused {
                    path: self.map.path_of(slot.at()),
                    why: "this name is needed; move it out of the way".into(),
                });
            }
        }
        survey::check(&self.map, plan)
    }

    /// First phase: everything that needs space. The base stays what it was but for the staging area in its root, and
    /// is so again if this fails.
    pub fn stage(&mut self, plan: &ApplyPlan) -> Result<(), Trouble> {
        let names = self.map.head.dentries.len() + self.map.head.inodes.len();
        self.meter.borrow_mut().total = plan.bytes + names as u64 * BLOCK;
        let area = Area::make(&self.map.hand, &self.staging);
        self.map.area = area.during("make the staging area", || ".".into())?;
        // Only what files of the base grow by is written after this; new files are written now.
        let new: u64 = (alive(&self.map).filter(|(ino, _)| *ino >= FIRST_INO))
            .map(|(ino, i)| content::layered(self.map.head, ino, i))
            .map(|bytes| bytes.next_multiple_of(BLOCK))
            .sum();
        let later = plan.bytes_needed - new.min(plan.bytes_needed);
        (self.map.area.reserve(&self.map.hand, later)).during("take space", || ".".into())?;
        for (ino, inode) in alive(&self.map) {
            let staged = if ino >= FIRST_INO {
                self.make(ino, inode)
            } else if inode.kind == Kind::File {
                content::check(self.layers, self.map.head, ino, inode)
            } else {
                Ok(())
            };
            staged.during("stage", || self.map.path(ino))?;
        }
        self.sync()
    }

    /// Makes a new object in the area, complete but for the times of a directory.
    fn make(&self, ino: Ino, inode: &Inode) -> Answer<()> {
        let hand = &self.map.hand;
        let spot = self.map.area.spot(ino)?;
        match inode.kind {
            Kind::File => {
                let file = hand.create(&spot)?;
                let meter = &mut |n| self.advance(n);
                let head = self.map.head;
                content::write_new(hand, self.layers, head, ino, inode, file.as_fd(), meter)?;
            }
            Kind::Dir => hand.mkdir(&spot)?,
            Kind::Symlink => {
                let target = inode.target.as_deref().ok_or(Errno::EIO)?;
                hand.symlink(&spot, target)?;
            }
            kind => hand.special(&spot, kind, inode.rdev)?,
        }
        attrs::set(hand, &spot, ino, inode)
    }

    /// Takes everything away that was staged; `false` if there was nothing.
    fn clear(&self) -> Answer<bool> {
        // Only what is in the area is opened up now, and that goes.
        self.map.hand.go_forward();
        let mut any = false;
        for spot in [&self.staging, &self.remains] {
            if let Some(area) = Area::open(spot)? {
                area.remove(&self.map.hand, spot)?;
                any = true;
            }
        }
        Ok(any)
    }

    /// Takes everything away that was staged, and gives the base's root its times back.
    pub fn undo(self) -> Answer<()> {
        if self.clear()? {
            let root = Spot::new(self.map.root(), b".")?;
            self.map.hand.set_times(&root, None, self.names.mtime)?;
        }
        Ok(())
    }

    /// Second phase, which goes forward only, and does what is left to be done: afterwards the base is what the head is,
    /// durably.
    pub fn finish(mut self) -> Result<(), ApplyError> {
        let half = ApplyError::Halfway;
        self.map.hand.go_forward();
        let here = || std::path::PathBuf::from(".");
        let remains = Area::open(&self.remains);
        let remains = match remains.during("look at", here).map_err(half)? {
            Some(remains) => remains,
            None => {
                self.adopt()
                    .during("open the staging area", here)
                    .map_err(half)?;
                self.move_all()?;
                let renamed = self.map.hand.rename(&self.staging, &self.remains);
                renamed
                    .during("rename the staging area", here)
                    .map_err(half)?;
                std::mem::replace(&mut self.map.area, Area::none())
            }
        };
        let removed = remains.remove(&self.map.hand, &self.remains);
        removed
            .during("remove what is left over", here)
            .map_err(half)?;
        // Removing the area changed the root's times.
        self.set_attrs(ROOT).map_err(half)?;
        self.sync().map_err(half)?;
        self.advance(u64::MAX);
        Ok(())
    }

    /// Opens the area; an empty one, if nothing is left but to say that all is done.
    fn adopt(&mut self) -> Answer<()> {
        let area = match Area::open(&self.staging)? {
            Some(area) => area,
            None => Area::make(&self.map.hand, &self.staging)?,
        };
        area.release(&self.map.hand, self.map.root().as_fd())?;
        self.map.area = area;
        Ok(())
    }

    fn move_all(&self) -> Result<(), ApplyError> {
        moves::park(&self.map).map_err(ApplyError::Halfway)?;
        moves::place(&self.map, &mut |n| self.advance(n))?;
        self.change_in_place().map_err(ApplyError::Halfway)
    }

    /// Contents of base files, and attributes: those of a directory after those of everything in it, whose own mode
    /// may keep its owner out.
    fn change_in_place(&self) -> Result<(), Trouble> {
        let mut dirs = Vec::new();
        for (ino, inode) in alive(&self.map) {
            match inode.kind {
                Kind::Dir => dirs.push(ino),
                Kind::File if ino < FIRST_INO => {
                    self.write(ino, inode)
                        .during("write", || self.map.path(ino))?;
                    self.set_attrs(ino)?;
                }
                // New ones are what they are since they were staged.
                _ if ino < FIRST_INO => self.set_attrs(ino)?,
                _ => {}
            }
        }
        dirs.sort_by_cached_key(|ino| std::cmp::Reverse(self.map.depth(*ino)));
        for ino in dirs {
            self.set_attrs(ino)?;
        }
        self.sync()
    }

    fn write(&self, ino: Ino, inode: &Inode) -> Answer<()> {
        let head = self.map.head;
        if !content::changed(head, ino, inode, self.map.place(ino)) {
            return Ok(());
        }
        let Some(spot) = self.map.object(ino)? else {
            return Ok(());
        };
        let hand = &self.map.hand;
        let file = content::open(hand, &spot)?;
        let meter = &mut |n| self.advance(n);
        content::write_changes(hand, self.layers, head, ino, inode, file.as_fd(), meter)
    }

    fn set_attrs(&self, ino: Ino) -> Result<(), Trouble> {
        self.advance(BLOCK);
        let Some(inode) = self.map.head.inode(ino) else {
            return Ok(());
        };
        let set = || match self.map.object(ino)? {
            Some(spot) => attrs::set(&self.map.hand, &spot, ino, inode),
            // Its last name in the base is gone, though it may have others outside.
            None => Ok(()),
        };
        set().during("set the attributes of", || self.map.path(ino))
    }

    fn sync(&self) -> Result<(), Trouble> {
        let done = self.map.hand.sync(self.map.root().as_fd());
        done.during("make durable", || ".".into())
    }

    fn advance(&self, n: u64) {
        let mut meter = self.meter.borrow_mut();
        meter.done = meter.done.saturating_add(n).min(meter.total);
        let (done, total) = (meter.done, meter.total);
        if let Some(tell) = &mut meter.tell {
            tell(done, total);
        }
    }
}
