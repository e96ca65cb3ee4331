//! What the control socket asks for, done on the engine.
//!
//! Old states are looked at through clones of their roots, which need no lock. Only reading their data does: see
//! [`states::View::read`]. No lock at all is held while a client is sent something.

mod alone;
mod archive;
mod automatic;
mod cat;
mod checks;
mod config;
mod diff;
mod digest;
mod failure;
mod hooks;
mod keeper;
mod linked;
mod listing;
mod log;
mod metrics;
mod part;
mod prune;
mod repeated;
mod retention;
pub(super) mod states;
mod status;
#[cfg(test)]
mod tests;
mod transfer;
mod verify;
mod watch;
mod writeback;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use crossbeam_channel::Sender;

use llctl::client::{Snapped, VerifyEvent};
use llctl::config::Retention;
use llctl::protocol::{
    Act, ApplyDone, ApplyPlan, ArchiveInfo, BytePath, Change, ChangeCounts, ConfigInfo, Deal,
    Event, Failure, HistoryQuery, ListQuery, Listing, LogEntry, MetaEdit, MetricsInfo, OnConflict,
    PROTOCOL_VERSION, Part, Progress, PruneInfo, Request, Response, RevertCheck, RevertInfo, Side,
    SnapDetail, SnapInfo, SnapMeta, StatusInfo, UnixNanos, VerifySummary, Welcome,
};
use llctl::{SnapName, StateRef};

use super::Engine;
use super::snapshot::{Refusal, Switched, Taken};
use crate::control::{Feed, Service, Sink};
use crate::relay::Errand;
use crate::tree::{Move, StateId};
pub(in crate::engine) use alone::Walk;
use automatic::Labels;
pub(super) use digest::Digests;
use failure::failure;
pub use keeper::{Keeper, SWITCH as AUTOMATIC_SWITCH};
pub(super) use linked::Linked;
use states::View;
pub(super) use transfer::Import;

/// The engine as the control server sees it.
pub struct Host {
    engine: Arc<Engine>,
    mountpoint: PathBuf,
    stop: Box<dyn Fn() + Send + Sync>,
    /// What the snapshots that nobody asked for say of the work.
    work: automatic::Work,
    /// Hooks that run.
    hooks: hooks::Running,
    /// Whether snapshots and retention come by themselves,
    automatic: AtomicBool,
    /// and who sees to that.
    keeper: OnceLock<Sender<keeper::Order>>,
}

impl Host {
    /// Serves `engine`, which is mounted at the absolute path `mountpoint`. `stop` is called when a client asks the daemon
    /// to unmount and stop, by a thread that the stop waits for: it must return at once.
    pub fn new(
        engine: Arc<Engine>,
        mountpoint: PathBuf,
        stop: Box<dyn Fn() + Send + Sync>,
    ) -> Host {
        hooks::Running::end_of_the_dead(engine.relay());
        Host {
            engine,
            mountpoint,
            stop,
            work: automatic::Work::default(),
            hooks: hooks::Running::default(),
            automatic: AtomicBool::new(false),
            keeper: OnceLock::new(),
        }
    }

    /// Kills hooks that run; from here on none begins.
    pub fn end_hooks(&self) {
        self.hooks.end();
    }

    fn snapped(&self, taken: Taken) -> Result<Snapped, Failure> {
        match taken {
            Taken::New(id) => listing::brief(&self.engine, id).map(Snapped::Taken),
            Taken::Unchanged(id) => listing::brief(&self.engine, id).map(Snapped::Unchanged),
        }
    }

    /// The snapshot of the present state, if there is one and a hook would be run for another: where none is taken, none runs.
    fn saved_before_hooks(&self) -> Option<StateId> {
        let rules = self.engine.rules();
        let hooks = &rules.config.hooks;
        if hooks.before_snap.is_none() && hooks.after_snap.is_none() {
            return None;
        }
        self.engine.flush_mappings();
        self.engine.saved_as()
    }

