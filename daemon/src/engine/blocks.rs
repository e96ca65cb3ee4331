//! The engine's way to the store's blocks.

use std::sync::atomic::Ordering::{Acquire, Release};

use super::{Answer, Engine, errno};
use crate::store;
use crate::tree::{BLOCK, LayerId};

/// Where writes go. Stays true while the gate is held.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub layer: LayerId,
    /// Blocks of the layer below this are final: a snapshot or a discarded state may have them.
    pub sealed: u32,
}

impl Engine {
    /// Where writes go. A layer goes on after snapshots and reverts until it is big enough.
    pub(super) fn target(&self) -> Target {
        let now = || Target {
            layer: self.layer.load(Acquire),
            sealed: self.sealed.load(Acquire),
        };
        if now().layer == 0 {
            let _one = self.opening.lock();
            if now().layer == 0 {
                let store::LayerId(layer) = self.store.open_layer();
                self.layer.store(layer, Release);
            }
        }
        now()
    }

    /// What was written so far is final from here on. The gate is held exclusively: no write is under way, and every block
    /// that was handed out is referred to or given up for good.
    pub(super) fn seal_written(&self) {
        let layer = self.layer.load(Acquire);
        if layer == 0 {
            return;
        }
        let sealed = match self.store.seal_blocks(store::LayerId(layer)) {
            Ok(sealed) => sealed,
            Err(e) => {
                tracing::error!(layer, "the layer was not sealed: {e}");
                None
            }
        };
        if sealed.is_none() {
            self.layer.store(0, Release);
        }
        self.sealed.store(sealed.unwrap_or(0), Release);
    }

    /// Whether writes go to this layer.
    pub(super) fn writes_to(&self, layer: LayerId) -> bool {
        self.layer.load(Acquire) == layer
    }

    /// Writes go to another layer from here on, and all of the present one is final. As with [`Engine::seal_written`], the gate is
    /// held exclusively.
    pub(super) fn seal_layer(&self) {
        let layer = self.layer.load(Acquire);
        if layer == 0 {
            return;
        }
        if let Err(e) = self.store.seal(store::LayerId(layer)) {
            tracing::error!(layer, "the layer was not sealed: {e}");
            return;
        }
        self.layer.store(0, Release);
        self.sealed.store(0, Release);
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
            .map_err(|e| errno(&e))?;
        if self.store.wants_release() {
            self.house.release();
        }
        Ok(())
    }
}
