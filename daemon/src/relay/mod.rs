//! What outlives a worker: a file in memory that each worker shares with its supervisor, and so with the next worker.
//!
//! A process that is killed leaves all stores that it executed, and none that come after them. So what is here is kept
//! right by the order of the stores alone: atomics, stored with `Release`, which costs nothing. There is one writer,
//! the worker; the supervisor looks only when the worker is dead.
//!
//! * [`Table`]: the inodes that the kernel holds. * [`requests`](self): what was being asked when the worker died, and
//!   whether it was done (`requests.rs`). * `errands.rs`: the same for the control socket. * `progress.rs`: reverts and
//!   applies whose invalidations are not complete. * `views.rs`: which states were shown below `.llfs`. * `events.rs`: what happened last.
//!   `scrub.rs`: how far a verification is. `hooks.rs`: commands that run.
//!
//! This module knows nothing of the rest of the daemon.

mod errands;
mod events;
mod hooks;
mod memory;
mod progress;
mod requests;
mod scrub;
mod table;
#[cfg(test)]
mod tests;
mod views;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Release};

use memory::Mapping;

pub use errands::{Errand, Passed, Turn};
pub use events::{EVENT_MAX, EVENTS};
pub use hooks::HOOKS;
pub use progress::Reverting;
pub use requests::{Asked, InPool, Notifying, Op, aside};
pub use scrub::Scrubbed;
pub use table::{Entry, Table};
pub use views::{VIEWS, Viewed};

/// Changes with every change of what is in the memory: a worker of another version does not touch it.
const VERSION: u64 = 0x4c4c_4653_0000_0006;

/// Bytes in front of the first table.
const HEAD: u64 = 4 << 20;

/// The memory.
#[derive(Debug)]
pub struct Relay {
    file: OwnedFd,
    head: Mapping,
    /// Errands that this process carries out, a bit each.
    busy: AtomicU64,
}

/// What is at the beginning of the memory. All zeros is a valid one, in which nothing ever happened.
#[repr(C)]
struct Head {
    version: AtomicU64,
    supervisor: AtomicU32,
    workers: AtomicU32,
    tables: table::Areas,
    requests: requests::Slots,
    progress: progress::Flags,
    errands: errands::Ring,
    views: views::Views,
    /// The process id of the last worker.
    worker: AtomicU32,
    /// Tells this mount from all others.
    mount: AtomicU64,
    events: events::Events,
    scrub: scrub::Place,
    hooks: hooks::Hooks,
}

const _: () = assert!(size_of::<Head>() as u64 <= HEAD);

impl Relay {
    /// Fresh memory, for a mount that begins.
    ///
    /// # Errors
    /// The system's.
    pub fn new() -> io::Result<Arc<Relay>> {
        let flags = nix::sys::memfd::MFdFlags::MFD_CLOEXEC;
        let file = nix::sys::memfd::memfd_create("llfs-relay", flags)?;
        nix::unistd::ftruncate(&file, HEAD as i64)?;
        let relay = Self::over(file)?;
        relay.head().tables.begin(HEAD);
        relay.head().events.begin(first_number());
        relay.head().mount.store(made_up(), Release);
        relay.head().version.store(VERSION, Release);
        Ok(relay)
    }

    /// The memory that an earlier worker used.
    ///
    /// # Errors
    /// The system's, or the memory is of another version of llfs.
    pub fn inherit(file: OwnedFd) -> io::Result<Arc<Relay>> {
        let relay = Self::over(file)?;
        if relay.head().version.load(Acquire) != VERSION {
            return Err(io::Error::other(
                "what the worker before this one left is of another version of llfs",
            ));
        }
        Ok(relay)
    }

    fn over(file: OwnedFd) -> io::Result<Arc<Relay>> {
        let head = Mapping::new(file.as_fd(), 0, HEAD as usize)?;
        let busy = AtomicU64::new(0);
        Ok(Arc::new(Relay { file, head, busy }))
    }

    fn head(&self) -> &Head {
        // SAFETY: Head consists of atomics, for which all bytes are valid.
        unsafe { &self.head.as_slice::<Head>(1)[0] }
    }

    /// Says who the supervisor is, by process id.
    pub fn set_supervisor(&self, pid: u32) {
        self.head().supervisor.store(pid, Release);
    }

    /// The process id of the supervisor; without one, of this process.
    pub fn supervisor(&self) -> u32 {
        match self.head().supervisor.load(Acquire) {
            0 => std::process::id(),
            pid => pid,
        }
    }

    /// A number that no other mount has, whoever supervises it.
    pub fn mount(&self) -> u64 {
        self.head().mount.load(Acquire)
    }

    /// Says who the worker is, by process id.
    pub fn set_worker(&self, pid: u32) {
        self.head().worker.store(pid, Release);
    }

    /// Counts this process, a worker that begins, and tells how many there were before.
    pub fn count_worker(&self) -> u32 {
        self.set_worker(std::process::id());
        self.head().workers.fetch_add(1, Release)
    }

    /// The process id of the last worker that began; 0: there was none.
    pub fn worker(&self) -> u32 {
        self.head().worker.load(Acquire)
    }

    /// How many workers there were, with the one that lives.
    pub fn workers(&self) -> u32 {
        self.head().workers.load(Acquire)
    }
}

impl AsFd for Relay {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A number that nobody else has; not 0.
fn made_up() -> u64 {
    RandomState::new().build_hasher().finish().max(1)
}

/// What the numbers of a mount's events begin after: 2^20 a second, so that later mounts have greater ones, those of the same second
/// too, and 2^53 is far.
fn first_number() -> u64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed();
    let since = since.map_or(0, |since| since.as_nanos());
    ((since << 20) / 1_000_000_000) as u64
}
