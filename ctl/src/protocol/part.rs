//! Reverting a part of the tree.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::BytePath;
use crate::name::{SnapName, StateRef};

/// What is undone. What it does not name stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Which changes.
    pub of: PartOf,
    /// Only those of paths that one of these patterns matches (see [`crate::globs`]), from the mount's root on; empty for all.
    pub globs: Vec<String>,
    /// Paths from the mount's root on, each of which must be there in the state that is gone back to, or nothing is done: what a state
    /// does not have is removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub there: Vec<BytePath>,
}

/// Which changes a [`Part`] is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartOf {
    /// All since a state: the paths become what they were in it.
    To(StateRef),
    /// What led to each of these snapshots from the one before it. Later changes stay.
    Snapshots(Vec<SnapName>),
}

/// What becomes of a file that is to be reverted and that others have changed since, or of something that can only be reverted
/// together with what is not to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnConflict {
    /// Nothing at all is done, and the files are named.
    #[default]
    Stop,
    /// It is reverted; what others did to it is undone too. But a directory in which something stays, stays as well.
    Revert,
    /// It stays as it is.
    Keep,
}

/// A path in the way of a revert of a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// The path, from the mount's root on.
    pub path: BytePath,
    /// What is in the way, for people.
    pub why: String,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.of {
            PartOf::To(state) => write!(f, "{state}")?,
            PartOf::Snapshots(names) => {
                let names: Vec<&str> = names.iter().map(SnapName::as_str).collect();
                write!(f, "without {}", names.join(", "))?;
            }
        }
        if !self.globs.is_empty() {
            write!(f, " in {}", self.globs.join(", "))?;
        }
        Ok(())
    }
}
