//! Which programs use a mount, by what /proc shows of them.

use std::ffi::CString;
use std::fmt;
use std::fs;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use llctl::escape::Shown;

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
        let path = path.shown();
        write!(f, "{name} (pid {}) {does} {path}", self.pid)
    }
}

/// The processes whose current directory, root, open files or mappings are on the mount at `mountpoint`, by process id; one
/// line for each. Those of other users stay hidden, except from root. The mount is not asked anything: it may hang.
pub fn users_of(mountpoint: &Path) -> Vec<User> {
    let (Ok(processes), Some(mount)) = (fs::read_dir("/proc"), mount_id(mountpoint)) else {
        return Vec::new();
    };
    let place = Place { mountpoint, mount };
    let mut users: Vec<User> = processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| place.user(pid))
        .collect();
    users.sort_by_key(|user| user.pid);
    users
}

/// Where to look for users.
struct Place<'a> {
    mountpoint: &'a Path,
    /// Tells the mount from the directory below it, whose files have the same paths: the daemon has that open.
    mount: u64,
}

impl Place<'_> {
    fn user(&self, pid: u32) -> Option<User> {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let inside = |link: &str| self.inside(&process.join(link));
        let what = inside("cwd")
            .map(Use::Cwd)
            .or_else(|| inside("root").map(Use::Root))
            .or_else(|| self.any_inside(&process.join("fd")).map(Use::Open))
            .or_else(|| self.any_inside(&process.join("map_files")).map(Use::Mapped))?;
        let name = fs::read(process.join("comm")).unwrap_or_default();
        let name = String::from_utf8_lossy(name.trim_ascii_end()).into_owned();
        Some(User { pid, name, what })
    }

    fn any_inside(&self, links: &Path) -> Option<PathBuf> {
        let mut links = fs::read_dir(links).ok()?.flatten();
        links.find_map(|link| self.inside(&link.path()))
    }

    /// What the link in /proc points to, if that is on the mount.
    fn inside(&self, link: &Path) -> Option<PathBuf> {
        let target = fs::read_link(link).ok()?;
        let found = target.starts_with(self.mountpoint) && mount_id(link) == Some(self.mount);
        found.then_some(target)
    }
}

/// The id of the mount that `path` is on, as the kernel knows it without asking the file system.
fn mount_id(path: &Path) -> Option<u64> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut found = MaybeUninit::<libc::statx>::zeroed();
    let flags = libc::AT_STATX_DONT_SYNC | libc::AT_NO_AUTOMOUNT;
    // SAFETY: `path` is a string that ends in zero, and `found` has room for what statx writes.
    let done = unsafe {
        libc::statx(
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            libc::STATX_MNT_ID,
            found.as_mut_ptr(),
        )
    };
    // SAFETY: it was all zeroes before, a valid value of this struct of integers; statx wrote more such.
    let found = unsafe { found.assume_init() };
    (done == 0 && found.stx_mask & libc::STATX_MNT_ID != 0).then_some(found.stx_mnt_id)
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
        // The same path on another mount is something else.
        let elsewhere = Place {
            mountpoint: &dir,
            mount: mount_id(&dir).unwrap() + 1,
        };
        assert_eq!(elsewhere.user(me), None);
        drop(file);
        assert!(users_of(&dir).iter().all(|user| user.pid != me));
        fs::remove_file(path).unwrap();
        fs::remove_dir(dir).unwrap();
    }
}
