//! Giving up what retention does not keep.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;
use llctl::config::Retention;
use llctl::protocol::{Failure, PruneInfo, Pruned, UnixNanos};

use super::alone::{Walk, together};
use super::failure::failure;
use super::listing::nanos;
use super::retention::{Candidate, applies, going};
use crate::engine::Engine;
use crate::tree::{Snapshot, State, StateId};

/// What these rules give up, and what that frees; with `yes`, gives it up.
pub(super) fn prune(engine: &Engine, rules: &Retention, yes: bool) -> Result<PruneInfo, Failure> {
    let state = engine.state.read().clone();
    let going = plan(engine, &state, rules);
    let mut told = told(&state, &going);
    let some: BTreeSet<StateId> = going.into_iter().collect();
    told.frees = together(&state, &some);
    if yes {
        told.done = true;
        if !some.is_empty() {
            let relay = engine.relay();
            if let Some(errand) = relay.pass_errand() {
                // The record has numbers only, and with it their names are gone.
                let answer = rmp_serde::to_vec(&told).unwrap_or_default();
                relay.carry_out(errand, answer);
            }
            let gone = engine
                .give_up(
                    &some,
                    &|s: &Snapshot| applies(rules, &s.meta),
                    told.frees.unwrap_or(u64::from(u32::MAX)),
                )
                .map_err(|refusal| failure(engine, &refusal))?;
            let gone: BTreeSet<StateId> = gone.into_iter().collect();
            if gone != some {
                told = self::told(&state, &gone.iter().copied().collect::<Vec<_>>());
                told.frees = together(&state, &gone);
                told.done = true;
            }
        }
    }
    Ok(told)
}

/// The snapshots that go, oldest first.
pub(super) fn plan(engine: &Engine, state: &State, rules: &Retention) -> Vec<StateId> {
    // What may be none in a moment is none: it keeps nothing else from being the newest.
    let all: Vec<Candidate<'_>> = (state.snapshots.iter())
        .filter(|(id, _)| !engine.is_mark(**id))
        .map(|(id, snapshot)| Candidate {
            id: *id,
            created: nanos(snapshot.at),
            meta: &snapshot.meta,
        })
        .collect();
    let zone = TimeZone::system();
    let mut walk = Walk::default();
    going(&all, rules, UnixNanos::now(), &zone, &mut |some| {
        walk.together(state, some)
    })
}

/// The snapshots of these numbers.
pub(super) fn told(state: &State, going: &[StateId]) -> PruneInfo {
    let snapshots: Vec<Pruned> = (going.iter())
        .filter_map(|id| state.snapshots.get(id))
        .map(|snapshot| Pruned {
            name: snapshot.name.clone(),
            created: nanos(snapshot.at),
        })
        .collect();
    PruneInfo {
        frees: None,
        kept: (state.snapshots.len() - snapshots.len()) as u64,
        snapshots,
        done: false,
    }
}
