//! The base view on real directories.

mod confine;
mod drift;
mod objects;
mod reading;
mod resolve;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Base, ROOT};

/// A fresh directory, removed with all that is in it when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("llfs-base-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Scratch(path.canonicalize().unwrap())
    }

    fn base(&self) -> Base {
        Base::open(&self.0).unwrap()
    }

    fn write(&self, path: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}

fn ino_of(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

/// Looks up each component of `path` and gives the inode number of the last.
fn walk(base: &Base, path: &str) -> u64 {
    let names = path.split('/');
    names.fold(ROOT, |dir, name| {
        base.lookup(dir, name.as_bytes()).unwrap().ino
    })
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
