//! Names and extents: the state of the overlay as persistent maps, and the one way to change it.
//!
//! A [`Root`] is one state of the namespace; cloning it is taking a snapshot. [`State`] is everything that the
//! journal rebuilds: the head, the snapshots, what reverts discarded. [`State::apply`] is the only mutator, for the
//! live path and for replay alike. Nothing here knows FUSE, the base, or the disk.

pub mod diff;
pub mod extent;
pub mod image;
pub mod inode;
pub mod kind;
pub mod line;
mod merge;
pub mod meta;
pub mod name;
pub mod numbering;
pub mod piles;
pub mod record;
pub mod root;
mod short;
pub mod staged;
pub mod state;
pub mod time;

pub use extent::{Extent, FileBlock, Piece};
pub use inode::{BaseLen, Inode, InodeRef, Target, Xattrs};
pub use kind::Kind;
pub use line::Line;
pub use meta::Meta;
pub use name::{At, NAME_MAX, Name, Slot};
pub use record::{
    Apply, BASE_STATE, Delta, Digest, Fact, LayerId, Move, Record, Src, StateId, Take,
};
pub use root::{Dentry, Root};
pub use short::ShortName;
pub use staged::{Difference, Imported, Stage};
pub use state::{Discarded, Place, Places, Snapshot, State};
pub use time::Time;

/// An inode number.
pub type Ino = u64;
/// The root directory, whatever number it has in the base (`FUSE_ROOT_ID`, `linux/fuse.h`).
pub const ROOT: Ino = 1;
/// The first number that the overlay gives to an inode of its own; objects of the base keep theirs, which are below.
pub const FIRST_INO: Ino = 1 << 48;
/// Bytes of a block.
pub const BLOCK: u64 = 4096;
