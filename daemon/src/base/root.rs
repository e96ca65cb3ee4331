//! Opening the base directory.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat};
use parking_lot::RwLock;

use super::resolve::open_beneath;
use super::{
    Ahead, Base, BaseError, DIR_FDS, FILE_FDS, FdCache, Identity, NodeTable, Recent, xattr,
};

impl Base {
    /// Opens the directory at `path`, following symbolic links to it.
    ///
    /// # Errors
    /// What is there cannot be a base, see [`BaseError`].
    pub fn open(path: &Path) -> Result<Base, BaseError> {
        let failed = |source: Errno| classify(path, source);
        let real = path.canonicalize().map_err(|e| failed(errno_of(&e)))?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = open(&real, flags, Mode::empty()).map_err(failed)?;
        Base::from_fd(fd, &real)
    }

    /// Takes over a directory that was opened for reading before the mount covered `path`, its absolute path.
    ///
    /// # Errors
    /// What is there cannot be a base, see [`BaseError`].
    pub fn from_fd(fd: OwnedFd, path: &Path) -> Result<Base, BaseError> {
        let failed = |source: Errno| classify(path, source);
        let stat = fstat(&fd).map_err(failed)?;
        if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFDIR {
            return Err(failed(Errno::ENOTDIR));
        }
        let root = Arc::new(fd);
        let identity = Identity {
            dev: stat.st_dev,
            ino: stat.st_ino,
            path: path.into(),
        };
        let view = match read_only_clone(root.as_fd()) {
            Ok(view) => Arc::new(view),
            Err(reason) => {
                tracing::debug!(%reason, "reading the base through its own mount");
                Arc::clone(&root)
            }
        };
        let usable = open_beneath(view.as_fd(), c".", OFlag::O_PATH | OFlag::O_DIRECTORY);
        usable.map_err(|source| match source {
            Errno::ENOSYS => BaseError::NoOpenat2 { path: path.into() },
            other => failed(other),
        })?;
        Ok(Base::through(view, root, identity))
    }

    /// A base that is read through `view`, another descriptor of the directory `root`.
    pub(super) fn through(view: Arc<OwnedFd>, root: Arc<OwnedFd>, identity: Identity) -> Base {
        let xattrs_at = xattr::available_at(view.as_fd());
        Base {
            identity,
            root,
            view,
            nodes: RwLock::new(NodeTable::new()),
            files: FdCache::new(FILE_FDS),
            dirs: FdCache::new(DIR_FDS),
            recent: Recent::new(),
            ahead: Ahead::new(),
            xattrs_at,
            wrong: AtomicU64::new(0),
        }
    }

    /// How often an object was found not to be where it had been: somebody changes the base behind the mount.
    pub fn times_wrong(&self) -> u64 {
        self.wrong.load(Relaxed)
    }

    /// What tells this base from others.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The directory as it was opened. Nothing in this module writes through it.
    pub fn root_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

fn classify(path: &Path, source: Errno) -> BaseError {
    let path = path.to_path_buf();
    match source {
        Errno::ENOENT => BaseError::Missing { path },
        Errno::ENOTDIR => BaseError::NotADirectory { path },
        source => BaseError::Unreadable { path, source },
    }
}

fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// `open_tree(2)` and `mount_setattr(2)`, from `linux/mount.h`.
const OPEN_TREE_CLONE: libc::c_uint = 1;
const MOUNT_ATTR_RDONLY: u64 = 0x1;
const MOUNT_ATTR_NODEV: u64 = 0x4;
const MOUNT_ATTR_ATIME: u64 = 0x70;
const MOUNT_ATTR_NOATIME: u64 = 0x10;

#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// A private mount of the directory that is attached nowhere, read-only and without access times: then the
/// kernel itself sees to it that reading leaves no trace (`readlink` has no `O_NOATIME`) and that no
/// mount which someone makes below the base later comes into view. Needs `CAP_SYS_ADMIN` and Linux 5.12.
fn read_only_clone(root: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let flags =
        OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint | libc::AT_EMPTY_PATH as libc::c_uint;
    // SAFETY: the path is a NUL-terminated string that outlives the call; open_tree writes no memory.
    let fd = Errno::result(unsafe {
        libc::syscall(libc::SYS_open_tree, root.as_raw_fd(), c"".as_ptr(), flags)
    })?;
    let fd = i32::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: open_tree just returned this descriptor, so nobody else owns it.
    let tree = unsafe { OwnedFd::from_raw_fd(fd) };
    let attr = MountAttr {
        attr_set: MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOATIME,
        attr_clr: MOUNT_ATTR_ATIME,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    // SAFETY: `attr` has the layout of `struct mount_attr`, its size is passed along, and it outlives the call.
    Errno::result(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    })?;
    Ok(tree)
}