    /// Takes what there is, if it has changed; from here on the work is what `labels` say.
    fn boundary(&self, why: &str, meta: SnapMeta, labels: Labels) -> Result<Snapped, Failure> {
        let refused = |refusal| failure(&self.engine, &refusal);
        // What snapshots to come will say is checked although there may be none now.
        (meta.check().and(automatic::meta(labels.clone()).check()))
            .map_err(|error| refused(error.into()))?;
        if let Some(id) = self.saved_before_hooks() {
            self.work.begin(labels);
            return self.snapped(Taken::Unchanged(id));
        }
        let act = || {
            let taken = self.engine.snapshot_if_changed(automatic::name, why, meta);
            self.snapped(taken.map_err(refused)?)
        };
        let taken = self.hooked(Deal::Snap, &[], act, taken_name)?;
        self.work.begin(labels);
        Ok(taken)
    }

    /// Looks at states. What was found of them while an apply made the base another one is no answer: old states rely on it, and go
    /// with it.
    fn on_one_base<T>(&self, look: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        let base = {
            // One that is under way comes to its end first.
            let _gate = self.engine.gate.read();
            self.engine.digests.which_base()
        };
        let found = look();
        match self.engine.digests.which_base() == base {
            true => found,
            false => Err(failure::other_base().with_hint("ask again")),
        }
    }

    fn reverted(&self, to: String, done: &Switched) -> RevertInfo {
        let discarded = done.kept;
        let counted = listing::paths_soon(&self.engine, &done.roots.0, &done.roots.1);
        let unsaved = discarded.map(|kept| checks::unsaved_of(&self.engine, kept, done, counted));
        RevertInfo {
            to,
            changed: counted.0,
            discarded,
            unsaved: unsaved.map(|(unsaved, _)| unsaved),
            at_least: counted.1 || unsaved.is_some_and(|(_, more)| more),
            took_us: u64::try_from(done.took.as_micros()).unwrap_or(u64::MAX),
        }
    }
}

/// The snapshot that was taken, if one was.
fn taken_name(taken: &Snapped) -> Option<Vec<String>> {
    match taken {
        Snapped::Taken(info) => Some(vec![info.name.clone()]),
        Snapped::Unchanged(_) => None,
    }
}

/// The name that was asked for, or one made from the time that is not `taken`.
fn chosen(name: Option<&SnapName>, taken: &dyn Fn(&str) -> bool) -> String {
    match name {
        Some(name) => name.as_str().to_owned(),
        None => SnapName::from_local_time(taken).into(),
    }
}

impl Service for Host {
    fn welcome(&self) -> Welcome {
        Welcome {
            version: PROTOCOL_VERSION,
            daemon: env!("CARGO_PKG_VERSION").to_owned(),
            pid: self.engine.relay().supervisor(),
            mountpoint: BytePath::from(self.mountpoint.as_path()),
            store: BytePath::from(self.engine.store_path()),
            mount: self.engine.relay().mount(),
        }
    }

    fn begin(&self, id: u64, number: u64, request: &Request) -> Option<Result<Response, Failure>> {
        repeated::begin(&self.engine, Errand { client: id, number }, request)
    }

    fn end(&self) {
        verify::asked_by(None);
        self.engine.relay().end_errand();
    }

    fn snap(
        &self,
        name: Option<&SnapName>,
        message: Option<&str>,
        meta: &SnapMeta,
    ) -> Result<SnapInfo, Failure> {
        let names: Vec<String> = name.iter().map(|n| n.as_str().to_owned()).collect();
        let act = || {
            let message = message.unwrap_or_default();
            let id = (self.engine)
                .snapshot_with(|taken| chosen(name, taken), message, meta.clone())
                .map_err(|refusal| failure(&self.engine, &refusal))?;
            listing::brief(&self.engine, id)
        };
        self.hooked(Deal::Snap, &names, act, |info| {
            Some(vec![info.name.clone()])
        })
    }

