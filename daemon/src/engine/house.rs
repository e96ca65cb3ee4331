//! The engine's own thread: what nobody should wait for, and what no handler may do.

use std::sync::Weak;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use parking_lot::Mutex;

use super::Engine;
use crate::tree::{Digest, Ino, Root, StateId};

/// Bytes given up before space is taken back without being asked for.
const GARBAGE_MAX: u64 = 64 << 20;
/// Bytes given up that are worth taking back once nothing more is given up for a round.
const GARBAGE_RESTING: u64 = 1 << 20;
/// How often it looks without being called.
const ROUND: Duration = Duration::from_secs(5);
/// How long it lets be what a snapshot or a revert left: several in a row are not held up by each other's rest.
const PAUSE: Duration = Duration::from_secs(1);

/// How long it must have been quiet before what was written is synced without anyone waiting for it, so that the next
/// snapshot need not.
const QUIET: Duration = Duration::from_millis(300);

enum Errand {
    /// Tell the kernel that what it has of an inode is old.
    ForgetInode(Ino),
    /// Tell the kernel to let go of checkpoints that nobody is in.
    ForgetViews,
    /// Drop big maps.
    Bury(Vec<Root>),
    /// Look now.
    Look,
    /// Look in a while.
    LookLater,
    /// Write down who changed what.
    WriteAuthors,
    /// Much was written: begin to bring it to the medium.
    WriteBack,
    /// Much was read: the medium's cache need not keep it.
    Release,
    /// The checksum of a snapshot's state is known.
    Digest(StateId, Digest),
    /// End.
    Stop,
}

/// The way to the engine's thread.
pub(super) struct House {
    errands: Sender<Errand>,
    queue: Receiver<Errand>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl House {
    pub fn new() -> House {
        let (errands, queue) = unbounded();
        House {
            errands,
            queue,
            thread: Mutex::new(None),
        }
    }

    /// Starts the thread, which ends with the engine.
    pub fn start(&self, engine: Weak<Engine>) -> std::io::Result<()> {
        let queue = self.queue.clone();
        let thread = std::thread::Builder::new()
            .name("house".into())
            .spawn(move || keep(&engine, &queue))?;
        *self.thread.lock() = Some(thread);
        Ok(())
    }

    pub fn stop(&self) {
        self.send(Errand::Stop);
        let thread = self.thread.lock().take();
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("the housekeeping thread had died");
        }
    }

    pub fn forget_inode(&self, ino: Ino) {
        self.send(Errand::ForgetInode(ino));
    }

    pub fn forget_views(&self) {
        self.send(Errand::ForgetViews);
    }

    pub fn bury(&self, roots: Vec<Root>) {
        self.send(Errand::Bury(roots));
    }

    pub fn poke(&self) {
        self.send(Errand::Look);
    }

    pub fn poke_later(&self) {
        self.send(Errand::LookLater);
    }

    pub fn record_digest(&self, id: StateId, digest: Digest) {
        self.send(Errand::Digest(id, digest));
    }

    pub fn write_authors(&self) {
        self.send(Errand::WriteAuthors);
    }

    pub fn write_back(&self) {
        self.send(Errand::WriteBack);
    }

    pub fn release(&self) {
        self.send(Errand::Release);
    }

    fn send(&self, errand: Errand) {
        // The receiver lives as long as the sender.
        self.errands.send(errand).unwrap_or_default();
    }
}

fn keep(engine: &Weak<Engine>, queue: &Receiver<Errand>) {
    let mut next = Instant::now() + ROUND;
    let mut quiet: Option<Instant> = None;
    let mut garbage = 0;
    loop {
        let errand = queue.recv_deadline(quiet.map_or(next, |quiet| quiet.min(next)));
        let Some(engine) = engine.upgrade() else {
            return;
        };
        match errand {
            Ok(Errand::ForgetInode(ino)) => {
                if let Some(kernel) = engine.kernel.get() {
                    kernel.forget_inode(ino);
                }
            }
            Ok(Errand::ForgetViews) => engine.forget_views(),
            Ok(Errand::Bury(roots)) => drop(roots),
            Ok(Errand::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            Ok(Errand::WriteBack) => {
                if let Err(e) = engine.store.start_writeback() {
                    tracing::warn!("what was written is not brought to the disk: {e}");
                }
                quiet = Some(Instant::now() + QUIET);
            }
            Err(RecvTimeoutError::Timeout) if quiet.is_some_and(|at| at <= Instant::now()) => {
                quiet = None;
                let synced = engine.store.sync_layers();
                if let Err(e) = synced.and_then(|()| engine.store.release_cached(true)) {
                    tracing::warn!("what was written is not durable yet: {e}");
                }
            }
            Ok(Errand::Release) => {
                if let Err(e) = engine.store.release_cached(false) {
                    tracing::warn!("the disk's cache keeps what it need not: {e}");
                }
            }
            Ok(Errand::Digest(id, digest)) => engine.record_digest(id, digest),
            Ok(Errand::WriteAuthors) => engine.write_authors(),
            Ok(Errand::LookLater) => next = next.min(Instant::now() + PAUSE),
            Ok(Errand::Look) => {
                engine.tidy(GARBAGE_MAX);
                next = Instant::now() + ROUND;
            }
            Err(RecvTimeoutError::Timeout) => {
                let before = std::mem::replace(&mut garbage, engine.garbage.load(Relaxed));
                engine.tidy(if garbage == before {
                    GARBAGE_RESTING
                } else {
                    GARBAGE_MAX
                });
                next = Instant::now() + ROUND;
            }
        }
    }
}

impl Engine {
    /// Does what is due; space is taken back where that many bytes were given up.
    fn tidy(&self, worth: u64) {
        self.write_authors();
        self.warn_of_read_only();
        if self.store.is_readonly().is_some() {
            return;
        }
        if let Err(e) = self.store.recount() {
            tracing::warn!("what the store takes could not be counted: {e}");
        }
        self.warn_of_low_space();
        let done = [
            (
                "block checksums could not be written",
                self.store.finish_seals().map(drop),
            ),
            (
                "the reserve could not be made again",
                self.store.refill_reserve().map(drop),
            ),
            ("space could not be taken back", self.reclaim_if(worth)),
            ("the image could not be written", self.image_if_worth()),
        ];
        for (what, result) in done {
            if let Err(e) = result {
                tracing::warn!("{what}: {e}");
            }
        }
    }

    fn reclaim_if(&self, worth: u64) -> std::io::Result<()> {
        self.forget_what_stayed();
        if self.garbage.load(Relaxed) < worth {
            return Ok(());
        }
        self.reclaim_if_due()
    }

    /// Notes that blocks were given up in the head.
    pub(super) fn freed(&self, bytes: u64) {
        let before = self.garbage.fetch_add(bytes, Relaxed);
        if before < GARBAGE_MAX && before + bytes >= GARBAGE_MAX {
            self.house.poke();
        }
    }

    /// Notes that a state was given up, which may hold any amount.
    pub(super) fn freed_much(&self) {
        self.freed(GARBAGE_MAX);
    }
}
