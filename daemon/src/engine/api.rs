//! What the adapters of the engine give it and get from it: plain values, no FUSE types.

use std::io;
use std::path::Path;

use nix::errno::Errno;

use crate::tree::{Ino, Kind, Time};

/// The answer of a file operation.
pub type Answer<T> = std::result::Result<T, Errno>;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// File system user id.
    pub uid: u32,
    /// File system group id.
    pub gid: u32,
    /// Thread id, 0 for the kernel itself.
    pub pid: u32,
}

/// Attributes as `stat` shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// Inode number.
    pub ino: Ino,
    /// The type.
    pub kind: Kind,
    /// Permission bits with set-ID and sticky, `07777`.
    pub perm: u16,
    /// Number of links.
    pub nlink: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Device number of a device node.
    pub rdev: u32,
    /// Bytes.
    pub size: u64,
    /// Allocated space in units of 512 bytes.
    pub blocks: u64,
    /// Last read, as far as it was ever set.
    pub atime: Time,
    /// Last change of the content.
    pub mtime: Time,
    /// Last change of anything.
    pub ctime: Time,
}

/// A name's inode; handing it to the kernel counts one lookup, which `forget` takes back.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its attributes.
    pub attr: Attr,
    /// Tells a directory that came back by a revert from the one that was removed.
    pub generation: u64,
    /// The name keeps its meaning until the kernel is told; if not, it is to ask each time.
    pub lasting: bool,
}

/// What to make.
#[derive(Clone, Copy, Debug)]
pub struct Make<'a> {
    /// The type.
    pub kind: Kind,
    /// Permission bits asked for.
    pub perm: u16,
    /// The caller's umask, which a default ACL overrides.
    pub umask: u16,
    /// Device number of a device node.
    pub rdev: u32,
    /// Target of a symbolic link.
    pub target: &'a [u8],
}

/// A time to set.
#[derive(Clone, Copy, Debug)]
pub enum SetTime {
    /// The current time.
    Now,
    /// This one.
    To(Time),
}

/// Attributes to set; all `None` is what `chown(-1, -1)` sends, and clears the set-ID bits as that does.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttr {
    /// Permission bits.
    pub perm: Option<u16>,
    /// The owner.
    pub uid: Option<u32>,
    /// The group.
    pub gid: Option<u32>,
    /// Length in bytes.
    pub size: Option<u64>,
    /// Last read.
    pub atime: Option<SetTime>,
    /// Last change of the content.
    pub mtime: Option<SetTime>,
    /// Last change of anything.
    pub ctime: Option<Time>,
}

/// How a write came.
#[derive(Clone, Copy, Debug, Default)]
pub struct WriteHow {
    /// From the page cache: stores through a mapping, by nobody in particular.
    pub cached: bool,
    /// The descriptor has `O_APPEND`.
    pub append: bool,
    /// The writer may not keep set-ID bits (`FUSE_WRITE_KILL_SUIDGID`).
    pub kill_priv: bool,
}

/// One entry of a directory.
#[derive(Clone, Copy, Debug)]
pub struct Listed<'a> {
    /// Where the listing goes on after this entry.
    pub cookie: u64,
    /// Its name.
    pub name: &'a [u8],
    /// Its inode number.
    pub ino: Ino,
    /// Its type.
    pub kind: Kind,
    /// Attributes, if asked for; none of `.` and `..`.
    pub entry: Option<Entry>,
}

/// Figures of the file system that takes the writes, as `statvfs` has them.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    /// All blocks.
    pub blocks: u64,
    /// Free ones.
    pub free: u64,
    /// Free ones for users other than root.
    pub available: u64,
    /// All inodes.
    pub files: u64,
    /// Free inodes.
    pub files_free: u64,
    /// Bytes of a block.
    pub block_size: u32,
}

/// What the engine needs of the kernel that caches for it. Called by no handler, and with no lock held that a
/// handler takes.
pub trait Kernel: Send + Sync {
    /// Sends the dirty pages of mappings, and returns when the engine got them.
    ///
    /// # Errors
    /// What the kernel says.
    fn flush(&self) -> io::Result<()>;
    /// Waits until a request that is sent now is answered, and so those before it.
    ///
    /// # Errors
    /// What the kernel says.
    fn answers(&self) -> io::Result<()>;
    /// Forgets the inode's pages and attributes, the listing of a directory too.
    fn forget_inode(&self, ino: Ino);
    /// Forgets what the name means.
    fn forget_name(&self, parent: Ino, name: &[u8]);
    /// Forgets what all names mean, as far as this kernel can (Linux 6.16 and newer).
    ///
    /// # Errors
    /// What the kernel says.
    fn forget_all_names(&self) -> io::Result<()>;
    /// Looks a path up, so that a directory that the kernel holds under an older name gets this one.
    fn look_up(&self, path: &Path);
}
