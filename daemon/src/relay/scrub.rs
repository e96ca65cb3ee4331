//! How far a verification is, so that the next worker goes on there.

use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Release};

use parking_lot::Mutex;

use super::{Errand, Relay};

/// The last one that began.
#[repr(C)]
pub(super) struct Place {
    client: AtomicU64,
    number: AtomicU64,
    step: AtomicU64,
    at: AtomicU64,
    bytes: AtomicU64,
    files: AtomicU64,
}

/// How far it is. All before that was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Which of its steps it is at.
    pub step: u64,
    /// How far that one is, as it counts.
    pub at: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Files met.
    pub files: u64,
}

/// Two threads of a worker must not mix theirs.
static TURN: Mutex<()> = Mutex::new(());

impl Place {
    fn is_of(&self, errand: Errand) -> bool {
        self.client.load(Acquire) == errand.client && self.number.load(Acquire) == errand.number
    }

    /// Whoever is killed in between has gone back, and never too far.
    fn set(&self, to: Scrubbed) {
        self.bytes.store(to.bytes, Release);
        self.files.store(to.files, Release);
        if self.step.load(Acquire) != to.step {
            self.at.store(0, Release);
            self.step.store(to.step, Release);
        }
        self.at.store(to.at, Release);
    }
}

impl Relay {
    /// A verification begins; where, if a worker before this one did a part of it.
    pub fn begin_scrub(&self, errand: Errand) -> Scrubbed {
        let place = &self.head().scrub;
        let _turn = TURN.lock();
        if !place.is_of(errand) {
            place.client.store(0, Release);
            place.at.store(0, Release);
            place.set(Scrubbed::default());
            place.number.store(errand.number, Release);
            place.client.store(errand.client, Release);
        }
        Scrubbed {
            step: place.step.load(Acquire),
            at: place.at.load(Acquire),
            bytes: place.bytes.load(Acquire),
            files: place.files.load(Acquire),
        }
    }

    /// A verification is so far, unless another one has begun since.
    pub fn scrubbed(&self, errand: Errand, to: Scrubbed) {
        let place = &self.head().scrub;
        let _turn = TURN.lock();
        if place.is_of(errand) {
            place.set(to);
        }
    }
}
