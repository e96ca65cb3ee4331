//! What is written and read in large pieces. The checksums of what is written are taken while the bytes are at hand, so that
//! nobody reads it back for these; and the medium's cache is told to let go of it soon. The kernel has the same bytes in
//! the cache of the mount, and memory that nobody used lately is dear (docs/PERFORMANCE.md, *Fresh memory*).

use super::{BLOCK, LayerId, Layers, data_path, sums};
use crate::store::disk::OpenHow;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Whole blocks from which on a write is large.
const LARGE: usize = 8;
/// The most sums that a layer keeps in memory: those of 1 GiB, 2 MiB.
const MOST_SUMS: usize = 1 << 18;
/// Bytes read after which old pieces should be let go.
const ROUND: u64 = 1 << 20;
/// How often they were let go when one counts as old: after 16 MiB the medium should have what it was given.
const ROUNDS: u64 = 16;
/// The most pieces to remember: what is more stays in the medium's cache.
const MOST_PIECES: usize = 1 << 16;

/// The sums of blocks that were written whole in a large piece and are the same since.
#[derive(Default)]
pub(super) struct EarlySums {
    /// The block that the first of them is for.
    first: u32,
    /// 0 where the sum is not known.
    sums: Vec<u64>,
}

impl EarlySums {
    /// `data` was written from byte `offset` of block `block` on, and `whole` says that all of it was.
    pub fn wrote(&mut self, uuid: &[u8; 16], block: u32, offset: u32, data: &[u8], whole: bool) {
        let start = u64::from(block) * BLOCK + u64::from(offset);
        let end = start + data.len() as u64;
        self.forget((start / BLOCK) as u32..end.div_ceil(BLOCK) as u32);
        let first = start.next_multiple_of(BLOCK);
        let skip = ((first - start) as usize).min(data.len());
        let (blocks, _) = data[skip..].as_chunks::<{ BLOCK as usize }>();
        if !whole || blocks.len() < LARGE {
            return;
        }
        let first = (first / BLOCK) as u32;
        if self.sums.is_empty() {
            self.first = first;
        }
        let Some(at) = first.checked_sub(self.first).map(|at| at as usize) else {
            return;
        };
        if at + blocks.len() > MOST_SUMS {
            return;
        }
        if self.sums.len() < at + blocks.len() {
            self.sums.resize(at + blocks.len(), 0);
        }
        for (slot, bytes) in self.sums[at..].iter_mut().zip(blocks) {
            *slot = sums::block_sum(uuid, bytes);
        }
    }

    /// These blocks are not what they were.
    pub fn forget(&mut self, blocks: Range<u32>) {
        let at = |block: u32| (block.saturating_sub(self.first) as usize).min(self.sums.len());
        let (from, to) = (at(blocks.start), at(blocks.end));
        self.sums[from..to].fill(0);
    }

    /// The sum of a block, if it is known.
    pub fn get(&self, block: u32) -> Option<u64> {
        let at = block.checked_sub(self.first)? as usize;
        self.sums.get(at).copied().filter(|&sum| sum != 0)
    }

    /// Those of the blocks below `end` are not needed any more.
    pub fn done(&mut self, end: u32) {
        let gone = (end.saturating_sub(self.first) as usize).min(self.sums.len());
        self.sums.drain(..gone);
        self.first += gone as u32;
        if self.sums.is_empty() {
            self.sums = Vec::new();
        }
    }
}

/// Large pieces that the medium's cache has. The lock is a leaf, held for a few nanoseconds.
#[derive(Default)]
pub(crate) struct Cached {
    pieces: Mutex<Pieces>,
    /// Bytes that were read since it was asked for last.
    read: AtomicU64,
}

#[derive(Default)]
struct Pieces {
    /// Counts how often old ones were taken.
    round: u64,
    /// Each with the round in which it was used, oldest first.
    all: VecDeque<(u64, LayerId, Range<u32>)>,
}

impl Cached {
    /// So many bytes were read at `at` bytes into a layer.
    pub fn read(&self, id: LayerId, at: u64, bytes: usize) {
        if bytes >= LARGE * BLOCK as usize {
            self.read.fetch_add(bytes as u64, Ordering::Relaxed);
            self.used(id, at, bytes);
        }
    }

    /// Whether so much was read that old pieces should be let go; says so once for each time.
    pub fn wants_release(&self) -> bool {
        self.read.load(Ordering::Relaxed) >= ROUND && self.read.swap(0, Ordering::Relaxed) >= ROUND
    }

    /// So many bytes were written or read at `at` bytes into a layer.
    pub fn used(&self, id: LayerId, at: u64, bytes: usize) {
        let blocks = at.div_ceil(BLOCK) as u32..((at + bytes as u64) / BLOCK) as u32;
        if blocks.len() < LARGE {
            return;
        }
        let mut pieces = self.pieces.lock();
        let round = pieces.round;
        if let Some((when, layer, last)) = pieces.all.back_mut()
            && (*when, *layer, last.end) == (round, id, blocks.start)
        {
            last.end = blocks.end;
        } else if pieces.all.len() < MOST_PIECES {
            pieces.all.push_back((round, id, blocks));
        }
    }

