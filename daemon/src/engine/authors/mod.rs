//! Which programs changed which files, between any two states.
//!
//! The adapter says on whose behalf its thread is at work ([`on_behalf`]); operations say what they did to which inode
//! ([`Authors::note`]). What the same thread did to the same file before, since the last checkpoint, costs a comparison, or
//! a look into a table; something new costs an entry, and a new thread a look at `/proc`, while it waits for its answer and so
//! must be there. Nobody waits for the disk: the house writes what is new in batches, a few seconds later at most. That is
//! what a killed worker loses.
//!
//! What happens until a state gets its number belongs to that number: to the snapshot that is taken then, or to what
//! a revert discards. What was not followed by a state yet belongs to the next number.
//!
//! All this is good to know and needed by nothing: it is bounded, whatever of it is damaged or missing is left out, and failing to write
//! it fails nobody.

mod log;
mod process;
mod seen;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::atomic::{
    AtomicBool, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Release,
};

use parking_lot::Mutex;

use super::Engine;
use crate::tree::{Ino, State, StateId, Time};

pub(in crate::engine) use log::{Batch, Entry};
pub(in crate::engine) use process::{Family, Process};

use log::Notes;
use process::Processes;
use seen::Seen;

/// New entries that are worth writing at once.
const MANY: usize = 4096;
/// Entries that wait to be written, at most: beyond that the disk does not take them.
const WAITING_MAX: usize = 1 << 18;

/// What somebody did to a file: bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Did(pub u8);

impl Did {
    /// Made it.
    pub const MADE: Did = Did(1);
    /// Changed its content.
    pub const WROTE: Did = Did(2);
    /// Changed its mode, owner, times, or extended attributes.
    pub const ATTRS: Did = Did(4);
    /// Gave it a name: renamed or linked it.
    pub const NAMED: Did = Did(8);
    /// Took a name from it.
    pub const REMOVED: Did = Did(16);
}

#[derive(Clone, Copy)]
struct Caller {
    /// A thread; 0: the kernel, for stores through a mapping, or one that cannot be seen from here.
    tid: u32,
    uid: u32,
}

/// What this thread noted last.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Last {
    generation: u64,
    tid: u32,
    ino: Ino,
    did: u8,
}

thread_local! {
    static CALLER: Cell<Option<Caller>> = const { Cell::new(None) };
    static LAST: Cell<Option<Last>> = const { Cell::new(None) };
}

/// What this thread does from here on is done for that thread of another program.
pub fn on_behalf(tid: u32, uid: u32) {
    CALLER.set(Some(Caller { tid, uid }));
}

/// Who changed what.
pub(in crate::engine) struct Authors {
    live: Mutex<Live>,
    /// Counts what makes everything seen unseen.
    generation: AtomicU64,
    /// States were given up since old notes were looked at.
    outdated: AtomicBool,
    /// Held by who reads or writes notes.
    notes: Mutex<Notes>,
}

struct Live {
    /// The number that the next state will get.
    state: StateId,
    seen: Seen,
    processes: Processes,
    fresh: Vec<Entry>,
    /// What belongs to states that have their number, and is not written yet.
    waiting: Vec<(StateId, Vec<Entry>)>,
}

impl Authors {
    /// Nobody did anything yet; the next state will be `state`.
    pub fn new(state: StateId) -> Authors {
        Authors {
            live: Mutex::new(Live {
                state,
                seen: Seen::default(),
                processes: Processes::default(),
                fresh: Vec::new(),
                waiting: Vec::new(),
            }),
            generation: AtomicU64::new(0),
            outdated: AtomicBool::new(true),
            notes: Mutex::default(),
        }
    }

    /// Whoever this thread works for did this to an inode. `true`: much is waiting to be written.
    pub fn note(&self, ino: Ino, did: Did) -> bool {
        let Some(caller) = CALLER.get() else {
            return false;
        };
        let generation = self.generation.load(Acquire);
        let last = |did| Last {
            generation,
            tid: caller.tid,
            ino,
            did,
        };
        if LAST.get() == Some(last(did.0)) {
            return false;
        }
        let many = self.live.lock().note(caller, ino, did);
        LAST.set(Some(last(did.0)));
        many
    }

    /// States got numbers, up to `next`, which the next one will get.
    pub fn cut(&self, next: StateId) {
        let mut live = self.live.lock();
        if live.state == next {
            return;
        }
        // Of several, the first is the one that ends what was going on.
        let ended = std::mem::replace(&mut live.state, next);
        let fresh = std::mem::take(&mut live.fresh);
        if !fresh.is_empty() {
            live.waiting.push((ended, fresh));
        }
        live.seen.clear();
        self.generation.fetch_add(1, Release);
    }

