//! Requests that a worker did and did not live to answer: the next one finds the answer in what was done.

use llctl::protocol::{ErrorKind, Failure, PruneInfo, Request, Response, RevertInfo};
use llctl::{SnapName, StateRef};

use super::listing;
use crate::engine::Engine;
use crate::relay::{Errand, Turn};
use crate::tree::{Record, StateId};

/// This thread begins with a request. The answer, if it was done before.
pub(super) fn begin(
    engine: &Engine,
    errand: Errand,
    request: &Request,
) -> Option<Result<Response, Failure>> {
    let changes = matches!(
        request,
        Request::Snap { .. }
            | Request::Revert { .. }
            | Request::RevertPart { .. }
            | Request::Undo { .. }
            | Request::Redo { .. }
            // What they say of the work is found in the snapshot.
            | Request::Phase { .. }
            | Request::Session { .. }
            | Request::Describe { .. }
            | Request::Delete { .. }
            | Request::Prune { yes: true, .. }
            | Request::Rename { .. }
            | Request::Apply { yes: true, .. }
            | Request::ImportEnd { .. }
    );
    if matches!(request, Request::Verify) {
        super::verify::asked_by(Some(errand));
    }
    if !changes {
        return None;
    }
    match engine.relay().begin_errand(errand) {
        Turn::New => None,
        Turn::Done(record) => Some(answer(engine, request, &record)),
    }
}

fn answer(engine: &Engine, request: &Request, record: &[u8]) -> Result<Response, Failure> {
    // It may have died before it had made that durable.
    let synced = engine.sync();
    synced.map_err(|error| Failure::io("what was done was not made durable", &error))?;
    match request {
        // The names say all, and the record may be too long to be kept.
        Request::Delete { names, .. } => Ok(Response::Deleted(unique(names))),
        Request::Rename { to, .. } => {
            listing::info_by_name(engine, to.as_str()).map(Response::Renamed)
        }
        Request::Revert { to, .. } => reverted(engine, to.to_string(), record),
        Request::RevertPart { part, .. } => reverted(engine, part.to_string(), record),
        // A worker that began after it was staged has finished it before it served anybody.
        Request::Apply { .. } => rmp_serde::from_slice(record)
            .map(Response::Applied)
            .map_err(|_| unknown()),
        Request::ImportEnd { .. } => {
            let ids: Vec<StateId> = rmp_serde::from_slice(record).map_err(|_| unknown())?;
            let all = ids.into_iter().map(|id| listing::brief(engine, id));
            all.collect::<Result<_, _>>().map(Response::Imported)
        }
        // With many long names the answer is not kept whole.
        Request::Prune { .. } => {
            let mut info: PruneInfo = rmp_serde::from_slice(record).map_err(|_| unknown())?;
            let state = engine.state.read();
            // One that was about to go may have been pinned just then.
            info.snapshots
                .retain(|gone| state.snapshot(&gone.name).is_none());
            Ok(Response::Pruned(info))
        }
        Request::Undo { .. } => reverted(engine, StateRef::Undo.to_string(), record),
        Request::Redo { .. } => reverted(engine, StateRef::Redo.to_string(), record),
        Request::Describe { name, .. } => {
            listing::info_by_name(engine, name.as_str()).map(Response::Described)
        }
        _ => match rmp_serde::from_slice(record) {
            Ok(Record::Snap { id, .. }) => listing::brief(engine, id).map(Response::Snap),
            _ => Err(unknown()),
        },
    }
}

fn reverted(engine: &Engine, to: String, record: &[u8]) -> Result<Response, Failure> {
    let kept = match rmp_serde::from_slice(record) {
        Ok(Record::Switch { kept, .. } | Record::Merge { kept, .. }) => kept,
        // A long record is not kept whole. It was the last of its kind.
        _ => {
            let last = engine.state.read().discarded.keys().next_back().copied();
            last.ok_or_else(unknown)?
        }
    };
    let changed = changed(engine, kept);
    Ok(Response::Reverted(RevertInfo {
        to,
        changed,
        discarded: (changed > 0).then_some(kept),
        unsaved: None,
        at_least: false,
        took_us: 0,
    }))
}

/// Paths that differ from a state that was discarded.
fn changed(engine: &Engine, kept: StateId) -> u64 {
    let roots = {
        let state = engine.state.read();
        let old = state.discarded.get(&kept).map(|old| old.root.clone());
        old.map(|old| (old, state.head.clone()))
    };
    roots.map_or(0, |(old, head)| listing::paths(engine, &old, &head))
}

fn unique(names: &[SnapName]) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    let names = names.iter().map(|n| n.as_str().to_owned());
    names.filter(|n| seen.insert(n.clone())).collect()
}

fn unknown() -> Failure {
    Failure::new(
        ErrorKind::Internal,
        "the request was done, but its answer was lost with the worker that did it",
    )
    .with_hint("`llctl list` shows what there is")
}
