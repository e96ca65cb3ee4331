//! `llfs.toml`, in the root of a mount: one schema for the client and the daemon.
//!
//! ```toml
//! [components]                # parts of the tree with names, for `llctl revert --component`
//! frontend = ["web/**", "package.json"]
//!
//! [checkpoints]               # when the daemon takes one by itself
//! quiet = "30s"               # when nothing has changed for so long, after changes
//! every = "10m"               # and so often while the work goes on
//! bulk = 20                   # before one process removes so many files in one go
//!
//! [retention]                 # which of those it keeps: what any of these rules keeps
//! keep_last = 50
//! keep_for = "2h"
//! hourly = 48                 # the last one of each of the last 48 hours that have any
//! daily = 30
//! max_size = "20G"            # and no more than that, the oldest go first
//!
//! [hooks]                     # commands before and after what is done to snapshots and the tree
//! timeout = "30s"
//! before_apply = "make check"
//! ```
//!
//! Any program in the mount may write the file, so what the daemon would obey is in force only once the user has said so
//! (`llctl config trust`): docs/SECURITY.md.

mod error;
mod units;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use error::ConfigError;
pub use units::{Size, Span};

use crate::protocol::SnapMeta;

/// The file's name, in the mount's root.
pub use crate::components::FILE;

/// The longest file, in bytes.
pub const TEXT_MAX: usize = 64 << 10;

/// Automatic snapshots that there may be, whatever the rules keep.
pub const AUTOMATIC_MAX: u32 = 10_000;

/// The reason of snapshots that the daemon takes by itself.
pub const AUTOMATIC: &str = "automatic";

/// Everything that the file may say, with defaults for what it does not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Parts of the tree with names: patterns by name. Read by clients only.
    pub components: BTreeMap<String, Vec<String>>,
    /// When the daemon takes a snapshot by itself.
    pub checkpoints: Checkpoints,
    /// Which snapshots are given up by themselves.
    pub retention: Retention,
    /// Commands before and after what is done to snapshots and the tree.
    pub hooks: Hooks,
}

/// When the daemon takes a snapshot by itself. It never takes one that holds no change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Checkpoints {
    /// Whether it does at all.
    pub automatic: bool,
    /// When nothing has changed for so long, after changes: what there is before the next one. `off`: not for that reason.
    #[serde(with = "units::or_off")]
    pub quiet: Option<Span>,
    /// When there were changes and the last snapshot is so old.
    #[serde(with = "units::or_off")]
    pub every: Option<Span>,
    /// Before one process removes so many files and directories, or more, without a pause; 0: not for that reason. No hook runs
    /// before that one: the removal would have to wait for it.
    pub bulk: u32,
}

/// Which snapshots are kept: those that any of the rules keeps. Those that are pinned always are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// The newest so many.
    pub keep_last: u32,
    /// Those that are not older than this.
    #[serde(with = "units::or_off")]
    pub keep_for: Option<Span>,
    /// The last one of each hour, of the newest so many hours that have any. Hours and days are those of the local time.
    pub hourly: u32,
    /// The last one of each day, of the newest so many days that have any.
    pub daily: u32,
    /// Those that have tags.
    pub keep_tagged: bool,
    /// Bytes that those which the rules keep may hold together in the store; the oldest go first. The newest always stays.
    #[serde(with = "units::or_off")]
    pub max_size: Option<Size>,
    /// To which snapshots all this applies; the others stay.
    pub applies_to: AppliesTo,
}

/// To which snapshots retention applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AppliesTo {
    /// Those that nobody asked for: see [`is_automatic`].
    #[default]
    Automatic,
    /// All.
    All,
}

/// Commands that are run with `sh -c` in the mount's root, as the user who mounted it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hooks {
    /// How long one may take before it is killed, which counts as a failure.
    pub timeout: Span,
    /// Before a snapshot is taken; if it fails, none is.
    pub before_snap: Option<String>,
    /// After a snapshot was taken, or was not.
    pub after_snap: Option<String>,
    /// Before a revert, an undo or a redo.
    pub before_revert: Option<String>,
    /// After it.
    pub after_revert: Option<String>,
    /// Before snapshots are deleted.
    pub before_delete: Option<String>,
    /// After it.
    pub after_delete: Option<String>,
    /// Before retention gives snapshots up.
    pub before_prune: Option<String>,
    /// After it.
    pub after_prune: Option<String>,
    /// Before the tree is written into the base.
    pub before_apply: Option<String>,
    /// After it.
    pub after_apply: Option<String>,
}

impl Default for Checkpoints {
    fn default() -> Self {
        Self {
            automatic: true,
            quiet: Some(Span::from_secs(30)),
            every: Some(Span::from_secs(600)),
            bulk: 20,
        }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            keep_last: 50,
            keep_for: Some(Span::from_secs(2 * 3600)),
            hourly: 48,
            daily: 30,
            keep_tagged: true,
            max_size: None,
            applies_to: AppliesTo::Automatic,
        }
    }
}

impl Retention {
    /// Rules that keep nothing but what is pinned or tagged, to set some of them.
    pub fn nothing() -> Self {
        Self {
            keep_last: 0,
            keep_for: None,
            hourly: 0,
            daily: 0,
            ..Self::default()
        }
    }
}

impl Default for Hooks {
    fn default() -> Self {
        Self {
            timeout: Span(Duration::from_secs(30)),
            before_snap: None,
            after_snap: None,
            before_revert: None,
            after_revert: None,
            before_delete: None,
            after_delete: None,
            before_prune: None,
            after_prune: None,
            before_apply: None,
            after_apply: None,
        }
    }
}

impl Config {
    /// What a file says.
    ///
    /// # Errors
    /// The first thing that is wrong, and where.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        if text.len() > TEXT_MAX {
            let message = format!("the file has at most {TEXT_MAX} bytes, not {}", text.len());
            return Err(ConfigError::whole(message));
        }
        let config: Self = toml::from_str(text).map_err(|error| ConfigError::of(&error, text))?;
        for (name, patterns) in &config.components {
            crate::globs::Globs::new(patterns).map_err(|error| {
                ConfigError::at_key(text, name, format!("component {name:?}: {error}"))
            })?;
        }
        Ok(config)
    }

    /// Everything that is in force, as a file that says it.
    pub fn to_text(&self) -> String {
        toml::to_string(self).unwrap_or_default()
    }
}

/// Whether nobody asked for a snapshot: the daemon took it by itself, or `llctl hook` or `llctl run` before something else.
pub fn is_automatic(meta: &SnapMeta) -> bool {
    match meta.reason.as_deref() {
        Some(AUTOMATIC) => true,
        Some("pre-change") => meta.created_by.is_some(),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
