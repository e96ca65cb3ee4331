//! Extent maps: which blocks of a file lie where. One map holds the extents of all files, in order of
//! (inode, first block), so that files of one extent cost one entry and roots share what is equal.

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::{Ino, Src};

/// A run of a file's blocks that lie together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Number of blocks, at least 1.
    pub len: u32,
    /// Where the first one is.
    pub src: Src,
}

/// (inode, first block) to extent; extents of one file don't overlap.
pub type Extents = OrdMap<(Ino, u64), Extent>;

impl Src {
    /// The place of the block `n` blocks further on.
    pub fn advance(self, n: u64) -> Src {
        match self {
            Src::Layer { layer, block } => Src::Layer {
                layer,
                block: block + n as u32,
            },
            Src::Zero => Src::Zero,
        }
    }
}

/// Blocks of a file, and of a layer, have numbers below this.
const BLOCKS_MAX: u64 = 1 << 32;

/// Whether a file can have these blocks, and a layer those that they are in.
pub fn makes_sense(from: u64, len: u64, to: Option<Src>) -> bool {
    let within = |first: u64| first.checked_add(len).is_some_and(|end| end <= BLOCKS_MAX);
    let there = match to {
        Some(Src::Layer { block, .. }) => within(block.into()),
        _ => true,
    };
    there && within(from)
}

/// A part of a file: blocks `from..from + len`, in an extent or in none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// First block.
    pub from: u64,
    /// Number of blocks.
    pub len: u64,
    /// Where they are; `None`: the base's, or zeros.
    pub src: Option<Src>,
}

/// The extent of `ino` that covers `block`, as (its first block, itself).
pub fn find(map: &Extents, ino: Ino, block: u64) -> Option<(u64, Extent)> {
    let (&(i, from), e) = map.get_prev(&(ino, block))?;
    (i == ino && block < from + u64::from(e.len)).then_some((from, *e))
}

/// The parts of the blocks `from..to` of a file that extents cover, in order.
pub fn extents_in(map: &Extents, ino: Ino, from: u64, to: u64) -> impl Iterator<Item = Piece> + '_ {
    let first = find(map, ino, from).map_or(from, |(first, _)| first);
    map.range((ino, first)..(ino, to.max(first)))
        .map(move |(&(_, at), e)| {
            let start = at.max(from);
            Piece {
                from: start,
                len: (at + u64::from(e.len)).min(to) - start,
                src: Some(e.src.advance(start - at)),
            }
        })
}

/// Cuts the blocks `from..to` of a file into pieces that each lie in one place, in order, without gaps.
pub fn pieces(map: &Extents, ino: Ino, from: u64, to: u64) -> Vec<Piece> {
    let mut out = Vec::new();
    let mut at = from;
    let gap = |from, to| Piece {
        from,
        len: to - from,
        src: None,
    };
    for p in extents_in(map, ino, from, to) {
        if p.from > at {
            out.push(gap(at, p.from));
        }
        at = p.from + p.len;
        out.push(p);
    }
    if at < to {
        out.push(gap(at, to));
    }
    out
}

/// Says that the blocks `from..from + len` of `ino` are at `to`, and joins them with neighbours that they continue.
pub fn map(map: &mut Extents, ino: Ino, from: u64, len: u64, to: Option<Src>) {
    if len == 0 {
        return;
    }
    let end = from.saturating_add(len);
    clear(map, ino, from, end);
    let Some(src) = to else { return };
    let (mut first, mut src, mut total) = (from, src, len);
    // The block before may be the end of an extent that this one continues.
    if from > 0
        && let Some((pf, p)) = find(map, ino, from - 1)
        && p.src.advance(u64::from(p.len)) == src
        && u64::from(p.len) + total <= u64::from(u32::MAX)
    {
        map.remove(&(ino, pf));
        first = pf;
        src = p.src;
        total += u64::from(p.len);
    }
    if let Some(n) = map.get(&(ino, end)).copied()
        && src.advance(total) == n.src
        && u64::from(n.len) + total <= u64::from(u32::MAX)
    {
        map.remove(&(ino, end));
        total += u64::from(n.len);
    }
    // An extent counts its blocks in 32 bits; a longer run (a hole, 16 TiB and up) takes several.
    while total > 0 {
        let part = total.min(u64::from(u32::MAX));
        map.insert(
            (ino, first),
            Extent {
                len: part as u32,
                src,
            },
        );
        first += part;
        src = src.advance(part);
        total -= part;
    }
}

