//! The service on a real engine in fresh directories, without a mount.

mod apply;
mod bounds;
mod checks;
mod diff;
mod full;
mod meanwhile;
mod part;
mod power;
mod prune;
mod random;
mod shown;
mod sim;
mod snapshots;
mod stress;
mod transfer;
mod verify;
mod watch;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use llctl::protocol::{BytePath, Change, ChangeCounts, ChangeKind, ListQuery, SnapMeta};
use llctl::{SnapName, StateRef};

use super::Host;
use crate::control::Service;
use crate::engine::{Caller, Engine, Make, OpenOptions, SetAttr, SetTime, WriteHow};
use crate::tree::{Ino, Kind, ROOT, Time};

/// Who asks: whoever runs the tests.
fn me() -> Caller {
    Caller {
        uid: nix::unistd::getuid().as_raw(),
        gid: nix::unistd::getgid().as_raw(),
        pid: 0,
    }
}

/// Waits until a thread of this process waits for something.
fn until_asleep(tid: nix::unistd::Pid, other: impl Fn() -> bool) {
    let path = format!("/proc/self/task/{tid}/stat");
    let asleep = || {
        let line = std::fs::read_to_string(&path).unwrap();
        // The name, in parentheses, may be anything: proc_pid_stat(5).
        line.rsplit_once(") ").unwrap().1.starts_with('S')
    };
    while !asleep() && !other() {
        std::thread::yield_now();
    }
}

/// A fresh directory with a base and a store in it, removed when dropped.
pub(super) struct Place(PathBuf);

