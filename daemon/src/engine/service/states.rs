//! The states that a client can name, and reading files as they are in one.

use llctl::StateRef;
use llctl::config::AUTOMATIC;
use llctl::protocol::{ErrorKind, Failure, UnixNanos};
use nix::errno::Errno;

use super::failure;
use crate::engine::{Answer, Engine};
use crate::tree::{
    Apply, BASE_STATE, BLOCK, FIRST_INO, Ino, Kind, Piece, Root, State, StateId, Time, extent,
    piles,
};

/// Which state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// The tree as it is now.
    Live,
    /// The directory below the mount.
    Base,
    /// A snapshot or a discarded state.
    Kept(StateId),
    /// What others would come to, whose blocks are lent.
    Made,
}

/// A state as it was when it was asked for.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// Which state.
    pub which: Which,
    /// What it holds.
    pub root: Root,
    /// What a user calls it.
    pub name: String,
}

impl View {
    /// The state that a client named.
    pub fn of(engine: &Engine, wanted: &StateRef) -> Result<View, Failure> {
        let state = engine.state.read();
        if let Some(id) = find(&state, wanted) {
            return Ok(View::kept(&state, id));
        }
        match wanted {
            StateRef::Live => Ok(View::live(&state)),
            StateRef::Base => Ok(View::base()),
            StateRef::Undo => Err(Failure::new(
                ErrorKind::NotFound,
                "there is no @undo: no revert discarded anything that is still kept",
            )),
            StateRef::Redo => Err(Failure::new(
                ErrorKind::NotFound,
                "there is no @redo: no undo came after the last revert",
            )),
            StateRef::At(moment) => Err(failure::none_at(&state, *moment)),
            StateRef::Snapshot(name) => {
                drop(state);
                Err(failure::unknown(engine, name.as_str()))
            }
        }
    }

    /// The last snapshot that was taken here; without any, the base.
    pub fn last(engine: &Engine) -> View {
        let state = engine.state.read();
        match state.snapshot_before(StateId::MAX) {
            Some((id, _)) => View::kept(&state, id),
            None => View::base(),
        }
    }

    /// The last snapshot that somebody asked for: those that take themselves must not hide what changed since. Without any,
    /// the base.
    pub fn last_wanted(engine: &Engine) -> View {
        let state = engine.state.read();
        let mut snapshots = state.snapshots.iter().rev();
        let wanted = snapshots.find(|(_, s)| {
            s.meta.reason.as_deref() != Some(AUTOMATIC) && s.meta.imported.is_none()
        });
        match wanted {
            Some((&id, _)) => View::kept(&state, id),
            None => View::base(),
        }
    }

    /// The snapshot before the one of this number; the base before the first.
    pub fn before(state: &State, id: StateId) -> View {
        match state.snapshot_before(id) {
            Some((before, _)) => View::kept(state, before),
            None => View::base(),
        }
    }

    /// The tree as it is now.
    pub fn live(state: &State) -> View {
        View {
            which: Which::Live,
            root: state.head.clone(),
            name: StateRef::Live.to_string(),
        }
    }

    /// The directory below the mount.
    pub fn base() -> View {
        View {
            which: Which::Base,
            root: Root::default(),
            name: StateRef::Base.to_string(),
        }
    }

    /// A state that is kept; the base for a number that is not.
    pub fn kept(state: &State, id: StateId) -> View {
        match state.root(id) {
            Some(root) => View {
                which: Which::Kept(id),
                root: root.clone(),
                name: name_of(state, id),
            },
            None => View::base(),
        }
    }

    /// All states that are kept, oldest first, then the live one.
    pub fn all(engine: &Engine) -> Vec<View> {
        let state = engine.state.read();
        let mut ids: Vec<StateId> = (state.snapshots.keys())
            .chain(state.discarded.keys())
            .copied()
            .collect();
        ids.sort_unstable();
        let mut all: Vec<View> = ids.into_iter().map(|id| View::kept(&state, id)).collect();
        all.push(View::live(&state));
        all
    }

