//! From a directory to the llfs mount that holds it, and from a mount to its control socket.

mod mountinfo;
mod socket;

use std::env;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::escape::Shown;
pub use mountinfo::{FSTYPE, Mount, parse};
pub use socket::{
    create_runtime_dir, plain_name, runtime_dir, socket_candidates, socket_name, socket_path,
};

/// The environment variable that names a directory inside a mount, for when there is no `-C`.
pub const MOUNT_VAR: &str = "LLFS_MOUNT";

/// Why no mount was found.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    /// No llfs mount holds the directory.
    #[error("{} is not inside an llfs mount", crate::escape::escaped(.path.as_os_str().as_bytes()))]
    NoMount {
        /// The absolute path of the directory.
        path: PathBuf,
    },
    /// The directory that was asked for cannot be resolved.
    #[error("cannot use the directory {}: {source}", crate::escape::escaped(.path.as_os_str().as_bytes()))]
    Directory {
        /// The directory as it was given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The list of mounts cannot be read.
    #[error("cannot read /proc/self/mountinfo: {0}")]
    Mounts(io::Error),
    /// The directory for sockets cannot be used.
    #[error("cannot use the directory for control sockets {}: {why}", .path.shown())]
    RuntimeDir {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// The llfs mount that holds `dir`; without `dir`, the one that holds `$LLFS_MOUNT` if that is set, else the one that
/// holds the current directory.
pub fn locate(dir: Option<&Path>) -> Result<Mount, LocateError> {
    let from_env = env::var_os(MOUNT_VAR)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from);
    let path = match dir.map(Path::to_path_buf).or(from_env) {
        Some(dir) => resolve(&dir)?,
        None => current_dir()?,
    };
    locate_path(&path)
}

/// The llfs mount that holds the absolute path `path`, which has no symlinks.
pub fn locate_path(path: &Path) -> Result<Mount, LocateError> {
    let table = fs::read("/proc/self/mountinfo").map_err(LocateError::Mounts)?;
    parse(&table)
        .into_iter()
        .filter(|mount| mount.fstype == FSTYPE && path.starts_with(&mount.mountpoint))
        // Of equal ones the last, which lies on top.
        .max_by_key(|mount| mount.mountpoint.as_os_str().len())
        .ok_or_else(|| LocateError::NoMount {
            path: path.to_path_buf(),
        })
}

/// The current directory as an absolute path. Asks no file system, so that it works in a mount whose daemon is dead;
/// a directory that was removed still has the path it had.
pub fn current_dir() -> Result<PathBuf, LocateError> {
    if let Ok(path) = env::current_dir() {
        return Ok(path);
    }
    let link = Path::new("/proc/self/cwd");
    let path = fs::read_link(link).map_err(|source| LocateError::Directory {
        path: link.to_path_buf(),
        source,
    })?;
    let mut bytes = path.into_os_string().into_vec();
    if let Some(kept) = bytes.strip_suffix(b" (deleted)") {
        let kept = kept.len();
        bytes.truncate(kept);
    }
    Ok(PathBuf::from(std::ffi::OsString::from_vec(bytes)))
}

/// `dir` without symlinks. If its file system does not answer, because its daemon is dead, `dir` as it is, made absolute.
pub fn resolve(dir: &Path) -> Result<PathBuf, LocateError> {
    match fs::canonicalize(dir) {
        Ok(path) => Ok(path),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
            ) =>
        {
            Err(LocateError::Directory {
                path: dir.to_path_buf(),
                source: error,
            })
        }
        Err(_) if dir.is_absolute() => Ok(dir.to_path_buf()),
        Err(_) => Ok(current_dir()?.join(dir)),
    }
}