    fn snap_if_changed(
        &self,
        name: Option<&SnapName>,
        message: Option<&str>,
        meta: &SnapMeta,
    ) -> Result<Snapped, Failure> {
        if let Some(id) = self.saved_before_hooks() {
            return self.snapped(Taken::Unchanged(id));
        }
        let names: Vec<String> = name.iter().map(|n| n.as_str().to_owned()).collect();
        let act = || {
            let message = message.unwrap_or_default();
            let taken = (self.engine)
                .snapshot_if_changed(|taken| chosen(name, taken), message, meta.clone())
                .map_err(|refusal| failure(&self.engine, &refusal))?;
            self.snapped(taken)
        };
        self.hooked(Deal::Snap, &names, act, taken_name)
    }

    fn list(&self, query: &ListQuery) -> Result<Listing, Failure> {
        Ok(listing::some(&self.engine, query))
    }

    fn show(&self, name: &SnapName) -> Result<SnapDetail, Failure> {
        listing::detail(&self.engine, name.as_str())
    }

    fn diff(
        &self,
        from: Option<&StateRef>,
        to: &StateRef,
        paths: &[BytePath],
        patch: bool,
        sink: Sink<'_, Change>,
    ) -> Result<ChangeCounts, Failure> {
        self.on_one_base(|| {
            let old = match from {
                Some(state) => View::of(&self.engine, state)?,
                None => View::last_wanted(&self.engine),
            };
            let new = View::of(&self.engine, to)?;
            diff::send(&self.engine, &old, &new, paths, patch, sink)
        })
    }

    fn log(
        &self,
        path: &BytePath,
        limit: Option<u64>,
        sink: Sink<'_, LogEntry>,
    ) -> Result<(), Failure> {
        self.on_one_base(|| log::send(&self.engine, path, limit, sink))
    }

    fn stat(&self, state: &StateRef, path: &BytePath) -> Result<Side, Failure> {
        self.on_one_base(|| cat::stat(&self.engine, &View::of(&self.engine, state)?, path))
    }

    fn cat(
        &self,
        state: &StateRef,
        path: &BytePath,
        from: u64,
        sink: Sink<'_, Vec<u8>>,
    ) -> Result<(), Failure> {
        self.on_one_base(|| {
            let view = View::of(&self.engine, state)?;
            cat::send(&self.engine, &view, path, from, sink)
        })
    }

    fn revert(&self, to: &StateRef, force: bool) -> Result<RevertInfo, Failure> {
        let act = || {
            let done = match to {
                StateRef::Snapshot(name) => self.engine.revert_with(name.as_str(), force),
                StateRef::Base => self.engine.revert_base_with(force),
                StateRef::At(_) => {
                    // That there is none is told as such.
                    View::of(&self.engine, to)?;
                    // By what the moment means, not by a name: another snapshot may have that one when it is its turn.
                    self.engine.switch(Move::Revert, force, &|state| {
                        let found = states::find(state, to);
                        found.ok_or_else(|| Refusal::Gone(to.to_string()))
                    })
                }
                StateRef::Undo | StateRef::Redo | StateRef::Live => {
                    return Err(failure::no_target(to));
                }
            };
            let done = done.map_err(|refusal| failure(&self.engine, &refusal))?;
            Ok(self.reverted(to.to_string(), &done))
        };
        self.hooked(Deal::Revert, &[to.to_string()], act, |_| None)
    }

    fn can_revert(&self, to: &StateRef) -> Result<RevertCheck, Failure> {
        checks::can_revert(&self.engine, to)
    }

    fn revert_part(
        &self,
        part: &Part,
        on_conflict: OnConflict,
        force: bool,
    ) -> Result<RevertInfo, Failure> {
        let act = || {
            let done = part::revert(&self.engine, part, on_conflict, force)?;
            Ok(self.reverted(part.to_string(), &done))
        };
        self.hooked(Deal::Revert, &[part.to_string()], act, |_| None)
    }

