//! Unmounting: umount(2) as root, fusermount3 otherwise.

use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use llctl::escape::Shown;
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::unistd::geteuid;

use super::fusermount;
use super::users::{User, users_of};

/// How long to wait for programs that are just letting go of the mount.
const PATIENCE: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(20);

/// Why a mount is still there.
#[derive(Debug, thiserror::Error)]
pub enum UnmountError {
    /// Somebody uses it.
    #[error("{} is in use", .path.shown())]
    Busy {
        /// The mount.
        path: PathBuf,
        /// Who uses it, as far as this user can see.
        users: Vec<User>,
    },
    /// There is no mount.
    #[error("nothing is mounted at {}", .0.shown())]
    NotMounted(PathBuf),
    /// Not ours to unmount.
    #[error("not permitted to unmount {}", .0.shown())]
    NotPermitted(PathBuf),
    /// Something else.
    #[error("cannot unmount {}: {source}", .path.shown())]
    Failed {
        /// The mount.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Unmounts `mountpoint`, an absolute path without symbolic links. The kernel first writes what it holds back, so the
/// daemon must be answering, if it lives at all. When this returns, nothing is mounted there and the session ends.
///
/// # Errors
/// [`UnmountError::Busy`] if a program uses the mount and goes on doing so for half a second.
pub fn unmount(mountpoint: &Path) -> Result<(), UnmountError> {
    let start = Instant::now();
    loop {
        match once(mountpoint, false) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                if start.elapsed() >= PATIENCE {
                    let users = users_of(mountpoint);
                    return Err(UnmountError::Busy {
                        path: mountpoint.to_path_buf(),
                        users,
                    });
                }
                thread::sleep(PAUSE);
            }
            done => return done.map_err(|error| explain(mountpoint, error)),
        }
    }
}

/// Takes the mount out of the tree of directories at once; programs that use it keep it until they let go.
///
/// # Errors
/// No mount, or not ours.
pub fn detach(mountpoint: &Path) -> Result<(), UnmountError> {
    once(mountpoint, true).map_err(|error| explain(mountpoint, error))
}

/// Ends the session of a mount whose daemon was killed and cannot be buried, because one of its threads waits for an
/// answer that only it could give: whoever waits for the mount gets an error. The mount stays, dead.
///
/// # Errors
/// No mount, or not ours.
pub fn abort(mountpoint: &Path) -> io::Result<()> {
    if geteuid().is_root() {
        // Forced, the kernel aborts the session before it looks who uses the mount.
        return match umount2(mountpoint, MntFlags::MNT_FORCE | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) | Err(Errno::EBUSY) => Ok(()),
            Err(errno) => Err(errno.into()),
        };
    }
    // The user who mounted may write here: see Documentation/filesystems/fuse of the kernel.
    let device = device(mountpoint)?;
    std::fs::write(format!("/sys/fs/fuse/connections/{device}/abort"), "1")
}

/// The minor number of the device that the mount is to the kernel, by which its session is known.
pub(super) fn device(mountpoint: &Path) -> io::Result<u32> {
    let table = std::fs::read("/proc/self/mountinfo")?;
    let lines = table.split(|b| *b == b'\n');
    let found = lines.rev().find_map(|line| {
        let at = llctl::locate::parse(line).pop()?.mountpoint;
        let field = line.split(|b| *b == b' ').nth(2)?;
        let minor = std::str::from_utf8(field).ok()?.split_once(':')?.1;
        (at == mountpoint).then(|| minor.parse().ok())?
    });
    found.ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn once(mountpoint: &Path, lazily: bool) -> io::Result<()> {
    if geteuid().is_root() {
        let how = if lazily {
            MntFlags::MNT_DETACH
        } else {
            MntFlags::empty()
        };
        return Ok(umount2(mountpoint, how | MntFlags::UMOUNT_NOFOLLOW)?);
    }
    let program = fusermount::find().ok_or_else(|| {
        io::Error::other("fusermount3 is not installed, and only root can unmount without it")
    })?;
    fusermount::unmount(&program, mountpoint, lazily)
}

fn explain(mountpoint: &Path, source: io::Error) -> UnmountError {
    let path = mountpoint.to_path_buf();
    match source.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EINVAL) => UnmountError::NotMounted(path),
        Some(Errno::EPERM | Errno::EACCES) => UnmountError::NotPermitted(path),
        _ => UnmountError::Failed { path, source },
    }
}
