//! Extent maps: which blocks of a file lie where. One map holds the extents of all files, in order of
//! (inode, first block), so that files of one extent cost one entry and roots share what is equal.

use std::ops::{Bound, RangeInclusive};

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::{Ino, LayerId, Src};

/// A run of a file's blocks that lie together. Three words of 32 bits, as the map of many files has it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Told", into = "Told")]
pub struct Extent {
    /// Number of blocks, at least 1.
    pub len: u32,
    /// 0: zeros.
    layer: LayerId,
    block: u32,
}

/// How an extent is written down.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "Extent")]
struct Told {
    len: u32,
    src: Src,
}

impl Extent {
    /// So many blocks, of which the first one is there.
    pub fn new(len: u32, src: Src) -> Extent {
        let (layer, block) = match src {
            Src::Layer { layer, block } => (layer, block),
            Src::Zero => (0, 0),
        };
        Extent { len, layer, block }
    }

    /// Where the first block is.
    pub fn src(&self) -> Src {
        match self.layer {
            0 => Src::Zero,
            layer => Src::Layer {
                layer,
                block: self.block,
            },
        }
    }
}

impl std::fmt::Debug for Extent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Told::from(*self).fmt(f)
    }
}

impl From<Extent> for Told {
    fn from(extent: Extent) -> Told {
        Told {
            len: extent.len,
            src: extent.src(),
        }
    }
}

impl TryFrom<Told> for Extent {
    type Error = &'static str;

    fn try_from(told: Told) -> Result<Extent, Self::Error> {
        match told.src {
            Src::Layer { layer: 0, .. } => Err("layers have numbers from 1 on"),
            src => Ok(Extent::new(told.len, src)),
        }
    }
}

/// A block of a file, in order of the files and their blocks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileBlock {
    // Two halves: 12 bytes instead of 16.
    ino: [u32; 2],
    block: u32,
}

impl FileBlock {
    /// The block `block` of `ino`; the last one that a file may have instead of those behind it.
    pub fn new(ino: Ino, block: u64) -> FileBlock {
        FileBlock {
            ino: [(ino >> 32) as u32, ino as u32],
            block: u32::try_from(block).unwrap_or(u32::MAX),
        }
    }

    /// The file.
    pub fn ino(&self) -> Ino {
        Ino::from(self.ino[0]) << 32 | Ino::from(self.ino[1])
    }

    /// Which of its blocks.
    pub fn block(&self) -> u64 {
        self.block.into()
    }

    /// All blocks of a file.
    pub fn all_of(ino: Ino) -> RangeInclusive<FileBlock> {
        FileBlock::new(ino, 0)..=FileBlock::new(ino, u64::MAX)
    }
}

impl std::fmt::Debug for FileBlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (self.ino(), self.block()).fmt(f)
    }
}

/// First block to extent; extents of one file don't overlap.
pub type Extents = OrdMap<FileBlock, Extent>;

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

