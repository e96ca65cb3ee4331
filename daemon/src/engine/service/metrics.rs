//! What the mount has counted.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use llctl::protocol::{BytePath, Failure, MetricsInfo};

use crate::engine::{Engine, metrics};

/// All of it.
pub(super) fn metrics(engine: &Engine, mountpoint: &Path) -> Result<MetricsInfo, Failure> {
    let sizes = (engine.store.sizes())
        .map_err(|error| Failure::io("the store's size cannot be found", &error))?;
    let (snapshots, discarded, changed) = {
        let state = engine.state.read();
        let changed = state.head.inodes.len();
        (state.snapshots.len(), state.discarded.len(), changed)
    };
    let (last, before) = engine.relay.last_event();
    Ok(MetricsInfo {
        mountpoint: BytePath::from(mountpoint),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_secs: engine.started.elapsed().as_secs(),
        restarts: engine.relay.workers().saturating_sub(1).into(),
        read_only: engine.store.is_readonly().is_some(),
        acts: engine.metrics.acts(),
        operations: engine.metrics.operations(),
        errors: metrics::errors(),
        events: last - before,
        watchers: engine.watchers() as u64,
        snapshots: snapshots as u64,
        discarded: discarded as u64,
        changed_inodes: changed as u64,
        layers: sizes.layer_files,
        layer_bytes: sizes.layers,
        journal_bytes: sizes.journal,
        image_bytes: sizes.images,
        note_bytes: sizes.notes,
        reserve_bytes: sizes.reserve,
        garbage_bytes: engine.garbage.load(Relaxed),
        store_limit: engine.store.limit().map(|(limit, _)| limit),
        store_free: sizes.free,
    })
}
