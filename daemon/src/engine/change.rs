//! One change: built while the state is held, journaled, applied.

use std::cell::RefCell;

use nix::errno::Errno;

use super::seed::{Seed, known};
use super::{Answer, Engine, errno};
use crate::base;
use crate::store::Store;
use crate::tree::{At, Delta, Dentry, Ino, Inode, Kind, Record, Slot, Src, State, Time, numbering};

/// Link counts above this are refused, as ext4 does (`EXT4_LINK_MAX`).
pub(super) const LINK_MAX: u32 = 65_000;

/// A change in the making. What it reads is the state before it, with its own changes to inodes.
pub(super) struct Tx<'a> {
    pub state: &'a State,
    deltas: Vec<Delta>,
    /// Inodes that this change wrote, which later steps of it must see.
    inodes: Vec<(Ino, Inode)>,
    next_turn: u64,
    /// The time of the change.
    pub now: Time,
}

impl Tx<'_> {
    /// The inode, as this change left it so far.
    pub fn inode(&self, ino: Ino, seed: &Seed) -> Answer<Inode> {
        if let Some((_, inode)) = self.inodes.iter().rev().find(|(i, _)| *i == ino) {
            return Ok(inode.clone());
        }
        match (self.state.head.inode(ino), seed) {
            (Some(inode), _) => Ok((**inode).clone()),
            (None, Seed::Base(s)) => Ok(s.inode.clone()),
            (None, Seed::Over) => Err(Errno::ESTALE),
        }
    }

    /// Changes an inode, taking it into the overlay if it is the base's so far.
    pub fn edit(&mut self, ino: Ino, seed: &Seed, f: impl FnOnce(&mut Inode, Time)) -> Answer<()> {
        let mut inode = self.inode(ino, seed)?;
        f(&mut inode, self.now);
        self.rely(seed);
        self.put(ino, inode);
        Ok(())
    }

    /// Says what an inode is.
    pub fn put(&mut self, ino: Ino, inode: Inode) {
        self.deltas.push(Delta::Inode(ino, Box::new(inode.clone())));
        self.inodes.push((ino, inode));
    }

    /// Notes that the overlay relies on an object of the base.
    pub fn rely(&mut self, seed: &Seed) {
        let Seed::Base(sprout) = seed else { return };
        for (ino, slot, fact) in &sprout.places {
            if !known(self.state, *ino) {
                self.deltas.push(Delta::Place {
                    ino: *ino,
                    slot: slot.clone(),
                    fact: *fact,
                });
            }
        }
    }

    /// A change of size or times of an inode, cheaper than `edit` once the overlay has it.
    pub fn touch(&mut self, ino: Ino, seed: &Seed, size: Option<u64>, mtime: bool) -> Answer<()> {
        if self.overlaid(ino).is_none() {
            return self.edit(ino, seed, |i, now| {
                i.size = size.unwrap_or(i.size);
                if mtime {
                    i.mtime = now;
                }
                i.ctime = now;
            });
        }
        let mtime = mtime.then_some(self.now);
        self.touched(ino, size, mtime, None);
        Ok(())
    }

    /// One name of a file less.
    pub fn drop_link(&mut self, ino: Ino, seed: &Seed) -> Answer<()> {
        let fewer = |nlink: u32| nlink.saturating_sub(1);
        let Some(nlink) = self.overlaid(ino).map(|inode| fewer(inode.nlink)) else {
            return self.edit(ino, seed, |i, now| {
                i.nlink = fewer(i.nlink);
                i.ctime = now;
            });
        };
        self.touched(ino, None, None, Some(nlink));
        Ok(())
    }

    fn touched(&mut self, ino: Ino, size: Option<u64>, mtime: Option<Time>, nlink: Option<u32>) {
        self.deltas.push(Delta::Touch {
            ino,
            size,
            mtime,
            ctime: self.now,
            nlink,
        });
    }

    /// The overlay's inode, which this change has not written.
    fn overlaid(&self, ino: Ino) -> Option<&Inode> {
        let untouched = !self.inodes.iter().any(|(i, _)| *i == ino);
        let inode = untouched.then(|| self.state.head.inode(ino))?;
        inode.map(|inode| &**inode)
    }

    /// The number for a new inode.
    pub fn new_ino(&mut self) -> Ino {
        self.next_turn += 1;
        numbering::number(self.next_turn - 1)
    }

    /// The name means this inode from here on.
    pub fn link(&mut self, slot: &Slot, ino: Ino, kind: Kind) {
        self.deltas.push(Delta::Link {
            slot: slot.clone(),
            ino,
            kind,
        });
    }

    /// The name means nothing from here on; `in_base`: the base has something there.
    pub fn unlink(&mut self, slot: &Slot, in_base: bool) {
        self.deltas.push(if in_base {
            Delta::Hide(slot.clone())
        } else {
            Delta::Clear(slot.clone())
        });
    }

    /// Adds a part as it is.
    pub fn push(&mut self, delta: Delta) {
        self.deltas.push(delta);
    }

    /// The blocks are there from here on.
    pub fn map(&mut self, ino: Ino, from: u64, len: u64, to: Option<Src>) {
        self.deltas.push(Delta::Map { ino, from, len, to });
    }

    /// What a name means: an inode, its type, and whether only the base says so.
    pub fn resolve(&self, at: At<'_>, probe: &Probe) -> Option<(Ino, Kind)> {
        match self.state.head.dentry(at) {
            Some(Dentry::Here(ino, kind)) => Some((ino, kind)),
            Some(Dentry::Whiteout) => None,
            None => probe.0.as_ref().map(|s| (s.ino, s.kind)),
        }
    }
}

