//! What the journal says: one [`Record`] is one mutation, applied whole or not at all.
//!
//! A record holds results, not requests: replaying it needs no base, no clock and no permission check.

use serde::{Deserialize, Serialize};

use super::{Imported, Ino, Inode, Kind, Meta, Slot, Stage, Time};

/// Number of a layer, never used twice.
pub type LayerId = u32;
/// Number of a snapshot or of a discarded state, never used twice.
pub type StateId = u64;

/// The checksum of a state: see docs/FORMAT.md.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest(#[serde(with = "serde_bytes")] pub [u8; 32]);

/// Which way the head is switched, which says what becomes of the piles of discarded states: see `State::apply`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Move {
    /// To a state that a user named.
    #[default]
    Revert,
    /// Back, to a state on the pile of `undo`.
    Undo,
    /// Forth again, to a state on the pile of `redo`.
    Redo,
}

/// The base's own state, to which a head can be switched like to a snapshot.
pub const BASE_STATE: StateId = 0;

/// One mutation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// A change of the head's namespace or data.
    Change(Vec<Delta>),
    /// The head becomes a snapshot; writes go to a new layer from here on.
    Snap {
        /// The snapshot's number.
        id: StateId,
        /// Its name, unique among the snapshots.
        name: String,
        /// What the user said of it.
        message: String,
        /// When.
        at: Time,
        /// What else it says of itself; records of version 2 have none.
        #[serde(default)]
        meta: Meta,
    },
    /// The head becomes what another state is, and the head of until then is kept as `kept`.
    Switch {
        /// A snapshot, a discarded state, or [`BASE_STATE`].
        to: StateId,
        /// Number of the state that is discarded.
        kept: StateId,
        /// When.
        at: Time,
        /// On whose behalf; in records of version 2 an undo is a revert to a discarded state.
        #[serde(default)]
        how: Move,
    },
    /// Parts of the head become what they are in other states, and the head of until then is kept as `kept`.
    Merge {
        /// Number of the state that is discarded. It is also what that one became: the head comes from it.
        kept: StateId,
        /// When.
        at: Time,
        /// What is taken from where, in this order.
        takes: Vec<Take>,
        /// Inodes whose attributes are those of neither state, after all that.
        set: Vec<(Ino, Box<Inode>)>,
        /// Names that mean nothing after all that, whatever the base has; records of versions before 4 have none.
        #[serde(default)]
        hidden: Vec<Slot>,
    },
    /// Snapshots or discarded states are given up.
    Drop(Vec<StateId>),
    /// A snapshot gets another name.
    Rename {
        /// The snapshot.
        id: StateId,
        /// Its new name.
        name: String,
    },
    /// What a snapshot says of itself is this from here on.
    Describe {
        /// The snapshot.
        id: StateId,
        /// The message.
        message: String,
        /// The rest.
        meta: Meta,
    },
    /// The checksum of a snapshot's state was computed.
    Digest {
        /// The snapshot.
        id: StateId,
        /// The checksum.
        digest: Digest,
    },
    /// Inodes without a name that nobody holds open are given up.
    Forget(Vec<Ino>),
    /// Tells a part of a state that comes from elsewhere; see [`Stage`].
    Stage(Stage),
    /// What was staged becomes snapshots, in this order.
    Import(Vec<Imported>),
    /// Writing the head into the base begins; see [`Apply`].
    Apply(Apply),
}

/// The steps of writing the head into the base, which survive a crash between any two of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Apply {
    /// From here on the base may be half-written: only finishing the apply makes it usable.
    Begin,
    /// Everything is staged in the base's file system; from here on it goes forward only.
    Staged,
    /// The base is what the head was: every state but the head is gone, and the overlay is empty.
    Done,
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // One call for all of it: a list shows thousands.
        let digit = |n: u8| char::from(b"0123456789abcdef"[usize::from(n)]);
        let text: String = (self.0.iter())
            .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
            .collect();
        f.write_str(&text)
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// What a merge takes from one state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Take {
    /// A snapshot, a discarded state, or [`BASE_STATE`].
    pub from: StateId,
    /// Inodes, with their data. Those that it doesn't have, or has without a name, are gone from the overlay.
    pub inodes: Vec<Ino>,
    /// What it says of these names.
    pub slots: Vec<Slot>,
}

/// One part of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delta {
    /// The inode is this; it has no name and is an orphan when `nlink` is 0.
    Inode(Ino, Box<Inode>),
    /// Only these attributes of an inode of the overlay changed.
    Touch {
        /// The inode.
        ino: Ino,
        /// New size.
        size: Option<u64>,
        /// New mtime.
        mtime: Option<Time>,
        /// New ctime.
        ctime: Time,
        /// New number of links.
        nlink: Option<u32>,
    },
    /// The name means this inode.
    Link {
        /// Directory and name.
        slot: Slot,
        /// What is there.
        ino: Ino,
        /// Its type.
        kind: Kind,
    },
    /// The name means nothing, whatever the base has there.
    Hide(Slot),
    /// The overlay has nothing to say of the name.
    Clear(Slot),
    /// Blocks of a file are elsewhere now.
    Map {
        /// The file.
        ino: Ino,
        /// First block, in blocks of the file.
        from: u64,
        /// Number of blocks.
        len: u64,
        /// Where they are; `None`: wherever no extent says otherwise.
        to: Option<Src>,
    },
    /// An object of the base on which the overlay relies.
    Place {
        /// Its inode number.
        ino: Ino,
        /// Its place in the base.
        slot: Slot,
        /// What it was.
        fact: Fact,
    },
}

/// Where an extent's blocks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Src {
    /// In a layer, from this block of it on.
    Layer {
        /// The layer.
        layer: LayerId,
        /// The first block.
        block: u32,
    },
    /// Nowhere: they read as zeros, and hide the base's.
    Zero,
}

/// What an object of the base was when the overlay began to rely on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// Its type.
    pub kind: Kind,
    /// Its length in bytes; 0 for a directory, whose length means nothing.
    pub size: u64,
    /// Its mtime; of a directory the epoch, as others may put files into it.
    pub mtime: Time,
    /// Its ctime; of a directory the epoch.
    pub ctime: Time,
}
