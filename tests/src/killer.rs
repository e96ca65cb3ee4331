//! Kills a mount's worker, again and again, while something else goes on.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::dice::Random;

/// How long it may take until there is another worker.
const PATIENCE: Duration = Duration::from_secs(30);

/// The worker of the daemon `supervisor`, if there is one at the moment.
#[must_use]
pub fn worker_of(supervisor: i32) -> Option<i32> {
    let children = format!("/proc/{supervisor}/task/{supervisor}/children");
    let children = std::fs::read_to_string(children).ok()?;
    let mut pids = children.split_whitespace().filter_map(|p| p.parse().ok());
    pids.rfind(|pid| works(*pid))
}

/// Whether a process is a worker, and not dead.
fn works(pid: i32) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let dead = stat
        .rsplit(')')
        .next()
        .is_none_or(|rest| rest.trim_start().starts_with(['Z', 'X']));
    line.split(|b| *b == 0).nth(1) == Some(b"work") && !dead
}

/// Kills the worker of `supervisor`, whichever that is now, and gives its id.
///
/// # Panics
/// When there is none for a long time.
#[track_caller]
pub fn kill_worker(supervisor: i32) -> i32 {
    kill_later(supervisor, Duration::ZERO)
}

/// The same, when it has lived for a while.
#[track_caller]
fn kill_later(supervisor: i32, age: Duration) -> i32 {
    let begun = Instant::now();
    loop {
        if let Some(worker) = worker_of(supervisor) {
            std::thread::sleep(age);
            if kill(Pid::from_raw(worker), Signal::SIGKILL).is_ok() {
                return worker;
            }
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "the daemon {supervisor} has no worker"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A thread that kills workers.
#[derive(Debug)]
pub struct Killer {
    enough: Arc<AtomicBool>,
    thread: Option<JoinHandle<usize>>,
}

impl Drop for Killer {
    fn drop(&mut self) {
        self.enough.store(true, Ordering::Relaxed);
    }
}

impl Killer {
    /// Kills the worker of `supervisor` when it has lived for so many milliseconds, a random number in `age`, and then the
    /// next one; now and then one that is younger and may not serve yet.
    #[must_use]
    pub fn start(supervisor: i32, seed: u64, age: Range<usize>) -> Killer {
        let enough = Arc::new(AtomicBool::new(false));
        let stop = enough.clone();
        let mut random = Random::new(seed);
        let thread = std::thread::spawn(move || {
            let mut kills = 0;
            while !stop.load(Ordering::Relaxed) {
                let wait = match random.below(5) {
                    0 => random.below(age.start),
                    _ => age.start + random.below(age.len()),
                };
                kill_later(supervisor, Duration::from_millis(wait as u64));
                kills += 1;
            }
            kills
        });
        Killer {
            enough,
            thread: Some(thread),
        }
    }

    /// Ends it; how many it killed.
    ///
    /// # Panics
    /// When there was no worker to kill any more.
    #[must_use]
    pub fn stop(mut self) -> usize {
        self.enough.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("stopped once");
        thread.join().expect("there is always another worker")
    }
}
