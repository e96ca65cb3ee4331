//! What must be true of every tree that nobody changes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::Path;

use crate::manifest::Manifest;

/// Link counts that are not the number of names, and directories whose count is not that of their
/// subdirectories and two (filesystems that don't count them say 1 everywhere).
#[must_use]
pub fn problems(manifest: &Manifest) -> Vec<String> {
    let mut problems = Vec::new();
    let mut names: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for entry in manifest.0.values().filter(|entry| !entry.is_dir()) {
        let (count, nlink) = names.entry(entry.ino).or_insert((0, entry.nlink));
        *count += 1;
        if *nlink != entry.nlink {
            problems.push(format!("two names of inode {} disagree", entry.ino));
        }
    }
    for (ino, (count, nlink)) in names {
        if count != nlink {
            problems.push(format!("inode {ino} has {count} names and counts {nlink}"));
        }
    }
    let mut children: BTreeMap<&[u8], u64> = BTreeMap::new();
    let mut dirs: BTreeMap<u64, &[u8]> = BTreeMap::new();
    for (path, entry) in manifest.0.iter().filter(|(_, entry)| entry.is_dir()) {
        if let Some(other) = dirs.insert(entry.ino, path) {
            let (one, two) = (other.escape_ascii(), path.escape_ascii());
            problems.push(format!("one directory has two names: {one} and {two}"));
        }
        if !path.is_empty() {
            let parent = path
                .iter()
                .rposition(|b| *b == b'/')
                .map_or(&b""[..], |at| &path[..at]);
            *children.entry(parent).or_insert(0) += 1;
        }
    }
    let counted = manifest
        .0
        .values()
        .any(|entry| entry.is_dir() && entry.nlink != 1);
    for (path, entry) in manifest
        .0
        .iter()
        .filter(|(_, entry)| counted && entry.is_dir())
    {
        let wanted = 2 + children.get(path.as_slice()).copied().unwrap_or(0);
        if entry.nlink != wanted {
            let path = path.escape_ascii();
            problems.push(format!("{path}: {} links instead of {wanted}", entry.nlink));
        }
    }
    problems
}

/// Listed names at and below `dir` that cannot be looked up, or are another object than the listed one.
#[must_use]
pub fn listing_problems(dir: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => return vec![format!("{dir:?} cannot be listed: {error}")],
    };
    for entry in entries {
        let path = entry
            .as_ref()
            .map_or_else(|_| dir.to_path_buf(), fs::DirEntry::path);
        let compared = entry.and_then(|entry| {
            let found = fs::symlink_metadata(&path)?;
            let same = entry.ino() == found.ino() && entry.file_type()? == found.file_type();
            Ok((same, found.is_dir()))
        });
        match compared {
            Ok((same, is_dir)) => {
                if !same {
                    problems.push(format!("{path:?} lists another inode"));
                }
                if is_dir {
                    problems.extend(listing_problems(&path));
                }
            }
            Err(error) => problems.push(format!("{path:?} is listed and not found: {error}")),
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::walk;
    use crate::scratch::Scratch;

    /// A tree is sound, and a manifest from which a name is taken is not.
    #[test]
    fn a_lost_name_is_noticed() {
        let scratch = Scratch::new("invariants");
        let root = scratch.path();
        fs::create_dir_all(root.join("one/two")).expect("a fresh directory");
        fs::write(root.join("one/file"), "text").expect("a fresh directory");
        fs::hard_link(root.join("one/file"), root.join("link")).expect("a fresh directory");
        assert_eq!(listing_problems(root), Vec::<String>::new());
        let whole = walk(root);
        assert_eq!(problems(&whole), Vec::<String>::new());
        for lost in ["link", "one/two", "one/file"] {
            let mut manifest = walk(root);
            manifest.0.remove(lost.as_bytes());
            assert_eq!(problems(&manifest).len(), 1, "{lost}");
        }
    }
}
