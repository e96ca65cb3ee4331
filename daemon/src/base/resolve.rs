//! From an inode number to a descriptor of the directory that it is in.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::libc::stat as RawStat;
use nix::sys::stat::{fstat, fstatat};

use super::node::{Place, Reason, check_name};
use super::{Base, FIRST_NEW, ROOT};
use crate::tree::Kind;

/// One checked name as the system calls want it, without an allocation.
pub(super) struct CName {
    buf: [u8; 256],
    len: usize,
}

impl CName {
    /// # Errors
    /// EINVAL, ENAMETOOLONG: not the name of one entry.
    pub fn new(name: &[u8]) -> Result<CName, Errno> {
        check_name(name)?;
        let mut buf = [0; 256];
        buf[..name.len()].copy_from_slice(name);
        Ok(CName {
            buf,
            len: name.len(),
        })
    }

    pub fn as_cstr(&self) -> &CStr {
        CStr::from_bytes_with_nul(&self.buf[..=self.len]).expect("a checked name has no NUL in it")
    }
}

/// `openat2` of one component, which leads neither out of `dir` nor through a link or a mount.
pub(super) fn open_beneath(
    dir: BorrowedFd<'_>,
    name: &CStr,
    flags: OFlag,
) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(
        ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_XDEV
            | ResolveFlag::RESOLVE_NO_MAGICLINKS,
    );
    openat2(dir, name, how)
}

/// [`open_beneath`] for reading, without touching the access time where the owner allows that.
pub(super) fn open_to_read(
    dir: BorrowedFd<'_>,
    name: &CStr,
    flags: OFlag,
) -> Result<OwnedFd, Errno> {
    match open_beneath(dir, name, flags | OFlag::O_RDONLY | OFlag::O_NOATIME) {
        Err(Errno::EPERM) => open_beneath(dir, name, flags | OFlag::O_RDONLY),
        result => result,
    }
}

impl Base {
    /// Records a place that the journal knows; it is kept for good. The first place learned stays, so
    /// one of several hard links serves for all.
    ///
    /// # Errors
    /// EINVAL, ENAMETOOLONG: not a place that a base object can have.
    pub fn learn(&self, ino: u64, place: &Place) -> Result<(), Errno> {
        self.nodes
            .write()
            .add(ino, place.parent, &place.name, Reason::Pin)
    }

    /// Records a place until [`Base::forget`]. [`Base::lookup`] does so by itself; a caller that counts
    /// the kernel's references calls this under the lock that also guards its call of `forget`.
    ///
    /// # Errors
    /// EINVAL, ENAMETOOLONG: not a place that a base object can have.
    pub fn hold(&self, ino: u64, parent: u64, name: &[u8]) -> Result<(), Errno> {
        if ino == ROOT || self.nodes.read().is_held(ino) {
            return Ok(());
        }
        self.nodes.write().add(ino, parent, name, Reason::Hold)
    }

    /// [`Base::hold`] of many entries of one directory: their inode numbers and names.
    ///
    /// # Errors
    /// As for [`Base::hold`]; those before the wrong one are held.
    pub fn hold_all<'a>(
        &self,
        parent: u64,
        entries: impl IntoIterator<Item = (u64, &'a [u8])>,
    ) -> Result<(), Errno> {
        let mut nodes = self.nodes.write();
        let others = entries.into_iter().filter(|(ino, _)| *ino != ROOT);
        for (ino, name) in others {
            nodes.add(ino, parent, name, Reason::Hold)?;
        }
        Ok(())
    }

    /// The kernel forgot `ino`. Its place goes unless the journal recorded it or a known child needs it.
    pub fn forget(&self, ino: u64) {
        self.nodes.write().forget(ino);
    }

    /// Gives `ino` a new place, kept for good: `apply` moved it there. Call [`Base::evict`] as well.
    ///
    /// # Errors
    /// EINVAL, ENAMETOOLONG: not a place that a base object can have.
    pub fn relocate(&self, ino: u64, place: &Place) -> Result<(), Errno> {
        self.nodes.write().relocate(ino, place.parent, &place.name)
    }