    /// Length of a file here, and the pieces that a range of its bytes lies in.
    pub fn pieces(&self, engine: &Engine, ino: Ino, off: u64, len: u64) -> Answer<Pieces> {
        let (size, base_len) = match self.root.inode(ino) {
            Some(inode) if inode.kind != Kind::File => return Err(Errno::EINVAL),
            Some(inode) => (inode.size, inode.base_len.get().unwrap_or(0)),
            None if ino >= FIRST_INO => return Err(Errno::ESTALE),
            None => {
                let stat = engine.base.stat(ino)?;
                (stat.size, stat.size)
            }
        };
        let end = off.saturating_add(len).min(size);
        let list = if off < end {
            extent::pieces(&self.root.extents, ino, off / BLOCK, end.div_ceil(BLOCK))
        } else {
            Vec::new()
        };
        Ok(Pieces {
            size,
            base_len,
            list,
        })
    }

    /// Reads a file as it is in this state, and tells how many bytes there were. Of the live tree, as it is now.
    ///
    /// The blocks of an old state are kept from being taken back for as long as this lasts, and the state
    /// is looked for each time: it may be deleted between two calls.
    ///
    /// # Errors
    /// `ESTALE` if the state is gone, an apply writes what it relies on, or the file is gone from the live tree; `EIO` for damaged blocks; what the base says.
    pub fn read(&self, engine: &Engine, ino: Ino, off: u64, buf: &mut [u8]) -> Answer<usize> {
        if self.which == Which::Live {
            return engine.read(ino, off, buf, true);
        }
        let _pinned = engine.pins.read();
        let base = engine.digests.which_base();
        self.is_there(engine, base)?;
        let pieces = self.pieces(engine, ino, off, buf.len() as u64)?;
        let len = pieces.size.saturating_sub(off).min(buf.len() as u64) as usize;
        engine.fetch(
            ino,
            pieces.base_len,
            &pieces.list,
            off,
            &mut buf[..len],
            true,
        )?;
        // While that was read an apply may have written into the base.
        self.is_there(engine, base)?;
        Ok(len)
    }

    /// Whether the state is there, and what the base has of it is still what it was when the base was this one.
    ///
    /// # Errors
    /// `ESTALE` if not.
    fn is_there(&self, engine: &Engine, base: u64) -> Answer<()> {
        let state = engine.state.read();
        let there = match self.which {
            Which::Kept(id) => state.root(id).is_some(),
            Which::Base | Which::Made => engine.digests.which_base() == base,
            Which::Live => true,
        };
        match there && state.applying != Some(Apply::Staged) {
            true => Ok(()),
            false => Err(Errno::ESTALE),
        }
    }
}

/// The state that somebody named; `None` for the live tree, and if there is none such.
pub(in crate::engine) fn find(state: &State, wanted: &StateRef) -> Option<StateId> {
    match wanted {
        StateRef::Live => None,
        StateRef::Base => Some(BASE_STATE),
        StateRef::Undo => piles::top(&state.discarded, false),
        StateRef::Redo => piles::top(&state.discarded, true),
        StateRef::At(moment) => state.snapshot_at(time(moment.0)).map(|(id, _)| id),
        StateRef::Snapshot(name) => state.snapshot(name.as_str()).map(|(id, _)| id),
    }
}

/// A moment as states have it.
pub(super) fn time(nanos: UnixNanos) -> Time {
    const SECOND: i64 = 1_000_000_000;
    Time {
        sec: nanos.0.div_euclid(SECOND),
        // Less than a second.
        nsec: nanos.0.rem_euclid(SECOND) as u32,
    }
}

/// Where a part of a file lies.
pub(super) struct Pieces {
    /// Bytes of the whole file.
    pub size: u64,
    /// Bytes before this offset that no layer has are the base's.
    pub base_len: u64,
    /// The parts, without gaps.
    pub list: Vec<Piece>,
}

/// What a user calls a state: a snapshot's name, `@undo` for the newest discarded one, the number of an older one.
pub(super) fn name_of(state: &State, id: StateId) -> String {
    if id == BASE_STATE {
        return StateRef::Base.to_string();
    }
    match state.snapshots.get(&id) {
        Some(snapshot) => snapshot.name.clone(),
        None if piles::top(&state.discarded, false) == Some(id) => StateRef::Undo.to_string(),
        None if piles::top(&state.discarded, true) == Some(id) => StateRef::Redo.to_string(),
        None => format!("discarded {id}"),
    }
}
