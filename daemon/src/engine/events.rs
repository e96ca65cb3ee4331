//! What happens, told to everybody who wants to know: the watchers, the log, and the history if it is an act.
//!
//! Events lie in a ring in the relay, and each watcher has a place in it: nobody waits for a watcher, and one that is too slow
//! finds that events are missing.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Weak};

use llctl::protocol::{Act, Deal, Event, EventKind, Happening, Stage, UnixNanos};
use nix::sys::eventfd::{EfdFlags, EventFd};
use parking_lot::Mutex;

use super::Engine;
use super::history::{errand_of, with_errand};
use crate::relay::{EVENT_MAX, EVENTS, Errand};

/// Watchers at the same time: fewer than clients, so that there is always room for those who want something done.
const WATCHERS_MAX: usize = 16;
/// Events that are copied out of the ring at once.
const BATCH: u64 = 32;
/// Bytes of an error that are left of an event that is too long.
const SHORT: usize = 256;

/// Who watches. A leaf lock: it also orders the events, and nothing but the relay is touched under it.
#[derive(Default)]
pub(super) struct Events(Mutex<Vec<Weak<EventFd>>>);

/// One who watches, and what was told already.
pub(super) struct Watcher {
    bell: Arc<EventFd>,
    /// The number of the last event that was told.
    told: u64,
}

impl Engine {
    /// Tells an event: gives it its number, which is the answer. It blocks nobody.
    pub(crate) fn announce(&self, event: Event) -> u64 {
        self.announce_of(event, None)
    }

    /// The same of the end of an errand.
    fn announce_of(&self, mut event: Event, errand: Option<Errand>) -> u64 {
        event.at = UnixNanos::now();
        let number = {
            let mut watchers = self.events.0.lock();
            event.seq = self.relay.last_event().0 + 1;
            let number = self.relay.push_event(&encoded(&event, errand));
            watchers.retain(|watcher| match watcher.upgrade() {
                // It fails only if the watcher was told 2^64 times and never looked.
                Some(bell) => bell.write(1).is_ok(),
                None => false,
            });
            number
        };
        log(&event);
        number
    }

    /// Tells an act that has ended, and writes it into the history. `started` is the number of the event of its beginning.
    ///
    /// Everything that does such a thing calls this once, whoever asked for it.
    pub(crate) fn ended(&self, act: Act, started: Option<u64>) {
        self.metrics.ended(&act);
        self.note_act(&act);
        self.tell_end(act, started);
    }

    /// The same of an errand of this thread that the worker before this one did: it may have written it down and told it, and been killed
    /// before it said so.
    pub(crate) fn ended_before(&self, act: Act) {
        let errand = self.relay.errand();
        let noted = errand.is_some_and(|errand| self.is_noted(errand).unwrap_or(false));
        if !noted {
            self.metrics.ended(&act);
            self.note_act(&act);
        }
        if !errand.is_some_and(|errand| self.is_told(errand)) {
            self.tell_end(act, None);
        }
    }

    fn tell_end(&self, act: Act, started: Option<u64>) {
        let mut event = Event::ended(act, started);
        event.hash = self.hash_of(&event);
        self.announce_of(event, self.relay.errand());
    }

    /// Whether the end of an errand is among the events that are kept.
    fn is_told(&self, errand: Errand) -> bool {
        let _ordered = self.events.0.lock();
        let (last, base) = self.relay.last_event();
        let first = (last + 1).saturating_sub(EVENTS).max(base + 1);
        let mut kept = (first..=last).filter_map(|number| self.relay.event(number));
        kept.any(|bytes| errand_of(&bytes) == Some(errand))
    }

    /// The hash of the snapshot that an act took or went to, if it is known.
    fn hash_of(&self, event: &Event) -> Option<String> {
        let act = event.act.as_ref()?;
        let name = match (act.what, event.stage) {
            (Deal::Snap | Deal::Revert | Deal::Import, Some(Stage::Finished)) => {
                act.targets.first()?
            }
            _ => return None,
        };
        let state = self.state.read();
        let digest = state.snapshot(name)?.1.digest;
        digest.map(|digest| digest.to_string())
    }

