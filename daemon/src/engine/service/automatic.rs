//! Snapshots that nobody asked for, and the phase of the work that they say.

use llctl::SnapName;
use llctl::config::AUTOMATIC;
use llctl::protocol::{Entity, SnapMeta};
use parking_lot::Mutex;

use crate::engine::Engine;
use crate::engine::snapshot::{Refusal, Taken};
use crate::tree::State;

/// Who takes them, as they say.
const BY: &str = "llfs";

/// What kind of thing an automatic snapshot is about that was taken because another session began.
const NEXT: &str = "session";

/// What work is under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Labels {
    pub phase: Option<String>,
    pub session: Option<String>,
}

/// What was said last of the work; not known before anything was.
#[derive(Default)]
pub(super) struct Work(Mutex<Option<Labels>>);

impl Work {
    /// What is under way; after a worker's death or a new mount, what the newest automatic snapshot says.
    pub fn labels(&self, engine: &Engine) -> Labels {
        let mut known = self.0.lock();
        known
            .get_or_insert_with(|| last(&engine.state.read()))
            .clone()
    }

    /// Another phase begins.
    pub fn begin(&self, labels: Labels) {
        *self.0.lock() = Some(labels);
    }
}

fn last(state: &State) -> Labels {
    let ours = |meta: &SnapMeta| meta.created_by.as_deref() == Some(BY);
    let newest = state.snapshots.values().rev().find(|s| ours(&s.meta));
    newest.map_or_else(Labels::default, |snapshot| match &snapshot.meta.entity {
        Some(next) if next.kind == NEXT => Labels {
            phase: None,
            session: Some(next.id.clone()),
        },
        _ => Labels {
            phase: snapshot.meta.phase.clone(),
            session: snapshot.meta.session.clone(),
        },
    })
}

/// A name that sorts by time, such as `auto-2026-11-21-213045`.
pub(super) fn name(taken: &dyn Fn(&str) -> bool) -> String {
    SnapName::automatic(taken).into()
}

/// What an automatic snapshot says of itself.
pub(super) fn meta(labels: Labels) -> SnapMeta {
    SnapMeta {
        reason: Some(AUTOMATIC.to_owned()),
        created_by: Some(BY.to_owned()),
        phase: labels.phase,
        session: labels.session,
        ..SnapMeta::default()
    }
}

/// What one says that was taken because another session began: it is the end of what was before.
pub(super) fn end_of(before: Labels, next: &str) -> SnapMeta {
    SnapMeta {
        entity: Some(Entity {
            kind: NEXT.to_owned(),
            id: next.to_owned(),
        }),
        ..meta(before)
    }
}

/// Takes one, unless nothing has changed since there was any.
pub(super) fn take(engine: &Engine, why: &str, labels: Labels) -> Result<Taken, Refusal> {
    engine.snapshot_if_changed(name, why, meta(labels))
}
