//! The bound socket.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use llctl::escape::Shown;
use nix::sys::socket::{Backlog, listen};

/// Why the socket could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another daemon answers there.
    #[error("another daemon already answers at {}", .0.shown())]
    InUse(PathBuf),
    /// The system refused.
    #[error("cannot make the control socket {}: {source}", .path.shown())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A listening control socket, mode 0600. Its file is removed with it if it is still the same file.
#[derive(Debug)]
pub struct Listener {
    pub(super) socket: UnixListener,
    path: PathBuf,
    /// Device and inode of the socket's file; none for one that somebody else keeps.
    file: Option<(u64, u64)>,
}

impl Listener {
    /// Binds `path`, whose directory exists and is private. A socket at which nothing answers any more is replaced; two
    /// daemons that start at once are kept apart by the lock of their store.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let failed = |source| BindError::Io {
            path: path.to_path_buf(),
            source,
        };
        if UnixStream::connect(path).is_ok() {
            return Err(BindError::InUse(path.to_path_buf()));
        }
        // Bound under another name first: at its own name it appears with the right mode, and in one step.
        let mut new = path.as_os_str().to_owned();
        new.push("~");
        let new = PathBuf::from(new);
        remove_if_there(&new).map_err(failed)?;
        let socket = UnixListener::bind(&new).map_err(failed)?;
        fs::set_permissions(&new, Permissions::from_mode(0o600)).map_err(failed)?;
        let meta = fs::symlink_metadata(&new).map_err(failed)?;
        fs::rename(&new, path).map_err(failed)?;
        Self::over(socket, path, Some((meta.dev(), meta.ino()))).map_err(failed)
    }

    /// A listening socket that another process bound to `path` and keeps: its file stays when this is dropped.
    pub fn adopt(socket: OwnedFd, path: &Path) -> Result<Self, BindError> {
        Self::over(UnixListener::from(socket), path, None).map_err(|source| BindError::Io {
            path: path.to_path_buf(),
            source,
        })
    }

    /// The same, for a process that is to be known by it from now on as the one that serves there: who connects is told of whoever
    /// called listen(2) last (`SO_PEERCRED` in unix(7)). Who waits to be accepted goes on waiting.
    pub fn inherit(socket: OwnedFd, path: &Path) -> Result<Self, BindError> {
        listen(&socket, Backlog::MAXALLOWABLE).map_err(|errno| BindError::Io {
            path: path.to_path_buf(),
            source: errno.into(),
        })?;
        Self::adopt(socket, path)
    }

    fn over(socket: UnixListener, path: &Path, file: Option<(u64, u64)>) -> io::Result<Self> {
        // A client that gives up between poll and accept must not leave the server waiting in accept.
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            path: path.to_path_buf(),
            file,
        })
    }

    /// Where it is bound.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let ours =
            fs::symlink_metadata(&self.path).is_ok_and(|m| Some((m.dev(), m.ino())) == self.file);
        if ours && let Err(error) = remove_if_there(&self.path) {
            tracing::warn!(path = %self.path.shown(), %error, "the control socket stays behind");
        }
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
