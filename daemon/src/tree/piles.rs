//! The two piles of states that undo and redo go through.
//!
//! Every switch of the head discards what it was, and what is discarded lies on one of two piles. The newest, that is the
//! one with the highest number, is on top.
//!
//! - A *revert* lays the old head on the pile of undo. All of the pile of redo goes there as well, each state to the place
//!   that its number says: nothing that was kept gets out of reach.
//! - An *undo* takes the top of the pile of undo for the head, and lays the old head on the pile of redo.
//! - A *redo* takes the top of the pile of redo for the head, and lays the old head on the pile of undo.
//! - Several steps at once leave what as many single ones would leave: the states that are passed are laid on the other
//!   pile one after the other, each under a new number.

use imbl::OrdMap;

use super::record::{Move, StateId};
use super::state::Discarded;

/// Discarded states by number; each says on which pile it lies.
pub type Piles = OrdMap<StateId, Discarded>;

/// The state on top of a pile.
pub fn top(piles: &Piles, redo: bool) -> Option<StateId> {
    nth(piles, redo, 0)
}

/// The state that lies under `above` others of its pile.
pub fn nth(piles: &Piles, redo: bool, above: usize) -> Option<StateId> {
    let mut pile = piles.iter().rev().filter(|(_, d)| d.redo == redo);
    pile.nth(above).map(|(id, _)| *id)
}

/// Number of states on a pile.
pub fn height(piles: &Piles, redo: bool) -> usize {
    piles.values().filter(|d| d.redo == redo).count()
}

/// The head becomes the state `to`, and what it was is laid on a pile under the number `kept`. Gives the highest number that
/// was used.
pub(super) fn switch(
    piles: &mut Piles,
    to: StateId,
    kept: StateId,
    how: Move,
    old: Discarded,
) -> StateId {
    let redo = how == Move::Undo;
    let passed: Vec<StateId> = match how {
        Move::Revert => Vec::new(),
        _ => {
            let above = piles.range(to.saturating_add(1)..).rev();
            let same = above.filter(|(_, d)| d.redo != redo);
            same.map(|(id, _)| *id).collect()
        }
    };
    // Going to a discarded state takes it off its pile; going to a snapshot keeps that.
    piles.remove(&to);
    if how == Move::Revert {
        let again: Vec<StateId> = (piles.iter().filter(|(_, d)| d.redo))
            .map(|(id, _)| *id)
            .collect();
        for id in again {
            if let Some(state) = piles.get_mut(&id) {
                state.redo = false;
            }
        }
    }
    let at = old.at;
    let mut laid = old;
    let mut last = kept;
    // Each became the one that was passed after it, and the last of them became the head.
    for id in passed {
        let Some(next) = piles.remove(&id) else {
            continue;
        };
        let before = std::mem::replace(&mut laid, Discarded { at, ..next });
        let became = id;
        piles.insert(
            last,
            Discarded {
                redo,
                became,
                ..before
            },
        );
        last += 1;
    }
    let became = to;
    piles.insert(
        last,
        Discarded {
            redo,
            became,
            ..laid
        },
    );
    last
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tree::{Record, State, Time};

    /// One switch; gives the number under which the old head is kept.
    fn go(state: &mut State, to: StateId, how: Move) -> StateId {
        let (kept, at) = (state.next_state, Time::default());
        state.apply(&Record::Switch { to, kept, at, how }).unwrap();
        kept
    }

    fn told(state: &State) -> Vec<(StateId, bool, StateId, usize)> {
        let told = |(id, d): (&StateId, &Discarded)| (*id, d.redo, d.became, d.root.orphans.len());
        state.discarded.iter().map(told).collect()
    }

    proptest! {
        #[test]
        fn several_steps_leave_what_single_ones_leave(moves in prop::collection::vec((0..6u8, 1..5usize), 1..40)) {
            let mut single = State::default();
            let mut many = State::default();
            for (n, (which, steps)) in moves.into_iter().enumerate() {
                for state in [&mut single, &mut many] {
                    // Each head is another one.
                    state.head.orphans.insert(n as u64);
                }
                let (how, redo) = match which {
                    0..2 => (Move::Revert, false),
                    2..4 => (Move::Undo, false),
                    _ => (Move::Redo, true),
                };
                if how == Move::Revert {
                    go(&mut single, 0, how);
                    go(&mut many, 0, how);
                } else if let Some(to) = nth(&many.discarded, redo, steps - 1) {
                    go(&mut many, to, how);
                    for _ in 0..steps {
                        let to = top(&single.discarded, redo).expect("as many as there");
                        go(&mut single, to, how);
                    }
                } else {
                    prop_assert!(height(&single.discarded, redo) < steps);
                }
                prop_assert_eq!(told(&single), told(&many));
                prop_assert_eq!(single.next_state, many.next_state);
                prop_assert!(single.head.orphans == many.head.orphans);
            }
        }
    }
}
