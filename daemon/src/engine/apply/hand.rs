//! The system calls that change the base, and the few that look at it.
//!
//! Every change goes through [`Hand`], one method a call, so that tests can stop an apply before any of them.
//! All of them name an object by a directory's descriptor and one component, and follow no links.

use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{
    AtFlags, FallocateFlags, OFlag, OpenHow, RenameFlags, ResolveFlag, fallocate, openat2,
    renameat2,
};
use nix::libc::stat as RawStat;
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmodat, mkdirat, mknodat};
use nix::sys::stat::{fstat, fstatat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags};
use nix::unistd::{fchownat, ftruncate, linkat, symlinkat, syncfs, unlinkat};

use super::super::Answer;
use crate::tree::{Kind, Time};

/// Asked before each change whether to go on.
pub(super) type Hook<'a> = &'a dyn Fn(&'static str) -> Answer<()>;

/// Where an object is: a directory, and a name in it (`.` for the directory itself).
#[derive(Clone)]
pub(super) struct Spot {
    pub dir: Rc<OwnedFd>,
    pub name: CString,
}

impl Spot {
    pub fn new(dir: &Rc<OwnedFd>, name: &[u8]) -> Answer<Spot> {
        Ok(Spot {
            dir: dir.clone(),
            name: CString::new(name).map_err(|_| Errno::EINVAL)?,
        })
    }

    /// What is there; `None` if nothing.
    pub fn stat(&self) -> Answer<Option<RawStat>> {
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW | AtFlags::AT_NO_AUTOMOUNT;
        match fstatat(self.dir.as_fd(), &*self.name, flags) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Opens it; see [`open_beneath`].
    pub fn open(&self, flags: OFlag) -> Answer<OwnedFd> {
        open_beneath(self.dir.as_fd(), &self.name, flags)
    }

    /// A path for calls that take no descriptor; good as long as the spot is.
    pub fn proc_path(&self) -> Answer<CString> {
        let mut path = format!("/proc/self/fd/{}/", self.dir.as_raw_fd()).into_bytes();
        path.extend_from_slice(self.name.as_bytes());
        CString::new(path).map_err(|_| Errno::EINVAL)
    }
}

/// `openat2` of one component, which leads neither out of `dir` nor through a link or a mount.
pub(super) fn open_beneath(dir: BorrowedFd<'_>, name: &CStr, flags: OFlag) -> Answer<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW)
        .resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::RESOLVE_NO_XDEV
                | ResolveFlag::RESOLVE_NO_MAGICLINKS,
        );
    openat2(dir, name, how)
}

/// Whether `stat` is that of a directory.
pub(super) fn is_dir(stat: &RawStat) -> bool {
    Kind::from_mode(stat.st_mode) == Some(Kind::Dir)
}

/// Makes changes, one system call a method; what they return is what the call does.
pub(super) struct Hand<'a> {
    hook: Hook<'a>,
    /// Modes that are in the way may be changed for a while: all attributes are set later.
    forward: Cell<bool>,
}

impl<'a> Hand<'a> {
    pub fn new(hook: Hook<'a>) -> Self {
        Hand {
            hook,
            forward: Cell::new(false),
        }
    }

    /// From here on it only goes forward, to where all attributes are set: [`Self::open_up`] opens.
    pub fn go_forward(&self) {
        self.forward.set(true);
    }

    pub fn mkdir(&self, at: &Spot) -> Answer<()> {
        (self.hook)("mkdir")?;
        mkdirat(at.dir.as_fd(), &*at.name, Mode::S_IRWXU)
    }

    pub fn create(&self, at: &Spot) -> Answer<OwnedFd> {
        (self.hook)("create")?;
        let how = OpenHow::new()
            .flags(OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC)
            .mode(Mode::S_IRUSR | Mode::S_IWUSR)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
        openat2(at.dir.as_fd(), &*at.name, how)
    }

    /// Makes a fifo, a socket or a device node.
    pub fn special(&self, at: &Spot, kind: Kind, rdev: u32) -> Answer<()> {
        (self.hook)("mknod")?;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        // The kernel's 32 bits are the lower ones of the C library's form.
        let dev = libc::dev_t::from(rdev);
        let kind = SFlag::from_bits_truncate(kind.to_mode());
        mknodat(at.dir.as_fd(), &*at.name, kind, mode, dev)
    }

    pub fn symlink(&self, at: &Spot, target: &[u8]) -> Answer<()> {
        (self.hook)("symlink")?;
        symlinkat(target, at.dir.as_fd(), &*at.name)
    }

    /// Renames; EEXIST if something is at `to`.
    pub fn rename(&self, from: &Spot, to: &Spot) -> Answer<()> {
        (self.hook)("rename")?;
        let (a, b) = (from.dir.as_fd(), to.dir.as_fd());
        match renameat2(a, &*from.name, b, &*to.name, RenameFlags::RENAME_NOREPLACE) {
            // A file system without the flag: nobody else writes here, so looking first is enough.
            Err(Errno::EINVAL) if to.stat()?.is_none() => {
                renameat2(a, &*from.name, b, &*to.name, RenameFlags::empty())
            }
            answer => answer,
        }
    }

    pub fn link(&self, from: &Spot, to: &Spot) -> Answer<()> {
        (self.hook)("link")?;
        let (a, b) = (from.dir.as_fd(), to.dir.as_fd());
        linkat(a, &*from.name, b, &*to.name, AtFlags::empty())
    }

