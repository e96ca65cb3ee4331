//! The space that each kept state holds alone: what giving up only that one would free.
//!
//! One walk over the states by age, the head last, at the cost of what differs between neighbours. A block that appears at
//! the state number `i` and is gone at number `j` is in `j - i` of them; what sums up to one over all its appearances is
//! held by one state, the one where it appeared. A block belongs to one piece of one file, so no state has it twice.
//!
//! What several states hold together comes from the same walk: a block is theirs if it is in as many of them as it is in any.

use std::collections::BTreeSet;

use imbl::ordmap::DiffItem;

use crate::tree::extent::Extent;
use crate::tree::{BLOCK, LayerId, Root, Src, State, StateId};

/// Differences between neighbours that are looked at; with more of them nothing is known.
const MOST: usize = 1_000_000;
/// Edges that are remembered until the next time: 8 MB.
const REMEMBERED: usize = 1 << 19;

/// What changes at a block and holds for those behind it: it appears at a state, or is gone from there on.
struct Edge {
    layer: LayerId,
    block: u32,
    /// The number of the state by age.
    at: u32,
    appears: bool,
    /// Where the extent begins, not behind its end.
    begins: bool,
}

/// A walk over all states. What it found is remembered: states never change, so the next one begins where these were others.
#[derive(Default)]
pub(in crate::engine) struct Walk {
    /// The states that were kept, by age.
    ids: Vec<StateId>,
    /// By layer and block.
    edges: Vec<Edge>,
}

impl Walk {
    /// Walks over all states; whether that was not too much.
    fn renew(&mut self, kept: &[(StateId, &Root)], head: &Root) -> bool {
        let same = |((old, new), _): &((&StateId, &StateId), usize)| old == new;
        let both = self.ids.iter().zip(kept.iter().map(|(id, _)| id)).zip(0..);
        let known = both.take_while(same).count();
        self.ids.truncate(known);
        self.edges.retain(|edge| (edge.at as usize) < known);
        let empty = Root::default();
        let mut before = known.checked_sub(1).map_or(&empty, |last| kept[last].1);
        let mut left = MOST;
        let roots = kept.iter().map(|(_, root)| *root).chain([head]);
        for (at, root) in roots.enumerate().skip(known) {
            if !self.step(before, root, at as u32, &mut left) {
                *self = Walk::default();
                return false;
            }
            before = root;
        }
        self.ids.extend(kept[known..].iter().map(|(id, _)| *id));
        // Nearly all of it is in order.
        self.edges.sort_by_key(|edge| (edge.layer, edge.block));
        true
    }

    /// Walks from one state to the next; whether that was not too much.
    fn step(&mut self, old: &Root, new: &Root, at: u32, left: &mut usize) -> bool {
        for item in old.extents.diff(&new.extents) {
            match item {
                DiffItem::Add(_, extent) => self.note(extent, at, true),
                DiffItem::Remove(_, extent) => self.note(extent, at, false),
                DiffItem::Update {
                    old: (_, before),
                    new: (_, after),
                } => {
                    self.note(before, at, false);
                    self.note(after, at, true);
                }
            }
            match left.checked_sub(1) {
                Some(less) => *left = less,
                None => return false,
            }
        }
        true
    }

    fn note(&mut self, extent: &Extent, at: u32, appears: bool) {
        let Src::Layer { layer, block } = extent.src() else {
            return;
        };
        for (block, begins) in [(block, true), (block + extent.len, false)] {
            self.edges.push(Edge {
                layer,
                block,
                at,
                appears,
                begins,
            });
        }
    }

