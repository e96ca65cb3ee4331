//! Sealing a layer, and computing its checksums behind the scenes.

use super::sums::{self, PAGE, PER_PAGE};
use super::{BLOCK, DIR, LayerId, Layers, OPEN, SEALED, SUMMED, sum_path};
use crate::store::disk::OpenHow;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;

impl Layers {
    /// From now on the layer is not written. Writes that were let in before must have returned.
    pub fn seal(&self, id: LayerId) -> io::Result<()> {
        let layer = self.layer(id)?;
        let was = layer
            .state
            .compare_exchange(OPEN, SEALED, Ordering::AcqRel, Ordering::Acquire);
        if was.is_ok() {
            self.pending_seals.lock().push(id);
        }
        Ok(())
    }

    /// Takes the layers that are sealed and have no sums.
    pub fn take_seals(&self) -> Vec<LayerId> {
        std::mem::take(&mut self.pending_seals.lock())
    }

    /// Puts layers back whose sums could not be written.
    pub fn return_seals(&self, ids: &[LayerId]) {
        self.pending_seals.lock().extend_from_slice(ids);
    }

    /// Computes a sealed layer's sums and makes them durable. Its data, and the record that sealed
    /// it, must be durable, and no copy of its blocks in the journal in force: sums on the medium mean
    /// that the data is final.
    pub fn write_sums(&self, id: LayerId) -> io::Result<()> {
        let Some(layer) = self.map.read().get(&id.0).cloned() else {
            return Ok(());
        };
        let data = match self.files.data(id, OpenHow::Write) {
            // Nothing was ever written to it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            answer => answer?,
        };
        let blocks = data.len()?.div_ceil(BLOCK) as u32;
        let path = sum_path(id.0);
        let temporary = path.with_extension("tmp");
        let out = self.disk.open(&temporary, OpenHow::Replace)?;
        out.write_at(&sums::header_page(&self.uuid, id, blocks), 0)?;
        let mut bytes = vec![0; PER_PAGE as usize * BLOCK as usize];
        for index in 0..blocks.div_ceil(PER_PAGE) {
            let first = index * PER_PAGE;
            let count = PER_PAGE.min(blocks - first) as usize;
            let read = data.read_at(
                &mut bytes[..count * BLOCK as usize],
                u64::from(first) * BLOCK,
            )?;
            bytes[read..].fill(0);
            let mut page = vec![0; PAGE];
            for (slot, block) in bytes.chunks(BLOCK as usize).take(count).enumerate() {
                let sum = sums::block_sum(&self.uuid, block).to_le_bytes();
                page[8 + slot * 8..16 + slot * 8].copy_from_slice(&sum);
            }
            sums::seal_page(&mut page, &self.uuid, id, index + 1);
            out.write_at(&page, u64::from(index + 1) * PAGE as u64)?;
        }
        if let Err(error) = out.sync_data() {
            return Err(self.health.poisoned("a layer's checksums", &error));
        }
        self.disk.rename(&temporary, &path)?;
        if let Err(error) = self.disk.sync_dir(Path::new(DIR)) {
            return Err(self.health.poisoned("the layers' directory", &error));
        }
        layer.state.store(SUMMED, Ordering::Release);
        Ok(())
    }
}
