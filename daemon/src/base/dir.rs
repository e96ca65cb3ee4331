//! Listing directories, and looking at several entries of one.

use std::cell::RefCell;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::resolve::{CName, open_to_read, stat_at};
use super::{Base, BaseStat};
use crate::tree::Kind;

/// Bytes of entries that are asked for at a time.
const BUFFER: usize = 64 << 10;

/// Where the name begins in `struct linux_dirent64`, see getdents(2): after a 64-bit inode number, a 64-bit offset, a 16-bit
/// length of the entry, and the type's byte.
const NAME_AT: usize = 19;

/// One entry of a base directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseEntry {
    pub name: Box<[u8]>,
    /// Inode number as the directory has it. It is good for showing; only [`Base::lookup`] makes it known.
    pub ino: u64,
    pub kind: Kind,
}

/// A directory of the base, for looking at several of its entries.
pub struct BaseDir<'a> {
    base: &'a Base,
    fd: Arc<OwnedFd>,
}

impl BaseDir<'_> {
    /// The attributes of one entry. Its place does not become known by this, see [`Base::hold_all`].
    ///
    /// # Errors
    /// As for [`Base::lookup`], but for those of the directory.
    pub fn peek(&self, name: &[u8]) -> Result<BaseStat, Errno> {
        let raw = stat_at(self.fd.as_fd(), CName::new(name)?.as_cstr())?;
        self.base.convert(&raw)
    }
}

impl Base {
    /// The directory `ino`.
    ///
    /// # Errors
    /// ENOTDIR: not a directory; ESTALE: not known, or something else is there now; what `openat2` gives.
    pub fn dir(&self, ino: u64) -> Result<BaseDir<'_>, Errno> {
        Ok(BaseDir {
            base: self,
            fd: self.dir_fd(ino)?,
        })
    }

    /// The directory `ino` was listed, which `waited` for the disk or did not; `below` are names of its subdirectories. What
    /// a walker would list next is read ahead, see [`super::ahead`].
    pub fn listed<'a>(&self, ino: u64, waited: bool, below: impl Iterator<Item = &'a [u8]>) {
        if !self.ahead.is_worth_it(waited) {
            return;
        }
        let parent = self.nodes.read().place(ino).map(|(parent, _)| parent);
        if let Ok(fd) = self.dir_fd(ino) {
            // The root is in no directory that anybody walks.
            self.ahead.listed(parent.unwrap_or(0), ino, fd, below);
        }
    }

    /// All entries of the directory `ino` except `.` and `..`, in the order in which its filesystem has them.
    ///
    /// Listing makes no place known (nobody would ever forget it): who hands out an entry's inode number
    /// as a reference looks the name up.
    ///
    /// # Errors
    /// ENOTDIR: not a directory; ESTALE: not known, or something else is there now; what `openat2` and
    /// `getdents64` give.
    pub fn list(&self, ino: u64) -> Result<Vec<BaseEntry>, Errno> {
        if let Some(fd) = self.fresh(ino) {
            return entries(fd.as_fd());
        }
        let dir = self.dir_fd(ino)?;
        entries(open_to_read(dir.as_fd(), c".", OFlag::O_DIRECTORY)?.as_fd())
    }

    /// A directory that is not open yet, opened so that it can be read, its position at the start, and cached for
    /// resolving names too. `None`: it is open already, or something is wrong, for the slower way to tell what.
    fn fresh(&self, ino: u64) -> Option<Arc<OwnedFd>> {
        if ino == super::ROOT || self.dirs.get(ino).is_some() {
            return None;
        }
        let (above, name) = self.step(ino).ok()??;
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        let fd = Arc::new(open_to_read(above.as_fd(), name.as_cstr(), flags).ok()?);
        self.expect_dir(ino, &fd).ok()?;
        // Should another thread have come first, the position is still this one's own.
        self.dirs.insert(ino, Arc::clone(&fd));
        Some(fd)
    }
}

/// Reads a directory from its position to its end.
pub(super) fn entries(dir: BorrowedFd<'_>) -> Result<Vec<BaseEntry>, Errno> {
    thread_local!(static READ: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER]));
    READ.with_borrow_mut(|buf| {
        let mut out = Vec::new();
        loop {
            let filled = match getdents(dir, buf)? {
                0 => return Ok(out),
                filled => filled,
            };
            let mut rest = &buf[..filled];
            while let Some((ino, kind, name, length)) = parse(rest) {
                rest = &rest[length..];
                if matches!(name.to_bytes(), b"." | b"..") {
                    continue;
                }
                let kind = match kind {
                    Some(kind) => kind,
                    // Not every filesystem puts types into its directories.
                    None => match stat_at(dir, name) {
                        Ok(stat) => Kind::from_mode(stat.st_mode).ok_or(Errno::EIO)?,
                        Err(Errno::ENOENT) => continue,
                        Err(error) => return Err(error),
                    },
                };
                let name = name.to_bytes().into();
                out.push(BaseEntry { name, ino, kind });
            }
        }
    })
}

/// Inode number, type if the directory has it, name, and length of the first entry in what `getdents64` filled.
fn parse(rest: &[u8]) -> Option<(u64, Option<Kind>, &CStr, usize)> {
    let ino = u64::from_ne_bytes(rest.get(..8)?.try_into().ok()?);
    let length = usize::from(u16::from_ne_bytes(rest.get(16..18)?.try_into().ok()?));
    let name = CStr::from_bytes_until_nul(rest.get(NAME_AT..length)?).ok()?;
    // The types of entries are those of modes, shifted.
    let kind = Kind::from_mode(u32::from(rest[18]) << 12);
    Some((ino, kind, name, length))
}

/// One `getdents64(2)`: the count of bytes, 0 at the end.
fn getdents(dir: BorrowedFd<'_>, buf: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most `buf.len()` bytes into `buf`, which is borrowed mutably for the whole call.
    let filled = unsafe {
        libc::syscall(
            libc::SYS_getdents64,
            dir.as_raw_fd(),
            buf.as_mut_ptr(),
            buf.len(),
        )
    };
    Errno::result(filled).map(|filled| filled as usize)
}
