//! From which state another one came.
//!
//! Numbers tell: a state's number is given when it ends, so the number before it is that of the snapshot, or of
//! the revert, after which it began.

use std::collections::BTreeSet;

use crate::tree::{BASE_STATE, State, StateId};

/// The state that a state was when it began: the snapshot before it, or what a revert then went back to. After an undo it goes
/// on with what that brought back. Of what is too old to be known it is the snapshot before.
pub(in crate::engine) fn came_from(state: &State, id: StateId) -> StateId {
    let mut at = id;
    loop {
        match began(state, at) {
            Began::With(from) => return from,
            Began::Again(undone) => at = undone,
            Began::Unknown => {
                return state.snapshot_before(at).map_or(BASE_STATE, |(id, _)| id);
            }
        }
    }
}

/// The numbers under which is written what led to a state since the one it came from: its own, and of what undos brought back.
pub(in crate::engine) fn led_to(state: &State, id: StateId) -> Vec<StateId> {
    let mut all = vec![id];
    let mut at = id;
    while let Began::Again(undone) = began(state, at) {
        all.push(undone);
        at = undone;
    }
    all
}

/// The numbers that lead to any state there is.
pub(super) fn alive(state: &State) -> BTreeSet<StateId> {
    let kept = state.snapshots.keys().chain(state.discarded.keys());
    let all = kept.copied().chain([state.next_state]);
    all.flat_map(|id| led_to(state, id)).collect()
}

enum Began {
    /// With this state.
    With(StateId),
    /// With what was discarded under this number.
    Again(StateId),
    Unknown,
}

fn began(state: &State, id: StateId) -> Began {
    // A number between that is no more was a snapshot's that was given up.
    let older = state.snapshots.range(..id).next_back().map(|(id, _)| *id);
    let switched = state.discarded.range(..id).next_back().map(|(id, _)| *id);
    let before = older.max(switched).unwrap_or(BASE_STATE);
    // What was imported meanwhile changed nothing: it goes on.
    if (state.snapshots.get(&before)).is_some_and(|s| s.meta.imported.is_some()) {
        return Began::Again(before);
    }
    if before == BASE_STATE || state.snapshots.contains_key(&before) {
        return Began::With(before);
    }
    match state.discarded.get(&before).map(|d| d.became) {
        Some(became) if became == BASE_STATE || state.snapshots.contains_key(&became) => {
            Began::With(became)
        }
        // It was brought back by an undo or a redo; or a part of it was reverted, and it goes on without that. Numbers only
        // grow, so this comes to an end.
        Some(became) if became <= before => Began::Again(became),
        _ => Began::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Meta, Move, Record, Time};

    fn snap(state: &mut State) -> StateId {
        let id = state.next_state;
        let record = Record::Snap {
            id,
            name: id.to_string(),
            message: String::new(),
            at: Time::default(),
            meta: Meta::default(),
        };
        state.apply(&record).unwrap();
        id
    }

    fn switch(state: &mut State, to: StateId) -> StateId {
        let kept = state.next_state;
        let at = Time::default();
        let how = Move::Revert;
        let record = Record::Switch { to, kept, at, how };
        state.apply(&record).unwrap();
        kept
    }

    #[test]
    fn reverts_and_undos_are_followed() {
        let mut state = State::default();
        assert_eq!(came_from(&state, state.next_state), BASE_STATE);
        let a = snap(&mut state);
        let b = snap(&mut state);
        assert_eq!(
            (came_from(&state, a), came_from(&state, b)),
            (BASE_STATE, a)
        );
        assert_eq!(came_from(&state, state.next_state), b);
        // Work, reverted to a, and snapped after some more.
        let lost = switch(&mut state, a);
        assert_eq!(came_from(&state, lost), b);
        assert_eq!(led_to(&state, state.next_state), [state.next_state]);
        let c = snap(&mut state);
        assert_eq!(came_from(&state, c), a);
        // The undo goes on with what was lost.
        let set_aside = switch(&mut state, lost);
        let live = state.next_state;
        assert_eq!(came_from(&state, set_aside), c);
        assert_eq!(came_from(&state, live), b);
        assert_eq!(led_to(&state, live), [live, lost]);
        let d = snap(&mut state);
        assert_eq!(led_to(&state, d), [d, lost]);
        assert_eq!(
            alive(&state),
            BTreeSet::from([a, b, c, d, lost, set_aside, d + 1])
        );
        // What is deleted is not followed, and what it left is no more needed.
        state.apply(&Record::Drop(vec![b, set_aside])).unwrap();
        assert_eq!(came_from(&state, d), c);
        assert_eq!(alive(&state), BTreeSet::from([a, c, d, d + 1]));
        let base = switch(&mut state, BASE_STATE);
        assert_eq!(came_from(&state, state.next_state), BASE_STATE);
        assert_eq!(came_from(&state, base), d);
    }
}
