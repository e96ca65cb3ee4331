//! No test hangs: when a mount's time is up its FUSE connection is aborted and its daemon killed.
//! What waited in it gets an error and the test fails with its own message.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::{mountinfo, scratch};

struct Kennel {
    watched: Mutex<BTreeMap<u64, (Instant, PathBuf)>>,
    changed: Condvar,
}

impl Kennel {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, (Instant, PathBuf)>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn kennel() -> &'static Kennel {
    static KENNEL: OnceLock<Kennel> = OnceLock::new();
    KENNEL.get_or_init(|| {
        std::thread::spawn(|| bark(kennel()));
        Kennel {
            watched: Mutex::new(BTreeMap::new()),
            changed: Condvar::new(),
        }
    })
}

/// Watches one directory until it is dropped.
#[derive(Debug)]
pub struct Watchdog {
    id: u64,
}

impl Watchdog {
    /// Aborts everything mounted at or below `path` when `patience` is over.
    #[must_use]
    pub fn new(path: PathBuf, patience: Duration) -> Self {
        let kennel = kennel();
        let mut watched = kennel.lock();
        let id = watched.last_key_value().map_or(0, |(last, _)| last + 1);
        watched.insert(id, (Instant::now() + patience, path));
        kennel.changed.notify_all();
        Watchdog { id }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        kennel().lock().remove(&self.id);
    }
}

fn bark(kennel: &'static Kennel) {
    let mut watched = kennel.lock();
    loop {
        let now = Instant::now();
        let mut next = now + Duration::from_secs(3600);
        let mut late = Vec::new();
        for (deadline, path) in watched.values_mut() {
            if *deadline <= now {
                late.push(path.clone());
                // Once more after that, for what was mounted meanwhile.
                *deadline = now + Duration::from_secs(20);
            }
            next = next.min(*deadline);
        }
        if late.is_empty() {
            let wait = next.saturating_duration_since(now);
            let woken = kennel.changed.wait_timeout(watched, wait);
            watched = woken.unwrap_or_else(PoisonError::into_inner).0;
            continue;
        }
        drop(watched);
        for path in late {
            eprintln!(
                "WATCHDOG: {}: the test's time is up, aborting its mounts",
                path.display()
            );
            for mount in mountinfo::below(&path) {
                scratch::abort(&mount);
            }
            scratch::kill_daemons_of(&path);
        }
        watched = kennel.lock();
    }
}