    /// Takes those that were used so long ago that the medium should have them, or all. To be called for each MiB.
    fn take(&self, all: bool) -> Vec<(LayerId, Range<u32>)> {
        let mut pieces = self.pieces.lock();
        pieces.round += 1;
        let round = pieces.round;
        let old = |&(when, ..): &(u64, LayerId, Range<u32>)| all || when + ROUNDS <= round;
        let count = pieces.all.iter().take_while(|piece| old(piece)).count();
        let taken = pieces.all.drain(..count);
        taken.map(|(_, id, blocks)| (id, blocks)).collect()
    }
}

impl Layers {
    /// Has the medium finish with large pieces that it was given long ago, or with all of them, and let go of the memory that
    /// its cache has for them. An error is that of a sync: nobody else will hear of it.
    pub fn release_cached(&self, all: bool) -> io::Result<()> {
        if self.health.check().is_err() {
            return Ok(());
        }
        for (id, blocks) in self.cached.take(all) {
            let Ok(layer) = self.layer(id) else {
                continue;
            };
            if layer.packed.get().is_some() {
                continue;
            }
            // A descriptor of its own: an error is told to each descriptor once, and those that a flush syncs must hear of it.
            let Ok(file) = self.disk.open(&data_path(id.0), OpenHow::Read) else {
                // It is gone, or no descriptor can be had.
                continue;
            };
            let (start, end) = (u64::from(blocks.start), u64::from(blocks.end));
            if let Err(error) = file.drop_cached(start * BLOCK, (end - start) * BLOCK) {
                return Err(self.health.poisoned("a layer", &error));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: [u8; 16] = [7; 16];

    fn bytes(count: usize) -> Vec<u8> {
        (0..count).map(|i| (i / 100) as u8).collect()
    }

    fn sum(data: &[u8]) -> Option<u64> {
        Some(sums::block_sum(&UUID, data))
    }

    #[test]
    fn only_blocks_that_were_written_whole_and_left_alone_have_a_sum() {
        let mut early = EarlySums::default();
        let data = bytes(10 * 4096 + 100);
        early.wrote(&UUID, 20, 4000, &data, true);
        assert_eq!(early.get(20), None, "only its last 96 bytes were written");
        for block in 21..31 {
            let at = (block as usize - 21) * 4096 + 96;
            assert_eq!(early.get(block), sum(&data[at..at + 4096]), "{block}");
        }
        assert_eq!(early.get(31), None, "only its first bytes were written");
        early.wrote(&UUID, 24, 5, b"x", true);
        early.wrote(&UUID, 27, 4095, b"xx", true);
        early.forget(30..90);
        let known: Vec<u32> = (0..100).filter(|&b| early.get(b).is_some()).collect();
        assert_eq!(known, [21, 22, 23, 25, 26, 29]);
        early.wrote(&UUID, 0, 0, &data, true);
        assert_eq!(early.get(0), None, "before all others");
        early.done(23);
        assert_eq!(early.get(21), None);
        assert_eq!(early.get(23), sum(&data[2 * 4096 + 96..][..4096]));
    }

    #[test]
    fn what_was_not_written_whole_has_no_sum() {
        let mut early = EarlySums::default();
        let data = bytes(16 * 4096);
        early.wrote(&UUID, 0, 0, &data, true);
        early.wrote(&UUID, 4, 0, &data[..9 * 4096], false);
        let known: Vec<u32> = (0..100).filter(|&b| early.get(b).is_some()).collect();
        assert_eq!(known, [0, 1, 2, 3, 13, 14, 15]);
        early.done(u32::MAX);
        early.wrote(&UUID, 500, 0, &data[..7 * 4096], true);
        assert_eq!(early.get(500), None, "not large");
        early.wrote(&UUID, 500, 0, &data, true);
        assert_eq!(early.get(500), sum(&data[..4096]));
    }

    #[test]
    fn the_cache_lets_go_of_a_piece_after_some_rounds() {
        let cached = Cached::default();
        cached.used(LayerId(1), 100, 10 * 4096);
        cached.read(LayerId(1), 10 * 4096, 8 * 4096);
        cached.read(LayerId(1), 18 * 4096, 4096);
        for _ in 0..ROUNDS - 1 {
            assert_eq!(cached.take(false), []);
        }
        cached.used(LayerId(2), 0, 8 * 4096);
        assert_eq!(cached.take(false), [(LayerId(1), 1..18)]);
        assert_eq!(cached.take(false), []);
        assert_eq!(cached.take(true), [(LayerId(2), 0..8)]);
        assert!(!cached.wants_release());
        cached.read(LayerId(2), 0, 1 << 20);
        assert!(cached.wants_release());
        assert!(!cached.wants_release());
    }
}
