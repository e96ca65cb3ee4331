//! The layers: every block that a state reaches is read and compared with its checksum.
//!
//! Nothing is pinned meanwhile. What is taken back while it is read may look damaged, so what looks damaged is
//! looked for in the states as they are afterwards, and read again if one still has it: a block that no state has does not
//! come back.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use llctl::protocol::{BytePath, Failure, Finding, FindingKind};

use super::damage::{self, Damaged};
use super::gently::gently;
use super::{BLOCKS, Scrub, Step, bytes};
use crate::engine::Engine;
use crate::engine::reclaim::{Live, live};
use crate::engine::service::states::View;
use crate::store;
use crate::tree::{LayerId, Root};

/// Blocks verified in one go: 16 MiB.
const STEP: u32 = 4096;

/// Checks all layers.
pub(super) fn check(engine: &Engine, scrub: &mut Scrub<'_>) -> Step<Result<(), Failure>> {
    let roots: Vec<Root> = View::all(engine).into_iter().map(|v| v.root).collect();
    let live = live(&roots);
    drop(roots);
    let blocks = live.values().flatten().map(|r| u64::from(r.end - r.start));
    scrub.total = Some(blocks.sum::<u64>() * crate::tree::BLOCK);
    let present: BTreeSet<LayerId> = match engine.store.layers() {
        Ok(layers) => layers.iter().map(|layer| layer.id.0).collect(),
        Err(error) => return Ok(Err(Failure::io("the layers cannot be listed", &error))),
    };
    let mut damaged = Damaged::new();
    let mut suspects = Vec::new();
    let done = scrub.done_of(BLOCKS);
    // What is damaged is told at the end, so nothing behind it counts as done before.
    let mut whole = true;
    let layers: BTreeMap<LayerId, &Vec<Range<u32>>> = live.iter().map(|(l, r)| (*l, r)).collect();
    for (layer, ranges) in layers {
        if at(layer, u32::MAX) <= done {
            continue;
        }
        if !present.contains(&layer) {
            whole = false;
            damaged
                .entry(layer)
                .or_default()
                .extend(ranges.iter().cloned());
            continue;
        }
        if bad_sums(engine, layer).is_some() {
            whole = false;
            suspects.push(layer);
        }
        for part in parts(ranges) {
            if at(layer, part.end) <= done {
                continue;
            }
            let (bad, blocks) = read(engine, layer, &part);
            whole &= bad.is_empty();
            damaged.entry(layer).or_default().extend(bad);
            scrub.count(bytes(blocks));
            if whole {
                scrub.reached(BLOCKS, at(layer, part.end));
            }
            scrub.tell(&format!("reading layer {layer}"))?;
        }
    }
    for finding in confirm(engine, &mut damaged, &suspects) {
        scrub.found(finding)?;
    }
    damage::tell(engine, scrub, &damaged)?;
    Ok(Ok(()))
}

/// How far it is at a block of a layer.
fn at(layer: LayerId, block: u32) -> u64 {
    u64::from(layer) << 32 | u64::from(block)
}

/// What is wrong with the checksum file of a layer.
fn bad_sums(engine: &Engine, layer: LayerId) -> Option<Finding> {
    let what = match engine.store.sums_are_whole(store::LayerId(layer)) {
        Ok(None | Some(true)) => return None,
        Ok(Some(false)) => format!("the checksums of layer {layer} are damaged"),
        Err(error) => format!("the checksums of layer {layer} cannot be read: {error}"),
    };
    Some(Finding {
        kind: FindingKind::Metadata,
        what,
        path: Some(BytePath::from(format!("layers/{layer:08}.sum").as_str())),
        states: Vec::new(),
    })
}

/// The blocks that are damaged, all of them if the layer cannot be read; and how many were read.
fn read(engine: &Engine, layer: LayerId, part: &Range<u32>) -> (Vec<Range<u32>>, u32) {
    let mut done = 0;
    let mut count = |blocks: u32| {
        done += blocks;
        true
    };
    let part = std::slice::from_ref(part);
    let answer = gently(|| (engine.store).verify_layer(store::LayerId(layer), part, &mut count));
    let bad = match answer {
        Ok(bad) => bad.into_iter().map(|block| block..block + 1).collect(),
        Err(error) => {
            tracing::warn!(layer, %error, "a layer cannot be verified");
            part.to_vec()
        }
    };
    (bad, done)
}

fn parts(ranges: &[Range<u32>]) -> impl Iterator<Item = Range<u32>> {
    ranges.iter().flat_map(|range| {
        let end = range.end;
        let starts = (range.start..end).step_by(STEP as usize);
        starts.map(move |start| start..end.min(start.saturating_add(STEP)))
    })
}

/// Keeps of the damage what the states still have and what is still damaged, and tells the checksum files of which that
/// is true.
fn confirm(engine: &Engine, damaged: &mut Damaged, suspects: &[LayerId]) -> Vec<Finding> {
    damaged.retain(|_, ranges| !ranges.is_empty());
    if damaged.is_empty() && suspects.is_empty() {
        return Vec::new();
    }
    let _pinned = engine.pins.read();
    let roots: Vec<Root> = View::all(engine).into_iter().map(|v| v.root).collect();
    let live = live(&roots);
    damaged.retain(|layer, ranges| {
        *ranges = common(ranges, live_of(&live, *layer));
        let again = (engine.store).verify_layer(store::LayerId(*layer), ranges, &mut |_| true);
        if let Ok(bad) = again {
            *ranges = bad.into_iter().map(|block| block..block + 1).collect();
        }
        !ranges.is_empty()
    });
    let still = suspects.iter().filter(|layer| live.contains_key(layer));
    still.filter_map(|layer| bad_sums(engine, *layer)).collect()
}

fn live_of(live: &Live, layer: LayerId) -> &[Range<u32>] {
    live.get(&layer).map_or(&[], Vec::as_slice)
}

/// What is in both; both are in order.
fn common(some: &[Range<u32>], others: &[Range<u32>]) -> Vec<Range<u32>> {
    let mut out = Vec::new();
    for range in some {
        let first = others.partition_point(|o| o.end <= range.start);
        for other in &others[first..] {
            if other.start >= range.end {
                break;
            }
            out.push(range.start.max(other.start)..range.end.min(other.end));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_ranges_are_cut_at_both_ends() {
        assert_eq!(
            common(&[0..10, 20..30], &[5..25, 29..90]),
            [5..10, 20..25, 29..30]
        );
        assert_eq!(common(&[3..4], &[0..3, 4..9]), []);
    }

    #[test]
    fn parts_cover_a_range_once() {
        let whole = [0..STEP * 2 + 1, 100_000..100_001];
        let all: Vec<_> = parts(&whole).collect();
        assert_eq!(
            all,
            [
                0..STEP,
                STEP..STEP * 2,
                STEP * 2..STEP * 2 + 1,
                100_000..100_001
            ]
        );
    }
}
