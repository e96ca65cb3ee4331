//! The read-only view of the directory below the mount.
//!
//! The daemon opens the base directory before it mounts over it; everything here goes through that one
//! descriptor, so it sees the original below the mount and nothing outside it. This module never writes
//! to the base, and while it is mounted nobody else does: an object found to be another than the one
//! that was learned gives `ESTALE`.
//!
//! Objects are named by inode number, [`ROOT`] being the base directory itself. What path an inode
//! number has is known by its *place* (parent, name), which [`Base::lookup`] learns from the disk and
//! [`Base::learn`] from the journal. No descriptor is held for an object except in two small caches.
//!
//! Locks: the node table's and those of the caches, none of which is held across a system call or while
//! another is taken.

mod ahead;
mod dir;
mod drift;
mod error;
mod fds;
mod mounts;
mod node;
mod read;
mod recent;
mod resolve;
mod root;
mod stat;
#[cfg(test)]
mod tests;
mod xattr;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::RwLock;

pub use ahead::waits;
pub use dir::{BaseDir, BaseEntry};
pub use drift::{Drift, Fact, What};
pub use error::BaseError;
pub use mounts::mounts_below;
pub use node::Place;
pub use read::Seek;
pub use stat::BaseStat;
pub use xattr::BaseXattrs;

use ahead::Ahead;
use fds::FdCache;
use node::NodeTable;
use read::OpenFile;
use recent::Recent;

/// The inode number of the base directory itself, whatever the disk calls it.
pub const ROOT: u64 = 1;

/// Inode numbers from here on belong to objects that llfs made; a base object that has one is refused.
pub const FIRST_NEW: u64 = 1 << 48;

/// Open descriptors of base files kept for reading.
const FILE_FDS: usize = 128;

/// Open descriptors (`O_PATH`) of base directories kept for resolving names.
const DIR_FDS: usize = 256;

/// What tells one base directory from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Device number of the filesystem it is on; some filesystems give another one at each boot.
    pub dev: u64,
    /// Its inode number there (not mapped to [`ROOT`]).
    pub ino: u64,
    /// Its path when it was opened, absolute and free of symbolic links.
    pub path: PathBuf,
}

/// The base directory, opened; see the module's description.
pub struct Base {
    identity: Identity,
    /// The directory as it was given, for `apply`, which writes.
    root: Arc<OwnedFd>,
    /// What all reading goes through: a private read-only clone of the mount where the kernel lets us
    /// make one, else the same as `root`.
    view: Arc<OwnedFd>,
    nodes: RwLock<NodeTable>,
    files: FdCache<OpenFile>,
    dirs: FdCache<OwnedFd>,
    recent: Recent,
    ahead: Ahead,
    /// The kernel can be asked for extended attributes by directory and name.
    xattrs_at: bool,
    /// How often an object was not where it had been.
    wrong: AtomicU64,
}
