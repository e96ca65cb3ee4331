//! Named parts of the tree, from `llfs.toml` in the mount's root:
//!
//! ```toml
//! [components]
//! frontend = ["web/**", "package.json"]
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::escape::Shown;
use serde::Deserialize;

use crate::config::TEXT_MAX;
use crate::plain;

/// The file's name, in the mount's root.
pub const FILE: &str = "llfs.toml";

/// Why a component is not known.
#[derive(Debug, thiserror::Error)]
pub enum ComponentError {
    /// The file cannot be read.
    #[error("{}: {source}", .path.shown())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no TOML, or its `components` are no lists of patterns.
    #[error("{}: {}", .path.shown(), .source.to_string().trim_end())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        source: Box<toml::de::Error>,
    },
    /// The file does not name it.
    #[error("{} has no component named {name:?}; it has {}", .path.shown(), list(.there))]
    Unknown {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
        /// The names that there are.
        there: Vec<String>,
    },
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// What of the file matters here.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    components: BTreeMap<String, Vec<String>>,
}

/// The patterns of some components of the mount at `mountpoint`.
///
/// # Errors
/// See [`ComponentError`].
pub fn patterns(mountpoint: &Path, names: &[String]) -> Result<Vec<String>, ComponentError> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let path = mountpoint.join(FILE);
    let text = plain::read(&path, TEXT_MAX as u64).map_err(|source| ComponentError::Read {
        path: path.clone(),
        source,
    })?;
    let file: File = toml::from_str(&text).map_err(|source| ComponentError::Parse {
        path: path.clone(),
        source: Box::new(source),
    })?;
    let mut all = Vec::new();
    for name in names {
        match file.components.get(name) {
            Some(patterns) => all.extend(patterns.iter().cloned()),
            None => {
                return Err(ComponentError::Unknown {
                    path,
                    name: name.clone(),
                    there: file.components.into_keys().collect(),
                });
            }
        }
    }
    Ok(all)
}
