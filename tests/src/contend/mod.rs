//! Several processes of several threads at work in one directory, and what must be true of it then.
//!
//! `llfs-contend` is the program; the conformance suite `concurrency` runs it on any filesystem.
//! Each thread has a *slot* of its own. All of them do, at once and at random:
//!
//! - [`own`]: changes to names that only this thread uses, in two directories that all share. Each
//!   answer is compared with what it has to be, listings among them;
//! - [`fight`]: changes to ten names that everybody uses;
//! - [`tokens`]: exchanges of files and directories: every token is there once at each moment;
//! - [`line`]: lines appended to one file;
//! - [`block`]: whole blocks written into one file that others truncate and punch, and blocks of its own, through
//!   `pwrite` and through a mapping;
//! - [`tree::churn`](crate::tree::churn): changes of every kind in one tree.
//!
//! What they write describes itself and carries a checksum. The [`Ledger`](ledger::Ledger), on another
//! filesystem, counts what each has begun and what each has finished writing: a snapshot holds all that
//! was finished before it began, and nothing that was begun after it ended.

pub mod block;
pub mod check;
pub mod fight;
pub mod ledger;
pub mod line;
pub mod own;
pub mod tokens;
pub mod work;

use std::path::Path;
use std::{fs, io};

use crate::tree;

/// Threads that may take part, over all processes.
pub const SLOTS: usize = 32;

/// Objects of the tree that is churned.
const OBJECTS: usize = 150;

/// What has happened to the directory since it was made, but for what the threads did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Past {
    /// Nothing.
    Quiet,
    /// It is a snapshot that was taken while the threads worked; nothing has gone back before.
    Snapshot,
    /// It has gone back so many times while they worked, at most.
    Reverts(usize),
}

impl Past {
    /// Whether nothing has ever gone back, so that nothing finished may be missing.
    #[must_use]
    pub fn is_exact(self) -> bool {
        !matches!(self, Past::Reverts(_))
    }
}

/// Makes everything that the threads work on, below the empty directory `dir`.
///
/// # Errors
/// What the filesystem says.
pub fn prepare(dir: &Path, seed: u64) -> io::Result<()> {
    own::prepare(dir)?;
    fight::prepare(dir)?;
    tokens::prepare(dir)?;
    line::prepare(dir)?;
    block::prepare(dir)?;
    fs::create_dir(dir.join("tree"))?;
    tree::plant(&dir.join("tree"), seed, OBJECTS)
}