/// Whether a file can have these blocks, and a layer those that they are in. Layers have numbers from 1 on.
pub fn makes_sense(from: u64, len: u64, to: Option<Src>) -> bool {
    let within = |first: u64| first.checked_add(len).is_some_and(|end| end <= BLOCKS_MAX);
    let there = match to {
        Some(Src::Layer { layer, block }) => layer > 0 && within(block.into()),
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
    let (at, e) = map.get_prev(&FileBlock::new(ino, block))?;
    let from = at.block();
    (at.ino() == ino && block < from + u64::from(e.len)).then_some((from, *e))
}

/// The parts of the blocks `from..to` of a file that extents cover, in order.
pub fn extents_in(map: &Extents, ino: Ino, from: u64, to: u64) -> impl Iterator<Item = Piece> + '_ {
    let first = find(map, ino, from).map_or(from, |(first, _)| first);
    let to = to.max(first);
    let start = Bound::Included(FileBlock::new(ino, first));
    // Behind the last block that a file may have there is no other to end before.
    let end = match to < BLOCKS_MAX {
        true => Bound::Excluded(FileBlock::new(ino, to)),
        false => Bound::Included(FileBlock::new(ino, to)),
    };
    map.range((start, end)).filter_map(move |(at, e)| {
        let at = at.block();
        let (start, end) = (at.max(from), (at + u64::from(e.len)).min(to));
        (start < end).then(|| Piece {
            from: start,
            len: end - start,
            src: Some(e.src().advance(start - at)),
        })
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
        && p.src().advance(u64::from(p.len)) == src
        && u64::from(p.len) + total <= u64::from(u32::MAX)
    {
        map.remove(&FileBlock::new(ino, pf));
        first = pf;
        src = p.src();
        total += u64::from(p.len);
    }
    if end < BLOCKS_MAX
        && let Some(n) = map.get(&FileBlock::new(ino, end)).copied()
        && src.advance(total) == n.src()
        && u64::from(n.len) + total <= u64::from(u32::MAX)
    {
        map.remove(&FileBlock::new(ino, end));
        total += u64::from(n.len);
    }
    // An extent counts its blocks in 32 bits; a longer run (a hole, 16 TiB and up) takes several.
    while total > 0 {
        let part = total.min(u64::from(u32::MAX));
        map.insert(FileBlock::new(ino, first), Extent::new(part as u32, src));
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
                FileBlock::new(ino, first),
                Extent::new((from - first) as u32, e.src()),
            );
        } else {
            map.remove(&FileBlock::new(ino, first));
        }
        if old_end > end {
            map.insert(
                FileBlock::new(ino, end),
                Extent::new((old_end - end) as u32, e.src().advance(end - first)),
            );
            return;
        }
    }
    while let Some((at, e)) = map.get_next(&FileBlock::new(ino, from)) {
        let (first, e) = (at.block(), *e);
        if at.ino() != ino || first >= end {
            break;
        }
        map.remove(&FileBlock::new(ino, first));
        let old_end = first + u64::from(e.len);
        if old_end > end {
            map.insert(
                FileBlock::new(ino, end),
                Extent::new((old_end - end) as u32, e.src().advance(end - first)),
            );
        }
    }
}

/// Forgets all extents of `ino`.
pub fn remove_all(map: &mut Extents, ino: Ino) {
    while let Some((&at, _)) = map.get_next(&FileBlock::new(ino, 0)) {
        if at.ino() != ino {
            break;
        }
        map.remove(&at);
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

    #[test]
    fn no_layer_has_the_number_of_zeros() {
        let layer = |layer| Some(Src::Layer { layer, block: 61 });
        assert!(makes_sense(13, 5, layer(1)));
        assert!(!makes_sense(13, 5, layer(0)));
    }

    /// The last block that a file may have is no other file's, and there is none behind it.
    #[test]
    fn the_last_block_is_the_end() {
        let last = BLOCKS_MAX - 1;
        let layer = |block| Some(Src::Layer { layer: 1, block });
        let mut extents = Extents::new();
        map(&mut extents, 8, 0, 1, layer(11));
        map(&mut extents, 7, last, 1, layer(10));
        assert_eq!(extents.len(), 2, "blocks of two files are not joined");
        assert_eq!(find(&extents, 7, last).unwrap().0, last);
        assert_eq!(find(&extents, 7, last + 1), None);
        let all = |from, to| extents_in(&extents, 7, from, to).collect::<Vec<_>>();
        let piece = Piece {
            from: last,
            len: 1,
            src: layer(10),
        };
        assert_eq!(all(0, u64::MAX), [piece]);
        assert_eq!(all(last, last + 1), [piece]);
        assert_eq!(all(0, last), []);
        assert_eq!(all(last + 1, u64::MAX), []);
        map(&mut extents, 7, 0, BLOCKS_MAX, Some(Src::Zero));
        assert_eq!(extents.range(FileBlock::all_of(7)).count(), 2);
        remove_all(&mut extents, 7);
        assert_eq!(extents.len(), 1);
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
                let mine: Vec<_> = extents.range(FileBlock::all_of(7)).map(|(k, e)| (k.block(), *e)).collect();
                for w in mine.windows(2) {
                    let joined = w[0].0 + u64::from(w[0].1.len) == w[1].0
                        && w[0].1.src().advance(u64::from(w[0].1.len)) == w[1].1.src();
                    prop_assert!(!joined, "{:?}", w);
                }
            }
            prop_assert_eq!(pieces(&extents, 7, 1 << 33, 1 << 34).len(), 1);
            prop_assert_eq!(extents.range(FileBlock::all_of(6)).count(), 1);
            remove_all(&mut extents, 7);
            prop_assert_eq!(extents.len(), 2);
        }
    }
}
