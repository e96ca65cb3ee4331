//! What clients of the control socket asked for last, so that one that lost its worker can ask again and nothing is
//! done twice.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{
    AtomicU8, AtomicU32, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
    Ordering::Release,
};

use super::Relay;
use super::requests::{Expected, WRITER, Writer};

/// Errands that are remembered. There are fewer clients at the same time, so one of them is free at any time.
const KEPT: usize = 64;
const _: () = assert!(KEPT == u64::BITS as usize);
/// Bytes of a record that are kept. Longer ones are of deletions, of which the request says all.
const RECORD_MAX: usize = 12 << 10;

#[repr(C)]
pub(super) struct Ring {
    next: AtomicU64,
    turns: [Place; KEPT],
}

#[repr(C)]
struct Place {
    client: AtomicU64,
    number: AtomicU64,
    expected: Expected,
    length: AtomicU32,
    record: [AtomicU8; RECORD_MAX],
}

/// One request of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errand {
    /// A number that the client made up; not 0.
    pub client: u64,
    /// Which request of that client, from 1 on.
    pub number: u64,
}

/// An errand that another thread is to carry out than the one that began it.
#[derive(Clone, Copy, Debug)]
pub struct Passed(usize);

thread_local! {
    /// What is kept of this thread's errand instead of its record.
    static ANSWER: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
    /// Where this thread's errand is kept.
    static TURN: Cell<Option<usize>> = const { Cell::new(None) };
}

/// What is known of an errand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is to be done now.
    New,
    /// An earlier worker did it, with this record (its beginning, if it is very long), or what was to be kept instead.
    Done(Vec<u8>),
}

impl Ring {
    pub fn expect(&self, turn: usize, after: u64, record: &[u8]) {
        let place = &self.turns[turn];
        place.expected.clear();
        // Not taken: where there is no space for the record, it is written a second time, from the reserve.
        ANSWER.with_borrow(|answer| {
            let kept = answer.as_deref().unwrap_or(record);
            let kept = &kept[..kept.len().min(RECORD_MAX)];
            for (to, byte) in place.record.iter().zip(kept) {
                to.store(*byte, Relaxed);
            }
            place.length.store(kept.len() as u32, Release);
        });
        place.expected.expect(after, record);
    }

    pub fn set_done(&self, turn: usize) {
        self.turns[turn].expected.set_done();
    }

    pub fn compare(&self, seq: u64, record: &[u8]) {
        let waiting = |p: &&Place| p.client.load(Acquire) != 0 && !p.expected.is_done();
        for place in self.turns.iter().filter(waiting) {
            place.expected.compare(seq, record);
        }
    }
}

impl Relay {
    /// This thread begins with an errand: the next record that it writes is the errand's.
    pub fn begin_errand(&self, errand: Errand) -> Turn {
        self.end_errand();
        let ring = &self.head().errands;
        let same = |p: &&Place| {
            p.client.load(Acquire) == errand.client && p.number.load(Acquire) == errand.number
        };
        let known = ring.turns.iter().position(|p| same(&p));
        let turn = known.unwrap_or_else(|| self.free_turn());
        self.busy.fetch_or(1 << turn, AcqRel);
        TURN.set(Some(turn));
        let place = &ring.turns[turn];
        if known.is_some() && place.expected.is_done() {
            let length = place.length.load(Acquire) as usize;
            let bytes = place.record[..length.min(RECORD_MAX)].iter();
            return Turn::Done(bytes.map(|b| b.load(Relaxed)).collect());
        }
        place.client.store(0, Release);
        place.expected.clear();
        place.number.store(errand.number, Release);
        place.client.store(errand.client, Release);
        WRITER.set(Writer::Errand(turn));
        Turn::New
    }

    /// The place of the errand that was begun longest ago, but for those that are still carried out: with its next record one of these
    /// would count as done that came to its place meanwhile.
    fn free_turn(&self) -> usize {
        let next = || self.head().errands.next.fetch_add(1, Release) as usize % KEPT;
        let mut tries = (0..KEPT).map(|_| next());
        let free = tries.find(|turn| self.busy.fetch_or(1 << turn, AcqRel) & (1 << turn) == 0);
        free.unwrap_or_else(next)
    }

    /// The errand that this thread has begun, for another to carry out.
    pub fn pass_errand(&self) -> Option<Passed> {
        match WRITER.replace(Writer::Nobody) {
            Writer::Errand(turn) => Some(Passed(turn)),
            _ => None,
        }
    }

    /// The next record that this thread writes is the one with which an errand counts as done; `answer` is kept instead of
    /// it.
    pub fn carry_out(&self, Passed(turn): Passed, answer: Vec<u8>) {
        ANSWER.set(Some(answer));
        WRITER.set(Writer::Errand(turn));
    }

    /// The errand that this thread carries out, or knows to be done.
    pub fn errand(&self) -> Option<Errand> {
        let place = &self.head().errands.turns[TURN.get()?];
        Some(Errand {
            client: place.client.load(Acquire),
            number: place.number.load(Acquire),
        })
    }

    /// This thread has done with its errand.
    pub fn end_errand(&self) {
        WRITER.set(Writer::Nobody);
        ANSWER.set(None);
        if let Some(turn) = TURN.take() {
            self.busy.fetch_and(!(1 << turn), AcqRel);
        }
    }
}
