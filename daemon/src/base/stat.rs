//! Attributes, by name and by inode number.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::libc::stat as RawStat;
use nix::sys::stat::fstat;
use nix::sys::statvfs::{Statvfs, fstatvfs};

use super::resolve::{CName, stat_at};
use super::{Base, ROOT};
use crate::tree::Kind;

/// The attributes of a base object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseStat {
    /// Inode number, the root's being [`ROOT`].
    pub ino: u64,
    pub kind: Kind,
    /// Permission bits with set-ID and sticky, `07777`.
    pub perm: u16,
    pub uid: u32,
    pub gid: u32,
    /// Names in the base, as its filesystem counts them.
    pub nlink: u32,
    /// Device number of a device node, in the kernel's 32-bit encoding; 0 otherwise.
    pub rdev: u32,
    /// Length in bytes.
    pub size: u64,
    /// Space taken, in units of 512 bytes.
    pub blocks: u64,
    /// Times as seconds since 1970 and nanoseconds.
    pub atime: (i64, u32),
    pub mtime: (i64, u32),
    pub ctime: (i64, u32),
}

impl Base {
    /// The object called `name` in the directory `parent`; its place is known from now on (see [`Base::hold`]).
    ///
    /// # Errors
    /// ENOENT: no such name; EINVAL, ENAMETOOLONG: not a name; ENOTDIR: `parent` is no directory;
    /// ESTALE: `parent` is not known or changed; EOVERFLOW, EXDEV: an object that llfs cannot number;
    /// what `fstatat` gives.
    pub fn lookup(&self, parent: u64, name: &[u8]) -> Result<BaseStat, Errno> {
        let cname = CName::new(name)?;
        if self.recent.take_absent(parent, name) {
            return Err(Errno::ENOENT);
        }
        let dir = self.dir_fd(parent)?;
        let raw = stat_at(dir.as_fd(), cname.as_cstr()).inspect_err(|error| {
            if *error == Errno::ENOENT {
                self.recent.note_absent(parent, name);
            }
        })?;
        let stat = self.convert(&raw).inspect_err(|error| {
            let dir = self.path_of(parent).unwrap_or_default();
            let path = dir.join(OsStr::from_bytes(name));
            tracing::warn!(?path, dev = raw.st_dev, ino = raw.st_ino, %error, "unusable base object");
        })?;
        self.hold(stat.ino, parent, name)?;
        self.recent.note(&stat, false);
        Ok(stat)
    }

    /// The attributes of `ino`.
    ///
    /// # Errors
    /// ESTALE: not known, or something else is there now; what `fstatat` gives.
    pub fn stat(&self, ino: u64) -> Result<BaseStat, Errno> {
        if ino == ROOT {
            return self.convert(&fstat(&self.view)?);
        }
        let stat = self.convert(&self.locate(ino)?.2)?;
        self.recent.note(&stat, false);
        Ok(stat)
    }

    /// Figures of the filesystem that the base is on.
    ///
    /// # Errors
    /// What `fstatvfs` gives.
    pub fn statfs(&self) -> Result<Statvfs, Errno> {
        fstatvfs(&self.root)
    }

    pub(super) fn convert(&self, raw: &RawStat) -> Result<BaseStat, Errno> {
        let nanos = |nanos: i64| u32::try_from(nanos).unwrap_or(0);
        Ok(BaseStat {
            ino: self.number(raw)?,
            kind: Kind::from_mode(raw.st_mode).ok_or(Errno::EIO)?,
            perm: (raw.st_mode & 0o7777) as u16,
            uid: raw.st_uid,
            gid: raw.st_gid,
            nlink: u32::try_from(raw.st_nlink).unwrap_or(u32::MAX),
            // The C library's 64-bit form has the kernel's 32 bits at the bottom.
            rdev: raw.st_rdev as u32,
            size: u64::try_from(raw.st_size).map_err(|_| Errno::EOVERFLOW)?,
            blocks: u64::try_from(raw.st_blocks).unwrap_or(0),
            atime: (raw.st_atime, nanos(raw.st_atime_nsec)),
            mtime: (raw.st_mtime, nanos(raw.st_mtime_nsec)),
            ctime: (raw.st_ctime, nanos(raw.st_ctime_nsec)),
        })
    }
}
