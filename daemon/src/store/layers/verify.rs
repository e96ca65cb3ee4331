//! Scrubbing: reads live blocks and names those that are damaged.

use super::{BLOCK, Layer, LayerId, Layers, sums};
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
        let layer = self.layer(id)?;
        if self.is_lost_pack(id, &layer) {
            return Ok(live.iter().cloned().flatten().collect());
        }
        let summed = layer.summed.load(Ordering::Acquire);
        let mut damaged = Vec::new();
        let mut bytes = vec![0; STEP as usize * BLOCK as usize];
        for range in live {
            let mut first = range.start;
            while first < range.end {
                let end = range.end.min(first + STEP);
                let part = &mut bytes[..(end - first) as usize * BLOCK as usize];
                if self.read(id, u64::from(first) * BLOCK, part, false).is_ok() {
                    self.compare_or_blame(id, summed, first..end, part, &mut damaged);
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

    /// Whether the layer is archived, and its pack would not be found to be one at the next start. Otherwise what is read from here on
    /// comes from the medium.
    fn is_lost_pack(&self, id: LayerId, layer: &Layer) -> bool {
        let Some(pack) = layer.packed.get() else {
            return false;
        };
        self.chunks.lock().clear();
        let whole = (self.files.pack(id, self.how()))
            .and_then(|file| pack.is_whole(&*file, &self.uuid))
            .unwrap_or(false);
        if !whole {
            tracing::error!(
                layer = id.0,
                "what an archived layer says of itself is damaged"
            );
        }
        !whole
    }

    /// Whether the checksum file's own header is whole (`None`: the layer has no sums).
    pub fn sums_header_is_whole(&self, id: LayerId) -> io::Result<Option<bool>> {
        let summed = self.layer(id)?.summed.load(Ordering::Acquire);
        if summed == 0 {
            return Ok(None);
        }
        let mut page = vec![0; sums::PAGE];
        let read = self.files.sums(id, summed)?.read_at(&mut page, 0)?;
        let stated = sums::header_blocks(&page[..read], &self.uuid, id);
        // The file may have been replaced by one that covers more since.
        Ok(Some(stated.is_some_and(|blocks| blocks >= summed)))
    }

    /// A step that cannot be read in one piece, block by block.
    fn probe(&self, id: LayerId, blocks: Range<u32>, summed: u32, damaged: &mut Vec<u32>) {
        let mut bytes = vec![0; BLOCK as usize];
        for block in blocks {
            match self.read(id, u64::from(block) * BLOCK, &mut bytes, false) {
                Err(_) => damaged.push(block),
                Ok(()) => {
                    self.compare_or_blame(id, summed, block..block + 1, &bytes, damaged);
                }
            }
        }
    }

    /// Without readable sums every block that has one counts as damaged.
    fn compare_or_blame(
        &self,
        id: LayerId,
        summed: u32,
        blocks: Range<u32>,
        bytes: &[u8],
        damaged: &mut Vec<u32>,
    ) {
        let before = damaged.len();
        // What is on the medium now is what counts here, not what was read once.
        let page = &mut sums::Page::default();
        let compared = self.compare(id, summed, blocks.clone(), bytes, page, &mut |block| {
            damaged.push(block);
        });
        if compared.is_err() {
            damaged.truncate(before);
            damaged.extend(blocks.start..blocks.end.min(summed));
        }
    }
}
