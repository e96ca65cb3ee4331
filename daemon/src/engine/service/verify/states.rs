//! Whether the state of each snapshot has the checksum that was recorded of it.

use llctl::protocol::{Finding, FindingKind};

use super::{STATES, Scrub, Step};
use crate::engine::Engine;
use crate::engine::service::digest::{Chain, Stop};
use crate::engine::service::states::View;
use crate::tree::{Digest, StateId};

/// Computes the checksums anew, from what the store and the base have now.
pub(super) fn check(engine: &Engine, scrub: &mut Scrub<'_>) -> Step {
    let recorded: Vec<(StateId, Digest, View)> = {
        let state = engine.state.read();
        (state.snapshots.iter())
            .filter_map(|(id, s)| Some((*id, s.digest?, View::kept(&state, *id))))
            .collect()
    };
    let mut chain = Chain::new(Stop::default());
    let (mut other, mut on_other_base) = (Vec::new(), Vec::new());
    let (all, done) = (recorded.len(), scrub.done_of(STATES));
    for (number, (id, digest, view)) in recorded.into_iter().enumerate() {
        if id <= done {
            continue;
        }
        match chain.of(engine, id, &view) {
            Ok(now) if now == digest => {}
            Ok(_) if chain.is_on_other_base(engine, id) => on_other_base.push(view.name),
            Ok(_) => other.push(view.name),
            // It was deleted meanwhile, or what it has is damaged, which was told.
            Err(errno) => tracing::debug!(%errno, snapshot = view.name, "no checksum"),
        }
        // What is told at the end is not known to the next worker.
        if other.is_empty() && on_other_base.is_empty() {
            scrub.reached(STATES, id);
        }
        let number = number + 1;
        scrub.doing(&format!(
            "comparing state {number} of {all} with its checksum"
        ))?;
    }
    let found = [
        (
            FindingKind::Inconsistent,
            "the state does not have the checksum that was recorded of it",
            other,
        ),
        (
            FindingKind::Base,
            "files of the directory below the mount were changed while it was not mounted, and are shown as they are now",
            on_other_base,
        ),
    ];
    for (kind, what, states) in found {
        if !states.is_empty() {
            scrub.found(Finding {
                kind,
                what: what.to_owned(),
                path: None,
                states,
            })?;
        }
    }
    Ok(())
}
