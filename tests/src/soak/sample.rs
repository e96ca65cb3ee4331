//! Memory, descriptors and threads of a daemon and its worker.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::killer::worker_of;

/// Between two samples.
const PAUSE: Duration = Duration::from_millis(500);

/// One look at both.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sample {
    /// Their own memory, in KiB.
    pub memory: u64,
    /// Their descriptors.
    pub descriptors: u64,
    /// Their threads.
    pub threads: u64,
}

/// A thread that looks.
#[derive(Debug)]
pub(super) struct Sampler {
    enough: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Sample>>,
}

impl Sampler {
    pub fn start(supervisor: i32) -> Sampler {
        let enough = Arc::new(AtomicBool::new(false));
        let stop = enough.clone();
        let thread = thread::spawn(move || {
            let mut samples = Vec::new();
            while !stop.load(Relaxed) {
                samples.extend(look(supervisor));
                thread::sleep(PAUSE);
            }
            samples
        });
        Sampler { enough, thread }
    }

    pub fn stop(self) -> Vec<Sample> {
        self.enough.store(true, Relaxed);
        self.thread.join().expect("a daemon can be looked at")
    }
}

fn look(supervisor: i32) -> Option<Sample> {
    let pids = [supervisor, worker_of(supervisor)?];
    let mut sample = Sample::default();
    for pid in pids {
        // Only it has these pages: a worker shares the binary and the relay.
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let private = rollup.lines().filter(|line| line.starts_with("Private_"));
        let kib = private.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        sample.memory += kib.sum::<u64>();
        for (what, count) in [
            ("fd", &mut sample.descriptors),
            ("task", &mut sample.threads),
        ] {
            *count += fs::read_dir(format!("/proc/{pid}/{what}")).ok()?.count() as u64;
        }
    }
    Some(sample)
}

/// Bytes on the disk of all that is below `dir`, each object once.
pub(super) fn bytes_below(dir: &Path) -> u64 {
    let mut seen = std::collections::HashSet::new();
    let paths = crate::tree::paths(dir);
    let metas = paths.iter().filter_map(|path| path.symlink_metadata().ok());
    metas
        .filter(|meta| seen.insert(meta.ino()))
        .map(|meta| meta.blocks() * 512 + 512)
        .sum()
}