    /// Gives `each` the blocks that are in any state: in how many, the sum, and how many blocks. What is summed up where a block
    /// appears, and where it is gone, is in `sums` by the number of the state.
    fn blocks(&self, sums: &[(i64, i64)], mut each: impl FnMut(i64, i64, u64)) {
        let all = self.ids.len() as i64 + 1;
        let (mut states, mut sum) = (0, 0);
        for pair in self.edges.windows(2) {
            let edge = &pair[0];
            let sign = if edge.begins { 1 } else { -1 };
            // For all that is known there, it stays to the end.
            let rest = all - i64::from(edge.at);
            let (appearing, going) = sums[edge.at as usize];
            match edge.appears {
                true => (states, sum) = (states + sign * rest, sum + sign * appearing),
                false => (states, sum) = (states - sign * rest, sum + sign * going),
            }
            // At the end of a layer both are zero.
            if states > 0 {
                each(states, sum, u64::from(pair[1].block - edge.block));
            }
        }
    }

    /// Lets go of what would take too much memory.
    fn rest(&mut self) {
        if self.edges.len() > REMEMBERED {
            *self = Walk::default();
        }
    }

    /// Bytes that each snapshot and each discarded state holds alone. `None`: too much differs to find that out.
    pub fn alone(&mut self, state: &State) -> Option<Held> {
        let kept = by_age(state);
        if !self.renew(&kept, &state.head) {
            return None;
        }
        let sums: Vec<(i64, i64)> = (0..=kept.len() as i64).map(|at| (at, 0)).collect();
        let mut held: Vec<(StateId, u64)> = kept.iter().map(|(id, _)| (*id, 0)).collect();
        self.blocks(&sums, |states, at, blocks| {
            // The last of them is the head.
            if states == 1
                && let Some((_, bytes)) = held.get_mut(at as usize)
            {
                *bytes += blocks * BLOCK;
            }
        });
        self.rest();
        Some(Held(held))
    }

    /// Bytes that some states hold and no other does: what giving all of them up frees. `None`: too much differs to find that
    /// out.
    pub fn together(&mut self, state: &State, some: &BTreeSet<StateId>) -> Option<u64> {
        let kept = by_age(state);
        if !self.renew(&kept, &state.head) {
            return None;
        }
        // How many of them are at this state or behind it.
        let mut rest = kept.iter().filter(|(id, _)| some.contains(id)).count() as i64;
        let mut sums = Vec::with_capacity(kept.len() + 1);
        for (id, _) in &kept {
            sums.push((rest, -rest));
            rest -= i64::from(some.contains(id));
        }
        sums.push((rest, -rest));
        let mut held = 0;
        self.blocks(&sums, |states, theirs, blocks| {
            if states == theirs {
                held += blocks;
            }
        });
        self.rest();
        Some(held * BLOCK)
    }
}

/// The same without what was found before.
pub(super) fn together(state: &State, some: &BTreeSet<StateId>) -> Option<u64> {
    Walk::default().together(state, some)
}

/// Bytes by state.
#[derive(Debug, Default)]
pub(in crate::engine) struct Held(Vec<(StateId, u64)>);

impl Held {
    /// What this one holds alone.
    pub fn of(&self, id: StateId) -> Option<u64> {
        let at = self.0.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(self.0[at].1)
    }
}

