//! Giving up what retention does not keep.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use jiff::tz::TimeZone;
use llctl::config::Retention;
use llctl::protocol::{ErrorKind, Failure, PruneInfo, Pruned, UnixNanos};

use super::alone::{Walk, together};
use super::failure::{changed, failure};
use super::listing::nanos;
use super::retention::{Candidate, applies, going};
use crate::engine::Engine;
use crate::tree::{Snapshot, State, StateId};

/// Plans that are made, at most, when what they were made of changes before they are carried out.
const PLANS: usize = 20;

/// What these rules give up, and what that frees; with `yes`, gives it up. Only what was `shown` to whoever wants it, if all of that
/// is to go still.
pub(super) fn prune(
    engine: &Engine,
    rules: &Retention,
    yes: bool,
    shown: Option<&[StateId]>,
) -> Result<PruneInfo, Failure> {
    for _ in 0..PLANS {
        let (state, marks) = engine.state_and_marks();
        let mut plan = Plan::new(&state, &marks, rules);
        if let Some(shown) = shown {
            plan.keep_to(shown)?;
        }
        let mut told = told(&state, &plan.going);
        let some: BTreeSet<StateId> = plan.going.iter().copied().collect();
        told.frees = together(&state, &some);
        if !yes {
            return Ok(told);
        }
        told.done = true;
        if some.is_empty() {
            return Ok(told);
        }
        let relay = engine.relay();
        if let Some(errand) = relay.pass_errand() {
            // The record has numbers only, and with it their names are gone.
            let answer = rmp_serde::to_vec(&told).unwrap_or_default();
            relay.carry_out(errand, answer);
        }
        if plan.carry_out(engine, rules, told.frees)? == some {
            return Ok(told);
        }
    }
    Err(Failure::new(
        ErrorKind::Conflict,
        "snapshots were deleted or pinned again and again meanwhile",
    )
    .with_hint("ask again"))
}

/// What goes.
pub(super) struct Plan {
    /// Oldest first.
    pub going: Vec<StateId>,
    /// What the rules could give up, of which they keep some.
    ours: Vec<StateId>,
}

impl Plan {
    /// What the rules give up of what a state has.
    pub fn new(state: &State, marks: &BTreeSet<StateId>, rules: &Retention) -> Plan {
        // What may be none in a moment is none: it keeps nothing else from being the newest.
        let all: Vec<Candidate<'_>> = (state.snapshots.iter())
            .filter(|(id, _)| !marks.contains(id))
            .map(|(id, snapshot)| Candidate {
                id: *id,
                created: nanos(snapshot.at),
                meta: &snapshot.meta,
            })
            .collect();
        let zone = TimeZone::system();
        let mut walk = Walk::default();
        let going = going(&all, rules, UnixNanos::now(), &zone, &mut |some| {
            walk.together(state, some)
        });
        let ours = all.iter().filter(|c| applies(rules, c.meta));
        Plan {
            going,
            ours: ours.map(|c| c.id).collect(),
        }
    }

    /// Gives up no more than these.
    ///
    /// # Errors
    /// One of them is to stay, or is not there any more.
    fn keep_to(&mut self, shown: &[StateId]) -> Result<(), Failure> {
        let shown: BTreeSet<StateId> = shown.iter().copied().collect();
        self.going.retain(|id| shown.contains(id));
        match self.going.len() == shown.len() {
            true => Ok(()),
            false => Err(changed("what would be given up")),
        }
    }

    /// Gives up what goes, which frees so many bytes. Nothing goes if something of what stays is not there any more, or became one that
    /// stays anyway: then others would have to stay in its place.
    pub fn carry_out(
        &self,
        engine: &Engine,
        rules: &Retention,
        frees: Option<u64>,
    ) -> Result<BTreeSet<StateId>, Failure> {
        let some = self.going.iter().copied().collect();
        let holds = OnceCell::new();
        let may = |state: &State, _: &Snapshot| {
            let ours = |id: &StateId| {
                let there = state.snapshots.get(id);
                there.is_some_and(|s| applies(rules, &s.meta))
            };
            // The state is the same for all.
            *holds.get_or_init(|| self.ours.iter().all(ours))
        };
        let gone = engine.give_up(&some, &may, frees.unwrap_or(u64::from(u32::MAX)));
        let gone = gone.map_err(|refusal| failure(engine, &refusal))?;
        Ok(gone.into_iter().collect())
    }
}

/// The snapshots of these numbers.
pub(super) fn told(state: &State, going: &[StateId]) -> PruneInfo {
    let snapshots: Vec<Pruned> = (going.iter())
        .filter_map(|id| Some((id, state.snapshots.get(id)?)))
        .map(|(id, snapshot)| Pruned {
            name: snapshot.name.clone(),
            created: nanos(snapshot.at),
            id: Some(*id),
        })
        .collect();
    PruneInfo {
        frees: None,
        kept: (state.snapshots.len() - snapshots.len()) as u64,
        snapshots,
        done: false,
    }
}
