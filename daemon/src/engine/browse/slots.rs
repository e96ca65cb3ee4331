//! Slots for states that the kernel looks into, kept where the next worker finds them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use nix::errno::Errno;

use super::node::FIRST_SLOT;
use crate::engine::Answer;
use crate::relay::{Relay, VIEWS, Viewed};
use crate::tree::StateId;

/// The slots that are taken.
pub(in crate::engine) struct Slots {
    relay: Arc<Relay>,
    of: HashMap<StateId, usize>,
    /// Slots from here on were never looked at since the last sweep.
    next: usize,
}

impl Slots {
    /// The slots as `relay` has them.
    pub fn of(relay: &Arc<Relay>) -> Slots {
        let state = |slot| match relay.viewed(slot) {
            Viewed::State(id) => Some((id, slot)),
            _ => None,
        };
        Slots {
            relay: relay.clone(),
            of: (FIRST_SLOT..VIEWS).filter_map(state).collect(),
            next: FIRST_SLOT,
        }
    }

    /// The slot of a state, a new one if it has none. `in_use` tells which slots the kernel holds something of, when it is
    /// time to take others back.
    ///
    /// # Errors
    /// `ENFILE`: all are in use.
    pub fn open(
        &mut self,
        state: StateId,
        in_use: impl FnOnce() -> HashSet<usize>,
    ) -> Answer<usize> {
        if let Some(slot) = self.of.get(&state) {
            return Ok(*slot);
        }
        let slot = match self.free() {
            Some(slot) => slot,
            None => {
                self.sweep(&in_use());
                self.free().ok_or(Errno::ENFILE)?
            }
        };
        self.relay.set_viewed(slot, Viewed::State(state));
        self.of.insert(state, slot);
        Ok(slot)
    }

    /// The state is gone, or another now: what the kernel holds of it has no meaning any more.
    pub fn close(&mut self, state: StateId) -> Option<usize> {
        let slot = self.of.remove(&state)?;
        self.relay.set_viewed(slot, Viewed::Gone);
        Some(slot)
    }

    /// All states that have a slot.
    pub fn states(&self) -> Vec<StateId> {
        self.of.keys().copied().collect()
    }

    /// Few are left, even if all that can be are taken back.
    pub fn is_crowded(&self) -> bool {
        self.of.len() > VIEWS / 4 * 3
    }

    fn free(&mut self) -> Option<usize> {
        let free = (self.next..VIEWS).find(|slot| self.relay.viewed(*slot) == Viewed::Free);
        self.next = free.map_or(VIEWS, |slot| slot + 1);
        free
    }

    /// Takes back what the kernel holds nothing of.
    fn sweep(&mut self, in_use: &HashSet<usize>) {
        for slot in (FIRST_SLOT..VIEWS).filter(|slot| !in_use.contains(slot)) {
            self.relay.set_viewed(slot, Viewed::Free);
        }
        self.of.retain(|_, slot| in_use.contains(slot));
        self.next = FIRST_SLOT;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_given_again_only_when_nothing_of_it_is_held() {
        let relay = Relay::new().unwrap();
        let mut slots = Slots::of(&relay);
        let none = HashSet::new;
        let room = VIEWS - FIRST_SLOT;
        for state in 0..room as u64 {
            assert_eq!(
                slots.open(state, none).unwrap(),
                FIRST_SLOT + state as usize
            );
        }
        assert_eq!(
            slots.open(3, none).unwrap(),
            FIRST_SLOT + 3,
            "the same one again"
        );
        let all = || (FIRST_SLOT..VIEWS).collect();
        assert_eq!(slots.open(room as u64, all), Err(Errno::ENFILE));
        // A state that is gone keeps its slot from others while the kernel holds something of it.
        let gone = slots.close(7).unwrap();
        assert_eq!(relay.viewed(gone), Viewed::Gone);
        assert_eq!(slots.open(room as u64, all), Err(Errno::ENFILE));
        let but = || (FIRST_SLOT..VIEWS).filter(|s| *s != gone).collect();
        assert_eq!(slots.open(room as u64, but).unwrap(), gone);
        assert!(slots.is_crowded());
        // The next worker goes on with the same.
        let mut next = Slots::of(&relay);
        assert_eq!(next.open(5, all).unwrap(), FIRST_SLOT + 5);
        assert_eq!(next.open(room as u64, all).unwrap(), gone);
    }
}
