//! What the overlay knows of one inode that it created or changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Ino, Kind, Slot, Time};

/// Extended attributes, name to value. Shared: most inodes that have any have their parent's default ACL.
pub type Xattrs = Arc<BTreeMap<Vec<u8>, serde_bytes::ByteBuf>>;

/// The target of a symbolic link. Behind one pointer: most inodes have none.
pub type Target = Arc<Box<[u8]>>;

/// An inode of the overlay. Its data blocks are in [`super::Root::extents`].
///
/// An inode of the base appears here when something about it changed first; until then the base answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inode {
    /// The type, which never changes.
    pub kind: Kind,
    /// Permission bits with set-ID and sticky, `07777`.
    pub perm: u16,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Number of names; 0 while only open descriptors hold it. Directories: as the kernel counts them.
    pub nlink: u32,
    /// Device number of a device node.
    pub rdev: u32,
    /// Length in bytes.
    pub size: u64,
    /// Last read, as far as it was ever set; llfs behaves as mounted with `noatime`.
    pub atime: Time,
    /// Last change of the content.
    pub mtime: Time,
    /// Last change of anything.
    pub ctime: Time,
    /// Of a base file: bytes before this offset that no extent covers are the base's. `None`: nothing is.
    pub base_len: Option<u64>,
    /// Blocks that lie in layers. Kept by [`super::Root`] alone.
    pub layered: u32,
    /// Blocks of the base's part that extents cover. Kept by [`super::Root`] alone.
    pub covered: u32,
    /// A name that it has (a hint for messages and diffs once it has several); `None`: its place in the base.
    pub home: Option<Slot>,
    /// All its extended attributes; `None`: the base's, or none.
    pub xattrs: Option<Xattrs>,
    /// Target of a symbolic link.
    pub target: Option<Target>,
}

impl Inode {
    /// Number of blocks of the base's part, covered or not.
    pub fn base_blocks(&self) -> u64 {
        self.base_len.unwrap_or(0).div_ceil(super::BLOCK)
    }

    /// The parent of a directory that the overlay created or moved.
    pub fn parent(&self) -> Option<Ino> {
        self.home.as_ref().map(|h| h.parent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A changed file costs this, its count of references, and what its entries in the maps take: 400 bytes in all.
    #[test]
    fn an_inode_stays_small() {
        assert!(size_of::<Inode>() <= 120, "{}", size_of::<Inode>());
        assert!(size_of::<super::super::Place>() <= 72);
    }
}
