//! A work tree in the mount whose repository lies outside of it (`git worktree`, submodules): a revert changes the files and
//! not what git knows, so that what git is in the middle of would not fit any more.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use llctl::escape::Shown;
use llctl::{exit, locate};

use crate::cli::fail::Fail;

/// Files of git's directory, and what git does while they are there.
const MARKS: [(&str, &str); 6] = [
    ("MERGE_HEAD", "merge"),
    ("CHERRY_PICK_HEAD", "cherry-pick"),
    ("REVERT_HEAD", "revert"),
    ("rebase-merge", "rebase"),
    ("rebase-apply", "rebase"),
    ("BISECT_LOG", "bisect"),
];

/// Refuses while git is in the middle of something there.
pub fn check(mountpoint: &Path) -> Result<(), Fail> {
    match underway(mountpoint) {
        Some(message) => Err(Fail::Refused {
            code: exit::UNDERWAY,
            kind: "underway",
            message,
            hint: Some("finish or abort it first, or use --force".to_owned()),
        }),
        None => Ok(()),
    }
}

/// What git is in the middle of, in a sentence: in the work tree at the mount's root, and in the one around the current directory.
pub fn underway(mountpoint: &Path) -> Option<String> {
    let here = locate::current_dir().unwrap_or_default();
    let above = here
        .ancestors()
        .take_while(|dir| dir.starts_with(mountpoint));
    let mut trees: Vec<&Path> = above.chain([mountpoint]).collect();
    trees.dedup();
    trees.into_iter().find_map(|tree| {
        let git_dir = linked(tree).filter(|dir| !dir.starts_with(mountpoint))?;
        let (_, what) = MARKS.iter().find(|(mark, _)| git_dir.join(mark).exists())?;
        Some(format!(
            "a git {what} is in progress in {}, whose repository {} the revert does not reach",
            tree.shown(),
            git_dir.shown()
        ))
    })
}

/// Where the `.git` of a linked work tree leads (gitrepository-layout(5)).
fn linked(tree: &Path) -> Option<PathBuf> {
    let file = tree.join(".git");
    if !fs::symlink_metadata(&file).ok()?.is_file() {
        return None;
    }
    let text = fs::read(&file).ok()?;
    let path = text.strip_prefix(b"gitdir: ")?.trim_ascii_end();
    let path = tree.join(OsStr::from_bytes(path));
    Some(fs::canonicalize(&path).unwrap_or(path))
}