/// What the base has at a name.
pub(super) struct Probe(pub Option<base::BaseStat>);

impl Engine {
    /// Asks the base for a name, unless the directory isn't the base's.
    pub(super) fn probe(&self, parent: Ino, name: &[u8]) -> Answer<Probe> {
        if parent >= crate::tree::FIRST_INO {
            return Ok(Probe(None));
        }
        match self.base.lookup(parent, name) {
            Ok(stat) => Ok(Probe(Some(stat))),
            Err(Errno::ENOENT) => Ok(Probe(None)),
            Err(e) => Err(e),
        }
    }

    /// Makes a change: `f` validates it and says what it is; then it is journaled and applied, or nothing happened.
    pub(super) fn change<T>(&self, f: impl FnOnce(&mut Tx<'_>) -> Answer<T>) -> Answer<T> {
        let mut state = self.state.write();
        let mut tx = Tx {
            next_turn: state.next_turn,
            state: &state,
            deltas: Vec::with_capacity(4),
            inodes: Vec::new(),
            now: Time::now(),
        };
        let out = f(&mut tx)?;
        let deltas = tx.deltas;
        if !deltas.is_empty() {
            self.commit(&mut state, &Record::Change(deltas))?;
        }
        Ok(out)
    }

    /// Journals and applies one record.
    pub(super) fn commit(&self, state: &mut State, record: &Record) -> Answer<()> {
        self.commit_by(state, record, Store::append)
    }

    /// The same for a record that must be written on a full disk too: it may use what is kept back for that.
    pub(super) fn commit_reserved(&self, state: &mut State, record: &Record) -> Answer<()> {
        self.commit_by(state, record, Store::append_kept)
    }

    /// The same for a record that is to be possible on a full disk, and must leave enough for those that have to be.
    pub(super) fn commit_ready(&self, state: &mut State, record: &Record) -> Answer<()> {
        self.commit_by(state, record, Store::append_ready)
    }

    /// The same for a record without which the state would be as good, and which is journaled with the next one.
    pub(super) fn commit_later(&self, state: &mut State, record: &Record) -> Answer<()> {
        self.commit_by(state, record, Store::append_later)
    }

    /// The same, and it may use what is kept back for records that free space.
    pub(super) fn commit_later_reserved(&self, state: &mut State, record: &Record) -> Answer<()> {
        self.commit_by(state, record, Store::append_later_kept)
    }

    fn commit_by<T>(
        &self,
        state: &mut State,
        record: &Record,
        append: fn(&Store, &[u8]) -> std::io::Result<T>,
    ) -> Answer<()> {
        thread_local!(static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) });
        BUFFER.with_borrow_mut(|buffer| {
            buffer.clear();
            rmp_serde::encode::write(buffer, record).map_err(|_| Errno::EIO)?;
            append(&self.store, buffer).map_err(|e| errno(&e))
        })?;
        let next = state.next_state;
        state.apply(record).map_err(|e| {
            // Only a defect leads here. What is on disk is right up to the record before this one.
            self.store.latch_readonly(&e.to_string());
            Errno::EIO
        })?;
        if state.next_state != next {
            self.authors.cut(state.next_state);
        }
        Ok(())
    }
}
