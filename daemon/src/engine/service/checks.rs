//! What speaks against a revert.

use llctl::StateRef;
use llctl::protocol::{Failure, RevertCheck};

use super::failure;
use super::listing::{paths, paths_soon};
use super::states::{View, Which};
use crate::engine::Engine;
use crate::engine::snapshot::Switched;
use crate::tree::diff::Changes;
use crate::tree::{BASE_STATE, Root, State, StateId};

/// What a revert to a state would meet.
pub(super) fn can_revert(engine: &Engine, to: &StateRef) -> Result<RevertCheck, Failure> {
    let target = View::of(engine, to)?;
    if target.which == Which::Live {
        return Err(failure::no_target(to));
    }
    let (head, origins) = {
        let state = engine.state.read();
        let last = state.next_state;
        (state.head.clone(), origins(&state, last))
    };
    let changes = Changes::between(&head, &target.root);
    let underway = engine.refuse_underway(&head, &target.root, &changes).err();
    let missing = engine.missing_layers(&target.root, &changes);
    let mut damage: Vec<String> = (missing.iter())
        .map(|layer| format!("layer {layer} is not there"))
        .collect();
    if engine.store.damage().is_some() {
        damage.push("the journal is damaged: what came after the damage is not known".to_owned());
    }
    Ok(RevertCheck {
        to: to.to_string(),
        changed: paths(engine, &head, &target.root),
        unsaved: unsaved(&origins, &head, &|old, new| paths(engine, old, new)),
        underway: underway.map(|refusal| refusal.to_string()),
        damage,
        format: crate::store::FORMAT_VERSION,
    })
}

/// How many paths of what a switch discarded, which `changed` so many, are not as they were at the last snapshot or switch
/// before it.
/// And whether there are more, as [`paths_soon`] has it.
pub(super) fn unsaved_of(
    engine: &Engine,
    kept: StateId,
    done: &Switched,
    changed: (u64, bool),
) -> (u64, bool) {
    let (old, origins) = {
        let state = engine.state.read();
        let Some(discarded) = state.discarded.get(&kept) else {
            return (0, false);
        };
        let origins = origins(&state, kept);
        // The usual case needs no second comparison: what was discarded is all since the snapshot that the tree is now.
        if let [(id, _)] = origins[..]
            && id == done.to
        {
            return changed;
        }
        (discarded.root.clone(), origins)
    };
    unsaved(&origins, &old, &|origin, old| {
        paths_soon(engine, origin, old)
    })
}

/// The states that may hold most of what ended with `number`: the last snapshot, and the one that it came from.
fn origins(state: &State, number: StateId) -> Vec<(StateId, Root)> {
    let last = state.snapshot_before(number);
    let mut ids: Vec<StateId> = vec![last.map_or(BASE_STATE, |(id, _)| id)];
    ids.push(state.came_from(number));
    ids.dedup();
    let root = |id| match id {
        BASE_STATE => Some(Root::default()),
        id => state.snapshots.get(&id).map(|s| s.root.clone()),
    };
    (ids.into_iter().filter_map(|id| Some((id, root(id)?)))).collect()
}

/// The least that `count` finds between `root` and one of its origins.
fn unsaved<N: Ord + Default>(
    origins: &[(StateId, Root)],
    root: &Root,
    count: &dyn Fn(&Root, &Root) -> N,
) -> N {
    let counts = origins.iter().map(|(_, origin)| count(origin, root));
    counts.min().unwrap_or_default()
}
