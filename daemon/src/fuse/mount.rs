//! Mounting: mount(2) on `/dev/fuse` as root, fusermount3 otherwise.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use llctl::escape::Shown;
use nix::NixPath;
use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::unistd::{getegid, geteuid};

use super::fusermount;

/// The file system type, as `mount` and /proc/mounts show it.
pub const FS_TYPE: &str = "fuse.llfs";
const SUBTYPE: &str = "llfs";
/// What the mount says it was made of. Not a path: programs go and look at such ones, and one in a dead mount stops them.
const SOURCE: &str = "llfs";
const DEVICE: &str = "/dev/fuse";

/// Why a directory could not be mounted over.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// There is no FUSE here.
    #[error("{DEVICE} is not there")]
    NoDevice,
    /// We may not use it.
    #[error("{DEVICE} cannot be opened: {}", .0.desc())]
    DeviceRefused(Errno),
    /// A user needs the program.
    #[error("fusermount3 is not installed, and only root can mount without it")]
    NoFusermount,
    /// It said no.
    #[error("{0}")]
    FusermountRefused(io::Error),
    /// The kernel said no.
    #[error("mounting over {} failed: {}", .path.shown(), .errno.desc())]
    Refused {
        /// The directory.
        path: PathBuf,
        /// Why.
        errno: Errno,
    },
    /// The directory cannot be looked at.
    #[error("cannot use {}: {}", .path.shown(), .errno.desc())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        errno: Errno,
    },
}

impl MountError {
    /// What the user can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoDevice => Some(
                "load the module with `modprobe fuse`; in a container, give it the device: --device /dev/fuse",
            ),
            Self::DeviceRefused(_) => Some(
                "open it to users with `chmod 666 /dev/fuse`, as distributions do, or run llfs as root; \
                 a container needs --device /dev/fuse and --cap-add SYS_ADMIN",
            ),
            Self::NoFusermount => Some("install the package fuse3, or run llfs as root"),
            Self::FusermountRefused(error) if error.to_string().contains("write access") => {
                Some("users can only mount over directories that they may write to")
            }
            Self::FusermountRefused(_) => None,
            Self::Refused {
                errno: Errno::EPERM | Errno::EACCES,
                ..
            } => Some("in a container, mounting needs the capability: --cap-add SYS_ADMIN"),
            Self::Refused {
                errno: Errno::ENODEV,
                ..
            } => Some("load the module with `modprobe fuse`"),
            Self::Refused { .. } | Self::Directory { .. } => None,
        }
    }
}

/// Whether a mount has a chance here: to be called before the engine is opened, for an early and clear error.
///
/// # Errors
/// What is missing.
pub fn check() -> Result<(), MountError> {
    // fusermount3 opens the device with the rights of the user who runs it.
    open_device()?;
    if !geteuid().is_root() && fusermount::find().is_none() {
        return Err(MountError::NoFusermount);
    }
    Ok(())
}

/// Mounts over `mountpoint`, an absolute path without symbolic links, and gives back the `/dev/fuse` descriptor on which
/// the kernel now sends requests. In a `read_only` mount it refuses all changes by itself.
///
/// # Errors
/// Whatever stands in the way; nothing is mounted then.
pub fn mount(mountpoint: &Path, read_only: bool) -> Result<OwnedFd, MountError> {
    if geteuid().is_root() {
        mount_directly(mountpoint, read_only)
    } else {
        mount_as_user(mountpoint, read_only)
    }
}

