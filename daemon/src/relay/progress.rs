//! Reverts and applies of which the kernel was not told everything yet.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Release};

use super::Relay;

#[repr(C)]
pub(super) struct Flags {
    /// The state that a revert keeps; 0: no revert.
    kept: AtomicU64,
    /// Directories that came back have their new generations.
    retired: AtomicU32,
    applying: AtomicU32,
    /// A sync failed: the store is not written until the next mount.
    latched: AtomicU32,
}

/// A revert that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reverting {
    /// The state that holds what it discards.
    pub kept: u64,
    /// Directories that came back have their new generations.
    pub retired: bool,
}

impl Relay {
    /// A revert begins that keeps what was as the state `kept`; its record comes after this.
    pub fn begin_revert(&self, kept: u64) {
        let flags = &self.head().progress;
        flags.retired.store(0, Release);
        flags.kept.store(kept, Release);
    }

    /// Directories that came back have their new generations.
    pub fn revert_retired(&self) {
        self.head().progress.retired.store(1, Release);
    }

    /// The kernel was told everything.
    pub fn end_revert(&self) {
        self.head().progress.kept.store(0, Release);
    }

    /// The revert that is under way. Its record may not have been written.
    pub fn reverting(&self) -> Option<Reverting> {
        let flags = &self.head().progress;
        let kept = flags.kept.load(Acquire);
        (kept != 0).then(|| Reverting {
            kept,
            retired: flags.retired.load(Acquire) != 0,
        })
    }

    /// An apply begins, or the kernel was told everything about it.
    pub fn set_applying(&self, applying: bool) {
        let flags = &self.head().progress;
        flags.applying.store(u32::from(applying), Release);
    }

    /// Whether an apply is under way.
    pub fn applying(&self) -> bool {
        self.head().progress.applying.load(Acquire) != 0
    }

    /// The store is not to be written until the next mount.
    pub fn latch(&self) {
        self.head().progress.latched.store(1, Release);
    }

    /// Whether that was said.
    pub fn latched(&self) -> bool {
        self.head().progress.latched.load(Acquire) != 0
    }
}
