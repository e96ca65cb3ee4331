//! From damaged blocks to the files and states that have them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use imbl::ordmap::DiffItem;
use llctl::protocol::FindingKind;

use super::{Affected, Scrub, Step, path_in};
use crate::engine::Engine;
use crate::engine::service::states::View;
use crate::tree::{BLOCK, Extent, FileBlock, Ino, LayerId, Root, Src};

/// Damaged blocks by layer, in order.
pub(super) type Damaged = BTreeMap<LayerId, Vec<Range<u32>>>;

/// Extents of one state that have damaged blocks, by (inode, first block): the first byte that is lost, and whether
/// the layer itself is.
type Hit = BTreeMap<FileBlock, u64>;

/// Tells each file that has damaged blocks, with the states in which it has them.
pub(super) fn tell(engine: &Engine, scrub: &mut Scrub<'_>, damaged: &Damaged) -> Step {
    if damaged.is_empty() {
        return Ok(());
    }
    let mut affected: BTreeMap<String, Affected> = BTreeMap::new();
    let mut hit = Hit::new();
    let mut before = Root::default();
    for view in View::all(engine) {
        for item in before.extents.diff(&view.root.extents) {
            match item {
                DiffItem::Add(key, extent)
                | DiffItem::Update {
                    new: (key, extent), ..
                } => {
                    match first_lost(key.block(), extent, damaged) {
                        Some(at) => hit.insert(*key, at),
                        None => hit.remove(key),
                    };
                }
                DiffItem::Remove(key, _) => {
                    hit.remove(key);
                }
            }
        }
        let inos: BTreeSet<Ino> = hit.keys().map(FileBlock::ino).collect();
        for ino in inos {
            let first = hit
                .range(FileBlock::new(ino, 0)..)
                .next()
                .map_or(0, |(_, at)| *at);
            let what = format!("its content is damaged from byte {first} on");
            let path = path_in(engine, &view, ino);
            affected.entry(what).or_default().add(path, &view.name);
        }
        before = view.root;
    }
    for (what, affected) in affected {
        for finding in affected.findings(FindingKind::Content, &what) {
            scrub.found(finding)?;
        }
    }
    Ok(())
}

/// The first byte of a file, in the extent that begins at its block `from`, that is lost.
fn first_lost(from: u64, extent: &Extent, damaged: &Damaged) -> Option<u64> {
    let Src::Layer { layer, block } = extent.src() else {
        return None;
    };
    let ranges = damaged.get(&layer)?;
    let end = block + extent.len;
    let next = ranges.partition_point(|r| r.end <= block);
    let lost = ranges.get(next).filter(|r| r.start < end)?;
    Some((from + u64::from(lost.start.max(block) - block)) * BLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lost_byte_is_that_of_the_first_damaged_block_in_the_extent() {
        let damaged = Damaged::from([(3, vec![10..11, 15..20])]);
        let at = |layer, block, len| {
            let src = Src::Layer { layer, block };
            first_lost(100, &Extent::new(len, src), &damaged)
        };
        assert_eq!(at(3, 8, 5), Some(102 * BLOCK));
        assert_eq!(at(3, 11, 4), None);
        assert_eq!(at(3, 11, 5), Some(104 * BLOCK));
        assert_eq!(at(3, 17, 1), Some(100 * BLOCK));
        assert_eq!(at(4, 8, 5), None);
    }
}
