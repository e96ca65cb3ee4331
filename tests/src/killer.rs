//! Kills a mount's worker, again and again, while something else goes on.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::statvfs::statvfs;
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

/// What proc_pid_stat(5) says of a process behind its name, the state first.
///
/// # Errors
/// There is no such process.
pub fn stat(pid: i32) -> std::io::Result<Vec<String>> {
    let line = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let behind_name = line.rsplit(')').next().unwrap_or_default();
    Ok(behind_name.split_whitespace().map(str::to_owned).collect())
}

/// Whether a process is a worker, and not dead.
fn works(pid: i32) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let dead = stat(pid).is_ok_and(|fields| ["Z", "X"].contains(&fields[0].as_str()));
    line.split(|b| *b == 0).nth(1) == Some(b"work") && !dead
}

/// Kills the worker of `supervisor`, whichever that is now, and gives its id.
///
/// # Panics
/// When there is none for a long time.
#[track_caller]
pub fn kill_worker(supervisor: i32) -> i32 {
    let begun = Instant::now();
    loop {
        if let Some(worker) = worker_of(supervisor)
            && kill(Pid::from_raw(worker), Signal::SIGKILL).is_ok()
        {
            return worker;
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
    /// Kills the worker of `supervisor`, which serves `dir`, so many milliseconds after it has begun to answer, a random
    /// number below `most`, and then the next one; now and then one that may not answer yet.
    #[must_use]
    pub fn start(dir: &Path, supervisor: i32, seed: u64, most: usize) -> Killer {
        let enough = Arc::new(AtomicBool::new(false));
        let (stop, dir) = (enough.clone(), dir.to_path_buf());
        let mut random = Random::new(seed);
        let thread = std::thread::spawn(move || {
            let mut kills = 0;
            while !stop.load(Ordering::Relaxed) {
                // Otherwise a slow machine would see no worker answer ever.
                if random.below(5) > 0 {
                    statvfs(&dir).expect("there is always another worker");
                }
                let wait = random.below(most);
                std::thread::sleep(Duration::from_millis(wait as u64));
                kill_worker(supervisor);
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
