//! A whole tree written down, and the difference of two such records.

mod compare;
mod walk;

use std::collections::BTreeMap;
use std::fmt;

use nix::sys::stat::SFlag;
use xxhash_rust::xxh3::Xxh3;

pub use compare::Ignore;
pub use walk::walk;

/// Everything of one object that the promises speak of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The S_IFMT bits.
    pub kind: u32,
    /// The permission bits, 07777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of hard links.
    pub nlink: u64,
    /// Bytes; what the filesystem says for directories.
    pub size: u64,
    /// Modification time: seconds and nanoseconds.
    pub mtime: (i64, i64),
    /// Device number of a device node.
    pub rdev: u64,
    /// Inode number.
    pub ino: u64,
    /// Target of a symbolic link.
    pub target: Vec<u8>,
    /// Extended attributes, ACLs among them.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// [`digest`] of a regular file's bytes.
    pub content: u128,
}

impl Entry {
    /// Whether this is a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.kind == SFlag::S_IFDIR.bits()
    }

    /// Whether this is a regular file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.kind == SFlag::S_IFREG.bits()
    }
}

/// A tree: the path below the root (empty for the root itself) to what is there.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Manifest(pub BTreeMap<Vec<u8>, Entry>);

impl Manifest {
    /// How many objects there are, the root included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether not even a root is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Panics with a readable list of differences.
    #[track_caller]
    pub fn assert_same(&self, other: &Manifest, ignore: Ignore, what: &str) {
        let differences = self.differences(other, ignore);
        if differences.is_empty() {
            return;
        }
        let shown: Vec<_> = differences.iter().take(40).map(String::as_str).collect();
        panic!(
            "{what}: {} differences (expected - / found +)\n  {}",
            differences.len(),
            shown.join("\n  ")
        );
    }
}

impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (path, entry) in &self.0 {
            writeln!(f, "{} {entry:?}", path.escape_ascii())?;
        }
        Ok(())
    }
}

/// The digest of a file's content that [`Digest`] makes when it is given all of it.
#[must_use]
pub fn digest(content: &[u8]) -> u128 {
    let mut digest = Digest::default();
    digest.add(0, content);
    digest.finish(content.len() as u64)
}

/// Digests a file by its blocks that are not all zero: a hole and written zeros are the same.
#[derive(Default)]
pub struct Digest(Xxh3);

impl Digest {
    /// Size of the blocks in bytes.
    const BLOCK: usize = 4096;

    /// Adds bytes at `offset`, which must be a multiple of the block size; only the last piece
    /// may end inside of a block.
    pub fn add(&mut self, offset: u64, bytes: &[u8]) {
        for (index, block) in bytes.chunks(Self::BLOCK).enumerate() {
            if block.iter().any(|&b| b != 0) {
                let place = offset + (index * Self::BLOCK) as u64;
                // A block's trailing zeros may or may not be given: leave them out.
                let end = block
                    .iter()
                    .rposition(|&b| b != 0)
                    .map_or(0, |last| last + 1);
                self.0.update(&place.to_le_bytes());
                self.0.update(&block[..end]);
            }
        }
    }

    /// The digest of a file of `size` bytes.
    #[must_use]
    pub fn finish(mut self, size: u64) -> u128 {
        self.0.update(&size.to_le_bytes());
        self.0.digest128()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::scratch::Scratch;
    use crate::{sys, tree};

    /// One change of each kind, and nothing else, is seen.
    #[test]
    fn every_kind_of_change_is_one_difference() {
        type Change = (&'static str, fn(&std::path::Path));
        let changes: [Change; 7] = [
            ("content", |p| std::fs::write(p, "other text").unwrap()),
            ("size", |p| std::fs::write(p, "longer than before").unwrap()),
            ("mode", |p| {
                std::fs::set_permissions(p, PermissionsExt::from_mode(0o600)).unwrap()
            }),
            ("user.x", |p| sys::set_xattr(p, b"user.x", b"1", 0).unwrap()),
            ("nlink", |p| {
                std::fs::hard_link(p, p.with_extension("2")).unwrap()
            }),
            ("mtime", |p| {
                let file = std::fs::File::options().write(true).open(p).unwrap();
                file.set_modified(std::time::SystemTime::UNIX_EPOCH)
                    .unwrap();
            }),
            ("ino", |p| {
                std::fs::copy(p, p.with_extension("new")).unwrap();
                std::fs::rename(p.with_extension("new"), p).unwrap();
            }),
        ];
        for (field, change) in changes {
            let scratch = Scratch::new("manifest");
            let file = scratch.path().join("file");
            std::fs::write(&file, "first text").unwrap();
            let one = walk(scratch.path());
            assert!(
                one.differences(&walk(scratch.path()), Ignore::default())
                    .is_empty()
            );
            change(&file);
            let lines = one.differences(&walk(scratch.path()), Ignore::default());
            let line = lines.iter().find(|line| line.starts_with("! file:"));
            assert!(
                line.is_some_and(|line| line.contains(field)),
                "{field}: {lines:?}"
            );
        }
    }

    /// The generated trees are the same every time, and their holes digest like zeros.
    #[test]
    fn a_planted_tree_is_reproducible() {
        let (one, another) = (Scratch::new("plant"), Scratch::new("plant"));
        let (a, b) = (one.dir("t"), another.dir("t"));
        tree::plant(&a, 7, 300).unwrap();
        tree::plant(&b, 7, 300).unwrap();
        let ignore = Ignore {
            times_since: Some((1_600_000_000, 0)),
            ..Ignore::another_tree()
        };
        walk(&a).assert_same(&walk(&b), ignore, "two trees from one seed");
        assert!(walk(&a).len() > 250);
        let zeros = vec![0; 10_000];
        assert_eq!(digest(&zeros), Digest::default().finish(10_000));
        assert_ne!(digest(&zeros), digest(&zeros[..9_999]));
    }
}
