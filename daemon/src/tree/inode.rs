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
    pub base_len: BaseLen,
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

/// An inode that several states share. Counted by one word, not by two as `std::sync::Arc` does.
pub type InodeRef = triomphe::Arc<Inode>;

/// A length in bytes, or none. Half as large as an `Option`: no file has 2^64 - 1 bytes (`MAX_LFS_FILESIZE` in linux/fs.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Option<u64>", into = "Option<u64>")]
pub struct BaseLen(u64);

impl BaseLen {
    /// No length.
    pub const NONE: BaseLen = BaseLen(u64::MAX);

    /// The length, if there is one.
    pub fn get(self) -> Option<u64> {
        (self != Self::NONE).then_some(self.0)
    }
}

impl From<Option<u64>> for BaseLen {
    fn from(len: Option<u64>) -> BaseLen {
        len.map_or(Self::NONE, BaseLen)
    }
}

impl From<BaseLen> for Option<u64> {
    fn from(len: BaseLen) -> Option<u64> {
        len.get()
    }
}

impl Inode {
    /// Number of blocks of the base's part, covered or not.
    pub fn base_blocks(&self) -> u64 {
        self.base_len.get().unwrap_or(0).div_ceil(super::BLOCK)
    }

    /// The parent of a directory that the overlay created or moved.
    pub fn parent(&self) -> Option<Ino> {
        self.home.as_ref().map(|h| h.parent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A changed file costs this, its count of references, and what its entries in the maps take: 400 bytes in all. With the
    /// count it fills a chunk of 128 bytes, of which the allocator has 8.
    #[test]
    fn an_inode_stays_small() {
        assert!(size_of::<Inode>() <= 112, "{}", size_of::<Inode>());
        assert!(size_of::<super::super::Place>() <= 72);
        // Entries of maps whose nodes stay half empty, so that each byte is one of two.
        use super::super::{Extent, FileBlock, root::Entry};
        assert_eq!(size_of::<(Slot, Entry)>(), 24);
        assert_eq!(size_of::<(FileBlock, Extent)>(), 24);
    }
}
