//! `.llfs/NAME/...` at the root: every checkpoint as a directory that can only be read.
//!
//! `.llfs` is in no listing of the root, and no state holds it: it answers to its name alone, and only while the tree has no
//! object of that name itself, which then is what everybody sees. Nothing can be made, changed or removed in it (`EROFS`),
//! and only the owner of the mount may enter: what may be read there was decided by the modes of another time.
//!
//! What a state holds never changes, so the kernel keeps everything below a state's root for ever. What a name in `.llfs`
//! means does change: the kernel asks each time. When a state goes, its slot is closed and the kernel told to forget what it
//! holds of it; should it ask for some of that before, the answer is `ESTALE`.
//!
//! All of this is asked with the gate held, like anything else: space is taken back only when no operation goes on that
//! began before (see `reclaim`), so an old root's blocks are there for as long as the operation lasts that found the root.

mod listing;
mod node;
mod object;
mod slots;
mod told;

use llctl::StateRef;
use nix::errno::Errno;

use super::lookup::attr_of_base;
use super::{Answer, Attr, Engine, Entry, service};
use crate::relay::Viewed;
use crate::tree::{
    At, BASE_STATE, BLOCK, Dentry, FIRST_INO, Ino, Kind, NAME_MAX, ROOT, Root, State, StateId,
};

pub(super) use node::{FIRST_VIEW, of_base};
pub(super) use slots::Slots;

use node::{Node, VIEWS_DIR};

/// The name at the root.
pub const NAME: &[u8] = b".llfs";

/// An object of an old state.
struct Past {
    state: StateId,
    root: Root,
    /// Its number in there.
    ino: Ino,
}

impl Engine {
    /// What a name means of which the tree says that it means nothing: `.llfs` at the root.
    pub(super) fn hidden(&self, parent: Ino, name: &[u8]) -> Answer<Option<Entry>> {
        match parent {
            ROOT if name == NAME => Ok(Some(self.hold(self.views_attr()))),
            FIRST_VIEW.. => self.lookup_past(parent, name),
            _ => Ok(None),
        }
    }

    /// Whether this name may be made, removed or renamed.
    ///
    /// # Errors
    /// `EROFS` in `.llfs`, and for that name itself.
    pub(super) fn writable(&self, parent: Ino, name: &[u8]) -> Answer<()> {
        match parent {
            FIRST_VIEW.. => Err(Errno::EROFS),
            ROOT if name == NAME && !self.in_tree(name)? => Err(Errno::EROFS),
            _ => Ok(()),
        }
    }

    /// Whether the tree's root has the name.
    fn in_tree(&self, name: &[u8]) -> Answer<bool> {
        let probe = self.probe(ROOT, name)?;
        Ok(self.find(ROOT, name, &probe).is_some())
    }

    fn lookup_past(&self, parent: Ino, name: &[u8]) -> Answer<Option<Entry>> {
        if Node::of(parent) == Node::Views {
            let found = state_named(&self.state.read(), name);
            // An error is not kept by the kernel, unlike the answer that there is nothing.
            let id = found.ok_or(Errno::ENOENT)?;
            let number = Node::Root(id).number();
            let past = self.past(number)?;
            let attr = self.attr_past(number, &past)?;
            let held = self.hold_past(number, attr, None)?;
            return Ok(Some(Entry {
                lasting: false,
                ..held
            }));
        }
        let dir = self.past(parent)?;
        let (ino, of_base) = match dir.root.dentry(At(dir.ino, name)) {
            Some(Dentry::Here(ino, _)) => (ino, None),
            Some(Dentry::Whiteout) => return Ok(None),
            None if dir.ino >= FIRST_INO => return Ok(None),
            None => match self.base.lookup(dir.ino, name) {
                Ok(stat) => (stat.ino, Some(stat)),
                Err(Errno::ENOENT) => return Ok(None),
                Err(e) => return Err(e),
            },
        };
        let number = Node::Below(self.slot_of(dir.state)?, ino).number();
        let past = Past { ino, ..dir };
        let attr = match (past.root.inode(ino), &of_base) {
            (None, Some(stat)) => Attr {
                ino: number,
                ..attr_of_base(stat)
            },
            _ => self.attr_past(number, &past)?,
        };
        let place = of_base.map(|_| (Node::of(parent).ino(), name));
        self.hold_past(number, attr, place).map(Some)
    }

    /// The object that a number means which is none of the live tree's.
    ///
    /// # Errors
    /// `ESTALE`: its state is gone.
    fn past(&self, number: Ino) -> Answer<Past> {
        let node = Node::of(number);
        let state = match node {
            Node::Views => return Err(Errno::EISDIR),
            Node::Root(id) => id,
            Node::Below(slot, _) => match self.relay.viewed(slot) {
                Viewed::State(id) => id,
                _ => return Err(Errno::ESTALE),
            },
        };
        let root = match state {
            BASE_STATE => Root::default(),
            id => self.state.read().root(id).cloned().ok_or(Errno::ESTALE)?,
        };
        let ino = node.ino();
        Ok(Past { state, root, ino })
    }

    fn attr_past(&self, number: Ino, past: &Past) -> Answer<Attr> {
        let attr = match past.root.inode(past.ino) {
            Some(inode) => self.attr_over(past.ino, inode),
            None if past.ino >= FIRST_INO => return Err(Errno::ESTALE),
            None => attr_of_base(&self.base.stat(past.ino)?),
        };
        Ok(Attr {
            ino: number,
            ..attr
        })
    }

    /// Of `.llfs` itself: the owner of the mount may look into it, and nobody else.
    fn views_attr(&self) -> Attr {
        let state = self.state.read();
        let newest = state.snapshots.values().next_back().map(|s| s.at);
        let at = newest.unwrap_or_default();
        Attr {
            ino: VIEWS_DIR,
            kind: Kind::Dir,
            perm: 0o500,
            // As file systems say that don't count subdirectories.
            nlink: 1,
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            rdev: 0,
            size: 0,
            blocks: BLOCK / 512,
            atime: at,
            mtime: at,
            ctime: at,
        }
    }

    /// Counts a lookup. If it is the first, it counts one of the object of the base that is shown, too, which keeps that one's
    /// place known: (directory, name), unless the state relies on it anyway.
    fn hold_past(&self, number: Ino, attr: Attr, place: Option<(Ino, &[u8])>) -> Answer<Entry> {
        let mut held = self.held.lock();
        if let Some(ino) = of_base(number)
            && !held.holds(number)
        {
            // Before the number itself: a worker that is killed in between leaves one count too many, not one too few.
            held.hold(ino);
            if let Some((dir, name)) = place {
                held.place(ino, dir);
                // Whoever looked at it until now may have let it go.
                self.base.hold(ino, dir, name)?;
            }
        }
        let (generation, _) = held.hold(number);
        Ok(Entry {
            attr,
            generation,
            lasting: true,
        })
    }

    /// The slot of a state, into which the kernel is about to look.
    ///
    /// # Errors
    /// `ENFILE`: the kernel holds something of too many states.
    fn slot_of(&self, state: StateId) -> Answer<usize> {
        let mut slots = self.views.lock();
        let slot = slots.open(state, || self.slots_in_use());
        if slots.is_crowded() {
            self.house.forget_views();
        }
        slot
    }
}

/// The state that a name in `.llfs` means.
fn state_named(state: &State, name: &[u8]) -> Option<StateId> {
    if name.len() > NAME_MAX {
        return None;
    }
    let wanted: StateRef = std::str::from_utf8(name).ok()?.parse().ok()?;
    service::states::find(state, &wanted)
}
