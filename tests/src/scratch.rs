//! A directory that goes away with everything mounted in it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::mount::{MntFlags, umount2};

use crate::mountinfo;

/// A fresh directory below `TMPDIR`. Dropping it unmounts what is mounted in it, kills daemons
/// whose command line or open store names it, and removes it.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// A fresh directory whose name tells `what` it is for.
    pub fn new(what: &str) -> Self {
        Scratch::below(&std::env::temp_dir(), what)
    }

    /// A fresh directory in `parent`.
    pub fn below(parent: &Path, what: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let parent = parent
            .canonicalize()
            .expect("the temporary directory exists");
        let path = parent.join(format!("llfs-{what}-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).expect("the scratch directory can be made");
        Scratch { path }
    }

    /// The directory, absolute and without symbolic links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A directory in it, made if it is missing.
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.path.join(name);
        std::fs::create_dir_all(&path).expect("a directory can be made in the scratch directory");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        unmount_below(&self.path);
        kill_daemons_of(&self.path);
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            eprintln!("{} stays behind: {error}", self.path.display());
        }
    }
}

/// Takes away every mount at or below `path`, whatever state it is in. A FUSE connection is
/// aborted first, so that nobody hangs in it.
pub fn unmount_below(path: &Path) {
    for mount in mountinfo::below(path) {
        abort(&mount);
        match umount2(&mount.at, MntFlags::MNT_DETACH) {
            // The abort has unmounted it, or its daemon has.
            Ok(()) | Err(nix::errno::Errno::EINVAL) => {}
            Err(error) => eprintln!("{} stays mounted: {error}", mount.at.display()),
        }
    }
}

/// Aborts the FUSE connection of `mount`, if it is one: every waiting call returns an error.
pub fn abort(mount: &mountinfo::Mount) {
    if !mount.kind.starts_with("fuse") {
        return;
    }
    let control = format!("/sys/fs/fuse/connections/{}/abort", mount.minor);
    if std::fs::write(&control, "1").is_ok() {
        return;
    }
    // Without the control filesystem: a forced unmount aborts, and may fail after that as busy.
    match umount2(&mount.at, MntFlags::MNT_FORCE) {
        Ok(()) | Err(nix::errno::Errno::EBUSY | nix::errno::Errno::EINVAL) => {}
        Err(error) => eprintln!("{}: cannot abort: {error}", mount.at.display()),
    }
}

/// Kills (SIGKILL) the processes whose command line names something below `path`.
pub fn kill_daemons_of(path: &Path) {
    for pid in daemons_of(path) {
        let target = nix::unistd::Pid::from_raw(pid);
        match nix::sys::signal::kill(target, nix::sys::signal::Signal::SIGKILL) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
            Err(error) => eprintln!("process {pid} stays behind: {error}"),
        }
    }
}

/// The `llfs` processes whose command line names something below `path`.
pub fn daemons_of(path: &Path) -> Vec<i32> {
    let needle = path.as_os_str().as_encoded_bytes();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")
        .expect("/proc is mounted")
        .flatten()
    {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        // A process may end while it is looked at: no command line, no match.
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        let program = line.split(|&b| b == 0).next().unwrap_or_default();
        let ours = program.ends_with(b"llfs") || program.starts_with(b"llfs");
        if ours && line.windows(needle.len()).any(|window| window == needle) {
            found.push(pid);
        }
    }
    found
}