fn open_device() -> Result<OwnedFd, MountError> {
    match OpenOptions::new().read(true).write(true).open(DEVICE) {
        Ok(device) => Ok(device.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(MountError::NoDevice),
        Err(error) => match errno_of(&error) {
            Errno::ENODEV | Errno::ENXIO => Err(MountError::NoDevice),
            errno => Err(MountError::DeviceRefused(errno)),
        },
    }
}

fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

fn mount_directly(mountpoint: &Path, read_only: bool) -> Result<OwnedFd, MountError> {
    let directory = |errno| MountError::Directory {
        path: mountpoint.to_path_buf(),
        errno,
    };
    let device = open_device()?;
    let mode = fs::metadata(mountpoint)
        .map_err(|error| directory(errno_of(&error)))?
        .mode();
    let mut flags = like(flags_of(mountpoint).map_err(directory)?);
    flags.set(MsFlags::MS_RDONLY, read_only);
    let data = format!(
        "fd={},rootmode={mode:o},user_id={},group_id={},default_permissions,allow_other",
        device.as_raw_fd(),
        geteuid(),
        getegid()
    );
    nix::mount::mount(
        Some(SOURCE),
        mountpoint,
        Some(FS_TYPE),
        flags,
        Some(data.as_str()),
    )
    .map_err(|errno| MountError::Refused {
        path: mountpoint.to_path_buf(),
        errno,
    })?;
    Ok(device)
}

/// `nosymfollow` as statvfs(3) tells it (Linux 5.10).
const ST_NOSYMFOLLOW: u64 = 0x2000;

/// The flags of the mount that `path` is on (`ST_...`).
fn flags_of(path: &Path) -> nix::Result<u64> {
    // Not by way of the library's type, which drops the flags that it has no name for.
    path.with_nix_path(|path| {
        let mut found = std::mem::MaybeUninit::<libc::statvfs>::uninit();
        // SAFETY: the path ends with a zero, and there is room for the answer.
        Errno::result(unsafe { libc::statvfs(path.as_ptr(), found.as_mut_ptr()) })?;
        // SAFETY: the call succeeded, so it has filled the answer in.
        Ok(unsafe { found.assume_init() }.f_flag)
    })?
}

/// What the mount below forbids stays forbidden. Only `ro` does not: changes go into the store.
fn like(base: u64) -> MsFlags {
    [
        (libc::ST_NOSUID, MsFlags::MS_NOSUID),
        (libc::ST_NODEV, MsFlags::MS_NODEV),
        (libc::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (
            ST_NOSYMFOLLOW,
            MsFlags::from_bits_retain(libc::MS_NOSYMFOLLOW),
        ),
    ]
    .into_iter()
    .filter(|(has, _)| base & has != 0)
    .fold(MsFlags::empty(), |flags, (_, set)| flags | set)
}

/// fusermount3 adds `nosuid` and `nodev` by itself, and knows no `nosymfollow`.
fn mount_as_user(mountpoint: &Path, read_only: bool) -> Result<OwnedFd, MountError> {
    let program = fusermount::find().ok_or(MountError::NoFusermount)?;
    let mut options = format!("fsname={SOURCE},subtype={SUBTYPE},default_permissions");
    if fusermount::users_may_allow_others() {
        options.push_str(",allow_other");
    }
    if read_only {
        options.push_str(",ro");
    }
    let below = flags_of(mountpoint).map_err(|errno| MountError::Directory {
        path: mountpoint.to_path_buf(),
        errno,
    })?;
    if like(below).contains(MsFlags::MS_NOEXEC) {
        options.push_str(",noexec");
    }
    fusermount::mount(&program, mountpoint, &options).map_err(MountError::FusermountRefused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_forbids_what_the_one_below_forbids() {
        use libc::{ST_NODEV, ST_NOEXEC, ST_NOSUID, ST_RDONLY};
        assert_eq!(like(ST_RDONLY), MsFlags::empty());
        assert_eq!(like(ST_NOSUID | ST_RDONLY), MsFlags::MS_NOSUID);
        assert_eq!(
            like(ST_NOSUID | ST_NODEV | ST_NOEXEC | ST_NOSYMFOLLOW).bits(),
            libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC | libc::MS_NOSYMFOLLOW
        );
    }

    #[test]
    fn every_obstacle_a_user_can_remove_has_a_hint() {
        for obstacle in [
            MountError::NoDevice,
            MountError::DeviceRefused(Errno::EACCES),
            MountError::NoFusermount,
            MountError::Refused {
                path: "/x".into(),
                errno: Errno::EPERM,
            },
        ] {
            assert!(obstacle.hint().is_some(), "{obstacle}");
        }
    }
}
