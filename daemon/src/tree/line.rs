//! From which state another one came, and under which numbers is noted who made it what it is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::record::{BASE_STATE, StateId};
use super::state::State;

/// Numbers of one line, at most: notes of what is older are not looked for.
const MOST: usize = 256;

/// How a state came about. What is reverted away, undone and redone keeps its line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The snapshot that it was when it began, or [`BASE_STATE`]; one that was given up hands on what it came from itself.
    pub from: StateId,
    /// The numbers under which is noted what was done since, oldest first.
    pub by: Vec<StateId>,
}

impl Line {
    /// The line of what goes on with a snapshot, or with the base.
    pub(super) fn since(from: StateId) -> Line {
        let by = Vec::new();
        Line { from, by }
    }

    /// The same line, with what ended under this number.
    pub(super) fn and(&self, ended: StateId) -> Line {
        let mut line = self.clone();
        line.by.push(ended);
        line.bound();
        line
    }

    /// Snapshots were given up: what led to them led to what came from them.
    fn follow(&mut self, given_up: &BTreeMap<StateId, Line>) {
        while let Some(before) = given_up.get(&self.from) {
            self.from = before.from;
            self.by.splice(0..0, before.by.iter().copied());
        }
        self.bound();
    }

    fn bound(&mut self) {
        let excess = self.by.len().saturating_sub(MOST);
        self.by.drain(..excess);
    }
}

impl State {
    /// The line of a snapshot or of a discarded state; under the number of the next one, that of the head.
    pub fn line(&self, id: StateId) -> Option<&Line> {
        if id == self.next_state {
            return Some(&self.line);
        }
        match self.snapshots.get(&id) {
            Some(snapshot) => Some(&snapshot.line),
            None => self.discarded.get(&id).map(|d| &d.line),
        }
    }

    /// The state that a state was when it began: a snapshot, or the base.
    pub fn came_from(&self, id: StateId) -> StateId {
        self.line(id).map_or(BASE_STATE, |line| line.from)
    }

    /// The numbers under which is noted what was done since then, oldest first; for the head its own is the last.
    pub fn led_to(&self, id: StateId) -> Vec<StateId> {
        let mut all = self.line(id).map_or_else(Vec::new, |line| line.by.clone());
        if id == self.next_state {
            all.push(id);
        }
        all
    }

    /// Snapshots are no more. Only what is newer can have come from them.
    pub(super) fn hand_on(&mut self, given_up: &BTreeMap<StateId, Line>) {
        let Some(&oldest) = given_up.keys().next() else {
            return;
        };
        let snapshots = self.snapshots.range(oldest..);
        let children = snapshots.filter(|(_, s)| given_up.contains_key(&s.line.from));
        let children: Vec<StateId> = children.map(|(id, _)| *id).collect();
        for id in children {
            if let Some(snapshot) = self.snapshots.get_mut(&id) {
                std::sync::Arc::make_mut(snapshot).line.follow(given_up);
            }
        }
        let discarded = self.discarded.range(oldest..);
        let children = discarded.filter(|(_, d)| given_up.contains_key(&d.line.from));
        let children: Vec<StateId> = children.map(|(id, _)| *id).collect();
        for id in children {
            if let Some(discarded) = self.discarded.get_mut(&id) {
                discarded.line.follow(given_up);
            }
        }
        self.line.follow(given_up);
    }

    /// Gives every state the line that numbers tell, as far as they do: images of versions before 4 have none. A state's number is
    /// given when it ends, so the number before it is that of the snapshot, or of the revert, after which it began.
    pub(super) fn derive_lines(&mut self) {
        let kept = self.snapshots.keys().chain(self.discarded.keys());
        let all: Vec<StateId> = kept.copied().collect();
        let mut lines: Vec<(StateId, Line)> = Vec::with_capacity(all.len());
        for id in all {
            lines.push((id, derived(self, id)));
        }
        let mut line = derived(self, self.next_state);
        // What goes on has no number yet.
        line.by.pop();
        self.line = line;
        for (id, line) in lines {
            if let Some(snapshot) = self.snapshots.get_mut(&id) {
                std::sync::Arc::make_mut(snapshot).line = line;
            } else if let Some(discarded) = self.discarded.get_mut(&id) {
                discarded.line = line;
            }
        }
    }
}

enum Began {
    /// With this state.
    With(StateId),
    /// With what was discarded under this number.
    Again(StateId),
    Unknown,
}