    /// The place of `ino`; `None` for the root and for what is not known.
    pub fn place_of(&self, ino: u64) -> Option<Place> {
        let nodes = self.nodes.read();
        let (parent, name) = nodes.place(ino)?;
        Some(Place {
            parent,
            name: name.into(),
        })
    }

    /// The path of `ino` below the base directory, `.` for the root, for messages; `None` where unknown.
    pub fn path_of(&self, ino: u64) -> Option<PathBuf> {
        let chain = self.nodes.read().chain(ino).ok()?;
        if chain.is_empty() {
            return Some(PathBuf::from("."));
        }
        let names = chain.iter().rev();
        Some(
            names
                .map(|(_, name)| std::ffi::OsStr::from_bytes(name))
                .collect(),
        )
    }

    /// How many inodes have a known place.
    pub fn known(&self) -> usize {
        self.nodes.read().len()
    }

    /// Closes every cached descriptor and forgets what the disk said. To be called before `apply` changes the base, with no operation running.
    pub fn evict(&self) {
        self.files.clear();
        self.dirs.clear();
        self.recent.clear();
        self.ahead.clear();
    }

    /// An `O_PATH` descriptor of the directory `ino`.
    ///
    /// # Errors
    /// ESTALE: not known, or something else is there now; ENOTDIR: not a directory; what `openat2` gives.
    pub(super) fn dir_fd(&self, ino: u64) -> Result<Arc<OwnedFd>, Errno> {
        // A descriptor may outlive the place in the cache: what is learned below must have a way up.
        if ino != ROOT && self.nodes.read().place(ino).is_none() {
            return Err(Errno::ESTALE);
        }
        self.walk(ino).map_err(|e| self.found_wrong(ino, e))
    }

    /// [`Base::dir_fd`] with the system's own errors: ENOENT, ELOOP (a link), EXDEV (a mount) where
    /// something is missing or wrong on the way.
    fn walk(&self, ino: u64) -> Result<Arc<OwnedFd>, Errno> {
        if ino == ROOT {
            return Ok(Arc::clone(&self.view));
        }
        if let Some(fd) = self.dirs.get(ino) {
            return Ok(fd);
        }
        if let Some((above, name)) = self.step(ino)? {
            return self.descend(above.as_fd(), &name, ino);
        }
        let chain = self.nodes.read().chain(ino)?;
        // Start at the nearest directory that is open already; each step down is one component, so that
        // neither the depth nor the length of the path matters.
        let mut depth = chain.len();
        let mut at = Arc::clone(&self.view);
        for (i, (ino, _)) in chain.iter().enumerate().skip(1) {
            if let Some(fd) = self.dirs.get(*ino) {
                (depth, at) = (i, fd);
                break;
            }
        }
        for (ino, name) in chain[..depth].iter().rev() {
            at = self.descend(at.as_fd(), &CName::new(name)?, *ino)?;
        }
        Ok(at)
    }

    /// The directory above `ino`, if that is open already, and the name in it.
    ///
    /// # Errors
    /// ESTALE: the place is not known.
    pub(super) fn step(&self, ino: u64) -> Result<Option<(Arc<OwnedFd>, CName)>, Errno> {
        let (parent, name) = {
            let nodes = self.nodes.read();
            let (parent, name) = nodes.place(ino).ok_or(Errno::ESTALE)?;
            (parent, CName::new(name)?)
        };
        let above = match parent {
            ROOT => Some(Arc::clone(&self.view)),
            parent => self.dirs.get(parent),
        };
        Ok(above.map(|above| (above, name)))
    }

