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
    create_private(runtime_dir())
}

fn create_private(path: PathBuf) -> Result<PathBuf, LocateError> {
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
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    const STRANGER: u32 = 4_000_000;

    /// A fresh directory, removed with all that is in it when dropped.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let path = env::temp_dir().join(format!("llctl-{name}-{}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Scratch(path)
        }

        /// A directory in it.
        fn dir(&self, name: &str, mode: u32) -> PathBuf {
            let path = self.0.join(name);
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            path
        }

        fn strangers(&self, name: &str, mode: u32) -> PathBuf {
            let path = self.dir(name, mode);
            chown(&path, Some(STRANGER), None).unwrap();
            path
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            if let Err(error) = fs::remove_dir_all(&self.0) {
                eprintln!("{}: {error}", self.0.display());
            }
        }
    }

    #[test]
    fn sockets_are_made_only_where_nobody_else_can_put_one() {
        let scratch = Scratch::new("runtime");
        let made = create_private(scratch.0.join("new")).unwrap();
        assert_eq!(fs::metadata(&made).unwrap().mode() & 0o7777, 0o700);
        create_private(made.clone()).unwrap();
        let why = |path: PathBuf| create_private(path).unwrap_err().to_string();
        for mode in [0o701, 0o710, 0o770, 0o707] {
            let open = scratch.dir(&format!("{mode:o}"), mode);
            assert!(why(open).contains("must be 0700"), "{mode:o}");
        }
        let link = scratch.0.join("link");
        symlink(&made, &link).unwrap();
        assert!(why(link).contains("not a directory"));
        if geteuid().is_root() {
            let theirs = scratch.strangers("theirs", 0o700);
            assert!(why(theirs).contains("belongs to the user"));
        }
    }

    #[test]
    fn sockets_are_looked_for_only_where_no_stranger_can_put_one() {
        let scratch = Scratch::new("trusted");
        let me = geteuid();
        let mine = scratch.dir("mine", 0o755);
        assert!(trusted(&mine, me));
        for mode in [0o775, 0o757, 0o1777] {
            let open = scratch.dir(&format!("{mode:o}"), mode);
            assert!(!trusted(&open, me), "{mode:o}");
        }
        let link = scratch.0.join("link");
        symlink(&mine, &link).unwrap();
        assert!(!trusted(&link, me));
        assert!(!trusted(&scratch.0.join("none"), me));
        if me.is_root() {
            let theirs = scratch.strangers("theirs", 0o700);
            assert!(!trusted(&theirs, me));
            assert!(
                trusted(&theirs, Uid::from_raw(STRANGER)),
                "of a mount of theirs"
            );
        }
    }

    /// What is asked for a socket is asked of these places.
    #[test]
    fn the_places_for_sockets_are_those_that_are_trusted() {
        let owner = geteuid();
        let mount = Mount {
            mountpoint: "/srv/data".into(),
            fstype: super::super::FSTYPE.to_owned(),
            uid: Some(owner.as_raw()),
        };
        for place in socket_candidates(&mount) {
            assert!(
                trusted(place.parent().unwrap(), owner),
                "{}",
                place.display()
            );
        }
    }

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
