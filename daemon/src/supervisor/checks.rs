//! What is looked at before the engine opens a store and a directory is mounted over.

use std::ffi::OsString;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use llctl::escape::Shown;
use llctl::exit;
use llctl::locate::{self, FSTYPE, Mount, parse};
use nix::errno::Errno;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::statvfs::statvfs;

use super::process;
use super::trouble::{Trouble, argument};
use super::turn::{self, Turn};
use crate::fuse;

/// A daemon that does not answer for so long counts as hung.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was killed and does not wait for anybody is gone within so long.
const BURIAL: Duration = Duration::from_secs(1);

/// Whether somebody serves a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    /// It answers.
    Alive,
    /// Its daemon is gone.
    Dead,
    /// It has a daemon, which does not answer.
    Silent,
}

/// Asks for the free space at `mountpoint`, which the kernel never has cached: attributes of the root it may show for ever
/// after the daemon has died. For a mount of another user, who lets nobody else in, the kernel answers itself.
pub(super) fn health(mountpoint: &Path) -> Health {
    let (answer, answered) = mpsc::channel();
    let path = mountpoint.to_path_buf();
    // The thread may be stuck for as long as the mount is.
    let spawned = thread::Builder::new().spawn(move || answer.send(statvfs(&path)).is_ok());
    if spawned.is_err() {
        return Health::Alive;
    }
    match answered.recv_timeout(PATIENCE) {
        Ok(Err(Errno::ENOTCONN | Errno::ECONNABORTED | Errno::ENODEV)) => Health::Dead,
        Ok(_) => Health::Alive,
        Err(_) => Health::Silent,
    }
}

/// The table of mounts.
pub(super) fn mounts() -> Result<Vec<Mount>, Trouble> {
    let path = "/proc/self/mountinfo";
    let table =
        fs::read(path).map_err(|error| Trouble::because(format!("cannot read {path}"), error))?;
    Ok(parse(&table))
}

/// Makes sure that `base`, an absolute path without symbolic links, can be mounted over: a directory, outside of other
/// overlays, with none there and nothing mounted below. A mount that lost its daemon is cleaned away; whether one was
/// there is the answer.
pub(super) fn base(base: &Path, turn: &mut Turn) -> Result<bool, Trouble> {
    let mut revived = false;
    for mount in mounts()?.iter().filter(|mount| mount.fstype == FSTYPE) {
        if mount.mountpoint == base {
            clean(mount, turn)?;
            revived = true;
        } else if base.starts_with(&mount.mountpoint) {
            return Err(Trouble::new(format!(
                "{} is inside the llfs mount at {}",
                base.shown(),
                mount.mountpoint.shown()
            ))
            .hint("that mount's snapshots cover it already"));
        }
    }
    let below = mounts()?
        .into_iter()
        .find(|mount| mount.mountpoint != base && mount.mountpoint.starts_with(base));
    if let Some(mount) = below {
        let what = if mount.fstype == FSTYPE {
            "an llfs mount"
        } else {
            "another mount"
        };
        return Err(Trouble::new(format!(
            "{} has {what} below it, at {}",
            base.shown(),
            mount.mountpoint.shown()
        ))
        .hint(format!(
            "its files would not be visible through the overlay: unmount {} before",
            mount.mountpoint.shown()
        )));
    }
    if base == Path::new("/") {
        return Err(Trouble::new("the root directory cannot be mounted over")
            .hint("choose a directory below it"));
    }
    let meta = fs::metadata(base)
        .map_err(|error| Trouble::because(format!("cannot use {}", base.shown()), error))?;
    if !meta.is_dir() {
        return Err(Trouble::new(format!("{} is not a directory", base.shown())));
    }
    Ok(revived)
}

/// Takes a mount away that lost its daemon; one that is served is an error.
fn clean(mount: &Mount, turn: &mut Turn) -> Result<(), Trouble> {
    let path = mount.mountpoint.shown();
    // A service manager may have kept the mount for the next supervisor, which needs a turn to go on with it.
    let unburied = match killed(mount) {
        Some(socket) => !turn.aside(|| buried(&socket, BURIAL))?,
        None => false,
    };
    // Others may have their turn elsewhere.
    let _beside = turn::beside(&mount.mountpoint);
    if unburied && let Some(socket) = killed(mount) {
        fuse::abort(&mount.mountpoint).map_err(|error| {
            Trouble::because(
                format!("the daemon of {path} was killed, and its session cannot be ended"),
                error,
            )
        })?;
        buried(&socket, PATIENCE);
    }
    // A mount that nobody uses goes with its session; somebody else may have taken it away.
    if !mounts()?.contains(mount) {
        tracing::info!("the mount at {path}, whose daemon had died, is gone");
        return Ok(());
    }
    match health(&mount.mountpoint) {
        Health::Dead => {
            fuse::detach(&mount.mountpoint)?;
            tracing::info!("cleaned away the mount at {path}, whose daemon had died");
            Ok(())
        }
        Health::Alive => Err(
            Trouble::new(format!("{path} is already mounted")).hint(format!(
                "`llctl -C {arg} status` shows it, `llfs unmount {arg}` unmounts it",
                arg = argument(&mount.mountpoint)
            )),
        ),
        Health::Silent => Err(Trouble::new(format!(
            "{path} is already mounted, but its daemon does not answer"
        ))
        .hint("wait, or kill the daemon and mount again: nothing that was acknowledged is lost")
        .code(exit::NO_MOUNT)),
    }
}

/// The control socket of a mount whose daemon was killed, and is only still there because a thread of it, or of its
/// worker, waits for the kernel.
fn killed(mount: &Mount) -> Option<PathBuf> {
    let mut candidates = locate::socket_candidates(mount).into_iter();
    candidates.find(|socket| is_of_dead(socket))
}

