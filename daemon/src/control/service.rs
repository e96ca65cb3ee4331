//! What the daemon can be asked to do.

use std::io;
use std::os::fd::BorrowedFd;

use llctl::client::{Snapped, VerifyEvent};
use llctl::config::Retention;
use llctl::protocol::{
    Act, ApplyDone, ApplyPlan, ArchiveInfo, BytePath, Change, ChangeCounts, ConfigInfo, Event,
    Failure, HistoryQuery, ListQuery, Listing, LogEntry, MetaEdit, MetricsInfo, OnConflict, Part,
    Progress, PruneInfo, Request, Response, RevertCheck, RevertInfo, Side, SnapDetail, SnapInfo,
    SnapMeta, StatusInfo, UnixNanos, VerifySummary, Welcome,
};
use llctl::{SnapName, StateRef};

/// Where a long operation sends what it has. An error means that the client is gone.
///
/// It blocks while the client does not read, for minutes if need be: no lock that another request or the file
/// system needs may be held while it is called.
pub type Sink<'a, T> = &'a mut dyn FnMut(T) -> io::Result<()>;

/// The operations behind the control socket. Several threads call them at once; each method is one request and keeps
/// its own promises about atomicity. What is said at [`llctl::protocol::Request`] holds here.
pub trait Service: Send + Sync + 'static {
    /// Who answers. Called at each connection; must not block.
    fn welcome(&self) -> Welcome;

    /// A request of the client `id` comes, its `number`th, and this thread is going to carry it out; [`Service::end`] follows.
    /// If a worker before this one has done it, this is the answer, and it is not to be done again.
    fn begin(&self, id: u64, number: u64, request: &Request) -> Option<Result<Response, Failure>> {
        let _ = (id, number, request);
        None
    }

    /// The request is carried out, and its answer sent.
    fn end(&self) {}

    /// Takes a snapshot; without a name, makes one (see [`SnapName::from_local_time`]). `message` is not too long, `meta`
    /// may be.
    fn snap(
        &self,
        name: Option<&SnapName>,
        message: Option<&str>,
        meta: &SnapMeta,
    ) -> Result<SnapInfo, Failure>;

    /// The same, unless nothing has changed since there was one.
    fn snap_if_changed(
        &self,
        name: Option<&SnapName>,
        message: Option<&str>,
        meta: &SnapMeta,
    ) -> Result<Snapped, Failure>;

    /// The snapshots that are asked for, in that order; and the discarded states, oldest first, where all are.
    fn list(&self, query: &ListQuery) -> Result<Listing, Failure>;

    /// All about one snapshot.
    fn show(&self, name: &SnapName) -> Result<SnapDetail, Failure>;

    /// Sends what differs from `from` (the last snapshot, or the base, if it is none) to `to` in the byte order of paths,
    /// only of `paths` (see [`llctl::protocol::selected`]), with contents if `patch`. Stops when the sink fails; what
    /// it returns then is not sent to anybody.
    fn diff(
        &self,
        from: Option<&StateRef>,
        to: &StateRef,
        paths: &[BytePath],
        patch: bool,
        sink: Sink<'_, Change>,
    ) -> Result<ChangeCounts, Failure>;

    /// Sends what each state changed of a file or directory, newest first. Stops when the sink fails.
    fn log(
        &self,
        path: &BytePath,
        limit: Option<u64>,
        sink: Sink<'_, LogEntry>,
    ) -> Result<(), Failure>;

    /// What is at a path in a state.
    fn stat(&self, state: &StateRef, path: &BytePath) -> Result<Side, Failure>;

    /// Sends the content of a file as it is in a state, from the byte `from` on. Stops when the sink fails.
    fn cat(
        &self,
        state: &StateRef,
        path: &BytePath,
        from: u64,
        sink: Sink<'_, Vec<u8>>,
    ) -> Result<(), Failure>;
    /// Makes the tree what `to` was. Called with a snapshot or [`StateRef::Base`] only. With `force`, also if that ends
    /// what git is in the middle of, or brings back what is damaged.
    fn revert(&self, to: &StateRef, force: bool) -> Result<RevertInfo, Failure>;

    /// What speaks against a revert to that state.
    fn can_revert(&self, to: &StateRef) -> Result<RevertCheck, Failure>;

    /// Undoes a part.
    fn revert_part(
        &self,
        part: &Part,
        on_conflict: OnConflict,
        force: bool,
    ) -> Result<RevertInfo, Failure>;

    /// Sends what [`Service::revert_part`] would change, as [`Service::diff`] does.
    fn preview_part(
        &self,
        part: &Part,
        on_conflict: OnConflict,
        patch: bool,
        sink: Sink<'_, Change>,
    ) -> Result<ChangeCounts, Failure>;

    /// Takes back the last reverts. `steps` is not 0.
    fn undo(&self, steps: u32) -> Result<RevertInfo, Failure>;

    /// Takes back the last undos. `steps` is not 0.
    fn redo(&self, steps: u32) -> Result<RevertInfo, Failure>;

    /// Deletes all of `names` or none; gives back the names that are gone. Those that were `shown` to whoever wants it are these.
    fn delete(&self, names: &[SnapName], shown: Option<&[u64]>) -> Result<Vec<String>, Failure>;

    /// Gives a snapshot another name.
    fn rename(&self, from: &SnapName, to: &SnapName) -> Result<SnapInfo, Failure>;

    /// Changes what a snapshot says of itself. The message in `edit` is not too long.
    fn describe(&self, name: &SnapName, edit: &MetaEdit) -> Result<SnapInfo, Failure>;

    /// Tells that an act begins; the number of the event.
    fn begun(&self, act: &Act) -> Option<u64>;

    /// Writes down and tells what was done, or failed, before it is answered. `started` is what [`Service::begun`] gave.
    /// `again`: a worker before this one did it and may have written it down.
    fn note(&self, act: Act, started: Option<u64>, again: bool);

    /// What happens from now on, or after the event of that number.
    fn watch(&self, after: Option<u64>) -> Result<Box<dyn Feed>, Failure>;

    /// What was done, oldest first.
    fn history(&self, query: &HistoryQuery) -> Result<Vec<Act>, Failure>;

    /// The rules in force, and how the file in the tree compares with them.
    fn config(&self) -> Result<ConfigInfo, Failure>;

    /// Puts the text of an `llfs.toml` in force.
    fn trust(&self, text: &str) -> Result<ConfigInfo, Failure>;

    /// What these rules, or those in force, do not keep; with `yes`, gives it up. Only what was `shown` to whoever wants it.
    fn prune(
        &self,
        rules: Option<&Retention>,
        yes: bool,
        shown: Option<&[u64]>,
    ) -> Result<PruneInfo, Failure>;

    /// Compresses the data of these snapshots, and of those taken until then; without `yes` says what there is to be done. Stops when
    /// the sink fails.
    fn archive(
        &self,
        _names: &[SnapName],
        _until: Option<UnixNanos>,
        _yes: bool,
        _sink: Sink<'_, Progress>,
    ) -> Result<ArchiveInfo, Failure> {
        Err(unsupported())
    }

    /// Another phase of the work begins.
    fn phase(&self, name: &str, session: Option<&str>) -> Result<Snapped, Failure>;

    /// Another session of the work begins.
    fn session(&self, id: &str) -> Result<Snapped, Failure>;

    /// What the mount has counted.
    fn metrics(&self) -> Result<MetricsInfo, Failure>;

    /// The mount, its store and their health.
    fn status(&self) -> Result<StatusInfo, Failure>;

    /// Reads and checks everything stored. Stops when the sink fails.
    fn verify(&self, sink: Sink<'_, VerifyEvent>) -> Result<VerifySummary, Failure>;

    /// Sends all of some snapshots as blocks of items, but for the first so many of them, which have that checksum. Stops when
    /// the sink fails.
    fn export(
        &self,
        _names: &[SnapName],
        _from: Option<&SnapName>,
        _skip: (u64, u64),
        _sink: Sink<'_, Vec<u8>>,
    ) -> Result<(), Failure> {
        Err(unsupported())
    }

    /// Begins an import or goes on with it; gives the number of blocks that are known.
    fn import_begin(&self, _import: u64, _names: &[SnapName]) -> Result<u64, Failure> {
        Err(unsupported())
    }

    /// Takes a block of an import, with its number and the checksum of those before it; gives the number of blocks that are known.
    fn import_block(
        &self,
        _import: u64,
        _place: (u64, u64),
        _block: &[u8],
    ) -> Result<u64, Failure> {
        Err(unsupported())
    }

    /// Ends an import of so many blocks with this checksum, which makes snapshots of it.
    fn import_end(&self, _import: u64, _all: (u64, u64)) -> Result<Vec<SnapInfo>, Failure> {
        Err(unsupported())
    }

    /// Gives an import up.
    fn import_drop(&self, _import: u64) -> Result<(), Failure> {
        Err(unsupported())
    }

    /// What [`Service::apply`] would do.
    fn plan_apply(&self) -> Result<ApplyPlan, Failure>;

    /// Writes the tree into the base, if it is what was `shown` to whoever wants it. Goes on when the sink fails: half an apply is no
    /// state to be in.
    fn apply(&self, shown: Option<u64>, sink: Sink<'_, Progress>) -> Result<ApplyDone, Failure>;

    /// Everything that can still fail before a shutdown: the apply if `apply`, the flush of the store. After it has
    /// returned `Ok`, [`Service::begin_shutdown`] follows.
    fn prepare_shutdown(&self, apply: bool, sink: Sink<'_, Progress>) -> Result<(), Failure>;

    /// Signals that the daemon is to unmount and stop, and returns at once: the caller is a thread that the stop waits
    /// for.
    fn begin_shutdown(&self);
}

fn unsupported() -> Failure {
    let why = "nothing can be exported, imported or archived here";
    Failure::new(llctl::ErrorKind::Unsupported, why)
}

/// What happens, for one watcher.
pub trait Feed {
    /// The number of the last event that was given.
    fn last(&self) -> u64;

    /// The next events; none if all were given. Does not block.
    fn news(&mut self) -> Vec<Event>;

    /// Can be read when there may be news.
    fn bell(&self) -> BorrowedFd<'_>;

    /// The bell was heard, and is to ring again at the next event.
    fn heard(&self);
}
