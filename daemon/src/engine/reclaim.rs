//! Taking back the space of blocks that no state reaches.
//!
//! What is freed was unreachable at a moment at which nothing went on, and the store makes that moment durable before
//! the first block goes: after a power cut no state comes back that needs one of them.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::time::{Duration, Instant};

use imbl::ordmap::DiffItem;
use nix::errno::Errno;

use super::{Answer, Engine};
use crate::store::LayerInfo;
use crate::tree::extent::Extent;
use crate::tree::{LayerId, Root, Src};

/// Holes smaller than this are left until they are part of a bigger one, in blocks, or until small ones make up this
/// part of the layer: it holds what many snapshots wrote, and their ends may leave nothing but small holes.
const HOLE_MIN: u32 = 16;
const SMALL_PART: u32 = 8;

/// After the disk has refused to take something back it is left alone for so long, unless somebody asks for that.
const AGAIN: Duration = Duration::from_secs(10);

/// Blocks in use, by layer.
pub(super) type Live = HashMap<LayerId, Vec<Range<u32>>>;

/// Roots that are lent, by a number.
#[derive(Default)]
pub(super) struct Roots {
    next: u64,
    all: BTreeMap<u64, Vec<Root>>,
}

/// Somebody looks at states, or at what would be made of them: their blocks stay until this is dropped, whoever gives the states up.
pub(super) struct Lent<'a> {
    engine: &'a Engine,
    number: u64,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let roots = self.engine.lent.lock().all.remove(&self.number);
        self.engine.house.bury(roots.unwrap_or_default());
    }
}

impl Engine {
    /// Has the blocks of what `look` finds stay. No space is taken back before that is known.
    ///
    /// # Errors
    /// Those of `look`.
    pub(super) fn lend<T, E>(
        &self,
        look: impl FnOnce() -> Result<(T, Vec<Root>), E>,
    ) -> Result<(T, Lent<'_>), E> {
        let _pinned = self.pins.read();
        let (found, roots) = look()?;
        let mut lent = self.lent.lock();
        let number = lent.next;
        lent.next += 1;
        lent.all.insert(number, roots);
        let engine = self;
        Ok((found, Lent { engine, number }))
    }

    /// Runs an operation on a file, and once more if the disk was full and space could be taken back.
    pub(super) fn with_room<T>(&self, mut f: impl FnMut() -> Answer<T>) -> Answer<T> {
        let first = {
            let _gate = self.gate.read();
            f()
        };
        if !matches!(first, Err(Errno::ENOSPC)) {
            return first;
        }
        {
            // What somebody else is taking back at the moment counts too.
            let mut failed = self.reclaiming.lock();
            self.forget_what_stayed();
            if self.garbage.load(Relaxed) > 0
                && is_due(*failed)
                && let Err(error) = self.reclaim_alone(&mut failed)
            {
                tracing::warn!(%error, "no space could be taken back on a full disk");
            }
        }
        let _gate = self.gate.read();
        f()
    }

    /// Takes back what no state reaches, and tells how many bytes.
    ///
    /// # Errors
    /// The first of what the disk says; everything else is taken back, and what was not is tried again.
    pub(super) fn reclaim(&self) -> io::Result<u64> {
        self.reclaim_alone(&mut self.reclaiming.lock())
    }

    /// The same, but for a while after that has failed.
    pub(super) fn reclaim_if_due(&self) -> io::Result<()> {
        let mut failed = self.reclaiming.lock();
        match is_due(*failed) {
            true => self.reclaim_alone(&mut failed).map(drop),
            false => Ok(()),
        }
    }

    fn reclaim_alone(&self, failed: &mut Option<Instant>) -> io::Result<u64> {
        self.drop_stale_import();
        // Whoever reads an old state without the gate holds this.
        let Some(_pins) = self.pins.try_write() else {
            // Nobody else may come and ask.
            self.house.poke_later();
            return Ok(0);
        };
        // Blocks handed out before this are referred to, or given up, by the time at which nothing goes on.
        let layers = self.store.layers()?;
        // A layer that takes no writes at that time never will again; the one that does may refer to more afterwards.
        let (roots, seq, current, counted) = {
            let _gate = self.gate.write();
            let state = self.state.read();
            let mut roots: Vec<Root> = state.roots().into_iter().cloned().collect();
            roots.extend(self.built.lock().iter().cloned());
            // What is given up from here on is not seen by this, and what is lent has to be looked at again.
            let lent = self.lent.lock();
            roots.extend(lent.all.values().flatten().cloned());
            let counted = lent.all.is_empty();
            if counted {
                self.garbage.store(0, Relaxed);
            }
            drop(lent);
            let current = self.layer.load(Acquire);
            (roots, self.store.last_seq(), current, counted)
        };
        let mut live = live(&roots);
        drop(roots);
        // Reads that began before may still go to blocks that were given up since; none of them goes on after this.
        drop(self.gate.write());
        let (mut freed, mut left, mut first) = (0, 0, None);
        for layer in layers {
            let used = live.remove(&layer.id.0).unwrap_or_default();
            let unused = used.is_empty() && layer.id.0 != current;
            let (bytes, done) = match unused {
                true => (layer.disk_bytes, self.take_layer(&layer, seq)),
                false => self.take_holes(&layer, &used, seq),
            };
            match done {
                Ok(()) => freed += bytes,
                // What one layer's file refuses another one's may grant.
                Err(error) => {
                    left += bytes;
                    first.get_or_insert(error);
                }
            }
        }
        tracing::debug!(freed, left, "space taken back");
        *failed = first.is_some().then(Instant::now);
        let Some(error) = first else {
            return Ok(freed);
        };
        if counted {
            self.garbage.fetch_add(left, Relaxed);
        }
        Err(error)
    }

