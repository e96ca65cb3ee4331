//! Why a directory cannot serve as a base.

use std::path::PathBuf;

use llctl::escape::Shown;
use nix::errno::Errno;

/// A directory that cannot be opened as a base.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// There is nothing at the path.
    #[error("{}: no such directory", path.shown())]
    Missing { path: PathBuf },
    /// There is something else at the path.
    #[error("{}: not a directory", path.shown())]
    NotADirectory { path: PathBuf },
    /// It is there, and the system does not let us read it.
    #[error("{}: cannot be read: {}", path.shown(), source.desc())]
    Unreadable { path: PathBuf, source: Errno },
    /// The kernel has no `openat2` (Linux before 5.6, or a sandbox that filters it).
    #[error("{}: this kernel does not provide openat2, which llfs needs (Linux 5.6)", path.shown())]
    NoOpenat2 { path: PathBuf },
}