    fn preview_part(
        &self,
        part: &Part,
        on_conflict: OnConflict,
        patch: bool,
        sink: Sink<'_, Change>,
    ) -> Result<ChangeCounts, Failure> {
        self.on_one_base(|| {
            let (old, new, _lent) = part::preview(&self.engine, part, on_conflict)?;
            diff::send(&self.engine, &old, &new, &[], patch, sink)
        })
    }

    fn undo(&self, steps: u32) -> Result<RevertInfo, Failure> {
        let act = || {
            let done = (self.engine.undo(steps as usize))
                .map_err(|refusal| failure(&self.engine, &refusal))?;
            Ok(self.reverted(StateRef::Undo.to_string(), &done))
        };
        self.hooked(Deal::Undo, &[StateRef::Undo.to_string()], act, |_| None)
    }

    fn redo(&self, steps: u32) -> Result<RevertInfo, Failure> {
        let act = || {
            let done = (self.engine.redo(steps as usize))
                .map_err(|refusal| failure(&self.engine, &refusal))?;
            Ok(self.reverted(StateRef::Redo.to_string(), &done))
        };
        self.hooked(Deal::Redo, &[StateRef::Redo.to_string()], act, |_| None)
    }

    fn describe(&self, name: &SnapName, edit: &MetaEdit) -> Result<SnapInfo, Failure> {
        let id = (self.engine.describe(name.as_str(), edit))
            .map_err(|refusal| failure(&self.engine, &refusal))?;
        listing::brief(&self.engine, id)
    }

    fn delete(&self, names: &[SnapName], shown: Option<&[u64]>) -> Result<Vec<String>, Failure> {
        let names: Vec<String> = names.iter().map(|n| n.as_str().to_owned()).collect();
        let act = || {
            let done = self.engine.delete_shown(&names, shown);
            done.map_err(|refusal| failure(&self.engine, &refusal))
        };
        self.hooked(Deal::Delete, &names, act, |()| None)?;
        Ok(names)
    }

    fn rename(&self, from: &SnapName, to: &SnapName) -> Result<SnapInfo, Failure> {
        self.engine
            .rename_snapshot(from.as_str(), to.as_str())
            .map_err(|refusal| failure(&self.engine, &refusal))?;
        listing::info_by_name(&self.engine, to.as_str())
    }

    fn begun(&self, act: &Act) -> Option<u64> {
        Some(self.engine.announce(Event::started(act.clone())))
    }

    fn note(&self, act: Act, started: Option<u64>, again: bool) {
        match again {
            true => self.engine.ended_before(act),
            false => self.engine.ended(act, started),
        }
    }

    fn watch(&self, after: Option<u64>) -> Result<Box<dyn Feed>, Failure> {
        watch::feed(&self.engine, after)
    }

    fn metrics(&self) -> Result<MetricsInfo, Failure> {
        metrics::metrics(&self.engine, &self.mountpoint)
    }

    fn history(&self, query: &HistoryQuery) -> Result<Vec<Act>, Failure> {
        let acts = self.engine.acts(query);
        acts.map_err(|error| Failure::io("the history cannot be read", &error))
    }

    fn config(&self) -> Result<ConfigInfo, Failure> {
        config::info(&self.engine, self.automatic.load(Relaxed))
    }

    fn trust(&self, text: &str) -> Result<ConfigInfo, Failure> {
        config::trust(&self.engine, text)?;
        if let Some(keeper) = self.keeper.get()
            && keeper.try_send(keeper::Order::Rules).is_err()
        {
            tracing::debug!("the keeper learns of the rules a moment later");
        }
        self.config()
    }

