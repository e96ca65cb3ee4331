//! How long a few small operations take, again and again, in the mount and in a directory beside it. Only the ratio says
//! something: other things go on at the machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Between two probes.
const PAUSE: Duration = Duration::from_millis(40);
/// Probes at rest.
const ROUNDS: u64 = 300;

/// The medians of one block.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Latency {
    /// In the mount.
    pub mount: Duration,
    /// Beside it.
    pub beside: Duration,
    /// How many.
    pub probes: usize,
}

impl Latency {
    pub fn ratio(&self) -> f64 {
        self.mount.as_secs_f64() / self.beside.as_secs_f64().max(1e-9)
    }
}

/// A thread that measures.
#[derive(Debug)]
pub(super) struct Probe {
    enough: Arc<AtomicBool>,
    thread: JoinHandle<Latency>,
}

impl Probe {
    pub fn start(mount: &Path, beside: &Path) -> Probe {
        let enough = Arc::new(AtomicBool::new(false));
        let (stop, mount, beside) = (enough.clone(), mount.to_path_buf(), beside.to_path_buf());
        let thread = thread::spawn(move || {
            let (mut there, mut here) = (Vec::new(), Vec::new());
            for number in 0.. {
                if stop.load(Relaxed) {
                    break;
                }
                there.push(once(&mount, number));
                here.push(once(&beside, number));
                thread::sleep(PAUSE);
            }
            Latency {
                mount: median(&mut there),
                beside: median(&mut here),
                probes: there.len(),
            }
        });
        Probe { enough, thread }
    }

    pub fn stop(self) -> Latency {
        self.enough.store(true, Relaxed);
        self.thread.join().expect("the probe meets no error")
    }
}

/// How many times as long as beside the mount they take while nothing else goes on in either.
pub(super) fn at_rest(mount: &Path, beside: &Path) -> f64 {
    let (mut there, mut here) = (Vec::new(), Vec::new());
    for number in 0..ROUNDS {
        there.push(once(mount, number));
        here.push(once(beside, number));
        thread::sleep(PAUSE / 8);
    }
    // What the daemon still has to clear away, and other programs on the machine, make some of them slower, and none faster.
    let [there, here] = [&mut there, &mut here].map(|all| {
        all.sort_unstable();
        all[all.len() / 10].as_secs_f64()
    });
    there / here.max(1e-9)
}

/// Eight times: a file is made, written and removed. A revert may take it away in between.
fn once(dir: &Path, number: u64) -> Duration {
    let path = |n: u64| -> PathBuf { dir.join(format!("p{number}-{n}")) };
    let begun = Instant::now();
    for n in 0..8 {
        for done in [fs::write(path(n), b"probe"), fs::remove_file(path(n))] {
            if let Err(error) = done {
                assert!(crate::tree::expected(&error), "{error}");
            }
        }
    }
    begun.elapsed()
}

fn median(all: &mut [Duration]) -> Duration {
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or_default()
}
