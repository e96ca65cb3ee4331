//! A directory and a store to test on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::super::super::{Caller, Engine, Make, OpenError, SetAttr, WriteHow};
use crate::base::Base;
use crate::store::{HostDisk, StoreOptions};
use crate::tree::{Ino, Kind, ROOT};

/// Whoever this thread is.
pub fn me() -> Caller {
    Caller {
        uid: nix::unistd::geteuid().as_raw(),
        gid: nix::unistd::getegid().as_raw(),
        pid: 0,
    }
}

/// A fresh directory, removed at the end.
pub struct Ground {
    root: PathBuf,
}

impl Ground {
    /// One in `LLFS_TEST_DIR`, or in memory, or where temporary files go. Not all holes are exact on btrfs, which makes
    /// the block of zeros in which a file ends when it grows.
    pub fn new() -> Ground {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let place = std::env::var_os("LLFS_TEST_DIR").map_or_else(
            || match Path::new("/dev/shm").is_dir() {
                true => PathBuf::from("/dev/shm"),
                false => std::env::temp_dir(),
            },
            PathBuf::from,
        );
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = place.join(format!("llfs-apply-{}-{n}", std::process::id()));
        std::fs::create_dir_all(root.join("base")).unwrap();
        Ground { root }
    }

    /// One that belongs to a user.
    pub fn of(user: u32) -> Ground {
        let ground = Ground::new();
        for dir in [&ground.root, &ground.base()] {
            std::os::unix::fs::chown(dir, Some(user), Some(user)).unwrap();
        }
        ground
    }

    pub fn base(&self) -> PathBuf {
        self.root.join("base")
    }

    pub fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    pub fn open(&self) -> Result<Arc<Engine>, OpenError> {
        let store = self.store();
        std::fs::create_dir_all(&store).unwrap();
        // Hundreds of stores are made: small ones.
        let options = StoreOptions {
            prepare_bytes: 64 << 10,
            kept_bytes: 16 << 10,
            reserve_bytes: 64 << 10,
            ..StoreOptions::default()
        };
        let disk = Arc::new(HostDisk::open(&store).unwrap());
        Engine::open_on(Base::open(&self.base()).unwrap(), disk, &store, &options)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.root).unwrap_or_default();
    }
}

/// What the death of the process leaves: nothing is finished or synced.
pub fn kill(engine: Arc<Engine>) {
    engine.house.stop();
    assert_eq!(Arc::strong_count(&engine), 1);
}

/// Paths for the engine's operations, which know inodes and names only.
pub trait Paths {
    fn at<'p>(&self, path: &'p str) -> (Ino, &'p [u8]);
    fn ino(&self, path: &str) -> Ino;
    fn write_at(&self, path: &str, off: u64, data: &[u8]);
    fn new_file(&self, path: &str, data: &[u8]) -> Ino;
    fn new_dir(&self, path: &str) -> Ino;
    fn make_at(&self, path: &str, kind: Kind, rdev: u32, target: &[u8]) -> Ino;
    fn mv(&self, from: &str, to: &str, flags: u32);
    fn rm(&self, path: &str);
    fn rm_r(&self, path: &str);
    fn ln(&self, from: &str, to: &str);
    fn set(&self, path: &str, set: SetAttr);
    fn children(&self, ino: Ino) -> Vec<(Vec<u8>, Ino, Kind)>;
}

impl Paths for Engine {
    fn at<'p>(&self, path: &'p str) -> (Ino, &'p [u8]) {
        match path.rsplit_once('/') {
            Some((dir, name)) => (self.ino(dir), name.as_bytes()),
            None => (ROOT, path.as_bytes()),
        }
    }

    fn ino(&self, path: &str) -> Ino {
        let mut at = ROOT;
        for name in path.split('/').filter(|n| !n.is_empty()) {
            let entry = self.lookup(at, name.as_bytes()).unwrap();
            at = entry.unwrap_or_else(|| panic!("no {path}")).attr.ino;
        }
        at
    }

    fn write_at(&self, path: &str, off: u64, data: &[u8]) {
        let n = self.write(self.ino(path), off, data, WriteHow::default());
        assert_eq!(n.unwrap() as usize, data.len());
    }

    fn new_file(&self, path: &str, data: &[u8]) -> Ino {
        let ino = self.make_at(path, Kind::File, 0, b"");
        self.write_at(path, 0, data);
        ino
    }

    fn new_dir(&self, path: &str) -> Ino {
        self.make_at(path, Kind::Dir, 0, b"")
    }

    fn make_at(&self, path: &str, kind: Kind, rdev: u32, target: &[u8]) -> Ino {
        let (parent, name) = self.at(path);
        let make = Make {
            kind,
            perm: if kind == Kind::Symlink { 0o777 } else { 0o755 },
            umask: 0o022,
            rdev,
            target,
        };
        self.make(parent, name, &make, &me()).unwrap().attr.ino
    }

    fn mv(&self, from: &str, to: &str, flags: u32) {
        let ((p, n), (q, m)) = (self.at(from), self.at(to));
        self.rename(p, n, q, m, flags).unwrap();
    }

    fn rm(&self, path: &str) {
        let (parent, name) = self.at(path);
        self.unlink(parent, name).unwrap();
    }

    fn rm_r(&self, path: &str) {
        let (parent, name) = self.at(path);
        for (child, _, kind) in self.children(self.ino(path)) {
            let child = format!("{path}/{}", std::str::from_utf8(&child).unwrap());
            match kind {
                Kind::Dir => self.rm_r(&child),
                _ => self.rm(&child),
            }
        }
        self.rmdir(parent, name).unwrap();
    }

    fn ln(&self, from: &str, to: &str) {
        let (parent, name) = self.at(to);
        self.link(self.ino(from), parent, name).unwrap();
    }

    fn set(&self, path: &str, set: SetAttr) {
        self.setattr(self.ino(path), &set, &me()).unwrap();
    }

    fn children(&self, ino: Ino) -> Vec<(Vec<u8>, Ino, Kind)> {
        let mut all = Vec::new();
        self.readdir(ino, 0, false, &mut |e| {
            if !matches!(e.name, b"." | b"..") {
                all.push((e.name.to_vec(), e.ino, e.kind));
            }
            false
        })
        .unwrap();
        all
    }
}
