//! Where the control socket of a mount is.
//!
//! The daemon binds `runtime_dir()/socket_name(mountpoint)`. A client that runs as somebody else (root looking at a user's
//! mount, or with another environment) tries the places where that daemon may have bound it.

use std::env;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, geteuid};
use xxhash_rust::xxh3::xxh3_64;

use super::{LocateError, Mount};

/// Bytes of the mountpoint's last component that the socket's name shows. A socket path has at most 107 bytes.
const SHOWN_MAX: usize = 24;

/// The directory in which a daemon of this user with this environment has its sockets.
///
/// `$XDG_RUNTIME_DIR/llfs` if that is set and belongs to this user (after `sudo -E` it does not); else `/run/llfs` for root and
/// `/tmp/llfs-UID` for others.
pub fn runtime_dir() -> PathBuf {
    runtime_dir_of(env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from), geteuid())
}

fn runtime_dir_of(xdg: Option<PathBuf>, uid: Uid) -> PathBuf {
    match xdg {
        Some(dir)
            if dir.is_absolute()
                && fs::metadata(&dir).is_ok_and(|meta| meta.uid() == uid.as_raw()) =>
        {
            dir.join("llfs")
        }
        _ => fallback_dir(uid),
    }
}

fn fallback_dir(uid: Uid) -> PathBuf {
    if uid.is_root() {
        PathBuf::from("/run/llfs")
    } else {
        PathBuf::from(format!("/tmp/llfs-{uid}"))
    }
}

/// Makes [`runtime_dir`] if it is missing, and checks that nobody else can put sockets into it.
pub fn create_runtime_dir() -> Result<PathBuf, LocateError> {
    let path = runtime_dir();
    let failed = |why: String| LocateError::RuntimeDir {
        path: path.clone(),
        why,
    };
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(failed(error.to_string()));
        }
        _ => {}
    }
    let meta = fs::symlink_metadata(&path).map_err(|error| failed(error.to_string()))?;
    if !meta.is_dir() {
        return Err(failed("it is not a directory".to_owned()));
    }
    if meta.uid() != geteuid().as_raw() {
        return Err(failed(format!("it belongs to the user {}", meta.uid())));
    }
    if meta.mode() & 0o077 != 0 {
        return Err(failed(format!(
            "its mode is {:04o} and must be 0700",
            meta.mode() & 0o7777
        )));
    }
    Ok(path)
}

/// A plain name for `path`, an absolute path without symlinks: `<name>-<hash>`, with the last component as far as it is
/// plain, `shown_max` bytes of it at most, and 16 hex digits of the xxh3 of the path's bytes.
pub fn plain_name(path: &Path, shown_max: usize) -> String {
    let last = path.file_name().map(OsStrExt::as_bytes).unwrap_or(b"root");
    let shown: String = last
        .iter()
        .take(shown_max)
        .map(|&b| {
            if b.is_ascii_alphanumeric() || b"-_.".contains(&b) {
                char::from(b)
            } else {
                '_'
            }
        })
        .collect();
    format!("{shown}-{:016x}", xxh3_64(path.as_os_str().as_bytes()))
}

/// The file name of the socket of the mount at `mountpoint`: its [`plain_name`] and `.sock`.
pub fn socket_name(mountpoint: &Path) -> String {
    format!("{}.sock", plain_name(mountpoint, SHOWN_MAX))
}

/// Where a daemon of this user binds the socket of the mount at `mountpoint`.
pub fn socket_path(mountpoint: &Path) -> PathBuf {
    runtime_dir().join(socket_name(mountpoint))
}

/// Where the socket of `mount` may be, the likeliest first. Only places that a stranger cannot write to.
pub fn socket_candidates(mount: &Mount) -> Vec<PathBuf> {
    let owner = mount.uid.map_or_else(geteuid, Uid::from_raw);
    let mut dirs = vec![runtime_dir()];
    for dir in [
        PathBuf::from(format!("/run/user/{owner}/llfs")),
        fallback_dir(owner),
    ] {
        if !dirs.contains(&dir) {
            dirs.push(dir);
        }
    }
    let name = socket_name(&mount.mountpoint);
    dirs.into_iter()
        .filter(|dir| trusted(dir, owner))
        .map(|dir| dir.join(&name))
        .collect()
}

/// Whether only this user, root or the mount's owner can put something into `dir`.
fn trusted(dir: &Path, owner: Uid) -> bool {
    fs::symlink_metadata(dir).is_ok_and(|meta| {
        let by = Uid::from_raw(meta.uid());
        meta.is_dir()
            && (by.is_root() || by == geteuid() || by == owner)
            && meta.mode() & 0o022 == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_runtime_directory_of_ones_own_is_used() {
        let root = Uid::from_raw(0);
        let other = Uid::from_raw(4_000_000);
        let of = |xdg: &str, uid| runtime_dir_of(Some(PathBuf::from(xdg)), uid);
        assert_eq!(of("/proc", root), PathBuf::from("/proc/llfs"));
        assert_eq!(of("/proc", other), PathBuf::from("/tmp/llfs-4000000"));
        assert_eq!(of("/no/such/dir", root), PathBuf::from("/run/llfs"));
        assert_eq!(of(".", root), PathBuf::from("/run/llfs"));
        assert_eq!(
            runtime_dir_of(None, other),
            PathBuf::from("/tmp/llfs-4000000")
        );
    }

    #[test]
    fn the_name_of_a_socket_stays_what_it_is() {
        assert_eq!(
            socket_name(Path::new("/home/u/repo")),
            "repo-7beff536b0673fc7.sock"
        );
        assert!(socket_name(Path::new("/")).starts_with("root-"));
    }

    #[test]
    fn the_name_of_a_socket_is_short_and_plain() {
        let long = PathBuf::from(format!("/x/{}", "é \n".repeat(80)));
        let name = socket_name(&long);
        assert_eq!(name.len(), SHOWN_MAX + 1 + 16 + 5);
        assert!(
            name.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        );
        assert_ne!(
            socket_name(Path::new("/a/repo")),
            socket_name(Path::new("/b/repo"))
        );
    }
}
