//! The space that each kept state holds alone: what giving up only that one would free.
//!
//! One walk over the states by age, the head last, at the cost of what differs between neighbours. A block that appears at
//! the state number `i` and is gone at number `j` is in `j - i` of them; what sums up to one over all its appearances is
//! held by one state, the one where it appeared. A block belongs to one piece of one file, so no state has it twice.
//!
//! What several states hold together comes from the same walk: a block is theirs if it is in as many of them as it is in any.

use std::collections::{BTreeSet, HashMap};

use imbl::ordmap::DiffItem;

use crate::tree::extent::Extent;
use crate::tree::{BLOCK, LayerId, Root, Src, State, StateId};

/// Differences between neighbours that are looked at; with more of them nothing is known.
const MOST: usize = 1_000_000;

/// What changes at a block and holds for those behind it.
struct Edge {
    layer: LayerId,
    block: u32,
    /// In how many states.
    states: i64,
    /// What the walk sums up besides.
    sum: i64,
}

struct Walk {
    edges: Vec<Edge>,
    /// How many states there are.
    all: i64,
    /// By the number of a state: what is summed up where a block appears there, and where it is gone from there on.
    sums: Vec<(i64, i64)>,
    left: usize,
}

impl Walk {
    /// A walk over all of them; whether that was not too much.
    fn over(kept: &[(StateId, &Root)], head: &Root, sums: Vec<(i64, i64)>) -> Option<Walk> {
        let mut walk = Walk {
            edges: Vec::new(),
            all: kept.len() as i64 + 1,
            sums,
            left: MOST,
        };
        let empty = Root::default();
        let mut before = &empty;
        let roots = kept.iter().map(|(_, root)| *root).chain([head]);
        for (at, root) in roots.enumerate() {
            if !walk.step(before, root, at) {
                return None;
            }
            before = root;
        }
        walk.edges
            .sort_unstable_by_key(|edge| (edge.layer, edge.block));
        Some(walk)
    }

    /// The extent appears at state number `at`, and for all that is known stays to the end; or is gone from there on.
    fn note(&mut self, extent: &Extent, at: usize, appears: bool) {
        let Src::Layer { layer, block } = extent.src else {
            return;
        };
        let states = self.all - at as i64;
        let (states, sum) = match appears {
            true => (states, self.sums[at].0),
            false => (-states, self.sums[at].1),
        };
        let edge = |block, sign| Edge {
            layer,
            block,
            states: sign * states,
            sum: sign * sum,
        };
        self.edges.push(edge(block, 1));
        self.edges.push(edge(block + extent.len, -1));
    }

    /// Walks from one state to the next; whether that was not too much.
    fn step(&mut self, old: &Root, new: &Root, at: usize) -> bool {
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
            let Some(left) = self.left.checked_sub(1) else {
                return false;
            };
            self.left = left;
        }
        true
    }

    /// Gives `each` the blocks that are in any state: in how many, the sum, and how many blocks.
    fn blocks(&self, mut each: impl FnMut(i64, i64, u64)) {
        let (mut states, mut sum) = (0, 0);
        for pair in self.edges.windows(2) {
            states += pair[0].states;
            sum += pair[0].sum;
            // At the end of a layer both are zero.
            if states > 0 {
                each(states, sum, u64::from(pair[1].block - pair[0].block));
            }
        }
    }
}

/// The kept states by age.
fn by_age(state: &State) -> Vec<(StateId, &Root)> {
    let snapshots = state.snapshots.iter().map(|(id, s)| (*id, &s.root));
    let discarded = state.discarded.iter().map(|(id, d)| (*id, &d.root));
    let mut kept: Vec<(StateId, &Root)> = snapshots.chain(discarded).collect();
    kept.sort_unstable_by_key(|(id, _)| *id);
    kept
}

/// Bytes that each snapshot and each discarded state holds alone. `None`: too much differs to find that out.
pub(super) fn alone(state: &State) -> Option<HashMap<StateId, u64>> {
    let kept = by_age(state);
    let sums = (0..=kept.len() as i64).map(|at| (at, 0)).collect();
    let walk = Walk::over(&kept, &state.head, sums)?;
    let mut held: HashMap<i64, u64> = HashMap::new();
    walk.blocks(|states, at, blocks| {
        if states == 1 {
            *held.entry(at).or_default() += blocks;
        }
    });
    let held = |at: usize| held.get(&(at as i64)).map_or(0, |blocks| blocks * BLOCK);
    let ids = kept.iter().enumerate();
    Some(ids.map(|(at, (id, _))| (*id, held(at))).collect())
}

/// Bytes that some states hold and no other does: what giving all of them up frees. `None`: too much differs to find that
/// out.
pub(super) fn together(state: &State, some: &BTreeSet<StateId>) -> Option<u64> {
    let kept = by_age(state);
    // How many of them are at this state or behind it.
    let mut rest = kept.iter().filter(|(id, _)| some.contains(id)).count() as i64;
    let mut sums = Vec::with_capacity(kept.len() + 1);
    for (id, _) in &kept {
        sums.push((rest, -rest));
        rest -= i64::from(some.contains(id));
    }
    sums.push((rest, -rest));
    let walk = Walk::over(&kept, &state.head, sums)?;
    let mut held = 0;
    walk.blocks(|states, theirs, blocks| {
        if states == theirs {
            held += blocks;
        }
    });
    Some(held * BLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::reclaim::live;
    use crate::tree::{Discarded, Meta, Snapshot, Time};
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
            let key = |block| (7, u64::from(part * 10 + block));
            let cut = (bits >> 2 & 3) as u32;
            if cut > 0 {
                root.extents.insert(
                    key(0),
                    Extent {
                        len: cut,
                        src: src(0),
                    },
                );
            }
            let rest = Extent {
                len: 8 - cut,
                src: src(cut),
            };
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
                        root,
                    };
                    state.insert(id, snapshot);
                }
            }
            let alone = alone(&state).unwrap();
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
                    together(&state, &some),
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
                    alone[&id],
                    own.len() as u64 * BLOCK,
                    "seed {seed}, state {id}"
                );
                found += own.len();
            }
        }
        assert!(found > 1000, "only {found} blocks were held alone");
    }
}
