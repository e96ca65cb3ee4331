//! The checksums of the snapshots' states, computed behind the scenes.
//!
//! The checksum of a state is that of the set of its entries ([`lattice`]), each being what a user sees of one path
//! ([`entry`]). So that of a snapshot follows from that of another one by taking the entries back in which they differ and
//! adding the others: at the cost of what differs, with contents read once ([`content`]). The first one follows from that of
//! the base, for which all of the base is read, once: what was found is kept ([`known`]).
//!
//! One thread does it, at the lowest priority for processor and disk, a while after a snapshot, and rests while programs are at
//! work ([`pace`]). It holds no lock while it reads; what it finds is journaled by the house thread, so that nobody waits for a lock of one that is not let run.

mod content;
mod entry;
mod known;
mod lattice;
mod pace;
mod paths;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use parking_lot::{Condvar, Mutex};

use super::diff::{Names, Peeks};
use super::states::{View, Which};
use super::verify::stand_back;
use crate::engine::{Answer, Engine};

use crate::store::Store;
use crate::tree::{Apply, Digest, Ino, Record, Root, StateId};
use content::{Contents, Fingerprint, Hash};
use entry::Entries;
use lattice::Sum;
use pace::Pace;
pub(super) use paths::{all, apart};
#[cfg(test)]
pub(super) use tests::{check_all, compute_all};

/// How long after a snapshot it begins.
const PAUSE: Duration = Duration::from_secs(1);
/// Checksums of base files that are written down together: what a worker that is killed has to compute again.
const NOTED: usize = 4096;
/// States that are gone and of which something is kept, at most.
const STATES: usize = 50_000;

/// Ends a computation early.
#[derive(Clone, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// # Errors
    /// `ECANCELED`: it is to end.
    pub fn check(&self) -> Answer<()> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(Errno::ECANCELED),
            false => Ok(()),
        }
    }
}

/// The thread, and how to call it.
#[derive(Default)]
pub(in crate::engine) struct Digests {
    /// There may be something to do.
    called: Mutex<bool>,
    bell: Condvar,
    stop: Stop,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Counts the times at which the base became another one.
    bases: AtomicU64,
}

impl Digests {
    /// Starts the thread, which ends with the engine.
    pub fn start(&self, engine: &Arc<Engine>) -> io::Result<()> {
        *self.called.lock() = true;
        let (engine, stop) = (Arc::downgrade(engine), self.stop.clone());
        let thread = std::thread::Builder::new()
            .name("checksums".into())
            .spawn(move || keep(&engine, &stop))?;
        *self.thread.lock() = Some(thread);
        Ok(())
    }

    /// There is a new snapshot.
    pub fn call(&self) {
        *self.called.lock() = true;
        self.bell.notify_one();
    }

    /// The base is not what it was, or will not be.
    pub fn other_base(&self) {
        self.bases.fetch_add(1, Ordering::SeqCst);
    }

    /// A number that is another one when the base is.
    pub fn which_base(&self) -> u64 {
        self.bases.load(Ordering::SeqCst)
    }

    /// Ends the thread.
    pub fn stop(&self) {
        self.stop.0.store(true, Ordering::Relaxed);
        // Under the lock, so that the thread is not between its look and its wait.
        drop(self.called.lock());
        self.bell.notify_one();
        let thread = self.thread.lock().take();
        if let Some(thread) = &thread {
            thread.thread().unpark();
        }
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the checksums had died");
        }
    }

    /// Waits until it is called, and then for a while.
    fn wait(&self) {
        let mut called = self.called.lock();
        while !*called && self.stop.check().is_ok() {
            self.bell.wait(&mut called);
        }
        let pause = Instant::now() + PAUSE;
        while self.stop.check().is_ok() && !self.bell.wait_until(&mut called, pause).timed_out() {}
        *called = false;
    }
}

fn keep(engine: &Weak<Engine>, stop: &Stop) {
    stand_back();
    let mut chain = Chain::new(stop.clone());
    while stop.check().is_ok() {
        let Some(engine) = engine.upgrade() else {
            return;
        };
        engine.digests.wait();
        chain.contents.pace = Some(Pace::new());
        chain.all(&engine);
    }
}

/// The checksums of one state after the other.
pub(super) struct Chain {
    contents: Contents,
    stop: Stop,
    /// That of the base, and which base that was.
    base: Option<(u64, Sum)>,
    /// The last one.
    last: Option<(StateId, Root, Sum)>,
    /// Which base each recorded checksum goes back to, as far as that was written down.
    bases: HashMap<StateId, u64>,
    /// States that need not be tried again: their checksum is about to be recorded, or they cannot be read.
    tried: HashSet<StateId>,
    /// With more states than these it is looked which of them are gone.
    most: usize,
}

