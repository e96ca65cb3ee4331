//! One state of the namespace.

use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Serialize};

use super::extent::{self, Extents};
use super::{At, Delta, Ino, Inode, InodeRef, Kind, Slot, Src};

/// What the overlay says of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dentry {
    /// It means this inode.
    Here(Ino, Kind),
    /// It means nothing, whatever the base has there.
    Whiteout,
}

/// A [`Dentry`] in one word, as the maps of many files have it: the inode's number above three bits of its kind.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Entry(u64);

/// Inodes have numbers below this.
pub const INO_MAX: Ino = 1 << 61;

impl Entry {
    const WHITEOUT: Entry = Entry(u64::MAX);

    /// What it says.
    pub fn get(self) -> Dentry {
        // There are seven kinds: that of a whiteout is none.
        match Kind::try_from((self.0 & 7) as u8) {
            Ok(kind) => Dentry::Here(self.0 >> 3, kind),
            Err(_) => Dentry::Whiteout,
        }
    }
}

impl From<Dentry> for Entry {
    fn from(dentry: Dentry) -> Entry {
        match dentry {
            Dentry::Here(ino, kind) => Entry(ino << 3 | u64::from(u8::from(kind))),
            Dentry::Whiteout => Entry::WHITEOUT,
        }
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.get().fmt(f)
    }
}

/// A state of the namespace and of all data, relative to the base. Clones share everything.
#[derive(Clone, Debug, Default)]
pub struct Root {
    /// Inodes that differ from the base's, or that the base does not have.
    pub inodes: OrdMap<Ino, InodeRef>,
    /// Names that differ from the base's.
    pub dentries: OrdMap<Slot, Entry>,
    /// Where the files' blocks are that are not the base's.
    pub extents: Extents,
    /// Inodes without a name, which open descriptors may hold.
    pub orphans: OrdSet<Ino>,
}

/// A record contradicts the state: the journal is not of this state, or the program has a defect.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the record contradicts the state: {0}")]
pub struct Contradiction(pub String);

/// Whether an inode can have this number.
pub(super) fn check_ino(ino: Ino) -> Result<(), Contradiction> {
    if ino < INO_MAX {
        return Ok(());
    }
    Err(Contradiction(format!("no inode has the number {ino}")))
}

impl Root {
    /// What the overlay says of a name.
    pub fn dentry(&self, at: At<'_>) -> Option<Dentry> {
        self.dentries.get(&at).map(|entry| entry.get())
    }

    /// The overlay's inode of that number.
    pub fn inode(&self, ino: Ino) -> Option<&InodeRef> {
        self.inodes.get(&ino)
    }

    /// Entries that the overlay has in the directory `dir`, in order of their names, after `after`.
    pub fn entries<'a>(&'a self, dir: Ino) -> impl Iterator<Item = (&'a Slot, Dentry)> + use<'a> {
        self.dentries
            .range(Slot::new(dir, b"")..)
            .map(|(s, d)| (s, d.get()))
            .take_while(move |(s, _)| s.parent == dir)
    }

    /// Applies one part of a change. `Delta::Place` is the state's business and changes nothing here.
    pub(crate) fn apply(&mut self, delta: &Delta) -> Result<(), Contradiction> {
        match delta {
            Delta::Inode(ino, inode) => {
                check_ino(*ino)?;
                self.count(*ino, inode.nlink);
                match self.inodes.get_mut(ino) {
                    Some(old) => {
                        let mut new = (**inode).clone();
                        (new.layered, new.covered) = (old.layered, old.covered);
                        // The name's bytes stay shared with its entry.
                        if old.home == new.home {
                            new.home.clone_from(&old.home);
                        }
                        *old = InodeRef::new(new);
                    }
                    None => {
                        self.inodes.insert(*ino, InodeRef::new((**inode).clone()));
                    }
                }
            }
            Delta::Touch {
                ino,
                size,
                mtime,
                ctime,
                nlink,
            } => {
                if let Some(n) = nlink {
                    self.count(*ino, *n);
                }
                let inode = self.change(*ino)?;
                inode.size = size.unwrap_or(inode.size);
                inode.mtime = mtime.unwrap_or(inode.mtime);
                inode.ctime = *ctime;
                inode.nlink = nlink.unwrap_or(inode.nlink);
            }
            Delta::Link { slot, ino, kind } => {
                self.change(*ino)?.home = Some(slot.clone());
                self.dentries
                    .insert(slot.clone(), Dentry::Here(*ino, *kind).into());
            }
            Delta::Hide(slot) => {
                self.dentries.insert(slot.clone(), Entry::WHITEOUT);
            }
            Delta::Clear(slot) => {
                self.dentries.remove(slot);
            }
            Delta::Map { ino, from, len, to } => {
                if !extent::makes_sense(*from, *len, *to) {
                    return Err(Contradiction(format!(
                        "inode {ino} has no {len} blocks from {from} on"
                    )));
                }
                self.recount(*ino, *from, *len, *to)?;
                extent::map(&mut self.extents, *ino, *from, *len, *to);
            }
            Delta::Place { .. } => {}
        }
        Ok(())
    }

    /// Forgets inodes without a name, with their blocks.
    pub(super) fn forget(&mut self, inos: &[Ino]) -> Result<(), Contradiction> {
        for ino in inos {
            if self.orphans.remove(ino).is_none() {
                return Err(Contradiction(format!(
                    "inode {ino} is forgotten but has a name"
                )));
            }
            self.inodes.remove(ino);
            extent::remove_all(&mut self.extents, *ino);
        }
        Ok(())
    }

    fn count(&mut self, ino: Ino, nlink: u32) {
        if nlink == 0 {
            self.orphans.insert(ino);
        } else if !self.orphans.is_empty() {
            self.orphans.remove(&ino);
        }
    }

    /// Keeps an inode's counts of blocks true for a change of where its blocks are.
    fn recount(
        &mut self,
        ino: Ino,
        from: u64,
        len: u64,
        to: Option<Src>,
    ) -> Result<(), Contradiction> {
        let end = from.saturating_add(len);
        let base_blocks = self.change(ino)?.base_blocks();
        let (mut layered, mut covered) = (0, 0);
        // A file has fewer than 2^32 blocks.
        let count = |blocks: u64| u32::try_from(blocks).unwrap_or(u32::MAX);
        for p in extent::extents_in(&self.extents, ino, from, end) {
            layered += if matches!(p.src, Some(Src::Layer { .. })) {
                p.len
            } else {
                0
            };
            covered += (p.from + p.len).min(base_blocks).saturating_sub(p.from);
        }
        let inode = self.change(ino)?;
        inode.layered = inode.layered.saturating_sub(count(layered));
        inode.covered = inode.covered.saturating_sub(count(covered));
        if let Some(src) = to {
            if matches!(src, Src::Layer { .. }) {
                inode.layered = inode.layered.saturating_add(count(len));
            }
            let covers = count(end.min(base_blocks).saturating_sub(from));
            inode.covered = inode.covered.saturating_add(covers);
        }
        Ok(())
    }

    fn change(&mut self, ino: Ino) -> Result<&mut Inode, Contradiction> {
        self.inodes
            .get_mut(&ino)
            .map(InodeRef::make_mut)
            .ok_or_else(|| Contradiction(format!("inode {ino} is not in the overlay")))
    }
}
