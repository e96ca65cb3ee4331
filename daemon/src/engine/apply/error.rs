//! Why an apply was not done, or not finished.

use std::path::PathBuf;

use llctl::escape::Shown;
use nix::errno::Errno;

use super::super::Answer;

/// Why the head was not written into the base.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Something about an object of the base, or of the head, would not work. The base is untouched.
    #[error("{}: {why}; the directory is untouched", path.shown())]
    Refused {
        /// Which object, below the base directory.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It is not what somebody said yes to. The base is untouched.
    #[error(
        "the tree or its snapshots have changed since you were asked; the directory is untouched"
    )]
    Changed,
    /// The disk that the base is on has too little room. The base is untouched.
    #[error(
        "the apply needs {needed} bytes of free space on the directory's disk, which has {free}; the directory is untouched"
    )]
    NoSpace {
        /// Bytes that it needs.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// A step failed while everything was being prepared. The base is untouched.
    #[error("{0}; the directory is untouched")]
    Unprepared(Trouble),
    /// A step failed after the first change of the base. Nothing is lost: the next mount goes on from here.
    #[error("{0}; the directory is half written, and mounting it again goes on from here")]
    Halfway(Trouble),
    /// What was prepared is not there any more, so that the apply cannot be finished.
    #[error("{}: what was prepared for the apply was taken away by somebody else", path.shown())]
    Lost {
        /// What is missing, below the base directory.
        path: PathBuf,
    },
}

/// One step that failed.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{}: cannot {doing}: {error}", path.shown(), error = .errno.desc())]
pub struct Trouble {
    /// What was being done.
    pub doing: &'static str,
    /// To which object, below the base directory.
    pub path: PathBuf,
    /// What the system said.
    pub errno: Errno,
}

/// Says what was done, and to what, when a step fails.
pub(super) trait During<T> {
    /// Adds it.
    fn during(self, doing: &'static str, path: impl FnOnce() -> PathBuf) -> Result<T, Trouble>;
}

impl<T> During<T> for Answer<T> {
    fn during(self, doing: &'static str, path: impl FnOnce() -> PathBuf) -> Result<T, Trouble> {
        self.map_err(|errno| Trouble {
            doing,
            path: path(),
            errno,
        })
    }
}