impl Chain {
    pub fn new(stop: Stop) -> Chain {
        Chain {
            contents: Contents::new(stop.clone()),
            stop,
            base: None,
            last: None,
            bases: HashMap::new(),
            tried: HashSet::new(),
            most: STATES,
        }
    }

    /// Computes what is missing, oldest first.
    fn all(&mut self, engine: &Engine) {
        while let Some(view) = self.next(engine) {
            let Which::Kept(id) = view.which else {
                return;
            };
            match self.of(engine, id, &view) {
                Ok(digest) => {
                    self.note_base(engine, id);
                    engine.house.record_digest(id, digest);
                }
                Err(Errno::ECANCELED) => return,
                Err(errno) => {
                    tracing::warn!(%errno, snapshot = view.name, "no checksum of its state");
                }
            }
            self.tried.insert(id);
        }
    }

    fn next(&self, engine: &Engine) -> Option<View> {
        if engine.store.is_readonly().is_some() {
            return None;
        }
        let state = engine.state.read();
        let mut missing = (state.snapshots.iter()).filter(|(_, s)| s.digest.is_none());
        let found = missing.find(|(id, _)| !self.tried.contains(id));
        found.map(|(id, _)| View::kept(&state, *id))
    }

    /// The checksum of a state that is kept.
    pub fn of(&mut self, engine: &Engine, id: StateId, view: &View) -> Answer<Digest> {
        let which = engine.digests.bases.load(Ordering::SeqCst);
        if self.base.as_ref().is_none_or(|(base, _)| *base != which) {
            self.contents.forget();
            self.last = None;
            let sum = self.base(engine)?;
            self.base = Some((which, sum));
        }
        let sum = match self.last.take() {
            Some((last, root, sum)) if engine.state.read().root(last).is_some() => {
                let before = View {
                    which: Which::Kept(last),
                    root,
                    name: String::new(),
                };
                match self.step(engine, &before, view, sum) {
                    // It was deleted meanwhile.
                    Err(Errno::ESTALE) => self.since_base(engine, view)?,
                    answer => answer?,
                }
            }
            _ => self.since_base(engine, view)?,
        };
        if engine.digests.bases.load(Ordering::SeqCst) != which {
            return Err(Errno::ESTALE);
        }
        let digest = sum.digest();
        self.last = Some((id, view.root.clone(), sum));
        Ok(digest)
    }

    fn since_base(&mut self, engine: &Engine, view: &View) -> Answer<Sum> {
        let sum = self.base.as_ref().map(|(_, sum)| sum.clone());
        self.step(engine, &View::base(), view, sum.ok_or(Errno::ESTALE)?)
    }

    /// From the sum of one state to that of another.
    fn step(&mut self, engine: &Engine, old: &View, new: &View, mut sum: Sum) -> Answer<Sum> {
        let peeks = Peeks::new(engine);
        let names = (Names::new(&peeks, old), Names::new(&peeks, new));
        let (was, is) = paths::apart(&names.0, &names.1, &self.stop)?;
        let mut entries = Entries::new(&mut self.contents);
        for (path, ino) in &was {
            sum.take(entries.of(&names.0, path, *ino)?);
        }
        for (path, ino) in &is {
            sum.add(entries.of(&names.1, path, *ino)?);
        }
        Ok(sum)
    }

    /// Bytes read since this was asked for last.
    #[cfg(test)]
    fn take_read(&mut self) -> u64 {
        std::mem::take(&mut self.contents.read)
    }

    /// Whether the recorded checksum of a state was computed when the base was another one.
    pub fn is_on_other_base(&self, engine: &Engine, id: StateId) -> bool {
        let then = self.bases.get(&id).copied();
        engine.state.read().snapshots.contains_key(&id) && then.is_some() && then != self.mark()
    }

    /// What the base is, in short.
    fn mark(&self) -> Option<u64> {
        let (_, sum) = self.base.as_ref()?;
        let bytes = sum.digest().0;
        Some(
            bytes[..8]
                .iter()
                .fold(0, |mark, b| mark << 8 | u64::from(*b)),
        )
    }

