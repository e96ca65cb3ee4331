//! Which states the kernel was shown below `.llfs`, by the slot that is part of their inode numbers.

use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Release};

use super::Relay;

/// Slots of states. Those below 2 have other meanings, see `engine/browse`.
pub const VIEWS: usize = 1 << 14;

/// All zeros: no slot was ever given away.
#[repr(C)]
pub(super) struct Views {
    slots: [AtomicU64; VIEWS],
}

/// What a slot stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Viewed {
    /// Nothing: it may be given away.
    Free,
    /// The state of this number.
    State(u64),
    /// A state that is no more. The kernel may hold inodes of it.
    Gone,
}

impl Relay {
    /// What a slot stands for; nothing for one that there is not.
    pub fn viewed(&self, slot: usize) -> Viewed {
        let word = self.head().views.slots.get(slot);
        match word.map_or(0, |w| w.load(Acquire)) {
            0 => Viewed::Free,
            u64::MAX => Viewed::Gone,
            above => Viewed::State(above - 1),
        }
    }

    /// Says what a slot stands for from here on. To be called by one thread at a time.
    pub fn set_viewed(&self, slot: usize, what: Viewed) {
        let word = match what {
            Viewed::Free => 0,
            Viewed::State(id) => id + 1,
            Viewed::Gone => u64::MAX,
        };
        if let Some(slot) = self.head().views.slots.get(slot) {
            slot.store(word, Release);
        }
    }
}