/// Whether a socket is open although who listened there last is dead.
fn is_of_dead(socket: &Path) -> bool {
    // That of the supervisor, who made the socket. Of one elsewhere nothing can be told.
    listens(socket).is_some_and(|pid| pid != 0 && !process::lives(pid))
}

/// The process that serves a mount, as the kernel knows it by the control socket: whether or not a client can have a seat there.
pub(super) fn server(mount: &Mount) -> Option<u32> {
    let candidates = locate::socket_candidates(mount).into_iter();
    let mut listening = candidates.filter_map(|socket| listens(&socket));
    // One that is 0 is elsewhere.
    listening.find(|pid| *pid != 0 && process::lives(*pid))
}

/// Who listens at a socket.
fn listens(socket: &Path) -> Option<u32> {
    let stream = UnixStream::connect(socket).ok()?;
    let credentials = getsockopt(&stream, PeerCredentials).ok()?;
    u32::try_from(credentials.pid()).ok()
}

/// Waits until the kernel has closed what the daemon held, or a next one goes on with it, but not for longer than `limit`; whether
/// that came.
fn buried(socket: &Path, limit: Duration) -> bool {
    let start = Instant::now();
    while is_of_dead(socket) {
        if start.elapsed() > limit {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
    true
}

/// Makes sure that neither of them holds the other. Both are absolute and have no symbolic links.
pub(super) fn apart(base: &Path, store: &Path) -> Result<(), Trouble> {
    let (inner, outer) = match (store.starts_with(base), base.starts_with(store)) {
        (false, false) => return Ok(()),
        (true, _) => (
            format!("the store {}", store.shown()),
            format!("the directory {}", base.shown()),
        ),
        (_, true) => (
            format!("the directory {}", base.shown()),
            format!("the store {}", store.shown()),
        ),
    };
    Err(Trouble::new(format!("{inner} is inside {outer}"))
        .hint("choose a store outside of the directory with --store DIR"))
}

/// `path`, which need not exist, as an absolute path without symbolic links.
pub(super) fn canonical(path: &Path) -> Result<PathBuf, Trouble> {
    let failed = |error| Trouble::because(format!("cannot use {}", path.shown()), error);
    let absolute = std::path::absolute(path).map_err(failed)?;
    let mut existing = absolute.as_path();
    let mut missing: Vec<OsString> = Vec::new();
    loop {
        match fs::canonicalize(existing) {
            Ok(found) => {
                return Ok(missing
                    .iter()
                    .rev()
                    .fold(found, |path, name| path.join(name)));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let (Some(parent), Some(name)) = (existing.parent(), existing.file_name()) else {
                    return Err(failed(error));
                };
                missing.push(name.to_owned());
                existing = parent;
            }
            Err(error) => return Err(failed(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_and_a_directory_must_lie_apart() {
        let apart = |base: &str, store: &str| apart(Path::new(base), Path::new(store));
        assert!(
            apart("/a/b", "/a/b/store")
                .unwrap_err()
                .message
                .starts_with("the store /a/b/store is inside")
        );
        assert!(
            apart("/s/b", "/s")
                .unwrap_err()
                .message
                .starts_with("the directory /s/b is inside")
        );
        assert!(apart("/a", "/a").is_err());
        assert!(apart("/a", "/ab").is_ok());
    }

    #[test]
    fn what_is_missing_is_kept_behind_what_is_there() {
        let dir = fs::canonicalize(std::env::temp_dir()).unwrap();
        let made = dir.join(format!("llfs-checks-{}", std::process::id()));
        fs::create_dir(&made).unwrap();
        let link = made.join("link");
        std::os::unix::fs::symlink(&made, &link).unwrap();
        assert_eq!(canonical(&link.join("x/y")).unwrap(), made.join("x/y"));
        assert_eq!(canonical(&link).unwrap(), made);
        fs::remove_file(&link).unwrap();
        fs::remove_dir(&made).unwrap();
    }

    #[test]
    fn directories_that_cannot_be_mounted_over_are_refused() {
        let base = |path: &Path| base(path, &mut Turn::take_in(None, path).unwrap());
        assert!(base(Path::new("/")).is_err());
        assert!(base(Path::new("/nowhere/at/all")).is_err());
        let file = std::env::current_exe().unwrap();
        assert!(
            base(&file)
                .unwrap_err()
                .message
                .ends_with("is not a directory")
        );
    }

    /// A service manager keeps a socket open; who is started next goes on listening there.
    #[test]
    fn who_goes_on_with_a_socket_of_the_dead_is_alive() {
        use std::os::fd::{AsFd, AsRawFd};
        use std::os::unix::process::CommandExt;
        let path = std::env::temp_dir().join(format!("llfs-dead-{}", std::process::id()));
        let kept = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(!is_of_dead(&path));
        let raw = kept.as_fd().as_raw_fd();
        let mut other = std::process::Command::new("true");
        // SAFETY: listen is safe between fork and exec (signal-safety(7)), and the socket is open.
        unsafe {
            other.pre_exec(move || {
                Errno::result(libc::listen(raw, 5))
                    .map(drop)
                    .map_err(Into::into)
            });
        }
        assert!(other.status().unwrap().success());
        assert!(is_of_dead(&path));
        assert!(!buried(&path, Duration::ZERO));
        let next = crate::control::Listener::inherit(kept.into(), &path).unwrap();
        assert!(buried(&path, PATIENCE));
        assert!(!is_of_dead(&path));
        drop(next);
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn an_ordinary_directory_is_alive() {
        assert_eq!(health(&std::env::temp_dir()), Health::Alive);
    }
}
