//! The last events of the mount, so that who watches misses nothing when a worker dies.
//!
//! An event is in the memory from the store of its number on, which comes after that of its bytes. A worker that dies before it has
//! counted it leaves it out: the next one gives the number again.

use std::sync::atomic::{
    AtomicU8, AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};

use super::Relay;

/// Events that are kept.
pub const EVENTS: u64 = 512;
/// Bytes of one, at most.
pub const EVENT_MAX: usize = 4000;

#[repr(C)]
pub(super) struct Events {
    /// The number of the last one; before the first, what the numbers of this mount begin after.
    last: AtomicU64,
    /// What the numbers of this mount begin after.
    base: AtomicU64,
    slots: [Slot; EVENTS as usize],
}

#[repr(C)]
struct Slot {
    number: AtomicU64,
    length: AtomicU32,
    bytes: [AtomicU8; EVENT_MAX],
}

impl Events {
    /// The numbers of the mount begin after `base`.
    pub fn begin(&self, base: u64) {
        self.base.store(base, Release);
        self.last.store(base, Release);
    }
}

impl Relay {
    /// The number of the last event, and what the numbers of this mount began after.
    pub fn last_event(&self) -> (u64, u64) {
        let events = &self.head().events;
        (events.last.load(Acquire), events.base.load(Acquire))
    }

    /// Keeps an event under the next number, and says which that is. To be called by one thread at a time; what is longer than
    /// [`EVENT_MAX`] is kept as a gap.
    pub fn push_event(&self, encoded: &[u8]) -> u64 {
        let events = &self.head().events;
        let number = events.last.load(Acquire) + 1;
        let slot = &events.slots[(number % EVENTS) as usize];
        slot.number.store(0, Release);
        if encoded.len() <= EVENT_MAX {
            for (to, byte) in slot.bytes.iter().zip(encoded) {
                to.store(*byte, Relaxed);
            }
            slot.length.store(encoded.len() as u32, Relaxed);
            slot.number.store(number, Release);
        }
        events.last.store(number, Release);
        number
    }

    /// The event of that number, if it is kept. Not to be called while one is pushed.
    pub fn event(&self, number: u64) -> Option<Vec<u8>> {
        let slot = &self.head().events.slots[(number % EVENTS) as usize];
        if number == 0 || slot.number.load(Acquire) != number {
            return None;
        }
        let length = (slot.length.load(Relaxed) as usize).min(EVENT_MAX);
        let bytes = slot.bytes[..length].iter();
        Some(bytes.map(|byte| byte.load(Relaxed)).collect())
    }
}
