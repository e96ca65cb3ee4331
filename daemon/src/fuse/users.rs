//! Which programs use a mount, by what /proc shows of them.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// A process that keeps a mount busy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its process id.
    pub pid: u32,
    /// Its name, as `ps` shows it.
    pub name: String,
    /// What it does with the mount.
    pub what: Use,
}

/// How a process uses a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Use {
    /// It stands there.
    Cwd(PathBuf),
    /// It sees nothing but what is there.
    Root(PathBuf),
    /// It has a file open.
    Open(PathBuf),
    /// It has a file mapped.
    Mapped(PathBuf),
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = llctl::escape::escaped(self.name.as_bytes());
        let (does, path) = match &self.what {
            Use::Cwd(path) => ("stands in", path),
            Use::Root(path) => ("is rooted in", path),
            Use::Open(path) => ("has open", path),
            Use::Mapped(path) => ("has mapped", path),
        };
        let path = llctl::escape::escaped(path.as_os_str().as_encoded_bytes());
        write!(f, "{name} (pid {}) {does} {path}", self.pid)
    }
}

/// The processes whose current directory, root, open files or mappings lie in `mountpoint`, by process id; one line for
/// each. Those of other users stay hidden, except from root.
pub fn users_of(mountpoint: &Path) -> Vec<User> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut users: Vec<User> = processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| user(pid, mountpoint))
        .collect();
    users.sort_by_key(|user| user.pid);
    users
}

fn user(pid: u32, mountpoint: &Path) -> Option<User> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let inside = |link: &str| points_inside(&process.join(link), mountpoint);
    let what = inside("cwd")
        .map(Use::Cwd)
        .or_else(|| inside("root").map(Use::Root))
        .or_else(|| descriptor(&process.join("fd"), mountpoint).map(Use::Open))
        .or_else(|| descriptor(&process.join("map_files"), mountpoint).map(Use::Mapped))?;
    let name = fs::read(process.join("comm")).unwrap_or_default();
    Some(User {
        pid,
        name: String::from_utf8_lossy(name.trim_ascii_end()).into_owned(),
        what,
    })
}

fn descriptor(links: &Path, mountpoint: &Path) -> Option<PathBuf> {
    fs::read_dir(links)
        .ok()?
        .flatten()
        .find_map(|link| points_inside(&link.path(), mountpoint))
}

/// Reads the link and nothing behind it: what it points to may be on a mount that does not answer.
fn points_inside(link: &Path, mountpoint: &Path) -> Option<PathBuf> {
    fs::read_link(link)
        .ok()
        .filter(|target| target.starts_with(mountpoint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn an_open_file_is_found_and_a_closed_one_is_not() {
        let dir = std::env::temp_dir().join(format!("llfs-users-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let path = dir.join("open");
        let file = File::create(&path).unwrap();
        let me = std::process::id();
        let found: Vec<User> = users_of(&dir)
            .into_iter()
            .filter(|user| user.pid == me)
            .collect();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].what, Use::Open(path.clone()));
        drop(file);
        assert!(users_of(&dir).iter().all(|user| user.pid != me));
        fs::remove_file(path).unwrap();
        fs::remove_dir(dir).unwrap();
    }
}
