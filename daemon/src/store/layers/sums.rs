//! The checksums of what is sealed of a layer: pages of 511 sums, each page with its own checksum, read when needed.

use super::{BLOCK, LayerId};
use crate::store::disk::DiskFile;
use crate::store::superblock::{u32_at, u64_at};
use std::io;
use std::sync::Arc;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

const MAGIC: &[u8; 8] = b"LLFSSUMS";
pub(super) const PAGE: usize = 4096;
/// Sums in a page.
pub(super) const PER_PAGE: u32 = 511;

/// The sum of a block; shorter ones count as if they ended in zeros.
pub(super) fn block_sum(uuid: &[u8; 16], bytes: &[u8]) -> u64 {
    let seed = u64_at(uuid, 0);
    if bytes.len() == BLOCK as usize {
        return xxh3_64_with_seed(bytes, seed);
    }
    let mut whole = bytes.to_vec();
    whole.resize(BLOCK as usize, 0);
    xxh3_64_with_seed(&whole, seed)
}

/// The first page: which layer this is, and how many blocks it has.
pub(super) fn header_page(uuid: &[u8; 16], id: LayerId, blocks: u32) -> Vec<u8> {
    let mut page = vec![0; PAGE];
    page[8..16].copy_from_slice(MAGIC);
    page[16..32].copy_from_slice(uuid);
    page[32..36].copy_from_slice(&id.0.to_le_bytes());
    page[36..40].copy_from_slice(&blocks.to_le_bytes());
    seal_page(&mut page, uuid, id, 0);
    page
}

/// The number of blocks that a valid first page states.
pub(super) fn header_blocks(page: &[u8], uuid: &[u8; 16], id: LayerId) -> Option<u32> {
    let ours = page_is_valid(page, uuid, id, 0)
        && &page[8..16] == MAGIC
        && &page[16..32] == uuid
        && u32_at(page, 32) == id.0;
    ours.then(|| u32_at(page, 36))
}

/// Writes the page's own checksum.
pub(super) fn seal_page(page: &mut [u8], uuid: &[u8; 16], id: LayerId, index: u32) {
    let sum = page_sum(page, uuid, id, index);
    page[..8].copy_from_slice(&sum.to_le_bytes());
}

fn page_sum(page: &[u8], uuid: &[u8; 16], id: LayerId, index: u32) -> u64 {
    let place = u64::from(id.0) << 32 | u64::from(index);
    xxh3_64_with_seed(&page[8..], xxh3_64(uuid) ^ place)
}

pub(super) fn page_is_valid(page: &[u8], uuid: &[u8; 16], id: LayerId, index: u32) -> bool {
    page.len() == PAGE && page_sum(page, uuid, id, index) == u64_at(page, 0)
}

/// One page at a time, kept while neighbouring blocks are asked for.
pub(super) struct Page {
    /// The layer, how many of its blocks had sums, and the page of them that is here and was found valid.
    of: Option<(LayerId, u32, u32)>,
    bytes: Vec<u8>,
}

impl Default for Page {
    fn default() -> Self {
        Self {
            of: None,
            bytes: vec![0; PAGE],
        }
    }
}

impl Page {
    /// The sum of `block` of a layer of which the first `summed` blocks have one; `None` when its page is damaged or
    /// missing. `file` opens the layer's sums.
    pub fn sum(
        &mut self,
        file: impl FnOnce() -> io::Result<Arc<dyn DiskFile>>,
        uuid: &[u8; 16],
        (id, summed): (LayerId, u32),
        block: u32,
    ) -> io::Result<Option<u64>> {
        let index = block / PER_PAGE + 1;
        let wanted = (id, summed, index);
        if self.of != Some(wanted) {
            self.of = None;
            let read = file()?.read_at(&mut self.bytes, u64::from(index) * PAGE as u64)?;
            if !page_is_valid(&self.bytes[..read], uuid, id, index) {
                return Ok(None);
            }
            self.of = Some(wanted);
        }
        let at = 8 + (block % PER_PAGE) as usize * 8;
        Ok(Some(u64_at(&self.bytes, at)))
    }
}