impl Place {
    pub(super) fn new() -> Place {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("llfs-service-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        fs::create_dir(path.join("base")).unwrap();
        Place(path.canonicalize().unwrap())
    }

    pub(super) fn base(&self, path: &str) -> PathBuf {
        self.0.join("base").join(path)
    }

    /// The base.
    fn root(&self) -> PathBuf {
        self.0.join("base")
    }

    /// Puts a file into the base, before it is opened.
    pub(super) fn put(&self, path: &str, bytes: &[u8]) {
        let path = self.base(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub(super) fn open(self) -> Bench {
        let options = OpenOptions {
            base: self.0.join("base"),
            store: self.0.join("store"),
            fresh: false,
        };
        let engine = Engine::open(&options).unwrap();
        let mountpoint = self.0.join("base");
        let host = Host::new(engine.clone(), mountpoint, Box::new(|| ()));
        Bench {
            engine,
            host,
            place: self,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // It was handed on.
        if self.0.as_os_str().is_empty() {
            return;
        }
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}

/// An engine, its service, and ways to change the tree by path.
pub(super) struct Bench {
    pub(super) engine: Arc<Engine>,
    host: Host,
    place: Place,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.engine.house.stop();
    }
}

impl Bench {
    /// The same after the death of the daemon: nothing is closed.
    fn killed(mut self) -> Bench {
        let place = Place(std::mem::take(&mut self.place.0));
        drop(self);
        place.open()
    }

    /// The inode at a path.
    fn ino(&self, path: impl AsRef<[u8]>) -> Ino {
        self.find(path.as_ref()).unwrap()
    }

    fn find(&self, path: &[u8]) -> Option<Ino> {
        let names = path.split(|b| *b == b'/').filter(|n| !n.is_empty());
        let mut at = ROOT;
        for name in names {
            at = self.engine.lookup(at, name).unwrap()?.attr.ino;
        }
        Some(at)
    }

    fn split<'a>(&self, path: &'a [u8]) -> (Ino, &'a [u8]) {
        match path.iter().rposition(|b| *b == b'/') {
            Some(at) => (self.ino(&path[..at]), &path[at + 1..]),
            None => (ROOT, path),
        }
    }

    fn make(&self, path: impl AsRef<[u8]>, kind: Kind, target: &[u8]) -> Ino {
        let (parent, name) = self.split(path.as_ref());
        let make = Make {
            kind,
            perm: if kind == Kind::Dir { 0o755 } else { 0o644 },
            umask: 0,
            rdev: 0,
            target,
        };
        let made = self.engine.make(parent, name, &make, &me());
        made.unwrap().attr.ino
    }

    pub(super) fn dir(&self, path: impl AsRef<[u8]>) -> Ino {
        self.make(path, Kind::Dir, b"")
    }

    pub(super) fn file(&self, path: impl AsRef<[u8]>, bytes: &[u8]) -> Ino {
        let ino = self.make(path, Kind::File, b"");
        self.write_ino(ino, 0, bytes);
        ino
    }

    fn write_ino(&self, ino: Ino, off: u64, bytes: &[u8]) {
        let how = WriteHow::default();
        self.engine.write(ino, off, bytes, how).unwrap();
    }

    pub(super) fn write(&self, path: impl AsRef<[u8]>, off: u64, bytes: &[u8]) {
        self.write_ino(self.ino(path), off, bytes);
    }

    fn set(&self, path: impl AsRef<[u8]>, set: SetAttr) {
        self.engine.setattr(self.ino(path), &set, &me()).unwrap();
    }

    pub(super) fn chmod(&self, path: impl AsRef<[u8]>, perm: u16) {
        self.set(
            path,
            SetAttr {
                perm: Some(perm),
                ..SetAttr::default()
            },
        );
    }

    pub(super) fn utime(&self, path: impl AsRef<[u8]>, mtime: Time) {
        self.set(
            path,
            SetAttr {
                mtime: Some(SetTime::To(mtime)),
                ..SetAttr::default()
            },
        );
    }

    pub(super) fn set_len(&self, path: impl AsRef<[u8]>, size: u64) {
        self.set(
            path,
            SetAttr {
                size: Some(size),
                ..SetAttr::default()
            },
        );
    }

    pub(super) fn host_revert(&self, name: &str) {
        self.host.revert(&name.parse().unwrap(), false).unwrap();
    }

    pub(super) fn remove(&self, path: impl AsRef<[u8]>) {
        let ino = self.ino(&path);
        let (parent, name) = self.split(path.as_ref());
        match self.engine.getattr(ino).unwrap().kind {
            Kind::Dir => self.engine.rmdir(parent, name).unwrap(),
            _ => self.engine.unlink(parent, name).unwrap(),
        }
        // As the kernel does once nobody uses it: what `lookup` counted is given back.
        self.engine.forget(ino, u64::from(u32::MAX));
    }

    pub(super) fn rename(&self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>, flags: u32) {
        let (parent, name) = self.split(from.as_ref());
        let (new_parent, new_name) = self.split(to.as_ref());
        let done = (self.engine).rename(parent, name, new_parent, new_name, flags);
        done.unwrap();
    }

    pub(super) fn link(&self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) {
        let ino = self.ino(from);
        let (parent, name) = self.split(to.as_ref());
        self.engine.link(ino, parent, name).unwrap();
    }

    pub(super) fn snap(&self, name: &str) {
        self.snap_with(name, SnapMeta::default());
    }

    /// A snapshot that nobody asked for.
    fn snap_automatic(&self, name: &str) {
        self.snap_with(
            name,
            SnapMeta {
                reason: Some("automatic".to_owned()),
                ..SnapMeta::default()
            },
        );
    }

    fn snap_with(&self, name: &str, meta: SnapMeta) {
        let name = SnapName::new(name).unwrap();
        self.host.snap(Some(&name), None, &meta).unwrap();
    }

    /// What differs, all of it.
    fn changes(&self, from: &str, to: &str, patch: bool) -> Vec<Change> {
        let from: StateRef = from.parse().unwrap();
        let to: StateRef = to.parse().unwrap();
        let mut changes = Vec::new();
        let mut sink = |change| {
            changes.push(change);
            Ok(())
        };
        let counts = self.host.diff(Some(&from), &to, &[], patch, &mut sink);
        let mut expected = ChangeCounts::default();
        for change in &changes {
            expected.count(change.kind);
        }
        assert_eq!(counts.unwrap(), expected);
        let paths: Vec<&BytePath> = changes.iter().map(|c| &c.path).collect();
        assert!(paths.is_sorted(), "{paths:?}");
        changes
    }

    /// What differs, one line each: kind, path, and the path it came from.
    fn lines(&self, from: &str, to: &str) -> Vec<String> {
        let line = |c: &Change| {
            let from = c.from.as_ref().map(|f| format!(" < {f}"));
            format!("{} {}{}", letter(c.kind), c.path, from.unwrap_or_default())
        };
        self.changes(from, to, false).iter().map(line).collect()
    }
}

fn letter(kind: ChangeKind) -> char {
    match kind {
        ChangeKind::Added => 'A',
        ChangeKind::Removed => 'D',
        ChangeKind::Renamed => 'R',
        ChangeKind::TypeChanged => 'T',
        ChangeKind::Modified => 'M',
        ChangeKind::Mode => 'P',
        ChangeKind::Xattrs => 'X',
        ChangeKind::Times => 'C',
    }
}
