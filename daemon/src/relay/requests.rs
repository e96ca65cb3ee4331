//! What the kernel is asking at the moment.
//!
//! Requests that change something are carried out one at a time, by one thread. So one slot is enough to know of the
//! one that a dead worker left unanswered whether it was done: before its record goes into the journal, the record's hash
//! is put there, and the number of the record before it. The next worker meets that record when it reads the journal, or
//! it does not.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{
    AtomicU32, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Release,
};
use std::time::{Duration, Instant};

use xxhash_rust::xxh3::xxh3_64;

use super::Relay;

/// Set by the kernel in the number of a request that it sends again (`FUSE_UNIQUE_RESEND`).
const RESENT: u64 = 1 << 63;
/// Requests that other threads than the session's work on, at most; more of them are not known of.
const POOL: usize = 16;
/// Threads that tell the kernel what to forget, at most.
const NOTIFYING: usize = 16;

/// The operations, and the list of them by number, from one list of names.
macro_rules! operations {
    ($($name:ident),+ $(,)?) => {
        /// What a request asks for, for messages.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        #[expect(missing_docs, reason = "they are called what they are")]
        pub enum Op {
            $($name,)+
        }

        impl Op {
            /// All of them, by number.
            pub const ALL: &[Op] = &[$(Op::$name,)+];
        }
    };
}

operations!(
    None,
    Lookup,
    Getattr,
    Setattr,
    Readlink,
    Mknod,
    Mkdir,
    Symlink,
    Link,
    Unlink,
    Rmdir,
    Rename,
    Read,
    Write,
    Fsync,
    Readdir,
    Statfs,
    Setxattr,
    Getxattr,
    Listxattr,
    Removexattr,
    Fallocate,
    Lseek,
    CopyFileRange,
);

impl Op {
    fn of(number: u32) -> Op {
        Op::ALL.get(number as usize).copied().unwrap_or(Op::None)
    }
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its number, as the kernel sent it.
    pub unique: u64,
    /// What it asks for.
    pub op: Op,
    /// Of which inode.
    pub ino: u64,
    /// The thread that asked; 0: the kernel.
    pub pid: u32,
    /// Another thread than the session's works on it, perhaps for long.
    pub pooled: bool,
}

impl Asked {
    /// The same for all times that it is sent.
    pub fn key(&self) -> u64 {
        self.unique & !RESENT
    }
}

#[repr(C)]
pub(super) struct Slots {
    session: Place,
    pool: [Place; POOL],
    change: Change,
    notifying: [AtomicU32; NOTIFYING],
}

#[repr(C)]
struct Place {
    unique: AtomicU64,
    ino: AtomicU64,
    op: AtomicU32,
    pid: AtomicU32,
}

#[repr(C)]
struct Change {
    unique: AtomicU64,
    record: Expected,
    /// A directory that the request removes.
    dying: AtomicU64,
}

/// A record that goes into the journal.
#[repr(C)]
pub(super) struct Expected {
    /// Number of the record before it.
    after: AtomicU64,
    /// 0: none.
    hash: AtomicU64,
    done: AtomicU32,
}

impl Expected {
    pub fn clear(&self) {
        self.done.store(0, Release);
        self.hash.store(0, Release);
    }

    pub fn expect(&self, after: u64, record: &[u8]) {
        self.hash.store(0, Release);
        self.after.store(after, Release);
        self.hash.store(xxh3_64(record).max(1), Release);
    }

    pub fn set_done(&self) {
        self.done.store(1, Release);
    }

    pub fn is_done(&self) -> bool {
        self.done.load(Acquire) != 0
    }

    /// Looks at a record of the journal, of which it may be the one.
    pub fn compare(&self, seq: u64, record: &[u8]) {
        let hash = self.hash.load(Acquire);
        if hash != 0 && seq > self.after.load(Acquire) && hash == xxh3_64(record).max(1) {
            self.set_done();
        }
    }
}

/// For whom this thread writes its next record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writer {
    Nobody,
    Request,
    Errand(usize),
}

thread_local! {
    pub(super) static WRITER: Cell<Writer> = const { Cell::new(Writer::Nobody) };
}

/// Runs something that writes records which are no part of what this thread carries out.
pub fn aside<T>(f: impl FnOnce() -> T) -> T {
    let writer = WRITER.replace(Writer::Nobody);
    let out = f();
    WRITER.set(writer);
    out
}

impl Place {
    fn set(&self, asked: &Asked) {
        self.unique.store(0, Release);
        self.ino.store(asked.ino, Release);
        self.op.store(asked.op as u32, Release);
        self.pid.store(asked.pid, Release);
        self.unique.store(asked.unique, Release);
    }

    fn get(&self) -> Option<Asked> {
        let unique = self.unique.load(Acquire);
        (unique != 0).then(|| Asked {
            unique,
            op: Op::of(self.op.load(Acquire)),
            ino: self.ino.load(Acquire),
            pid: self.pid.load(Acquire),
            pooled: false,
        })
    }
}

impl Relay {
    /// The session thread begins with a request.
    pub fn begin(&self, asked: &Asked) {
        self.head().requests.session.set(asked);
    }

    /// The session thread begins with a request that changes something. `true`: an earlier worker has done it, and
    /// only the answer is missing.
    pub fn begin_change(&self, asked: &Asked) -> bool {
        self.begin(asked);
        let change = &self.head().requests.change;
        if change.unique.load(Acquire) == asked.key() && change.record.is_done() {
            return true;
        }
        change.unique.store(0, Release);
        change.record.clear();
        change.dying.store(0, Release);
        change.unique.store(asked.key(), Release);
        WRITER.set(Writer::Request);
        false
    }