    fn take_layer(&self, layer: &LayerInfo, seq: u64) -> io::Result<()> {
        self.store.remove_layer(layer.id, seq)?;
        self.punched.lock().remove(&layer.id.0);
        Ok(())
    }

    /// Takes back what lies between the blocks in use; how many bytes that is.
    fn take_holes(
        &self,
        layer: &LayerInfo,
        used: &[Range<u32>],
        seq: u64,
    ) -> (u64, io::Result<()>) {
        let mut punched = self.punched.lock();
        let done = punched.entry(layer.id.0).or_default();
        let holes: Vec<Range<u32>> = gaps(used, layer.blocks)
            .into_iter()
            .filter(|h| !covers(done, h))
            .collect();
        let holes = worth_punching(holes, layer.blocks);
        let blocks = holes.iter().map(|h| u64::from(h.end - h.start));
        let bytes = blocks.sum::<u64>() * crate::tree::BLOCK;
        let freed = self.store.free(layer.id, &holes, seq);
        if freed.is_ok() {
            done.extend(holes);
            *done = merged(std::mem::take(done));
        }
        (bytes, freed)
    }
}

fn is_due(failed: Option<Instant>) -> bool {
    failed.is_none_or(|at| at.elapsed() >= AGAIN)
}

/// Blocks that any of the roots reaches, at the cost of the first and of what the others differ in.
pub(super) fn live(roots: &[Root]) -> Live {
    let mut live = Live::new();
    let mut add = |e: &Extent| {
        if let Src::Layer { layer, block } = e.src() {
            live.entry(layer).or_default().push(block..block + e.len);
        }
    };
    let mut before: Option<&Root> = None;
    for root in roots {
        match before {
            None => root.extents.values().for_each(&mut add),
            Some(old) => {
                for item in old.extents.diff(&root.extents) {
                    if let DiffItem::Add(_, e) | DiffItem::Update { new: (_, e), .. } = item {
                        add(e);
                    }
                }
            }
        }
        before = Some(root);
    }
    for ranges in live.values_mut() {
        *ranges = merged(std::mem::take(ranges));
    }
    live
}

/// The same blocks as few ranges, in order.
fn merged(mut ranges: Vec<Range<u32>>) -> Vec<Range<u32>> {
    ranges.sort_unstable_by_key(|r| r.start);
    let mut out: Vec<Range<u32>> = Vec::new();
    for r in ranges {
        match out.last_mut() {
            Some(last) if r.start <= last.end => last.end = last.end.max(r.end),
            _ => out.push(r),
        }
    }
    out
}

/// What lies between the ranges, up to `end`.
fn gaps(used: &[Range<u32>], end: u32) -> Vec<Range<u32>> {
    let mut out = Vec::new();
    let mut at = 0;
    for r in used {
        if r.start.min(end) > at {
            out.push(at..r.start.min(end));
        }
        at = at.max(r.end);
    }
    if at < end {
        out.push(at..end);
    }
    out
}

/// The big holes; the small ones as well where they are many.
fn worth_punching(holes: Vec<Range<u32>>, blocks: u32) -> Vec<Range<u32>> {
    let is_small = |h: &Range<u32>| h.end - h.start < HOLE_MIN;
    let small = holes.iter().filter(|h| is_small(h));
    let small: u32 = small.map(|h| h.end - h.start).sum();
    let all = small >= HOLE_MIN.max(blocks / SMALL_PART);
    holes.into_iter().filter(|h| all || !is_small(h)).collect()
}

/// Whether the hole lies within one of `done`, which are in order and apart.
fn covers(done: &[Range<u32>], hole: &Range<u32>) -> bool {
    let at = done.partition_point(|d| d.end < hole.end);
    done.get(at).is_some_and(|d| d.start <= hole.start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_what_is_not_used() {
        let used = merged(vec![5..7, 0..2, 6..9, 20..22]);
        assert_eq!(used, [0..2, 5..9, 20..22]);
        assert_eq!(gaps(&used, 21), [2..5, 9..20]);
        assert_eq!(gaps(&used, 30), [2..5, 9..20, 22..30]);
        assert_eq!(gaps(&[], 3), [0..3]);
        assert_eq!(gaps(&used, 1), []);
        let done = [2..5, 9..20];
        assert!(covers(&done, &(2..5)) && covers(&done, &(10..20)));
        assert!(!covers(&done, &(4..6)) && !covers(&done, &(8..20)) && !covers(&done, &(19..21)));
    }

    #[test]
    fn small_holes_are_punched_where_they_are_many() {
        let every_other = |blocks: u32| (0..blocks / 2).map(|n| n * 2..n * 2 + 1).collect();
        let few: Vec<_> = vec![0..1, 10..30, 40..55];
        assert_eq!(worth_punching(few.clone(), 1000), [10..30]);
        assert_eq!(worth_punching(few.clone(), 100), few);
        let many: Vec<_> = every_other(1000);
        assert_eq!(worth_punching(many.clone(), 1000), many);
        assert_eq!(worth_punching(every_other(20), 20), []);
    }
}
