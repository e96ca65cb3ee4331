//! Programs that have files of a mount open for writing, or mapped so.
//!
//! The daemon is not told of opens, so `/proc` is what knows. Of other users' programs only root sees anything.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;

use nix::dir::Dir;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, fstatat};
use serde::Serialize;

use crate::protocol::BytePath;

mod mappings;

/// A program, and what it may write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Writer {
    /// Its process id.
    pub pid: u32,
    /// Its name, as `ps` shows it.
    pub command: String,
    /// The files, relative to the mount's root.
    pub paths: Vec<BytePath>,
}

/// Hands each program to `each`, the youngest processes first, until all are seen or it is `until`. Whether all were seen.
pub fn find(mountpoint: &Path, until: Instant, each: &mut dyn FnMut(Writer)) -> bool {
    let Ok(proc) = opened(AT_FDCWD, "/proc", OFlag::O_DIRECTORY) else {
        return true;
    };
    let own = std::process::id();
    let mut pids = numbers(&proc);
    pids.retain(|pid| *pid != own);
    pids.sort_unstable_by(|a, b| b.cmp(a));
    let mut table = Vec::new();
    for pid in pids {
        if Instant::now() >= until {
            return false;
        }
        // A thread of the kernel has no mappings, another user's program none that can be read; neither has files to be seen.
        let Some(mut paths) = mapped(&proc, pid, mountpoint, &mut table) else {
            continue;
        };
        paths.extend(open_files(&proc, pid, mountpoint));
        paths.sort();
        paths.dedup();
        if !paths.is_empty() {
            let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
            each(Writer {
                pid,
                command: crate::escape::escaped(name.trim_ascii_end()),
                paths: paths.into_iter().map(BytePath).collect(),
            });
        }
    }
    true
}

/// Files that a process has open for writing. One that has ended has none.
fn open_files(proc: &OwnedFd, pid: u32, mountpoint: &Path) -> Vec<Vec<u8>> {
    let Ok(fds) = opened(proc, &format!("{pid}/fd"), OFlag::O_DIRECTORY) else {
        return Vec::new();
    };
    let writable = numbers(&fds).into_iter().filter_map(|fd| {
        let name = fd.to_string();
        let target = readlinkat(&fds, name.as_str()).ok()?;
        let path = below(target.as_bytes(), mountpoint)?;
        // The link's own mode says what the file was opened for.
        let link = fstatat(&fds, name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
        (link.st_mode & 0o200 != 0).then_some(path)
    });
    writable.collect()
}

/// Files that stores into memory change; `None` of what has no memory, none that may be seen, or is a daemon of llfs: that has
/// hundreds of descriptors, and none in a mount. `table` is room to read into.
fn mapped(
    proc: &OwnedFd,
    pid: u32,
    mountpoint: &Path,
    table: &mut Vec<u8>,
) -> Option<Vec<Vec<u8>>> {
    let maps = opened(proc, &format!("{pid}/maps"), OFlag::empty()).ok()?;
    let mappings = mappings::read(&maps, table).ok()??;
    let paths = mappings.written.iter();
    let paths = paths.filter_map(|path| below(path, mountpoint));
    (!mappings.program.ends_with(b"/llfs")).then(|| paths.collect())
}

fn opened<F: AsFd>(dir: F, path: &str, how: OFlag) -> nix::Result<OwnedFd> {
    openat(dir, path, OFlag::O_CLOEXEC | how, Mode::empty())
}

/// The entries of a directory that are numbers.
fn numbers(dir: &OwnedFd) -> Vec<u32> {
    let entries = opened(dir, ".", OFlag::O_DIRECTORY).and_then(Dir::from_fd);
    let entries = entries.into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str().ok()?.parse().ok());
    numbers.collect()
}

fn below(path: &[u8], mountpoint: &Path) -> Option<Vec<u8>> {
    let rest = Path::new(OsStr::from_bytes(path))
        .strip_prefix(mountpoint)
        .ok()?;
    let rest = rest.as_os_str().as_bytes();
    (!rest.is_empty()).then(|| rest.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn another_program_is_seen_with_what_it_writes_only() {
        let dir = std::env::temp_dir().join(format!("llctl-writers-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("read"), "").unwrap();
        // One that looks like a daemon of llfs is not looked at.
        // Another process makes it: what is open for writing, by children of other threads too, cannot be run.
        let mut copy = std::process::Command::new("cp");
        let copied = copy.arg("/bin/sh").arg(dir.join("llfs")).status().unwrap();
        assert!(copied.success());
        let mut children = ["sh".into(), dir.join("llfs")].map(|program| {
            let mut child = std::process::Command::new(program)
                .args(["-c", "exec 3>written 4<read; echo there; read wait"])
                .current_dir(&dir)
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            let mut there = [0; 6];
            std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut there).unwrap();
            child
        });
        let mut found = Vec::new();
        let all = find(&dir, Instant::now() + Duration::from_secs(60), &mut |w| {
            found.push(w);
        });
        for child in &mut children {
            drop(child.stdin.take());
            child.wait().unwrap();
        }
        fs::remove_dir_all(&dir).unwrap();
        assert!(all);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].pid, children[0].id());
        assert_eq!(found[0].command, "sh");
        assert_eq!(found[0].paths, [BytePath::from("written")]);
        // No time, no answer.
        assert!(!find(&dir, Instant::now(), &mut |_| panic!(
            "it was looked"
        )));
    }
}