    pub fn unlink(&self, at: &Spot) -> Answer<()> {
        (self.hook)("unlink")?;
        unlinkat(at.dir.as_fd(), &*at.name, UnlinkatFlags::NoRemoveDir)
    }

    pub fn rmdir(&self, at: &Spot) -> Answer<()> {
        (self.hook)("rmdir")?;
        unlinkat(at.dir.as_fd(), &*at.name, UnlinkatFlags::RemoveDir)
    }

    /// Writes all of `data` at `off`.
    pub fn write(&self, file: BorrowedFd<'_>, data: &[u8], off: u64) -> Answer<()> {
        (self.hook)("write")?;
        let mut done = 0;
        while done < data.len() {
            let at = i64::try_from(off + done as u64).map_err(|_| Errno::EFBIG)?;
            match nix::sys::uio::pwrite(file, &data[done..], at) {
                Ok(0) => return Err(Errno::EIO),
                Ok(n) => done += n,
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    pub fn truncate(&self, file: BorrowedFd<'_>, size: u64) -> Answer<()> {
        (self.hook)("truncate")?;
        ftruncate(file, i64::try_from(size).map_err(|_| Errno::EFBIG)?)
    }

    /// Makes bytes a hole, without changing the size.
    pub fn punch(&self, file: BorrowedFd<'_>, off: u64, len: u64) -> Answer<()> {
        (self.hook)("punch")?;
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        allocate(file, flags, off, len)
    }

    /// Takes space for `len` bytes.
    pub fn allocate(&self, file: BorrowedFd<'_>, len: u64) -> Answer<()> {
        (self.hook)("allocate")?;
        allocate(file, FallocateFlags::empty(), 0, len)
    }

    /// Sets the permission bits of anything but a symbolic link.
    pub fn chmod(&self, at: &Spot, perm: u16) -> Answer<()> {
        (self.hook)("chmod")?;
        let mode = Mode::from_bits_truncate(perm.into());
        fchmodat(
            at.dir.as_fd(),
            &*at.name,
            mode,
            FchmodatFlags::FollowSymlink,
        )
    }

    pub fn chown(&self, at: &Spot, uid: u32, gid: u32) -> Answer<()> {
        (self.hook)("chown")?;
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
        fchownat(at.dir.as_fd(), &*at.name, Some(uid), Some(gid), flags)
    }

    /// Sets the mtime, and the atime if there is one.
    pub fn set_times(&self, at: &Spot, atime: Option<Time>, mtime: Time) -> Answer<()> {
        (self.hook)("utimens")?;
        let spec = |t: Time| TimeSpec::new(t.sec, i64::from(t.nsec));
        let atime = atime.map_or(TimeSpec::UTIME_OMIT, spec);
        let flags = UtimensatFlags::NoFollowSymlink;
        utimensat(at.dir.as_fd(), &*at.name, &atime, &spec(mtime), flags)
    }

    pub fn set_xattr(&self, at: &Spot, name: &[u8], value: &[u8]) -> Answer<()> {
        (self.hook)("setxattr")?;
        let path = at.proc_path()?;
        let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
        // SAFETY: both strings are NUL-terminated and `value` is valid for its length; all outlive the call.
        let done = unsafe {
            libc::lsetxattr(
                path.as_ptr(),
                name.as_ptr(),
                value.as_ptr().cast(),
                value.len(),
                0,
            )
        };
        Errno::result(done).map(drop)
    }

    pub fn remove_xattr(&self, at: &Spot, name: &[u8]) -> Answer<()> {
        (self.hook)("removexattr")?;
        let path = at.proc_path()?;
        let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
        // SAFETY: both strings are NUL-terminated and outlive the call.
        Errno::result(unsafe { libc::lremovexattr(path.as_ptr(), name.as_ptr()) }).map(drop)
    }

    /// Makes everything on the file system durable. A failed write-back since `dir` was opened is an error too.
    pub fn sync(&self, dir: BorrowedFd<'_>) -> Answer<()> {
        (self.hook)("syncfs")?;
        syncfs(dir)
    }

    /// Lets the owner, if that is us, into a directory whose mode keeps it out; `false` if that is not what is wrong.
    /// The directory's own mode comes back when its attributes are set.
    pub fn open_up(&self, dir: BorrowedFd<'_>) -> Answer<bool> {
        if !self.forward.get() {
            return Ok(false);
        }
        let stat = fstat(dir)?;
        let ours = stat.st_uid == Uid::effective().as_raw();
        if !ours || stat.st_mode & 0o700 == 0o700 {
            return Ok(false);
        }
        (self.hook)("chmod")?;
        // chmod of an `O_PATH` descriptor goes through its link in /proc.
        let path = format!("/proc/self/fd/{}", dir.as_raw_fd());
        let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777 | 0o700);
        fchmodat(
            nix::fcntl::AT_FDCWD,
            path.as_str(),
            mode,
            FchmodatFlags::FollowSymlink,
        )?;
        Ok(true)
    }
}

fn allocate(file: BorrowedFd<'_>, flags: FallocateFlags, off: u64, len: u64) -> Answer<()> {
    let (off, len) = (i64::try_from(off), i64::try_from(len));
    match (off, len) {
        (Ok(off), Ok(len)) => fallocate(file, flags, off, len),
        _ => Err(Errno::EFBIG),
    }
}
