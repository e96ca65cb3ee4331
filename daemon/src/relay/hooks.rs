//! Commands of the user that run, so that none of them goes on when the worker that waits for it is dead.
//!
//! Each says so itself, before it becomes what is to be run: there is no moment in which one runs that is not known of.

use std::sync::atomic::{
    AtomicU32, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Release,
};

use super::Relay;

/// Hooks that are known of at the same time: there are fewer clients.
pub const HOOKS: usize = 128;

#[repr(C)]
pub(super) struct Hooks([Place; HOOKS]);

#[repr(C)]
struct Place {
    /// The process, which leads a group of its own; 0: none.
    pid: AtomicU32,
    /// When it began, in nanoseconds since the system did.
    at: AtomicU64,
}

impl Relay {
    /// This process becomes a hook, at a place that is free. Nothing that a process may not do between fork and exec
    /// (`signal-safety(7)`).
    pub fn become_hook(&self, place: usize) {
        let place = &self.head().hooks.0[place];
        place.at.store(since_boot(), Release);
        place.pid.store(std::process::id(), Release);
    }

    /// The hook at this place has ended.
    pub fn hook_ended(&self, place: usize) {
        self.head().hooks.0[place].pid.store(0, Release);
    }

    /// Takes out what runs: process ids, and when each was noted at the latest, in nanoseconds since the system began.
    pub fn take_hooks(&self) -> Vec<(u32, u64)> {
        let places = self.head().hooks.0.iter();
        let taken = places.map(|place| (place.pid.swap(0, AcqRel), place.at.load(Acquire)));
        taken.filter(|(pid, _)| *pid != 0).collect()
    }
}

/// As `proc_pid_stat(5)` counts when a process began.
fn since_boot() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
    now.map_or(0, |now| std::time::Duration::from(now).as_nanos() as u64)
}