/// The kept states by age.
fn by_age(state: &State) -> Vec<(StateId, &Root)> {
    let snapshots = state.snapshots.iter().map(|(id, s)| (*id, &s.root));
    let discarded = state.discarded.iter().map(|(id, d)| (*id, &d.root));
    let mut kept: Vec<(StateId, &Root)> = snapshots.chain(discarded).collect();
    kept.sort_by_key(|(id, _)| *id);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::reclaim::live;
    use crate::tree::{Discarded, FileBlock, Line, Meta, Snapshot, Time};
    use std::collections::HashSet;

    /// A few extents that a number picks, the same block always in the same place of a file.
    fn root(random: &mut u64) -> Root {
        let mut root = Root::default();
        for part in 0..6u32 {
            *random = random.wrapping_mul(6364136223846793005).wrapping_add(1);
            let bits = *random >> 40;
            if bits & 1 == 0 {
                continue;
            }
            // Cut in one piece or in two, in one of two versions.
            let version = (bits >> 1 & 1) as u32 * 100;
            let src = |block| Src::Layer {
                layer: 1 + part % 2,
                block: version + part * 10 + block,
            };
            let key = |block| FileBlock::new(7, u64::from(part * 10 + block));
            let cut = (bits >> 2 & 3) as u32;
            if cut > 0 {
                root.extents.insert(key(0), Extent::new(cut, src(0)));
            }
            let rest = Extent::new(8 - cut, src(cut));
            root.extents.insert(key(cut), rest);
        }
        root
    }

    fn blocks(root: &Root) -> HashSet<(LayerId, u32)> {
        let live = live(std::slice::from_ref(root));
        let each = |(layer, ranges): (LayerId, Vec<std::ops::Range<u32>>)| {
            let blocks = ranges.into_iter().flatten();
            blocks.map(move |block| (layer, block)).collect::<Vec<_>>()
        };
        live.into_iter().flat_map(each).collect()
    }

    #[test]
    fn it_is_what_no_other_state_has() {
        let mut found = 0;
        for seed in 0..300u64 {
            let mut random = seed;
            let mut state = State {
                head: root(&mut random),
                ..State::default()
            };
            for id in 1..6 {
                let (root, at) = (root(&mut random), Time::default());
                if id % 3 == 0 {
                    let became = 0;
                    state.discarded.insert(
                        id,
                        Discarded {
                            at,
                            became,
                            redo: false,
                            line: Line::default(),
                            root,
                        },
                    );
                } else {
                    let (name, message) = (id.to_string(), String::new());
                    let snapshot = Snapshot {
                        name,
                        message,
                        at,
                        meta: Meta::default(),
                        digest: None,
                        line: Line::default(),
                        root,
                    };
                    state.insert(id, snapshot);
                }
            }
            let mut walk = Walk::default();
            let alone = walk.alone(&state).unwrap();
            for picked in 0..32u64 {
                let some: BTreeSet<StateId> =
                    (1..6).filter(|id| picked >> (id - 1) & 1 == 1).collect();
                let all = |ids: &BTreeSet<StateId>| -> HashSet<_> {
                    let each = ids.iter().flat_map(|id| blocks(state.root(*id).unwrap()));
                    each.collect()
                };
                let others: BTreeSet<StateId> = (1..6).filter(|id| !some.contains(id)).collect();
                let mut kept = all(&others);
                kept.extend(blocks(&state.head));
                let freed = all(&some).difference(&kept).count() as u64;
                assert_eq!(
                    walk.together(&state, &some),
                    Some(freed * BLOCK),
                    "seed {seed}, {some:?}"
                );
            }
            for id in 1..6 {
                let mut own = blocks(state.root(id).unwrap());
                let others = (1..6).filter(|other| *other != id);
                let mut others: Vec<&Root> = others.map(|o| state.root(o).unwrap()).collect();
                others.push(&state.head);
                for other in others {
                    let other = blocks(other);
                    own.retain(|block| !other.contains(block));
                }
                assert_eq!(
                    alone.of(id),
                    Some(own.len() as u64 * BLOCK),
                    "seed {seed}, state {id}"
                );
                found += own.len();
            }
        }
        assert!(found > 1000, "only {found} blocks were held alone");
    }

    /// States come, go and are exchanged, in the middle too; what is remembered tells the same as a new walk.
    #[test]
    fn what_is_remembered_is_what_would_be_found_again() {
        for seed in 0..200u64 {
            let mut random = seed;
            let mut state = State::default();
            let mut walk = Walk::default();
            for id in 1..40 {
                let root = |random: &mut u64| root(random);
                let snapshot = Snapshot {
                    name: id.to_string(),
                    message: String::new(),
                    at: Time::default(),
                    meta: Meta::default(),
                    digest: None,
                    line: Line::default(),
                    root: root(&mut random),
                };
                state.insert(id, snapshot);
                state.head = root(&mut random);
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1);
                if random >> 40 & 3 == 0 {
                    let gone = 1 + (random >> 48) % id;
                    state.snapshots.remove(&gone);
                }
                let (is, new) = (walk.alone(&state), Walk::default().alone(&state));
                assert_eq!(is.map(|h| h.0), new.map(|h| h.0), "seed {seed}, state {id}");
            }
        }
    }
}