    /// One step down, to the directory `ino`, which must be called `name` in `above`.
    fn descend(
        &self,
        above: BorrowedFd<'_>,
        name: &CName,
        ino: u64,
    ) -> Result<Arc<OwnedFd>, Errno> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
        let fd = open_beneath(above, name.as_cstr(), flags)?;
        self.expect_dir(ino, &fd)?;
        Ok(self.dirs.insert(ino, Arc::new(fd)))
    }

    /// ESTALE, ENOTDIR: the descriptor is not that of the directory `ino`.
    pub(super) fn expect_dir(&self, ino: u64, fd: &OwnedFd) -> Result<(), Errno> {
        let stat = fstat(fd)?;
        self.expect(ino, &stat)?;
        match Kind::from_mode(stat.st_mode) {
            Some(Kind::Dir) => Ok(()),
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// The directory and the name by which `ino`, not the root, is reached, and its attributes.
    ///
    /// # Errors
    /// ESTALE: not known, or something else is there now; what `openat2` and `fstatat` give.
    pub(super) fn locate(&self, ino: u64) -> Result<(Arc<OwnedFd>, CName, RawStat), Errno> {
        self.probe(ino).map_err(|e| self.found_wrong(ino, e))
    }

    /// The directory and the name by which `ino`, not the root, is reached, if it is still there: who opens
    /// it or asks for its attributes finds out.
    ///
    /// # Errors
    /// As for [`Base::walk`].
    pub(super) fn spot(&self, ino: u64) -> Result<(Arc<OwnedFd>, CName), Errno> {
        let (parent, name) = {
            let nodes = self.nodes.read();
            let (parent, name) = nodes.place(ino).ok_or(Errno::ESTALE)?;
            (parent, CName::new(name)?)
        };
        Ok((self.walk(parent)?, name))
    }

    /// [`Base::locate`] with the system's own errors, see [`Base::walk`]; logs nothing.
    pub(super) fn probe(&self, ino: u64) -> Result<(Arc<OwnedFd>, CName, RawStat), Errno> {
        let (dir, name) = self.spot(ino)?;
        let stat = stat_at(dir.as_fd(), name.as_cstr())?;
        self.expect(ino, &stat)?;
        Ok((dir, name, stat))
    }

    /// ESTALE unless `stat` is that of `ino`.
    pub(super) fn expect(&self, ino: u64, stat: &RawStat) -> Result<(), Errno> {
        if self.number(stat) == Ok(ino) {
            Ok(())
        } else {
            Err(Errno::ESTALE)
        }
    }

    /// The inode number that `stat` has here, the root's being [`ROOT`].
    ///
    /// # Errors
    /// EXDEV: on another device; EOVERFLOW: a number that llfs gives to something else.
    pub(super) fn number(&self, stat: &RawStat) -> Result<u64, Errno> {
        if stat.st_dev != self.identity.dev {
            return Err(Errno::EXDEV);
        }
        match stat.st_ino {
            ino if ino == self.identity.ino => Ok(ROOT),
            0 | ROOT | FIRST_NEW.. => Err(Errno::EOVERFLOW),
            ino => Ok(ino),
        }
    }

    /// The error for a file that is shorter than it was, logged.
    pub fn found_short(&self, ino: u64) -> Errno {
        self.found_wrong(ino, Errno::ESTALE)
    }

    /// The error for an `ino` that was not to be found as it was learned, logged.
    pub(super) fn found_wrong(&self, ino: u64, error: Errno) -> Errno {
        match error {
            // Nothing, a link, a mount, or another object is where it was.
            Errno::ENOENT | Errno::ELOOP | Errno::EXDEV | Errno::ESTALE => {
                let path = self.path_of(ino);
                self.wrong.fetch_add(1, Relaxed);
                tracing::warn!(ino, ?path, "a base object is not where it was");
                Errno::ESTALE
            }
            error => error,
        }
    }
}

/// The attributes of one entry of `dir`, links not followed.
pub(super) fn stat_at(dir: BorrowedFd<'_>, name: &CStr) -> Result<RawStat, Errno> {
    fstatat(
        dir,
        name,
        AtFlags::AT_SYMLINK_NOFOLLOW | AtFlags::AT_NO_AUTOMOUNT,
    )
}
