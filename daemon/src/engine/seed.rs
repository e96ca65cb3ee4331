//! What the base says of an object, fetched before any lock is taken.

use std::sync::Arc;

use nix::errno::Errno;
use serde_bytes::ByteBuf;

use super::browse::FIRST_VIEW;
use super::{Answer, Engine};
use crate::base::{BaseStat, BaseXattrs};
use crate::tree::{At, FIRST_INO, Fact, Ino, Inode, Kind, ROOT, Slot, State, Time, Xattrs};

/// What is needed to take an inode into the overlay.
pub(super) enum Seed {
    /// It is there already, or belongs to the overlay alone.
    Over,
    /// It is the base's so far.
    Base(Box<Sprout>),
}

/// An object of the base as the overlay's inode, and the places on which that relies.
pub(super) struct Sprout {
    /// The inode as the base has it.
    pub inode: Inode,
    /// Its own place and those above it, of which the state may know some.
    pub places: Vec<(Ino, Slot, Fact)>,
}

impl Engine {
    /// Fetches what taking `ino` into the overlay needs, which whoever changes an inode begins with.
    ///
    /// # Errors
    /// `EROFS` for what is below `.llfs`, `ESTALE` for an object of the base that a revert took away from under a program that has it open,
    /// or what the base says.
    pub(super) fn seed(&self, ino: Ino) -> Answer<Seed> {
        match self.seed_over(ino)? {
            Some(seed) => Ok(seed),
            None if self.is_attached(ino) => self.seed_base(ino),
            None => Err(Errno::ESTALE),
        }
    }

    /// What needs nothing of the base.
    fn seed_over(&self, ino: Ino) -> Answer<Option<Seed>> {
        if ino >= FIRST_VIEW {
            return Err(Errno::EROFS);
        }
        let over = ino >= FIRST_INO || self.state.read().head.inode(ino).is_some();
        Ok(over.then_some(Seed::Over))
    }

    fn seed_base(&self, ino: Ino) -> Answer<Seed> {
        let (stat, xattrs) = self.base.describe(ino)?;
        let inode = self.inode_of(&stat, xattrs)?;
        let places = self.places(ino, &stat)?;
        Ok(Seed::Base(Box::new(Sprout { inode, places })))
    }

    /// The same for a directory of which a name is about to change. To be called with the gate held, so that it stays true.
    ///
    /// # Errors
    /// `ENOENT` for a directory that was removed. The kernel sees to that by itself, but not if a revert took the directory
    /// away from under a program that stands in it: its names would be those of the base again, which are given up.
    pub(super) fn seed_dir(&self, dir: Ino) -> Answer<Seed> {
        if dir < FIRST_INO && !self.is_attached(dir) {
            return Err(Errno::ENOENT);
        }
        match self.seed_over(dir)? {
            Some(seed) => Ok(seed),
            None => self.seed_base(dir),
        }
    }

    /// Whether an object of the base has a place in the tree. One that nothing changed yet has it if its name in the
    /// base means it still, and so on upwards; what was renamed, or lost one of several names, is in the overlay.
    fn is_attached(&self, ino: Ino) -> bool {
        let state = self.state.read();
        let mut at = ino;
        while at != ROOT {
            if let Some(inode) = state.head.inode(at) {
                return inode.nlink > 0;
            }
            let Some(place) = self.base.place_of(at) else {
                return false;
            };
            if state.head.dentry(At(place.parent, &place.name)).is_some() {
                return false;
            }
            at = place.parent;
        }
        true
    }

    /// An object of the base as the overlay's inode, whatever the overlay has of it.
    ///
    /// # Errors
    /// What the base says.
    pub(super) fn base_inode(&self, ino: Ino) -> Answer<Inode> {
        let (stat, xattrs) = self.base.describe(ino)?;
        self.inode_of(&stat, xattrs)
    }

    /// The overlay's view of a base object that nothing changed yet, complete but for its data.
    fn inode_of(&self, stat: &BaseStat, xattrs: BaseXattrs) -> Answer<Inode> {
        let ino = stat.ino;
        let target = match stat.kind {
            Kind::Symlink => Some(Arc::new(self.base.readlink(ino)?.into())),
            _ => None,
        };
        Ok(Inode {
            kind: stat.kind,
            perm: stat.perm,
            uid: stat.uid,
            gid: stat.gid,
            nlink: stat.nlink,
            rdev: stat.rdev,
            size: stat.size,
            atime: stat.atime.into(),
            mtime: stat.mtime.into(),
            ctime: stat.ctime.into(),
            base_len: (stat.kind == Kind::File).then_some(stat.size).into(),
            layered: 0,
            covered: 0,
            home: None,
            xattrs: owned(xattrs),
            target,
        })
    }

    /// The places of `ino` and of all directories above it that the state does not know yet.
    pub(super) fn places(&self, ino: Ino, stat: &BaseStat) -> Answer<Vec<(Ino, Slot, Fact)>> {
        let mut out = Vec::new();
        let mut at = ino;
        let mut fact = fact_of(stat);
        while at != ROOT && !self.state.read().places.contains_key(&at) {
            let place = self.base.place_of(at).ok_or(Errno::ESTALE)?;
            // From now on the base keeps it, whatever the kernel forgets.
            self.base.learn(at, &place)?;
            out.push((at, Slot::new(place.parent, &place.name), fact));
            at = place.parent;
            fact = Fact {
                kind: Kind::Dir,
                size: 0,
                mtime: Time::default(),
                ctime: Time::default(),
            };
        }
        Ok(out)
    }
}

/// An object's extended attributes in the overlay's form.
fn owned(xattrs: BaseXattrs) -> Option<Xattrs> {
    if xattrs.is_empty() {
        return None;
    }
    let values = xattrs.into_iter();
    Some(Arc::new(
        values
            .map(|(name, value)| (name, ByteBuf::from(value)))
            .collect(),
    ))
}

fn fact_of(stat: &BaseStat) -> Fact {
    let dir = stat.kind == Kind::Dir;
    Fact {
        kind: stat.kind,
        size: if dir { 0 } else { stat.size },
        mtime: if dir {
            Time::default()
        } else {
            stat.mtime.into()
        },
        ctime: if dir {
            Time::default()
        } else {
            stat.ctime.into()
        },
    }
}

/// Whether the state relies on the place of this object already.
pub(super) fn known(state: &State, ino: Ino) -> bool {
    ino == ROOT || state.places.contains_key(&ino)
}
