//! Snapshots that take themselves, and retention: a thread that looks now and then. Nothing of it is on the way of an operation.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use llctl::config::Checkpoints;
use llctl::protocol::{Act, Deal, Failure, UnixNanos};

use super::alone::together;
use super::failure::failure;
use super::prune::Plan;
use super::{Host, automatic};
use crate::engine::bulk::Said;
use crate::engine::snapshot::Taken;
use crate::engine::unchanged;
use crate::tree::StateId;

/// How often it looks while there is something to wait for,
const BUSY: Duration = Duration::from_secs(1);
/// and when nothing has changed.
const IDLE: Duration = Duration::from_secs(5);
/// How often retention is thought of.
const PRUNE: Duration = Duration::from_secs(600);
/// Snapshots that are given up at a time; the others a moment later.
const PRUNED: usize = 512;

/// Says that neither snapshots nor retention come by themselves: `0`.
pub const SWITCH: &str = "LLFS_AUTOMATIC";

/// The thread.
pub struct Keeper {
    host: Arc<Host>,
    orders: Sender<Order>,
    thread: JoinHandle<()>,
}

/// What the thread is told.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    /// The rules are others.
    Rules,
    /// End.
    Stop,
}

impl Keeper {
    /// Begins to look after a mount, unless its environment or its store says that nothing comes by itself.
    ///
    /// # Errors
    /// There is no thread.
    pub fn start(host: &Arc<Host>) -> io::Result<Option<Keeper>> {
        let off = std::env::var_os(SWITCH).is_some_and(|value| value == "0");
        if off || host.engine.store.opened_read_only() {
            return Ok(None);
        }
        let (orders, queue) = bounded(4);
        host.automatic.store(true, Relaxed);
        host.keeper.set(orders.clone()).unwrap_or_default();
        // From the first removal on, and what is there already is old.
        host.engine.grow_up();
        mark(host, &host.engine.rules().config.checkpoints);
        let kept = host.clone();
        let thread = std::thread::Builder::new()
            .name("keeper".to_owned())
            .spawn(move || keep(&kept, &queue))?;
        let host = host.clone();
        Ok(Some(Keeper {
            host,
            orders,
            thread,
        }))
    }

    /// Ends it, when it is done with what it does. Hooks that run are killed before.
    pub fn stop(self) {
        self.host.end_hooks();
        if self.orders.send(Order::Stop).is_err() || self.thread.join().is_err() {
            tracing::error!("the thread for automatic snapshots had died");
        }
    }
}

