//! How two states differ.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{BytePath, UnixNanos};

/// The longest content of one side that a diff carries, in bytes. Both sides and the frame around them stay far below
/// the limit of a reply.
pub const CONTENT_MAX: usize = 4 << 20;

/// Bytes at the start of a file in which a NUL makes it binary.
const BINARY_PROBE: usize = 8000;

/// One path that differs between two states.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Change {
    /// The path in the newer state (in the older one if it was removed), relative to the mount's root.
    pub path: BytePath,
    /// What happened; the first that holds of those in [`ChangeKind`]'s order.
    pub kind: ChangeKind,
    /// The path in the older state, if it was renamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<BytePath>,
    /// The object in the older state; none if it was added.
    #[serde(default)]
    pub old: Option<Side>,
    /// The object in the newer state; none if it was removed.
    #[serde(default)]
    pub new: Option<Side>,
    /// Both contents, where they were asked for and differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<Patch>,
}

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It is only in the newer state.
    Added,
    /// It is only in the older state.
    Removed,
    /// It came from another name; its content may have changed as well.
    Renamed,
    /// It is of another type, such as a symlink where a file was.
    TypeChanged,
    /// Its content (or a symlink's target) changed.
    Modified,
    /// Only its mode or owner changed.
    Mode,
    /// Only its extended attributes or ACLs changed.
    Xattrs,
    /// Only its times changed.
    Times,
}

/// An object in one of the two states.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Side {
    /// Its type.
    pub file_type: FileType,
    /// Its size in bytes.
    pub size: u64,
    /// Its permission bits: the lowest twelve of `st_mode`.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// When its content was last modified.
    pub mtime: UnixNanos,
}

/// The type of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileType {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// Both contents of a changed path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Patch {
    /// The older content.
    pub old: Content,
    /// The newer content.
    pub new: Content,
}

/// The content of one side.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// There is nothing on this side, or nothing that has content.
    Absent,
    /// All bytes: of a file, or of a symlink's target.
    Bytes(ByteBuf),
    /// The content is not text.
    Binary,
    /// The content is longer than [`CONTENT_MAX`].
    TooLarge,
}

impl Content {
    /// What to send of a file whose whole content is `bytes`.
    pub fn of(bytes: Vec<u8>) -> Self {
        if bytes.len() > CONTENT_MAX {
            Self::TooLarge
        } else if bytes[..bytes.len().min(BINARY_PROBE)].contains(&0) {
            Self::Binary
        } else {
            Self::Bytes(ByteBuf::from(bytes))
        }
    }
}

/// How many paths changed, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ChangeCounts {
    /// Added paths.
    pub added: u64,
    /// Removed paths.
    pub removed: u64,
    /// Paths whose content or type changed.
    pub modified: u64,
    /// Renamed paths.
    pub renamed: u64,
    /// Paths of which only attributes changed: mode, owner, xattrs, times.
    pub attributes: u64,
}

impl ChangeCounts {
    /// Counts one change.
    pub fn count(&mut self, kind: ChangeKind) {
        match kind {
            ChangeKind::Added => self.added += 1,
            ChangeKind::Removed => self.removed += 1,
            ChangeKind::Renamed => self.renamed += 1,
            ChangeKind::Modified | ChangeKind::TypeChanged => self.modified += 1,
            ChangeKind::Mode | ChangeKind::Xattrs | ChangeKind::Times => self.attributes += 1,
        }
    }

    /// All paths together.
    pub fn total(&self) -> u64 {
        self.added + self.removed + self.modified + self.renamed + self.attributes
    }
}

/// Whether `path` is one of `paths` or below one of them; `paths` that are empty, or hold the empty path, select all.
pub fn selected(paths: &[BytePath], path: &[u8]) -> bool {
    paths.is_empty()
        || paths.iter().any(|BytePath(wanted)| {
            wanted.is_empty()
                || path
                    .strip_prefix(wanted.as_slice())
                    .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selected_path_selects_what_is_below_but_not_its_namesakes() {
        let paths = [BytePath::from("src"), BytePath::from("a/b")];
        for yes in ["src", "src/main.rs", "a/b", "a/b/c"] {
            assert!(selected(&paths, yes.as_bytes()), "{yes}");
        }
        for no in ["srcs", "a", "a/bc", ""] {
            assert!(!selected(&paths, no.as_bytes()), "{no}");
        }
        assert!(selected(&[], b"x"));
        assert!(selected(&[BytePath::from("")], b"x"));
    }

    #[test]
    fn content_is_bounded_and_binary_is_flagged() {
        assert_eq!(
            Content::of(b"text".to_vec()),
            Content::Bytes(ByteBuf::from(b"text".to_vec()))
        );
        assert_eq!(Content::of(b"te\0xt".to_vec()), Content::Binary);
        assert_eq!(Content::of(vec![b'a'; CONTENT_MAX + 1]), Content::TooLarge);
        assert_eq!(Content::of(Vec::new()), Content::Bytes(ByteBuf::new()));
    }
}
