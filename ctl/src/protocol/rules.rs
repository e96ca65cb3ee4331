//! The rules by which the daemon takes snapshots and gives them up by itself, and what that comes to.

use serde::{Deserialize, Serialize};

use super::UnixNanos;
use crate::config::{Config, ConfigError};

/// What is in force, and what the file in the tree says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigInfo {
    /// What is in force, with all defaults.
    pub rules: Config,
    /// The text of the file that was trusted; none where the defaults are in force.
    #[serde(default)]
    pub text: Option<String>,
    /// The text's hash (XXH3, 128 bits) in hex.
    #[serde(default)]
    pub hash: Option<String>,
    /// When it was trusted.
    #[serde(default)]
    pub trusted: Option<UnixNanos>,
    /// How the file in the tree compares with that.
    pub file: FileState,
    /// What is wrong with the file.
    #[serde(default)]
    pub error: Option<ConfigError>,
    /// Whether the daemon takes snapshots and gives them up by itself in this mount (`LLFS_AUTOMATIC=0`, or a mount that is
    /// only read, say no).
    pub automatic: bool,
}

/// How the file in the tree compares with what is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileState {
    /// There is none, and nothing else is in force.
    None,
    /// It is what is in force.
    InForce,
    /// It says something else, and waits for `llctl config trust`.
    Untrusted,
    /// It is gone; what was trusted is still in force.
    Gone,
    /// It cannot be used as it is.
    Broken,
}

/// What retention gives up, or would.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PruneInfo {
    /// The snapshots, oldest first.
    pub snapshots: Vec<Pruned>,
    /// Bytes in the store that nothing else holds: what giving all of them up frees; where that is known.
    #[serde(default)]
    pub frees: Option<u64>,
    /// How many snapshots stay.
    pub kept: u64,
    /// Whether it was done.
    pub done: bool,
}

/// A snapshot that retention gives up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    /// Its name.
    pub name: String,
    /// When it was taken.
    pub created: UnixNanos,
    /// Its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
}
