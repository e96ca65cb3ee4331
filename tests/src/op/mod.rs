//! One filesystem operation: what it is, how it is made up, how it is done for real.

mod perform;
mod roll;

use std::fmt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

pub use perform::World;
pub use roll::{Flavour, NAMES, roll, sprout};

/// How many files an operation sequence may hold open at once.
pub const SLOTS: usize = 2;

/// A path below the root of the tree; empty is the root itself. Components are separated by `/`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spot(pub Vec<u8>);

impl Spot {
    /// The components.
    pub fn parts(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|&b| b == b'/').filter(|part| !part.is_empty())
    }

    /// The full path when the tree is at `root`.
    #[must_use]
    pub fn below(&self, root: &Path) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        if self.0.is_empty() {
            return root.to_path_buf();
        }
        root.join(std::ffi::OsStr::from_bytes(&self.0))
    }
}

impl fmt::Debug for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0.escape_ascii())
    }
}

/// Which rename.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renaming {
    /// Replaces what is there.
    Plain,
    /// RENAME_NOREPLACE.
    NoReplace,
    /// RENAME_EXCHANGE.
    Exchange,
}

/// Which fallocate(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// Extends the file.
    Plain,
    /// FALLOC_FL_KEEP_SIZE.
    KeepSize,
    /// FALLOC_FL_PUNCH_HOLE, the size is kept.
    Punch,
}

/// One operation. Symbolic links are never followed in the last component; offsets and lengths
/// are bytes; `fill` chooses the [`pattern`](crate::dice::pattern) that is written.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Op {
    Create {
        at: Spot,
        mode: u32,
        exclusive: bool,
    },
    Write {
        at: Spot,
        offset: u64,
        len: usize,
        fill: u16,
    },
    Append {
        at: Spot,
        len: usize,
        fill: u16,
    },
    /// open(2) with O_TRUNC.
    Empty {
        at: Spot,
    },
    Truncate {
        at: Spot,
        size: u64,
    },
    Allocate {
        at: Spot,
        how: Allocation,
        offset: u64,
        len: u64,
    },
    /// Store through a shared mapping, msync, unmap; clipped to the file's size.
    MapWrite {
        at: Spot,
        offset: u64,
        len: usize,
        fill: u16,
    },
    CopyRange {
        from: Spot,
        to: Spot,
        from_offset: u64,
        to_offset: u64,
        len: usize,
    },
    Read {
        at: Spot,
        offset: u64,
        len: usize,
    },
    /// Everything that SEEK_DATA and SEEK_HOLE call a hole reads as zeros.
    Holes {
        at: Spot,
    },
    Mkdir {
        at: Spot,
        mode: u32,
    },
    Rmdir {
        at: Spot,
    },
    Unlink {
        at: Spot,
    },
    Rename {
        from: Spot,
        to: Spot,
        how: Renaming,
    },
    Link {
        from: Spot,
        to: Spot,
    },
    Symlink {
        at: Spot,
        target: Vec<u8>,
    },
    /// A fifo, or a socket.
    Mknod {
        at: Spot,
        socket: bool,
        mode: u32,
    },
    Readlink {
        at: Spot,
    },
    List {
        at: Spot,
    },
    Chmod {
        at: Spot,
        mode: u32,
    },
    Chown {
        at: Spot,
        uid: u32,
        gid: u32,
    },
    /// Sets the modification time.
    Utimens {
        at: Spot,
        seconds: i64,
        nanoseconds: i64,
    },
    SetXattr {
        at: Spot,
        name: &'static [u8],
        value: Vec<u8>,
        flags: i32,
    },
    RemoveXattr {
        at: Spot,
        name: &'static [u8],
    },
    /// Sets an ACL of user::, user:1000:, group::, mask::, other:: with these permissions (0 to 7).
    SetAcl {
        at: Spot,
        default: bool,
        permissions: [u16; 5],
    },
    Open {
        slot: usize,
        at: Spot,
        append: bool,
    },
    Close {
        slot: usize,
    },
    /// Through an open file; at its end when it was opened to append.
    HandleWrite {
        slot: usize,
        offset: u64,
        len: usize,
        fill: u16,
    },
    HandleRead {
        slot: usize,
        offset: u64,
        len: usize,
    },
    HandleTruncate {
        slot: usize,
        size: u64,
    },
    /// Size and link count of an open file.
    HandleStat {
        slot: usize,
    },
    HandleSync {
        slot: usize,
    },
}

/// What an operation gives when it succeeds.
#[derive(Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing but success.
    Done,
    /// Bytes that were read.
    Bytes(Vec<u8>),
    /// Numbers, such as a count of bytes.
    Numbers(Vec<u64>),
    /// The sorted names in a directory.
    Names(Vec<Vec<u8>>),
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Done => write!(f, "done"),
            Outcome::Bytes(bytes) => {
                let start = &bytes[..bytes.len().min(16)];
                let digest = crate::manifest::digest(bytes);
                write!(
                    f,
                    "{} bytes [{}..] {digest:x}",
                    bytes.len(),
                    start.escape_ascii()
                )
            }
            Outcome::Numbers(numbers) => write!(f, "{numbers:?}"),
            Outcome::Names(names) => f
                .debug_list()
                .entries(names.iter().map(|n| n.escape_ascii().to_string()))
                .finish(),
        }
    }
}

/// How an operation ends.
pub type Answer = Result<Outcome, Errno>;