/// Takes the blocks `from..end` of `ino` out of all extents, cutting those that reach over.
fn clear(map: &mut Extents, ino: Ino, from: u64, end: u64) {
    if let Some((first, e)) = find(map, ino, from) {
        let old_end = first + u64::from(e.len);
        if first < from {
            map.insert(
                (ino, first),
                Extent {
                    len: (from - first) as u32,
                    src: e.src,
                },
            );
        } else {
            map.remove(&(ino, first));
        }
        if old_end > end {
            map.insert(
                (ino, end),
                Extent {
                    len: (old_end - end) as u32,
                    src: e.src.advance(end - first),
                },
            );
            return;
        }
    }
    while let Some((&(i, first), e)) = map.get_next(&(ino, from)) {
        if i != ino || first >= end {
            break;
        }
        let e = *e;
        map.remove(&(ino, first));
        let old_end = first + u64::from(e.len);
        if old_end > end {
            map.insert(
                (ino, end),
                Extent {
                    len: (old_end - end) as u32,
                    src: e.src.advance(end - first),
                },
            );
        }
    }
}

/// Forgets all extents of `ino`.
pub fn remove_all(map: &mut Extents, ino: Ino) {
    while let Some((&(i, first), _)) = map.get_next(&(ino, 0)) {
        if i != ino {
            break;
        }
        map.remove(&(ino, first));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BLOCKS: u64 = 40;

    fn src() -> impl Strategy<Value = Option<Src>> {
        prop_oneof![
            Just(None),
            Just(Some(Src::Zero)),
            (1u32..3, 0u32..60).prop_map(|(layer, block)| Some(Src::Layer { layer, block })),
        ]
    }

    proptest! {
        /// The map against one entry a block, after every step, with a neighbour file that nothing may touch.
        #[test]
        fn behaves_as_one_entry_a_block(steps in prop::collection::vec((0..BLOCKS, 1u64..12, src()), 1..60)) {
            let mut extents = Extents::new();
            let mut model = vec![None::<Src>; BLOCKS as usize + 12];
            map(&mut extents, 6, 3, 4, Some(Src::Zero));
            map(&mut extents, 8, 0, 4, Some(Src::Zero));
            for (from, len, to) in steps {
                map(&mut extents, 7, from, len, to);
                for i in 0..len {
                    model[(from + i) as usize] = to.map(|s| s.advance(i));
                }
                let mut at = 0;
                for p in pieces(&extents, 7, 0, model.len() as u64) {
                    prop_assert_eq!(p.from, at);
                    for i in 0..p.len {
                        prop_assert_eq!(model[(at + i) as usize], p.src.map(|s| s.advance(i)));
                    }
                    at += p.len;
                }
                prop_assert_eq!(at, model.len() as u64);
                // Neighbours that continue each other are one extent.
                let mine: Vec<_> = extents.range((7, 0)..(8, 0)).map(|(k, e)| (k.1, *e)).collect();
                for w in mine.windows(2) {
                    let joined = w[0].0 + u64::from(w[0].1.len) == w[1].0
                        && w[0].1.src.advance(u64::from(w[0].1.len)) == w[1].1.src;
                    prop_assert!(!joined, "{:?}", w);
                }
            }
            prop_assert_eq!(extents.range((6, 0)..(7, 0)).count(), 1);
            remove_all(&mut extents, 7);
            prop_assert_eq!(extents.len(), 2);
        }
    }
}
