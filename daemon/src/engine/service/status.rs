//! How the mount and its store are.

use std::path::Path;

use llctl::protocol::{BytePath, Failure, HeldInfo, StatusInfo, StoreParts};

use super::listing;
use crate::engine::Engine;
use crate::tree::{Apply, State, StateId};

/// Snapshots of which a status tells what they hold.
const HELD_MAX: usize = 5;

/// The mount, its store and their health.
pub(super) fn status(engine: &Engine, mountpoint: &Path) -> Result<StatusInfo, Failure> {
    let sizes = engine
        .store
        .sizes()
        .map_err(|error| Failure::io("the store's size cannot be found", &error))?;
    let (snapshots, discarded, last, applying, all) = {
        let state = engine.state.read();
        (
            state.snapshots.len() as u64,
            state.discarded.len() as u64,
            state.snapshot_before(StateId::MAX).map(|(id, _)| id),
            state.applying == Some(Apply::Staged),
            state.clone(),
        )
    };
    let mut warnings = Vec::new();
    warnings.extend(engine.low_space());
    if let Some(damage) = engine.store.damage() {
        warnings.push(format!(
            "{damage}; what came after that is not shown: `llfs check` tells what it is"
        ));
    }
    if engine.base.times_wrong() > 0 {
        warnings.push(
            "files of the directory below the mount were moved, replaced or removed behind it: what was not changed here fails with \
             ESTALE; `llctl verify` names those on which changes rely"
                .to_owned(),
        );
    }
    warnings.extend(super::config::warning(engine));
    if applying {
        warnings.push("an apply has begun and not ended; the next mount ends it".to_owned());
    }
    let since = listing::since_last(engine);
    Ok(StatusInfo {
        mountpoint: BytePath::from(mountpoint),
        store: BytePath::from(engine.store_path()),
        pid: engine.relay().supervisor(),
        worker: Some(std::process::id()),
        workers: Some(engine.relay().workers()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_secs: engine.started.elapsed().as_secs(),
        snapshots,
        discarded,
        // It may be deleted meanwhile: then there is nothing to say of it.
        last_snapshot: last.and_then(|id| listing::info(engine, id).ok()),
        changed: Some(since.0),
        changes: since.1,
        store_parts: Some(StoreParts {
            journal: sizes.journal,
            layers: sizes.layers,
            images: sizes.images,
            reserve: sizes.reserve,
            notes: sizes.notes,
            saved: sizes.saved,
        }),
        store_bytes: sizes.journal + sizes.layers + sizes.images + sizes.reserve + sizes.notes,
        store_limit: engine.store.limit().map(|(limit, _)| limit),
        store_free: Some(sizes.free),
        base_bytes: None,
        read_only: engine.store.is_readonly(),
        held: held(engine, &all),
        warnings,
    })
}

/// The snapshots that hold most alone, the largest first.
fn held(engine: &Engine, state: &State) -> Vec<HeldInfo> {
    let alone = engine.spans.lock().alone(state).unwrap_or_default();
    let mut held: Vec<HeldInfo> = (state.snapshots.iter())
        .filter_map(|(id, snapshot)| {
            let bytes = alone.of(*id).filter(|bytes| *bytes > 0)?;
            let name = snapshot.name.clone();
            Some(HeldInfo { name, bytes })
        })
        .collect();
    held.sort_by_key(|held| std::cmp::Reverse(held.bytes));
    held.truncate(HELD_MAX);
    held
}