    fn prune(
        &self,
        asked: Option<&Retention>,
        yes: bool,
        shown: Option<&[u64]>,
    ) -> Result<PruneInfo, Failure> {
        let rules = || match asked {
            Some(asked) => Ok(asked.clone()),
            None => Ok(config::read(&self.engine)?.config.retention.clone()),
        };
        let plan = prune::prune(&self.engine, &rules()?, false, shown)?;
        if !yes || plan.snapshots.is_empty() {
            return Ok(PruneInfo { done: yes, ..plan });
        }
        let names = |info: &PruneInfo| info.snapshots.iter().map(|s| s.name.clone()).collect();
        let all: Vec<String> = names(&plan);
        let act = || {
            // Those in force may be others since the hook ran.
            prune::prune(&self.engine, &rules()?, true, shown)
        };
        self.hooked(Deal::Prune, &all, act, |done| Some(names(done)))
    }

    fn phase(&self, name: &str, session: Option<&str>) -> Result<Snapped, Failure> {
        let labels = Labels {
            phase: Some(name.to_owned()),
            session: session.map(str::to_owned),
        };
        let meta = automatic::meta(labels.clone());
        self.boundary("before this phase", meta, labels)
    }

    fn session(&self, id: &str) -> Result<Snapped, Failure> {
        let before = self.work.labels(&self.engine);
        let meta = automatic::end_of(before, id);
        let labels = Labels {
            phase: None,
            session: Some(id.to_owned()),
        };
        self.boundary("before another session", meta, labels)
    }

    fn status(&self) -> Result<StatusInfo, Failure> {
        status::status(&self.engine, &self.mountpoint)
    }

    fn verify(&self, sink: Sink<'_, VerifyEvent>) -> Result<VerifySummary, Failure> {
        self.on_one_base(|| verify::verify(&self.engine, sink))
    }

    fn export(
        &self,
        names: &[SnapName],
        from: Option<&SnapName>,
        skip: (u64, u64),
        sink: Sink<'_, Vec<u8>>,
    ) -> Result<(), Failure> {
        self.on_one_base(|| transfer::export(&self.engine, names, from, skip, sink))
    }

    fn archive(
        &self,
        names: &[SnapName],
        until: Option<UnixNanos>,
        yes: bool,
        sink: Sink<'_, Progress>,
    ) -> Result<ArchiveInfo, Failure> {
        archive::archive(&self.engine, names, until, yes, sink)
    }

    fn import_begin(&self, import: u64, names: &[SnapName]) -> Result<u64, Failure> {
        transfer::begin(&self.engine, import, names)
    }

    fn import_block(&self, import: u64, place: (u64, u64), block: &[u8]) -> Result<u64, Failure> {
        transfer::block(&self.engine, import, place, block)
    }

    fn import_end(&self, import: u64, all: (u64, u64)) -> Result<Vec<SnapInfo>, Failure> {
        transfer::end(&self.engine, import, all)
    }

    fn import_drop(&self, import: u64) -> Result<(), Failure> {
        transfer::give_up(&self.engine, import);
        Ok(())
    }

    fn plan_apply(&self) -> Result<ApplyPlan, Failure> {
        writeback::plan(&self.engine)
    }

    fn apply(&self, shown: Option<u64>, sink: Sink<'_, Progress>) -> Result<ApplyDone, Failure> {
        let mut shown = shown;
        let may_change = self.has_hook_before(Deal::Apply);
        if may_change {
            writeback::check(&self.engine, shown)?;
        }
        let act = || {
            if may_change {
                // What it made is applied too.
                shown = None;
            }
            writeback::apply(&self.engine, shown, sink).map_err(|unfinished| {
                if unfinished.fatal {
                    (self.stop)();
                }
                unfinished.failure
            })
        };
        self.hooked(Deal::Apply, &[], act, |_| None)
    }

    fn prepare_shutdown(&self, apply: bool, sink: Sink<'_, Progress>) -> Result<(), Failure> {
        if apply {
            self.apply(None, sink)?;
        }
        self.engine
            .sync()
            .map_err(|error| Failure::io("the store could not be made durable", &error))
    }

    fn begin_shutdown(&self) {
        (self.stop)();
    }
}
