//! Names to inodes, and attributes of inodes.

use nix::errno::Errno;

use super::browse::{FIRST_VIEW, of_base};
use super::{Answer, Attr, Engine, Entry};
use crate::base::BaseStat;
use crate::tree::{At, BLOCK, Dentry, FIRST_INO, Ino, Inode, InodeRef, Kind, NAME_MAX};

impl Engine {
    /// What a name means; `None` if nothing. Counts a lookup.
    ///
    /// # Errors
    /// `ENAMETOOLONG`, or what the base says.
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> Answer<Option<Entry>> {
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let _gate = self.gate.read();
        self.tell(parent, name);
        let found = self.state.read().head.dentry(At(parent, name));
        match found {
            Some(Dentry::Here(ino, _)) => self.entry(ino).map(Some),
            Some(Dentry::Whiteout) => self.hidden(parent, name),
            None if parent >= FIRST_INO => self.hidden(parent, name),
            None => match self.base.lookup(parent, name) {
                Ok(stat) => {
                    let over = self.over(stat.ino);
                    let attr = over.unwrap_or_else(|| attr_of_base(&stat));
                    self.hold_at(attr, parent, name).map(Some)
                }
                Err(Errno::ENOENT) => self.hidden(parent, name),
                Err(e) => Err(e),
            },
        }
    }

    /// The kernel gave up `n` lookups of an inode.
    pub fn forget(&self, ino: Ino, n: u64) {
        let _gate = self.gate.read();
        if let Some(gone) = self.let_go_of(ino, n)
            && self.state.read().head.orphans.contains(&gone)
        {
            self.forget_orphans(&[gone]);
        }
    }

    /// Takes `n` lookups back; the inode of the live tree that the kernel holds no longer.
    fn let_go_of(&self, ino: Ino, n: u64) -> Option<Ino> {
        // Held until the base knows, too: others count at the same time.
        let mut held = self.held.lock();
        let mut gone = held.forget(ino, n).then_some(ino)?;
        if gone >= FIRST_VIEW {
            gone = of_base(gone).filter(|ino| held.forget(*ino, 1))?;
        }
        if gone < FIRST_INO {
            self.base.forget(gone);
        }
        Some(gone)
    }

    /// The attributes of an inode.
    ///
    /// # Errors
    /// `ESTALE` for an inode that a revert took away, or what the base says.
    pub fn getattr(&self, ino: Ino) -> Answer<Attr> {
        let _gate = self.gate.read();
        self.attr(ino)
    }

    pub(super) fn attr(&self, ino: Ino) -> Answer<Attr> {
        match self.over(ino) {
            Some(attr) => Ok(attr),
            None if ino >= FIRST_INO => self.attr_hidden(ino),
            None => self.base.stat(ino).map(|s| attr_of_base(&s)),
        }
    }

    /// The inode as the overlay has it, or as the base would be taken over.
    pub(super) fn inode(&self, ino: Ino) -> Option<InodeRef> {
        self.state.read().head.inode(ino).cloned()
    }

    /// Counts a lookup of an inode and tells its entry.
    pub(super) fn entry(&self, ino: Ino) -> Answer<Entry> {
        Ok(self.hold(self.attr(ino)?))
    }

    /// Counts a lookup of an object that the base has at a place.
    fn hold_at(&self, attr: Attr, parent: Ino, name: &[u8]) -> Answer<Entry> {
        let mut held = self.held.lock();
        let (generation, first) = held.hold(attr.ino);
        if first && attr.ino < FIRST_INO {
            // Whoever looked at it until now may have let it go since it was found.
            self.base.hold(attr.ino, parent, name)?;
            // For the next worker, which has to find it again.
            held.place(attr.ino, parent);
        }
        Ok(Entry {
            attr,
            generation,
            lasting: true,
        })
    }

    pub(super) fn hold(&self, attr: Attr) -> Entry {
        let (generation, first) = self.held.lock().hold(attr.ino);
        if first
            && attr.ino < FIRST_INO
            && let Some(place) = self.base.place_of(attr.ino)
        {
            // For the next worker, which has to find it again.
            self.held.lock().place(attr.ino, place.parent);
        }
        Entry {
            attr,
            generation,
            lasting: true,
        }
    }

    /// The attributes of an inode, if the overlay has it.
    pub(super) fn over(&self, ino: Ino) -> Option<Attr> {
        Some(self.attr_over(ino, &*self.inode(ino)?))
    }

    /// The attributes of an inode of the overlay.
    pub(super) fn attr_over(&self, ino: Ino, inode: &Inode) -> Attr {
        let mut blocks = u64::from(inode.layered);
        if u64::from(inode.covered) < inode.base_blocks() {
            // What the base allocated, less what is covered: right for files without holes, and about right for others.
            let base = self.base.stat(ino).map_or(0, |s| s.blocks / (BLOCK / 512));
            blocks += base
                .min(inode.base_blocks())
                .saturating_sub(u64::from(inode.covered));
        }
        attr_of(ino, inode, blocks)
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// `EINVAL` for anything else.
    pub fn readlink(&self, ino: Ino) -> Answer<Vec<u8>> {
        let _gate = self.gate.read();
        match self.inode(ino) {
            Some(inode) => inode
                .target
                .as_ref()
                .map(|t| t.to_vec())
                .ok_or(Errno::EINVAL),
            None if ino >= FIRST_INO => self.readlink_hidden(ino),
            None => self.base.readlink(ino),
        }
    }
}

/// The attributes of an inode of the overlay that has so many blocks.
fn attr_of(ino: Ino, inode: &Inode, blocks: u64) -> Attr {
    let blocks = match inode.kind {
        Kind::File => blocks,
        Kind::Dir => 1,
        _ => 0,
    };
    Attr {
        ino,
        kind: inode.kind,
        perm: inode.perm,
        nlink: inode.nlink,
        uid: inode.uid,
        gid: inode.gid,
        rdev: inode.rdev,
        size: inode.size,
        blocks: blocks * (BLOCK / 512),
        atime: inode.atime,
        mtime: inode.mtime,
        ctime: inode.ctime,
    }
}

/// The attributes of an object of the base that nothing changed.
pub(super) fn attr_of_base(stat: &BaseStat) -> Attr {
    Attr {
        ino: stat.ino,
        kind: stat.kind,
        perm: stat.perm,
        nlink: stat.nlink,
        uid: stat.uid,
        gid: stat.gid,
        rdev: stat.rdev,
        size: stat.size,
        blocks: stat.blocks,
        atime: stat.atime.into(),
        mtime: stat.mtime.into(),
        ctime: stat.ctime.into(),
    }
}