fn derived(state: &State, id: StateId) -> Line {
    let mut by = vec![id];
    let mut at = id;
    let from = loop {
        match began(state, at) {
            Began::With(from) => break from,
            Began::Again(undone) => {
                by.push(undone);
                at = undone;
            }
            Began::Unknown => {
                break state.snapshot_before(at).map_or(BASE_STATE, |(id, _)| id);
            }
        }
    };
    by.reverse();
    let mut line = Line { from, by };
    line.bound();
    line
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
    use crate::tree::{Meta, Move, Record, Take, Time, image};

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

    fn switch(state: &mut State, to: StateId, how: Move) -> StateId {
        let kept = state.next_state;
        let at = Time::default();
        let record = Record::Switch { to, kept, at, how };
        state.apply(&record).unwrap();
        kept
    }

    fn again(state: &State) -> State {
        let mut bytes = Vec::new();
        image::write(state, &mut bytes).unwrap();
        image::read(&mut &bytes[..]).unwrap()
    }

    fn line(from: StateId, by: &[StateId]) -> Line {
        let by = by.to_vec();
        Line { from, by }
    }

    #[test]
    fn reverts_undos_and_deletions_are_followed() {
        let mut state = State::default();
        let (a, b) = (snap(&mut state), snap(&mut state));
        assert_eq!(state.line(a), Some(&line(BASE_STATE, &[a])));
        assert_eq!(state.line(b), Some(&line(a, &[b])));
        // Work, reverted to a, and snapped after some more.
        let lost = switch(&mut state, a, Move::Revert);
        assert_eq!(state.line(lost), Some(&line(b, &[lost])));
        assert_eq!(state.led_to(state.next_state), [state.next_state]);
        let c = snap(&mut state);
        assert_eq!(state.line(c), Some(&line(a, &[c])));
        // The undo goes on with what was lost.
        let aside = switch(&mut state, lost, Move::Undo);
        let live = state.next_state;
        assert_eq!(state.line(aside), Some(&line(c, &[aside])));
        assert_eq!(
            (state.came_from(live), state.led_to(live)),
            (b, vec![lost, live])
        );
        let d = snap(&mut state);
        assert_eq!(state.line(d), Some(&line(b, &[lost, d])));
        // What led to one that is given up led to what came from it.
        state.apply(&Record::Drop(vec![b, aside])).unwrap();
        assert_eq!(state.line(d), Some(&line(a, &[b, lost, d])));
        state.apply(&Record::Drop(vec![a, d])).unwrap();
        assert_eq!(state.line(c), Some(&line(BASE_STATE, &[a, c])));
        assert_eq!(
            state.led_to(state.next_state),
            [a, b, lost, d, state.next_state]
        );
        assert_eq!(again(&state).line, state.line);
        assert_eq!(again(&state).line(c), state.line(c));
        let base = switch(&mut state, BASE_STATE, Move::Revert);
        assert_eq!(
            state.line(base),
            Some(&line(BASE_STATE, &[a, b, lost, d, base]))
        );
        assert_eq!(state.came_from(state.next_state), BASE_STATE);
    }

    /// Numbers alone say `b` of both: `early` is no more when it is asked for.
    #[test]
    fn undo_snap_and_redo_keep_the_lines() {
        let mut state = State::default();
        let (a, b) = (snap(&mut state), snap(&mut state));
        let late = switch(&mut state, a, Move::Revert);
        let early = switch(&mut state, late, Move::Undo);
        assert_eq!(state.came_from(state.next_state), b);
        let c = snap(&mut state);
        let live = switch(&mut state, early, Move::Redo);
        assert_eq!(state.line(c), Some(&line(b, &[late, c])));
        assert_eq!(state.line(live), Some(&line(c, &[live])));
        assert_eq!(state.came_from(state.next_state), a);
        assert_eq!(state.led_to(state.next_state), [early, state.next_state]);
    }

    #[test]
    fn what_is_left_when_a_part_is_reverted_goes_on() {
        let mut state = State::default();
        let a = snap(&mut state);
        let mut last = 0;
        for _ in 0..2 * MOST as u64 {
            last = state.next_state;
            let record = Record::Merge {
                kept: last,
                at: Time::default(),
                takes: vec![Take::default()],
                set: Vec::new(),
                hidden: Vec::new(),
            };
            state.apply(&record).unwrap();
        }
        assert_eq!(state.came_from(last), a);
        assert_eq!(state.led_to(last).len(), MOST);
        assert_eq!(state.line, *state.line(last).unwrap());
        assert_eq!(state.line.by.last(), Some(&last));
    }
}
