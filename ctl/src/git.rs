//! What a git repository has checked out, read from its files.
//!
//! Nothing is run and nothing is written: a handful of small files are read, so that it costs microseconds and may be done at
//! each snapshot. Only [`dirty`] runs git, since only git knows what it ignores, filters and has staged.
//!
//! The layout is that of gitrepository-layout(5): a `.git` directory, or a file of that name which says where it is
//! (a linked worktree, a submodule), whose `commondir` has the branches.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::fcntl::OFlag;

use crate::protocol::{FIELD_MAX, GitState};

/// Symbolic refs in a row that are followed, as many as git does.
const DEPTH: usize = 5;
/// Bytes that are read of a file with one line.
const LINE_MAX: u64 = 4096;
/// Bytes that are read of `packed-refs`; behind them nothing is found.
const PACKED_MAX: u64 = 64 << 20;

/// What is checked out in the repository that holds `dir`, which is looked for in `dir` and above it, no higher than `top`.
/// None if there is none, or its files make no sense. Whether it is dirty is left open.
pub fn read(dir: &Path, top: &Path) -> Option<GitState> {
    let git = find(dir, top)?;
    let common = match line(&git.join("commondir")) {
        Some(path) => git.join(path),
        None => git.clone(),
    };
    let mut target = line(&git.join("HEAD"))?;
    let mut branch = None;
    for depth in 0..DEPTH {
        let Some(name) = target.strip_prefix("ref:").map(str::trim) else {
            break;
        };
        if !is_ref(name) {
            return None;
        }
        if depth == 0 {
            branch = name.strip_prefix("refs/heads/").map(str::to_owned);
        }
        // Where refs are kept in another way, this is all that HEAD says.
        if name == "refs/heads/.invalid" {
            return Some(GitState::default());
        }
        let loose = line(&git.join(name)).or_else(|| line(&common.join(name)));
        match loose.or_else(|| packed(&common, name)) {
            Some(next) => target = next,
            // A branch without a commit.
            None => {
                return Some(GitState {
                    branch,
                    ..GitState::default()
                });
            }
        }
    }
    is_commit(&target).then_some(GitState {
        head: Some(target),
        branch,
        dirty: None,
    })
}

/// Whether `git status` has anything to say of the repository that holds `dir`: runs git, which reads the whole index. None if
/// git cannot be run or fails.
pub fn dirty(dir: &Path) -> Option<bool> {
    let output = Command::new("git")
        .arg("-C")
        .arg(dir)
        // Whatever the user has it show otherwise.
        .args(["status", "--porcelain", "--untracked-files=normal"])
        // Looking is no reason to write the index.
        .env("GIT_OPTIONAL_LOCKS", "0")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output.status.success().then_some(!output.stdout.is_empty())
}

/// The directory with the repository's own files.
fn find(dir: &Path, top: &Path) -> Option<PathBuf> {
    for at in dir.ancestors().take_while(|at| at.starts_with(top)) {
        let git = at.join(".git");
        match git.metadata() {
            Ok(found) if found.is_dir() => return Some(git),
            Ok(_) => {
                let path = line(&git)?.strip_prefix("gitdir:")?.trim().to_owned();
                return Some(at.join(path));
            }
            Err(_) => {}
        }
    }
    None
}

/// The first line of a small file, without white space at its ends; none if it is empty or cannot be read.
fn line(path: &Path) -> Option<String> {
    let mut text = String::new();
    open(path)
        .ok()?
        .take(LINE_MAX)
        .read_to_string(&mut text)
        .ok()?;
    let line = text.lines().next()?.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

/// A file; opening never waits, whatever there is in its place.
fn open(path: &Path) -> io::Result<File> {
    let file = File::options()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(file)
}

/// The commit of a ref among those that are packed into one file.
fn packed(common: &Path, name: &str) -> Option<String> {
    let file = open(&common.join("packed-refs")).ok()?;
    let mut reader = BufReader::with_capacity(1 << 16, file.take(PACKED_MAX));
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).ok()? > 0 {
        let found = line
            .trim_ascii_end()
            .split(|b| *b == b' ')
            .collect::<Vec<_>>();
        if let [commit, of] = found[..]
            && of == name.as_bytes()
        {
            return String::from_utf8(commit.to_vec()).ok();
        }
        line.clear();
    }
    None
}

/// A name that leads to a file below the repository, and to no other.
fn is_ref(name: &str) -> bool {
    name.starts_with("refs/")
        && name.len() <= FIELD_MAX
        && !name.chars().any(char::is_control)
        && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests;