    /// The process that this thread works for. Unknown ones are all alike.
    pub fn family(&self) -> Family {
        match CALLER.get() {
            Some(caller) => (self.live.lock().processes).family(caller.tid, caller.uid),
            None => Family::default(),
        }
    }

    /// What is new, to be written.
    pub fn take(&self) -> Vec<Batch> {
        let mut live = self.live.lock();
        let mut all = std::mem::take(&mut live.waiting);
        let fresh = std::mem::take(&mut live.fresh);
        if !fresh.is_empty() {
            all.push((live.state, fresh));
        }
        let mut batches = Vec::with_capacity(all.len());
        for (state, entries) in all {
            batches.push(live.processes.batch(state, entries));
        }
        // No entry is left that refers to one.
        live.processes.trim();
        batches
    }

    /// States were given up: what led to them may go.
    pub fn outdated(&self) {
        self.outdated.store(true, Release);
    }

    /// Nothing of what was is any more.
    pub fn clear(&self) {
        let mut live = self.live.lock();
        live.waiting.clear();
        live.fresh.clear();
        live.seen.clear();
        self.generation.fetch_add(1, Release);
    }
}

impl Live {
    fn note(&mut self, caller: Caller, ino: Ino, did: Did) -> bool {
        if !self.seen.is_new(caller.tid, ino, did.0) {
            return false;
        }
        let waiting = self.fresh.len() + self.waiting.iter().map(|(_, e)| e.len()).sum::<usize>();
        if waiting < WAITING_MAX {
            if self.fresh.len() == self.fresh.capacity() {
                // Not twice as many: they are soon written.
                self.fresh.reserve_exact(MANY / 4);
            }
            self.fresh.push(Entry {
                process: self.processes.of(caller.tid, caller.uid),
                ino,
                did: did.0,
                at: Time::now(),
            });
        }
        waiting % MANY == MANY - 1
    }
}

impl Engine {
    /// Whoever this thread works for did this to an inode.
    pub(super) fn did(&self, ino: Ino, did: Did) {
        if self.authors.note(ino, did) {
            self.house.write_authors();
        }
    }

    /// Writes down what is new, and removes what led only to states that are no more.
    pub(super) fn write_authors(&self) {
        let mut notes = self.authors.notes.lock();
        let batches = self.authors.take();
        let mut done = match batches.is_empty() {
            true => Ok(()),
            false => notes.append(&self.store, &batches),
        };
        if done.is_ok()
            && self.authors.outdated.swap(false, AcqRel)
            && !self.store.opened_read_only()
        {
            let alive = alive(&self.state.read());
            done = notes.tidy(&self.store, &alive);
        }
        if let Err(error) = done {
            tracing::debug!(%error, "who changed what was not written down");
        }
    }

    /// Everything that was written down, and what was not yet.
    ///
    /// # Errors
    /// What the disk says.
    pub(super) fn read_authors(&self, each: &mut dyn FnMut(Batch)) -> std::io::Result<()> {
        self.write_authors();
        let _notes = self.authors.notes.lock();
        log::read(&self.store, &mut |_, batch| each(batch))
    }

    /// All states are gone, and inode numbers mean other files.
    pub(super) fn forget_authors(&self) {
        let mut notes = self.authors.notes.lock();
        self.authors.clear();
        if let Err(error) = notes.tidy(&self.store, &Default::default()) {
            tracing::debug!(%error, "who changed what before the apply was not forgotten");
        }
    }
}

/// The numbers under which something is noted of a state that there is.
fn alive(state: &State) -> BTreeSet<StateId> {
    let kept = state.snapshots.keys().chain(state.discarded.keys());
    let all = kept.copied().chain([state.next_state]);
    all.flat_map(|id| state.led_to(id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(authors: &Authors) -> Vec<(StateId, usize)> {
        let batches = authors.take();
        batches.iter().map(|b| (b.state, b.entries.len())).collect()
    }

    #[test]
    fn what_was_seen_is_not_noted_again_until_the_next_state() {
        let authors = Authors::new(5);
        authors.note(7, Did::WROTE);
        assert_eq!(entries(&authors), [], "nobody in particular did it");
        on_behalf(std::process::id(), 0);
        for _ in 0..3 {
            authors.note(7, Did::WROTE);
            authors.note(8, Did::WROTE);
        }
        authors.note(8, Did::REMOVED);
        authors.cut(5);
        assert_eq!(entries(&authors), [(5, 3)]);
        authors.note(8, Did::WROTE);
        assert_eq!(entries(&authors), []);
        authors.cut(6);
        authors.note(8, Did::WROTE);
        authors.cut(8);
        authors.note(8, Did::WROTE);
        assert_eq!(entries(&authors), [(6, 1), (8, 1)]);
        authors.clear();
        authors.note(8, Did::WROTE);
        assert_eq!(entries(&authors), [(8, 1)]);
    }
}