fn keep(host: &Host, queue: &Receiver<Order>) {
    let now = Instant::now();
    let mut spell = Spell::new(now, 0);
    let mut next_prune = now + BUSY;
    let mut known = host.engine.rules();
    loop {
        let rules = host.engine.rules();
        if !Arc::ptr_eq(&rules, &known) {
            known = rules.clone();
            next_prune = Instant::now();
        }
        let rules = &rules.config;
        mark(host, &rules.checkpoints);
        let wait = match spell.is_over() && !host.engine.has_mark() {
            true => IDLE,
            false => BUSY,
        };
        match queue.recv_timeout(wait) {
            // They are looked at above.
            Ok(Order::Rules) => continue,
            Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => {
                host.engine.mark_bulk(0, Said::default());
                let kept = host.engine.settle_marks();
                if !kept.is_empty() {
                    tell_marks(host, &kept);
                }
                return;
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        if host.engine.store.is_readonly().is_some() {
            continue;
        }
        let rules = host.engine.rules();
        let rules = &rules.config;
        let kept = host.engine.settle_marks();
        if !kept.is_empty() {
            tell_marks(host, &kept);
            host.engine.digests.call();
        }
        host.engine.grow_up();
        let now = Instant::now();
        save(host, &mut spell, now, &rules.checkpoints);
        if now >= next_prune {
            next_prune = now + PRUNE;
            match give_up(host) {
                Ok(true) => next_prune = now + IDLE,
                Ok(false) => {}
                Err(failure) => tracing::warn!(%failure, "retention gave nothing up"),
            }
        }
    }
}

/// When something changed, and since when not.
#[derive(Debug)]
pub(super) struct Spell {
    /// Changes when it was looked last, and when that number was new.
    seen: u64,
    moved: Instant,
    /// Changes at the last automatic snapshot, and when the first change behind it was seen.
    saved: u64,
    since: Option<Instant>,
}

impl Spell {
    pub fn new(now: Instant, saved: u64) -> Self {
        Self {
            seen: saved,
            moved: now,
            saved,
            since: None,
        }
    }

    /// Nothing has changed since it was saved.
    fn is_over(&self) -> bool {
        self.since.is_none()
    }

    /// Whether it is time for a snapshot, and why.
    fn due(&mut self, now: Instant, changes: u64, rules: &Checkpoints) -> Option<String> {
        if changes != self.seen {
            self.seen = changes;
            self.moved = now;
        }
        if changes == self.saved {
            self.since = None;
            return None;
        }
        let since = *self.since.get_or_insert(now);
        if !rules.automatic {
            return None;
        }
        let passed = |span: Option<llctl::config::Span>, from: Instant| {
            span.filter(|span| now.duration_since(from) >= span.get())
        };
        if let Some(span) = passed(rules.quiet, self.moved) {
            return Some(format!("nothing has changed for {span}"));
        }
        let span = passed(rules.every, since)?;
        Some(format!("work has gone on for {span}"))
    }

    /// All that is saved.
    fn done(&mut self, changes: u64) {
        self.saved = changes;
        self.seen = changes;
        self.since = None;
    }
}

/// Takes a snapshot if it is time.
pub(super) fn save(host: &Host, spell: &mut Spell, now: Instant, rules: &Checkpoints) {
    let before = host.engine.state.read().changes;
    let Some(why) = spell.due(now, before, rules) else {
        return;
    };
    if let Err(failure) = take(host, &why) {
        tracing::warn!(%failure, "no automatic snapshot was taken");
    }
    // What came while it was made durable, and its hook ran, it has not.
    let saved = {
        let state = host.engine.state.read();
        let saved = unchanged::since(&state).filter(|id| !host.engine.is_mark(*id));
        saved.map(|_| state.changes)
    };
    spell.done(saved.unwrap_or(before));
}

/// Has removals watched as the rules say.
fn mark(host: &Host, rules: &Checkpoints) {
    let limit = if rules.automatic { rules.bulk } else { 0 };
    let said = Said {
        message: "before many files were removed".to_owned(),
        meta: automatic::meta(host.work.labels(&host.engine)),
    };
    host.engine.mark_bulk(limit, said);
}

fn take(host: &Host, why: &str) -> Result<(), Failure> {
    let begun = Instant::now();
    let engine = &host.engine;
    let act = || {
        automatic::take(engine, why, host.work.labels(engine))
            .map_err(|refusal| failure(engine, &refusal))
    };
    // What is not taken runs no hooks.
    if host.saved_before_hooks().is_some() {
        return Ok(());
    }
    let taken = host.hooked(Deal::Snap, &[], act, |taken| match taken {
        Taken::New(id) => Some(vec![name_of(host, *id)?]),
        Taken::Unchanged(_) => None,
    });
    match taken {
        Ok(Taken::New(id)) => {
            let names = name_of(host, id).into_iter().collect();
            engine.ended(own(Deal::Snap, names, begun, Some(why)), None);
            Ok(())
        }
        Ok(Taken::Unchanged(_)) => Ok(()),
        Err(failure) => {
            let mut act = own(Deal::Snap, Vec::new(), begun, Some(why));
            act.error = Some(failure.message.clone());
            act.error_kind = Some(failure.kind);
            engine.ended(act, None);
            Err(failure)
        }
    }
}

/// Marks that stay are snapshots like others.
fn tell_marks(host: &Host, kept: &[StateId]) {
    let begun = Instant::now();
    if let Err(error) = host.engine.sync() {
        tracing::warn!(%error, "a snapshot before many removals is not durable");
    }
    for id in kept {
        let names: Vec<String> = name_of(host, *id).into_iter().collect();
        tracing::info!(name = ?names, "many files are removed; a snapshot from before is kept");
        let act = own(
            Deal::Snap,
            names.clone(),
            begun,
            Some("before many files were removed"),
        );
        // It is taken already: there is no before.
        host.after_only(Deal::Snap, &names);
        host.engine.ended(act, None);
    }
}

fn name_of(host: &Host, id: StateId) -> Option<String> {
    let state = host.engine.state.read();
    state.snapshots.get(&id).map(|s| s.name.clone())
}

/// Gives up what retention does not keep, or the oldest of it; whether there is more.
pub(super) fn give_up(host: &Host) -> Result<bool, Failure> {
    let begun = Instant::now();
    let engine = &host.engine;
    let in_force = engine.rules();
    if in_force.unread {
        return Ok(false);
    }
    let rules = &in_force.config.retention;
    let (state, marks) = engine.state_and_marks();
    let mut plan = Plan::new(&state, &marks, rules);
    let more = plan.going.len() > PRUNED;
    plan.going.truncate(PRUNED);
    if plan.going.is_empty() {
        return Ok(false);
    }
    let some: BTreeSet<StateId> = plan.going.iter().copied().collect();
    let names = |ids: &BTreeSet<StateId>| -> Vec<String> {
        let each = ids.iter().filter_map(|id| state.snapshots.get(id));
        each.map(|s| s.name.clone()).collect()
    };
    let frees = together(&state, &some);
    let act = || {
        // While the hook ran the user may have said what is to stay.
        match Arc::ptr_eq(&engine.rules(), &in_force) {
            true => plan.carry_out(engine, rules, frees),
            false => Ok(BTreeSet::new()),
        }
    };
    let gone = host.hooked(Deal::Prune, &names(&some), act, |gone| Some(names(gone)))?;
    if gone.is_empty() {
        // Something came in between, and it is thought of anew.
        return Ok(true);
    }
    let mut act = own(Deal::Prune, names(&gone), begun, Some("retention"));
    act.bytes = frees;
    engine.ended(act, None);
    Ok(more)
}

/// An act of the daemon's own.
fn own(what: Deal, mut names: Vec<String>, begun: Instant, why: Option<&str>) -> Act {
    let more = names.len().saturating_sub(llctl::protocol::TARGETS_MAX) as u64;
    names.truncate(llctl::protocol::TARGETS_MAX);
    Act {
        at: UnixNanos::now(),
        what,
        targets: names,
        more,
        steps: None,
        why: why.map(str::to_owned),
        uid: nix::unistd::geteuid().as_raw(),
        pid: std::process::id(),
        command: "llfs, by itself".to_owned(),
        took_us: u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX),
        files: None,
        bytes: None,
        error: None,
        error_kind: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_time_when_it_gets_quiet_and_every_so_often() {
        let begun = Instant::now();
        let at = |secs: u64| begun + Duration::from_secs(secs);
        let rules = Checkpoints::default();
        let mut spell = Spell::new(begun, 5);
        assert_eq!(spell.due(at(100), 5, &rules), None, "nothing has changed");
        assert!(spell.is_over());
        assert_eq!(spell.due(at(101), 6, &rules), None);
        assert_eq!(spell.due(at(130), 6, &rules), None);
        let quiet = Some("nothing has changed for 30s".to_owned());
        assert_eq!(spell.due(at(131), 6, &rules), quiet);
        // The snapshot is a change itself.
        spell.done(7);
        assert_eq!(spell.due(at(500), 7, &rules), None);
        // Work that goes on.
        for n in 0..59 {
            assert_eq!(spell.due(at(1000 + n * 10), 8 + n, &rules), None);
        }
        assert_eq!(spell.due(at(1590), 100, &rules), None);
        let every = Some("work has gone on for 10m".to_owned());
        assert_eq!(spell.due(at(1600), 101, &rules), every);
        spell.done(102);
        assert_eq!(spell.due(at(1601), 103, &rules), None);
        let off = Checkpoints {
            automatic: false,
            ..rules
        };
        assert_eq!(spell.due(at(9999), 103, &off), None);
    }
}