    /// A new watcher, who is told what comes after the event `after`, or else what comes from now on; and the number from which
    /// on that is. None if there are too many.
    pub(super) fn watcher(&self, after: Option<u64>) -> Option<Watcher> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let bell = Arc::new(EventFd::from_flags(flags).ok()?);
        let mut watchers = self.events.0.lock();
        watchers.retain(|watcher| watcher.strong_count() > 0);
        if watchers.len() >= WATCHERS_MAX {
            return None;
        }
        watchers.push(Arc::downgrade(&bell));
        let (last, _) = self.relay.last_event();
        // A number from the future is of another store, or made up.
        let told = after.map_or(last, |after| after.min(last));
        Some(Watcher { bell, told })
    }

    /// How many watch.
    pub(super) fn watchers(&self) -> usize {
        let watchers = self.events.0.lock();
        watchers.iter().filter(|w| w.strong_count() > 0).count()
    }

    /// What a watcher was not told yet, or the most of it; empty if it was told all.
    pub(super) fn news(&self, watcher: &mut Watcher) -> Vec<Event> {
        let mut events = Vec::new();
        let ordered = self.events.0.lock();
        let (last, base) = self.relay.last_event();
        let first = (last + 1).saturating_sub(EVENTS).max(base + 1);
        if watcher.told + 1 < first {
            let missed = (watcher.told >= base).then(|| first - 1 - watcher.told);
            watcher.told = first - 1;
            events.push(gap(watcher.told, missed));
        }
        for number in watcher.told + 1..=last.min(watcher.told + BATCH) {
            let kept = self.relay.event(number);
            let event = kept.and_then(|bytes| rmp_serde::from_slice(&bytes).ok());
            events.push(event.unwrap_or_else(|| gap(number, Some(1))));
            watcher.told = number;
        }
        drop(ordered);
        events
    }
}

impl Watcher {
    /// The number of the last event that was told.
    pub fn told(&self) -> u64 {
        self.told
    }

    /// Can be read when there may be news.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// The bell was heard: it rings again at the next event.
    pub fn heard(&self) {
        // It fails if it had not rung.
        self.bell.read().unwrap_or_default();
    }
}

fn gap(after: u64, missed: Option<u64>) -> Event {
    Event {
        seq: after,
        at: UnixNanos::now(),
        missed,
        ..Event::own(Happening::Gap)
    }
}

/// As it is kept. The longest acts lose words first, and nothing that a program goes by.
fn encoded(event: &Event, errand: Option<Errand>) -> Vec<u8> {
    let bytes = |event: &Event| with_errand(event, errand).unwrap_or_default();
    let whole = bytes(event);
    if whole.len() <= EVENT_MAX {
        return whole;
    }
    let mut short = event.clone();
    if let Some(act) = &mut short.act {
        let dropped = act.targets.len().saturating_sub(4);
        act.targets.truncate(4);
        act.more += dropped as u64;
        for text in act.why.iter_mut().chain(&mut act.error) {
            let end = (0..=SHORT).rev().find(|end| text.is_char_boundary(*end));
            text.truncate(end.unwrap_or(0).min(text.len()));
        }
    }
    bytes(&short)
}

/// The same in the log, with the same fields.
fn log(event: &Event) {
    let kind = event.event.as_str();
    let Some(act) = &event.act else {
        let text = event.text.as_deref().unwrap_or_default();
        match event.event {
            EventKind::Own(Happening::LowSpace | Happening::StoreLimit | Happening::ReadOnly) => {
                tracing::warn!(seq = event.seq, event = kind, text)
            }
            _ => tracing::info!(
                seq = event.seq,
                event = kind,
                text,
                restarts = event.restarts
            ),
        }
        return;
    };
    let stage = event.stage.map_or("", Stage::as_str);
    let (targets, why) = (act.targets.join(", "), act.why.as_deref());
    let hash = event.hash.as_deref();
    // What agents do all day long is in the history; the log would only grow.
    let often = matches!(act.what, Deal::Snap | Deal::Rename | Deal::Describe);
    macro_rules! told {
        ($level:ident, $($more:tt)+) => {
            tracing::$level!(
                seq = event.seq,
                event = kind,
                stage,
                targets,
                why,
                uid = act.uid,
                pid = act.pid,
                command = act.command,
                took_us = act.took_us,
                $($more)+
            )
        };
    }
    match event.stage {
        Some(Stage::Failed) => {
            let error = act.error.as_deref();
            told!(warn, error);
        }
        Some(Stage::Finished) if often => told!(debug, hash),
        _ => told!(info, files = act.files, bytes = act.bytes, hash),
    }
}