    /// The request removes this directory, which [`Table::retire`](super::Table::retire) is told of when it is done;
    /// 0: it was told.
    pub fn set_dying(&self, ino: u64) {
        self.head().requests.change.dying.store(ino, Release);
    }

    /// The directory that the last request removed without its being told; to be asked when the journal was read.
    pub fn dying(&self) -> Option<u64> {
        let change = &self.head().requests.change;
        let ino = change.dying.load(Acquire);
        (ino != 0 && change.record.is_done()).then_some(ino)
    }

    /// Another thread than the session's begins with a request; it ends when what is returned is dropped.
    pub fn begin_in_pool(self: &std::sync::Arc<Self>, asked: &Asked) -> InPool {
        let free = |place: &Place| {
            let taken = place
                .unique
                .compare_exchange(0, asked.unique, AcqRel, Acquire);
            taken.is_ok()
        };
        let place = self.head().requests.pool.iter().position(free);
        if let Some(place) = place {
            self.head().requests.pool[place].set(asked);
        }
        InPool {
            relay: self.clone(),
            place,
        }
    }

    /// Requests that the last worker had begun with and perhaps not answered.
    pub fn asked(&self) -> Vec<Asked> {
        let slots = &self.head().requests;
        let pooled = slots.pool.iter().filter_map(Place::get);
        let pooled = pooled.map(|asked| Asked {
            pooled: true,
            ..asked
        });
        let pooled: Vec<Asked> = pooled.collect();
        // The session's thread may have passed its last one on.
        let passed_on = |asked: &Asked| pooled.iter().any(|p| p.key() == asked.key());
        let session = slots.session.get().filter(|asked| !passed_on(asked));
        session.into_iter().chain(pooled.clone()).collect()
    }

    /// The last worker is dead, and the next has begun with nothing. What it was about to change stays known.
    pub fn clear(&self) {
        let slots = &self.head().requests;
        for place in std::iter::once(&slots.session).chain(&slots.pool) {
            place.unique.store(0, Release);
        }
        for place in &slots.notifying {
            place.store(0, Release);
        }
    }

    /// This thread is about to append a record, the one after `after`.
    pub fn appending(&self, after: u64, record: &[u8]) {
        match WRITER.get() {
            Writer::Nobody => {}
            Writer::Request => self.head().requests.change.record.expect(after, record),
            Writer::Errand(turn) => self.head().errands.expect(turn, after, record),
        }
    }

    /// It did. Only the first record of a request is the one that matters.
    pub fn appended(&self) {
        match WRITER.replace(Writer::Nobody) {
            Writer::Nobody => {}
            Writer::Request => {
                test_hook();
                self.head().requests.change.record.set_done();
            }
            Writer::Errand(turn) => self.head().errands.set_done(turn),
        }
    }

    /// A record that is in the journal, met when a worker begins.
    pub fn met(&self, seq: u64, record: &[u8]) {
        self.head().requests.change.record.compare(seq, record);
        self.head().errands.compare(seq, record);
    }

    /// This thread enters the kernel to tell it what to forget; until what is returned is dropped it does nothing else.
    pub fn notify(self: &std::sync::Arc<Self>) -> Notifying {
        let tid = nix::unistd::gettid().as_raw() as u32;
        let free = |place: &AtomicU32| place.compare_exchange(0, tid, AcqRel, Acquire).is_ok();
        let place = self.head().requests.notifying.iter().position(free);
        Notifying {
            relay: self.clone(),
            place,
        }
    }

    /// The threads that were in there when the worker died.
    pub fn notifying(&self) -> Vec<u32> {
        let all = self.head().requests.notifying.iter();
        all.map(|tid| tid.load(Acquire))
            .filter(|tid| *tid != 0)
            .collect()
    }
}

/// So many changes at least each worker carries out, and dies before it has said so anywhere but in the journal: for the
/// tests. A second number, after a comma, is how many milliseconds it lives at least, without one long enough to have told
/// the supervisor that it serves.
const UNANSWERED: &str = "LLFS_TEST_UNANSWERED";
const LIVES: Duration = Duration::from_millis(400);

fn test_hook() {
    static DUE: OnceLock<Option<(AtomicU64, Instant)>> = OnceLock::new();
    let due = DUE.get_or_init(|| {
        let wanted = std::env::var(UNANSWERED).ok()?;
        let (changes, lives) = match wanted.split_once(',') {
            Some((changes, lives)) => (changes, Duration::from_millis(lives.parse().ok()?)),
            None => (wanted.as_str(), LIVES),
        };
        let changes = changes.parse().ok()?;
        Some((AtomicU64::new(changes), Instant::now() + lives))
    });
    let Some((left, at)) = due else { return };
    let none_left = left.fetch_update(AcqRel, Acquire, |n| n.checked_sub(1).filter(|n| *n > 0));
    if none_left.is_err() && Instant::now() >= *at {
        std::process::abort();
    }
}

/// A request that a thread of the pool works on.
#[derive(Debug)]
pub struct InPool {
    relay: std::sync::Arc<Relay>,
    place: Option<usize>,
}

impl Drop for InPool {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.relay.head().requests.pool[place]
                .unique
                .store(0, Release);
        }
    }
}

/// A thread that tells the kernel something.
#[derive(Debug)]
pub struct Notifying {
    relay: std::sync::Arc<Relay>,
    place: Option<usize>,
}

impl Drop for Notifying {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.relay.head().requests.notifying[place].store(0, Release);
        }
    }
}
