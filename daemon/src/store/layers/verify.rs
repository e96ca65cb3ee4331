//! Scrubbing: reads live blocks and names those that are damaged.

use super::{BLOCK, LayerId, Layers, SUMMED, sums};
use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering;

/// Blocks read in one step.
const STEP: u32 = 256;

impl Layers {
    /// Reads the blocks in `live` and returns those that cannot be read or do not match their sums.
    /// `progress` is told the blocks of each step; it answers whether to go on.
    pub fn verify(
        &self,
        id: LayerId,
        live: &[Range<u32>],
        progress: &mut dyn FnMut(u32) -> bool,
    ) -> io::Result<Vec<u32>> {
        let summed = self.layer(id)?.state.load(Ordering::Acquire) == SUMMED;
        let mut damaged = Vec::new();
        let mut bytes = vec![0; STEP as usize * BLOCK as usize];
        for range in live {
            let mut first = range.start;
            while first < range.end {
                let end = range.end.min(first + STEP);
                let part = &mut bytes[..(end - first) as usize * BLOCK as usize];
                if self.read(id, u64::from(first) * BLOCK, part, false).is_ok() {
                    if summed {
                        self.compare_or_blame(id, first..end, part, &mut damaged);
                    }
                } else {
                    self.probe(id, first..end, summed, &mut damaged);
                }
                if !progress(end - first) {
                    return Ok(damaged);
                }
                first = end;
            }
        }
        Ok(damaged)
    }

    /// Whether the checksum file's own header is whole (`None`: the layer has no sums).
    pub fn sums_header_is_whole(&self, id: LayerId) -> io::Result<Option<bool>> {
        if self.layer(id)?.state.load(Ordering::Acquire) != SUMMED {
            return Ok(None);
        }
        let blocks = self.files.data(id, self.how())?.len()?.div_ceil(BLOCK);
        let mut page = vec![0; sums::PAGE];
        let read = self.files.sums(id)?.read_at(&mut page, 0)?;
        let stated = sums::header_blocks(&page[..read], &self.uuid, id);
        Ok(Some(stated.is_some_and(|n| u64::from(n) == blocks)))
    }

    /// A step that cannot be read in one piece, block by block.
    fn probe(&self, id: LayerId, blocks: Range<u32>, summed: bool, damaged: &mut Vec<u32>) {
        let mut bytes = vec![0; BLOCK as usize];
        for block in blocks {
            match self.read(id, u64::from(block) * BLOCK, &mut bytes, false) {
                Err(_) => damaged.push(block),
                Ok(()) if summed => {
                    self.compare_or_blame(id, block..block + 1, &bytes, damaged);
                }
                Ok(()) => {}
            }
        }
    }

    /// Without readable sums every block counts as damaged.
    fn compare_or_blame(
        &self,
        id: LayerId,
        blocks: Range<u32>,
        bytes: &[u8],
        damaged: &mut Vec<u32>,
    ) {
        let before = damaged.len();
        let compared = self.compare(id, blocks.clone(), bytes, &mut |block| damaged.push(block));
        if compared.is_err() {
            damaged.truncate(before);
            damaged.extend(blocks);
        }
    }
}
