//! Why a store cannot be opened.

use std::io;
use std::path::PathBuf;

/// Why [`super::Store::open`] or [`super::Store::create`] refused. Nothing was written in any of
/// these cases, unless the error is `Io` or `Full`.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another daemon has it.
    #[error("the store is in use by another llfs daemon{}", pid.map(|p| format!(" (process {p})")).unwrap_or_default())]
    Locked {
        /// Its process id, as it noted it.
        pid: Option<u32>,
    },
    /// Nothing here yet: [`super::Store::create`] may be called.
    #[error("there is no store here yet")]
    Empty,
    /// A store, or something else, is already here.
    #[error("the directory is not empty, a new store needs an empty one")]
    NotEmpty,
    /// Data without a superblock. It is never started over.
    #[error("the store has no superblock, but it is not empty; it will not be started over")]
    NoSuperblock,
    /// The superblock is not ours.
    #[error("this is not an llfs store: the superblock has a foreign signature")]
    Foreign,
    /// Written by a later llfs.
    #[error("the store has format version {found}, this llfs knows up to version {known}")]
    Newer {
        /// Its version.
        found: u32,
        /// The newest version this program reads.
        known: u32,
    },
    /// The superblock does not match its checksum, or is cut off.
    #[error("the superblock is damaged: {0}")]
    BadSuperblock(&'static str),
    /// The journal is damaged at a place that was whole before; the tail may be torn, the middle not.
    #[error("{0}")]
    Damaged(Damage),
    /// There is no room even for a new journal segment.
    #[error("no space left for the journal in the store")]
    Full,
    /// The medium failed.
    #[error("{what}: {error}")]
    Io {
        /// The file, relative to the store.
        what: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// A damaged place in the journal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("journal segment {segment:08} is damaged at byte {offset}: {what}")]
pub struct Damage {
    /// The segment's number.
    pub segment: u32,
    /// Where the first frame that cannot be read begins, in bytes.
    pub offset: u64,
    /// What is wrong, or what proves that this is no torn tail.
    pub what: String,
}

impl From<Damage> for OpenError {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

/// Names the file in an I/O error.
pub(super) trait Naming<T> {
    /// Adds the path.
    fn naming(self, what: impl Into<PathBuf>) -> Result<T, OpenError>;
}

impl<T> Naming<T> for io::Result<T> {
    fn naming(self, what: impl Into<PathBuf>) -> Result<T, OpenError> {
        self.map_err(|error| OpenError::Io {
            what: what.into(),
            error,
        })
    }
}
