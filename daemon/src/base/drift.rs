//! Whether the base is still what the layers rely on.

use std::path::PathBuf;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::{Base, BaseStat, ROOT};
use crate::tree::Kind;

/// What was recorded of a base object beside its place and inode number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    pub kind: Kind,
    /// Length in bytes.
    pub size: u64,
    /// Seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Seconds since 1970 and nanoseconds.
    pub ctime: (i64, u32),
}

impl From<&BaseStat> for Fact {
    fn from(stat: &BaseStat) -> Fact {
        Fact {
            kind: stat.kind,
            size: stat.size,
            mtime: stat.mtime,
            ctime: stat.ctime,
        }
    }
}

/// A base object that is not what was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    pub ino: u64,
    /// Its recorded path below the base directory; empty where not even that is known.
    pub path: PathBuf,
    pub what: What,
}

/// How a base object differs from what was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Nothing is at its place.
    Missing,
    /// Another object is at its place, or at that of a directory above it.
    Replaced,
    /// The same object, of another length or with other times.
    Changed { recorded: Fact, found: Fact },
    /// It cannot be looked at.
    Unreadable(Errno),
}

impl Base {
    /// Compares `ino`, whose place was learned, with what was recorded of it; `None` if nothing differs.
    ///
    /// Of a directory only the identity counts: entries that come and go in it change its size and times,
    /// and what layers rely on in those entries has records of its own.
    pub fn check(&self, ino: u64, recorded: &Fact) -> Option<Drift> {
        let what = self.compare(ino, recorded)?;
        let path = self.path_of(ino).unwrap_or_default();
        Some(Drift { ino, path, what })
    }

    /// [`Base::check`] of many, which opens each directory once; sorted by path.
    pub fn check_all(&self, recorded: impl IntoIterator<Item = (u64, Fact)>) -> Vec<Drift> {
        let mut by_parent: Vec<_> = {
            let nodes = self.nodes.read();
            let parent = |ino| nodes.place(ino).map_or(0, |(parent, _)| parent);
            let recorded = recorded.into_iter();
            recorded
                .map(|(ino, fact)| (parent(ino), ino, fact))
                .collect()
        };
        by_parent.sort_unstable_by_key(|(parent, ino, _)| (*parent, *ino));
        let drifts = by_parent.iter();
        let mut drifts: Vec<_> = drifts
            .filter_map(|(_, ino, fact)| self.check(*ino, fact))
            .collect();
        drifts.sort_by(|a, b| a.path.cmp(&b.path));
        drifts
    }

    fn compare(&self, ino: u64, recorded: &Fact) -> Option<What> {
        let stat = match ino {
            ROOT => self.stat(ROOT),
            ino => self.probe(ino).and_then(|(_, _, raw)| self.convert(&raw)),
        };
        let found = match stat {
            Ok(stat) => Fact::from(&stat),
            Err(Errno::ENOENT) => return Some(What::Missing),
            Err(Errno::ELOOP | Errno::EXDEV | Errno::ESTALE | Errno::ENOTDIR) => {
                return Some(What::Replaced);
            }
            Err(error) => return Some(What::Unreadable(error)),
        };
        if found.kind != recorded.kind {
            return Some(What::Replaced);
        }
        if found.kind == Kind::Dir || found == *recorded {
            return None;
        }
        Some(What::Changed {
            recorded: *recorded,
            found,
        })
    }
}