    /// Writes down to which base a checksum goes back.
    fn note_base(&mut self, engine: &Engine, id: StateId) {
        let Some(mark) = self.mark() else { return };
        self.bases.insert(id, mark);
        note(&engine.store, &[], &[(id, mark)]);
        if self.bases.len() > self.most {
            self.forget_states(engine);
        }
    }

    /// Whoever takes snapshots and deletes them again fills neither memory nor disk.
    fn forget_states(&mut self, engine: &Engine) {
        let gone = {
            let snapshots = engine.state.read().snapshots.clone();
            move |id: &StateId| !snapshots.contains_key(id)
        };
        self.bases.retain(|id, _| !gone(id));
        self.tried.retain(|id| !gone(id));
        self.most = 2 * self.bases.len() + STATES;
        if let Err(error) = known::forget_states(&engine.store, &|id| gone(&id)) {
            tracing::debug!(%error, "checksums of the base are not kept");
        }
    }

    /// The sum of all that the base has.
    fn base(&mut self, engine: &Engine) -> Answer<Sum> {
        let known = known::read(&engine.store).unwrap_or_else(|error| {
            tracing::debug!(%error, "the base is read again");
            known::Known::default()
        });
        self.bases = known.states;
        self.contents.base = known.files;
        self.contents.walking = true;
        let sum = whole(engine, &View::base(), &mut self.contents, &self.stop);
        self.contents.walking = false;
        self.contents.write_down(engine, 1);
        let files = std::mem::take(&mut self.contents.base);
        let seen = files.values().filter(|file| file.seen).count();
        // Files that are no more, or no more what they were.
        if sum.is_ok() && known.lines > 2 * seen + NOTED && engine.store.is_readonly().is_none() {
            let alive = files.iter().filter(|(_, file)| file.seen);
            let alive: Vec<_> = alive.map(|(ino, f)| (*ino, f.print, f.hash)).collect();
            let states = engine.state.read().snapshots.clone();
            self.bases.retain(|id, _| states.contains_key(id));
            let bases: Vec<_> = self.bases.iter().map(|(id, mark)| (*id, *mark)).collect();
            if let Err(error) = known::replace(&engine.store, &alive, &bases) {
                tracing::debug!(%error, "checksums of the base are not kept");
            }
        }
        sum
    }
}

impl Contents {
    /// Writes down what is known of the base, if it is so much.
    fn write_down(&mut self, engine: &Engine, least: usize) {
        if self.new.len() < least || engine.store.is_readonly().is_some() {
            return;
        }
        note(&engine.store, &std::mem::take(&mut self.new), &[]);
    }
}

/// Writes something down; if that fails nothing is lost but time.
fn note(store: &Store, files: &[(Ino, Fingerprint, Hash)], states: &[(StateId, u64)]) {
    if let Err(error) = known::append(store, files, states) {
        tracing::debug!(%error, "checksums of the base are not kept");
    }
}

/// The checksum of a state that is kept, as it is now.
pub(super) fn of_kept(engine: &Engine, id: StateId, view: &View) -> Answer<Digest> {
    Chain::new(Stop::default()).of(engine, id, view)
}

/// The checksum of any state, for which all of it is read.
pub(super) fn of_whole(engine: &Engine, view: &View) -> Answer<Digest> {
    let stop = Stop::default();
    let mut contents = Contents::new(stop.clone());
    Ok(whole(engine, view, &mut contents, &stop)?.digest())
}

/// The sum of all that a state has.
fn whole(engine: &Engine, view: &View, contents: &mut Contents, stop: &Stop) -> Answer<Sum> {
    let mut sum = Sum::new();
    paths::all(engine, view, stop, &mut |names, path, ino| {
        let mut entries = Entries::new(contents);
        sum.add(entries.of(names, path, ino)?);
        contents.write_down(engine, NOTED);
        Ok(())
    })?;
    Ok(sum)
}

impl Engine {
    /// Journals the checksum of a snapshot that still is there.
    pub(in crate::engine) fn record_digest(&self, id: StateId, digest: Digest) {
        let _gate = self.gate.read();
        let mut state = self.state.write();
        let missing = (state.snapshots.get(&id)).is_some_and(|s| s.digest.is_none());
        if !missing || state.applying == Some(Apply::Staged) {
            return;
        }
        if let Err(errno) = self.commit(&mut state, &Record::Digest { id, digest }) {
            tracing::debug!(%errno, id, "the checksum of a state was not written");
        }
    }

    /// The base becomes another one, or became it: what is known of it means nothing.
    pub(in crate::engine) fn other_base(&self) {
        self.digests.other_base();
        *self.linked.lock() = None;
    }
}
