//! The engine's way to the store's blocks.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};

use super::{Answer, Engine, errno};
use crate::store;
use crate::tree::{BLOCK, LayerId};

impl Engine {
    /// The layer that takes the writes, a new one after a snapshot or a revert.
    pub(super) fn layer(&self) -> Answer<LayerId> {
        let layer = self.layer.load(Acquire);
        if layer != 0 {
            return Ok(layer);
        }
        let _one = self.opening.lock();
        let layer = self.layer.load(Acquire);
        if layer != 0 {
            return Ok(layer);
        }
        let store::LayerId(layer) = self.store.open_layer();
        self.layer.store(layer, Release);
        Ok(layer)
    }

    /// Writes go to a new layer from here on. The gate is held exclusively, so that no write is under way.
    pub(super) fn seal_layer(&self) {
        let layer = self.layer.swap(0, AcqRel);
        if layer != 0
            && let Err(e) = self.store.seal(store::LayerId(layer))
        {
            tracing::error!(layer, "the layer was not sealed: {e}");
        }
    }

    /// Blocks that nobody used before, in a row; the first one.
    pub(super) fn alloc(&self, layer: LayerId, count: u64) -> Answer<u32> {
        let count = u32::try_from(count).map_err(|_| nix::errno::Errno::EFBIG)?;
        self.store
            .alloc(store::LayerId(layer), count)
            .map_err(|e| errno(&e))
    }

    /// Writes from the byte `at` of a layer on.
    pub(super) fn put_bytes(&self, layer: LayerId, at: u64, data: &[u8]) -> Answer<()> {
        let (block, within) = ((at / BLOCK) as u32, (at % BLOCK) as u32);
        self.store
            .write_blocks(store::LayerId(layer), block, data, within)
            .map_err(|e| errno(&e))?;
        if self.store.wants_writeback() {
            self.house.write_back();
        }
        Ok(())
    }

    /// Reads from the byte `at` of a layer on, checking what has checksums.
    pub(super) fn get_bytes(&self, layer: LayerId, at: u64, out: &mut [u8]) -> Answer<()> {
        self.store
            .read(store::LayerId(layer), at, out, true)
            .map_err(|e| errno(&e))
    }
}
