//! The staging area: a directory in the base's root, where new objects wait for their places, and old ones that were
//! taken from theirs. Objects lie in it side by side, each under its inode number.
//!
//! Its name says which store it belongs to and how far the apply is: as long as it has the first name something may
//! be left to be put in place, and under the second name it holds nothing but what is to be removed.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc::stat as RawStat;
use nix::sys::stat::fstat;

use super::super::Answer;
use super::hand::{Hand, Spot, is_dir, open_beneath};
use crate::tree::{FIRST_INO, Ino, Time};

/// The names that the area has, one after the other. They hold the root's mtime too, which making the area changes:
/// so it is there to be set again from the very first moment.
pub(super) struct Names {
    /// While something is to be put in place.
    pub staging: Vec<u8>,
    /// While something is to be removed.
    pub remains: Vec<u8>,
    /// The root's mtime before there was an area.
    pub mtime: Time,
}

impl Names {
    /// Those of the area that the store with this id has in the root, or would have now.
    pub fn find(root: &OwnedFd, store: &[u8; 16]) -> Answer<Names> {
        let id: String = store.iter().map(|b| format!("{b:02x}")).collect();
        let (staging, remains) = (format!(".llfs-apply-{id}@"), format!(".llfs-applied-{id}@"));
        let stat = fstat(root)?;
        let mut mtime = Time {
            sec: stat.st_mtime,
            nsec: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        };
        for name in names_in(root)? {
            let prefixes = [staging.as_bytes(), remains.as_bytes()];
            let rest = prefixes
                .iter()
                .find_map(|p| name.to_bytes().strip_prefix(*p));
            if let Some(found) = rest.and_then(parse) {
                mtime = found;
            }
        }
        let suffix = format!("{}.{}", { mtime.sec }, mtime.nsec);
        Ok(Names {
            staging: (staging + &suffix).into_bytes(),
            remains: (remains + &suffix).into_bytes(),
            mtime,
        })
    }
}

/// Whether a store's area is in the root under its first name: an apply was not finished.
pub(super) fn is_there(root: &OwnedFd, store: &[u8; 16]) -> Answer<bool> {
    let id: String = store.iter().map(|b| format!("{b:02x}")).collect();
    let staging = format!(".llfs-apply-{id}@");
    let names = names_in(root)?;
    Ok(names
        .iter()
        .any(|n| n.to_bytes().starts_with(staging.as_bytes())))
}

/// The time in the area's name: seconds, a dot, nanoseconds.
fn parse(suffix: &[u8]) -> Option<Time> {
    let (sec, nsec) = std::str::from_utf8(suffix).ok()?.split_once('.')?;
    Some(Time {
        sec: sec.parse().ok()?,
        nsec: nsec.parse().ok().filter(|n| *n < 1_000_000_000)?,
    })
}

/// The name under which space is kept.
const RESERVE: &[u8] = b"reserve";

/// The staging area, open; or none, while an apply is only planned.
pub(super) struct Area {
    dir: Option<Rc<OwnedFd>>,
}

impl Area {
    /// No area, which holds nothing.
    pub fn none() -> Area {
        Area { dir: None }
    }

    fn dir(&self) -> Answer<&Rc<OwnedFd>> {
        self.dir.as_ref().ok_or(Errno::ENOENT)
    }

    /// Makes the area.
    pub fn make(hand: &Hand<'_>, at: &Spot) -> Answer<Area> {
        hand.mkdir(at)?;
        Area::open(at)?.ok_or(Errno::ENOENT)
    }

    /// Opens the area if it is there.
    pub fn open(at: &Spot) -> Answer<Option<Area>> {
        match at.open(OFlag::O_PATH | OFlag::O_DIRECTORY) {
            Ok(fd) => Ok(Some(Area {
                dir: Some(Rc::new(fd)),
            })),
            Err(Errno::ENOENT) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Where an object lies if it is in the area: `n` and a number for a new one, `p` for one of the base.
    pub fn spot(&self, ino: Ino) -> Answer<Spot> {
        let kind = if ino < FIRST_INO { 'p' } else { 'n' };
        Spot::new(self.dir()?, format!("{kind}{ino}").as_bytes())
    }

    /// An object that is in the area, and what it is.
    pub fn get(&self, ino: Ino) -> Answer<Option<(Spot, RawStat)>> {
        if self.dir.is_none() {
            return Ok(None);
        }
        let spot = self.spot(ino)?;
        Ok(spot.stat()?.map(|stat| (spot, stat)))
    }

    /// Takes space, so that it is there for what is written later.
    pub fn reserve(&self, hand: &Hand<'_>, bytes: u64) -> Answer<()> {
        let file = hand.create(&Spot::new(self.dir()?, RESERVE)?)?;
        match hand.allocate(file.as_fd(), bytes) {
            // Nothing more than a look at the free space, then.
            Err(Errno::EOPNOTSUPP) => Ok(()),
            answer => answer,
        }
    }

    /// Gives the space back, if it is still taken.
    pub fn release(&self, hand: &Hand<'_>, sync: BorrowedFd<'_>) -> Answer<()> {
        match hand.unlink(&Spot::new(self.dir()?, RESERVE)?) {
            Ok(()) => hand.sync(sync),
            Err(Errno::ENOENT) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Removes everything in it, and itself, which is at `at`. However deep a tree is: its directories are brought
    /// up into the area before they are emptied.
    pub fn remove(&self, hand: &Hand<'_>, at: &Spot) -> Answer<()> {
        loop {
            let all = names_in(self.dir()?)?;
            if all.is_empty() {
                break;
            }
            for name in all {
                let spot = Spot::new(self.dir()?, name.as_bytes())?;
                match spot.stat()? {
                    Some(stat) if is_dir(&stat) => self.remove_dir(hand, &spot)?,
                    Some(_) => hand.unlink(&spot)?,
                    None => {}
                }
            }
        }
        hand.rmdir(at)
    }

    fn remove_dir(&self, hand: &Hand<'_>, spot: &Spot) -> Answer<()> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let dir = Rc::new(open_beneath(spot.dir.as_fd(), &spot.name, flags)?);
        // Renaming and unlinking in it, and renaming it, need its owner's permissions.
        hand.open_up(dir.as_fd())?;
        for name in names_in(&dir)? {
            let child = Spot::new(&dir, name.as_bytes())?;
            let Some(stat) = child.stat()? else { continue };
            if !is_dir(&stat) {
                hand.unlink(&child)?;
                continue;
            }
            let fd = open_beneath(dir.as_fd(), &child.name, flags)?;
            hand.open_up(fd.as_fd())?;
            hand.rename(&child, &self.spot(stat.st_ino)?)?;
        }
        hand.rmdir(spot)
    }
}

/// The names in a directory, without touching its access time where the owner allows that.
pub(super) fn names_in(dir: &OwnedFd) -> Answer<Vec<CString>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let fd = match open_beneath(dir.as_fd(), c".", flags | OFlag::O_NOATIME) {
        Err(Errno::EPERM) => open_beneath(dir.as_fd(), c".", flags),
        answer => answer,
    }?;
    let mut names = Vec::new();
    for entry in Dir::from_fd(fd)?.iter() {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    Ok(names)
}
