//! What a run came to.

use std::fmt;

use super::probe::Latency;
use super::sample::Sample;
use crate::history::Step;

/// One block.
#[derive(Debug, Default)]
pub(super) struct Block {
    /// Modelled operations.
    pub operations: u64,
    snapshots: u64,
    reverts: u64,
    /// Reverts of a part.
    pub parts: u64,
    deletions: u64,
    prunes: u64,
    /// Workers killed.
    pub kills: usize,
    /// While nobody was killed.
    pub samples: Vec<Sample>,
    /// Likewise.
    pub latency: Latency,
    /// How many times as long as beside the mount operations take while nothing else goes on: when the last worker is young, and when
    /// it is old.
    pub rest: [f64; 2],
    /// Bytes that the store takes when only the present state is reachable.
    pub store: u64,
    /// Bytes of that.
    pub live: u64,
}

/// Bytes that a store may take besides: 64 MiB of garbage before it is collected, 128 MiB of journal before an image is
/// written, and two images.
const STORE_ROOM: u64 = 256 << 20;
/// Descriptors and threads that may come and go: clients of the control socket.
const COMING_AND_GOING: u64 = 24;
/// Descriptors of the base that the worker keeps at most: 256 of directories and 128 of files. A first block in which little was done has
/// not filled that yet.
const KEPT_DESCRIPTORS: u64 = 256 + 128;
/// Memory that one block may take more than the first, in KiB and by part of that of the first.
const MEMORY_ROOM: u64 = 24 << 10;
const MEMORY_MORE: f64 = 1.5;

impl Block {
    pub fn count(&mut self, step: &Step) {
        match step {
            Step::Snap | Step::Automatic => self.snapshots += 1,
            Step::Prune(_) => self.prunes += 1,
            Step::Revert(_) | Step::Undo(_) | Step::Redo(_) => self.reverts += 1,
            Step::Delete(_) => self.deletions += 1,
            _ => {}
        }
    }

    fn most(&self, what: impl Fn(&Sample) -> u64) -> u64 {
        self.samples.iter().map(what).max().unwrap_or(0)
    }

    /// The median of the second half of the samples.
    fn memory(&self) -> u64 {
        let half = &self.samples[self.samples.len() / 2..];
        let mut all: Vec<u64> = half.iter().map(|s| s.memory).collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or(0)
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} operations, {} snapshots, {} reverts and undos, {} reverts of a part, {} deletions, {} prunes, {} kills; {:.1} MiB, {} descriptors, {} threads; \
             {} probes of {:?} ({:?} beside, ratio {:.2}), at rest {:.2} and then {:.2}; store {:.1} MiB for {:.1} MiB",
            self.operations,
            self.snapshots,
            self.reverts,
            self.parts,
            self.deletions,
            self.prunes,
            self.kills,
            self.memory() as f64 / 1024.0,
            self.most(|s| s.descriptors),
            self.most(|s| s.threads),
            self.latency.probes,
            self.latency.mount,
            self.latency.beside,
            self.latency.ratio(),
            self.rest[0],
            self.rest[1],
            self.store as f64 / f64::from(1 << 20),
            self.live as f64 / f64::from(1 << 20),
        )
    }
}

/// Whether nothing grew and nothing became slower.
///
/// # Panics
/// If something did.
pub(super) fn judge(blocks: &[Block], drift: Option<f64>) {
    let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else {
        return;
    };
    for (number, block) in blocks.iter().enumerate() {
        assert!(
            block.store <= 2 * block.live + STORE_ROOM,
            "block {number}: the store takes {} bytes, of which {} can be reached",
            block.store,
            block.live
        );
        assert!(!block.samples.is_empty() && block.latency.probes > 0);
    }
    assert!(
        last.store <= first.store + STORE_ROOM / 4,
        "the store grew from {} to {} bytes",
        first.store,
        last.store
    );
    for (what, first, last) in [
        (
            "descriptors",
            first.most(|s| s.descriptors).max(KEPT_DESCRIPTORS),
            last.most(|s| s.descriptors),
        ),
        (
            "threads",
            first.most(|s| s.threads),
            last.most(|s| s.threads),
        ),
    ] {
        assert!(
            last <= first + COMING_AND_GOING,
            "{what} grew from {first} to {last}"
        );
    }
    let most = (first.memory() as f64 * MEMORY_MORE) as u64 + MEMORY_ROOM;
    assert!(
        last.memory() <= most,
        "memory grew from {} to {} KiB",
        first.memory(),
        last.memory()
    );
    let Some(drift) = drift else {
        return;
    };
    let within = |what: &str, before: f64, after: f64| {
        assert!(
            after <= before * drift,
            "{what} operations took {before:.2} times as long as beside the mount, and {after:.2} at the end"
        );
    };
    within("under load", first.latency.ratio(), last.latency.ratio());
    within("at rest", first.rest[1], last.rest[1]);
    // What one worker does more slowly as it gets older is gone with it: all of them together say whether they do.
    let median = |which: usize| {
        let mut all: Vec<f64> = blocks.iter().map(|block| block.rest[which]).collect();
        all.sort_unstable_by(f64::total_cmp);
        all[all.len() / 2]
    };
    within("by a young worker", median(0), median(1));
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;
    use std::time::Duration;

    use super::*;

    /// Blocks in which operations take so long under load, and at rest when the worker is young and when it is old.
    fn is_good(times: [(u64, [f64; 2]); 3]) -> bool {
        let block = |(load, rest): (u64, [f64; 2])| Block {
            samples: vec![Sample::default()],
            latency: Latency {
                mount: Duration::from_micros(load),
                beside: Duration::from_micros(1),
                probes: 1,
            },
            rest,
            ..Block::default()
        };
        let blocks = times.map(block);
        catch_unwind(|| judge(&blocks, Some(2.0))).is_ok()
    }

    #[test]
    fn what_becomes_slower_is_told() {
        let even = (50, [5.0, 6.0]);
        assert!(is_good([even; 3]));
        // One that was disturbed says nothing.
        assert!(is_good([even, (200, [20.0, 6.0]), even]));
        assert!(is_good([even, (200, [5.0, 30.0]), even]));
        assert!(!is_good([even, even, (101, [5.0, 6.0])]), "under load");
        assert!(!is_good([even, even, (50, [5.0, 12.1])]), "at rest");
        assert!(!is_good([(50, [5.0, 11.0]); 3]), "with a worker's age");
    }
}
