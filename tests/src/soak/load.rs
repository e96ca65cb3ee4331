//! What goes on besides the modelled operations: several threads that change one tree without an agreement.

use std::fs;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::tree;

/// Objects above which the tree is made small again.
const OBJECTS: usize = 2500;
/// Pieces of 1 MiB that are written in a ring.
const PIECES: usize = 16;

/// Threads at work.
#[derive(Debug)]
pub(super) struct Load {
    enough: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Begins in `dir`.
    pub fn start(dir: &Path, seed: u64) -> Load {
        let enough = Arc::new(AtomicBool::new(false));
        let spawn = |work: fn(&Path, u64, &AtomicBool), seed: u64| {
            let (dir, enough) = (dir.to_path_buf(), enough.clone());
            thread::spawn(move || work(&dir, seed, &enough))
        };
        let threads = vec![
            spawn(churn, seed % 1_000_000),
            spawn(churn, (seed >> 20) % 1_000_000),
            spawn(pieces, seed),
        ];
        Load { enough, threads }
    }

    /// Ends it.
    pub fn stop(self) {
        self.enough.store(true, Relaxed);
        for thread in self.threads {
            thread.join().expect("the load meets no error");
        }
    }
}

/// Small changes of every kind.
fn churn(dir: &Path, seed: u64, enough: &AtomicBool) {
    for round in 0.. {
        if enough.load(Relaxed) {
            return;
        }
        if let Err(why) = tree::churn(dir, seed + round, 200, false) {
            panic!("{why}");
        }
        let there = tree::paths(dir);
        if there.len() > OBJECTS {
            shrink(&there);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Removes half of what is there. What is gone already, or holds something new, does not matter: a revert may come at any
/// moment.
fn shrink(there: &[PathBuf]) {
    for path in there.iter().rev().step_by(2) {
        let removed = match fs::symlink_metadata(path) {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
            Ok(_) => fs::remove_file(path),
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            assert!(tree::expected(&error), "{}: {error}", path.display());
        }
    }
}

/// A large file, written and read in big pieces.
fn pieces(dir: &Path, seed: u64, enough: &AtomicBool) {
    let path = dir.join("pieces");
    let write = |number: usize| -> std::io::Result<()> {
        let mut options = fs::File::options();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        let at = std::io::SeekFrom::Start((number as u64) << 20);
        file.seek(at)?;
        file.write_all(&vec![(seed as u8).wrapping_add(number as u8); 1 << 20])?;
        if number == 0 {
            file.sync_all()?;
        }
        file.seek(at)?;
        // A revert may have made it shorter.
        file.take(1 << 20).read_to_end(&mut Vec::new())?;
        Ok(())
    };
    for number in (0..PIECES).cycle() {
        if enough.load(Relaxed) {
            return;
        }
        if let Err(error) = write(number) {
            assert!(tree::expected(&error), "{}: {error}", path.display());
        }
        thread::sleep(Duration::from_millis(50));
    }
}
