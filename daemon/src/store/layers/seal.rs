//! Sealing layers, or what of them was handed out, and computing the checksums behind the scenes.

use super::read::read_present;
use super::sums::{self, PAGE, PER_PAGE};
use super::{BLOCK, CLOSED, Layer, LayerId, Layers, sum_path};
use crate::store::disk::{DiskFile, OpenHow};
use nix::errno::Errno;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::Ordering;

/// A layer of which more is sealed than has sums.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PendingSums {
    pub id: LayerId,
    /// Its seal when this was taken.
    sealed: u32,
}

impl Layers {
    /// From now on the layer is not written. Writes that were let in before must have returned.
    pub fn seal(&self, id: LayerId) -> io::Result<()> {
        let layer = self.layer(id)?;
        if layer.sealed.swap(CLOSED, Ordering::AcqRel) != CLOSED && !layer.is_summed() {
            self.remember(id);
        }
        Ok(())
    }

    /// From now on the blocks that were handed out are not written; gives the first that may be. Writes that were let in
    /// before must have returned, and none may go on to blocks that it was handed before.
    pub fn seal_blocks(&self, id: LayerId) -> io::Result<u32> {
        let layer = self.layer(id)?;
        let next = layer.next.load(Ordering::Acquire);
        let sealed = layer.sealed.fetch_max(next, Ordering::AcqRel);
        if sealed == CLOSED {
            tracing::error!(layer = id.0, "a closed layer was to go on");
            return Err(Errno::EIO.into());
        }
        if sealed < next {
            self.remember(id);
        }
        Ok(next)
    }

    fn remember(&self, id: LayerId) {
        let mut pending = self.pending_seals.lock();
        if !pending.contains(&id) {
            pending.push(id);
        }
    }

    /// Takes the layers of which more is sealed than has sums. What is sealed later is not part of what was taken: a sync
    /// that begins now makes all of this durable, and perhaps nothing else.
    pub fn take_seals(&self) -> Vec<PendingSums> {
        let ids = std::mem::take(&mut *self.pending_seals.lock());
        let map = self.map.read();
        let sealed = |id: LayerId| Some(map.get(&id.0)?.sealed.load(Ordering::Acquire));
        ids.into_iter()
            .filter_map(|id| sealed(id).map(|sealed| PendingSums { id, sealed }))
            .collect()
    }

    /// Puts layers back whose sums could not be written.
    pub fn return_seals(&self, pending: &[PendingSums]) {
        for seal in pending {
            self.remember(seal.id);
        }
    }

    /// Computes the sums of what was sealed and makes them durable, together with those that are there. The data, and the
    /// record that sealed it, must be durable, and no copy of these blocks in the journal in force: sums on the medium mean
    /// that the data is final. One at a time.
    pub fn write_sums(&self, pending: PendingSums) -> io::Result<()> {
        let written = self.write_sums_of(pending);
        let id = pending.id;
        if !self.map.read().contains_key(&id.0) {
            // It was removed meanwhile: nothing that was made or opened since may keep its space.
            self.files.forget(id);
            match self.disk.remove(&sum_path(id.0)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                answer => answer?,
            }
            self.dirty.renamed();
        }
        written
    }

    fn write_sums_of(&self, pending: PendingSums) -> io::Result<()> {
        let id = pending.id;
        let Some(layer) = self.map.read().get(&id.0).cloned() else {
            return Ok(());
        };
        let data = match self.files.data(id, OpenHow::Write) {
            // Nothing was ever written to it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            answer => answer?,
        };
        let blocks = match pending.sealed {
            CLOSED => {
                let length = data.len()?.div_ceil(BLOCK);
                let length = u32::try_from(length).map_err(|_| Errno::EFBIG)?;
                layer.next.load(Ordering::Acquire).max(length)
            }
            blocks => blocks,
        };
        let had = layer.summed.load(Ordering::Acquire);
        if had >= blocks {
            return Ok(());
        }
        let path = sum_path(id.0);
        let temporary = path.with_extension("tmp");
        match self.fill_sums(id, &layer, &*data, &temporary, had..blocks) {
            Ok(true) => {}
            Ok(false) => {
                tracing::error!(layer = id.0, "damaged checksums are not continued");
                return self.disk.remove(&temporary);
            }
            Err(error) => {
                // On a full disk its space is needed.
                if let Err(error) = self.disk.remove(&temporary) {
                    tracing::debug!(layer = id.0, %error, "unfinished checksums were not removed");
                }
                return Err(error);
            }
        }
        self.disk.rename(&temporary, &path)?;
        self.dirty.renamed();
        self.sync_names()?;
        // Readers take the number first and the file behind it: they never look for a sum in a file that lacks it.
        layer.summed.store(blocks, Ordering::Release);
        layer.early.lock().done(blocks);
        self.files.forget_sums(id);
        Ok(())
    }

    /// Writes a checksum file, and syncs it: the sums that there are of what lies before `blocks`, and those of `blocks`.
    /// `false`: the old ones are damaged where they would be continued.
    fn fill_sums(
        &self,
        id: LayerId,
        layer: &Layer,
        data: &dyn DiskFile,
        path: &Path,
        blocks: Range<u32>,
    ) -> io::Result<bool> {
        let out = self.disk.open(path, OpenHow::Replace)?;
        out.write_at(&sums::header_page(&self.uuid, id, blocks.end), 0)?;
        let Some(mut page) = self.keep_sums(id, blocks.start, &*out)? else {
            return Ok(false);
        };
        let mut bytes = vec![0; PER_PAGE as usize * BLOCK as usize];
        let mut known = vec![None; PER_PAGE as usize];
        let mut from = blocks.start;
        while from < blocks.end {
            let index = from / PER_PAGE;
            let end = blocks.end.min((index + 1) * PER_PAGE);
            let early = layer.early.lock();
            let count = (end - from) as usize;
            for (block, slot) in (from..end).zip(&mut known) {
                *slot = early.get(block);
            }
            drop(early);
            let runs = known[..count].chunk_by(|a, b| a.is_some() == b.is_some());
            let mut at = from;
            for run in runs {
                let part = &mut bytes[..run.len() * BLOCK as usize];
                if run[0].is_none() {
                    read_present(data, part, u64::from(at) * BLOCK)?;
                }
                for (known, bytes) in run.iter().zip(part.chunks(BLOCK as usize)) {
                    let mut sum = known.unwrap_or_else(|| sums::block_sum(&self.uuid, bytes));
                    if self.doubtful && data.is_hole(u64::from(at) * BLOCK, BLOCK)? {
                        // It was given back after the moment at which the state is: whoever reads it is told.
                        sum = !sum;
                    }
                    let slot = 8 + (at % PER_PAGE) as usize * 8;
                    page[slot..slot + 8].copy_from_slice(&sum.to_le_bytes());
                    at += 1;
                }
            }
            sums::seal_page(&mut page, &self.uuid, id, index + 1);
            out.write_at(&page, u64::from(index + 1) * PAGE as u64)?;
            page.fill(0);
            from = end;
        }
        match out.sync_data() {
            Ok(()) => Ok(true),
            Err(error) => Err(self.health.poisoned("a layer's checksums", &error)),
        }
    }

    /// Copies the pages of the first `had` sums as they are: what is damaged in them stays so. Gives the page that goes on,
    /// or `None` if that one is damaged.
    fn keep_sums(&self, id: LayerId, had: u32, out: &dyn DiskFile) -> io::Result<Option<Vec<u8>>> {
        let mut page = vec![0; PAGE];
        if had == 0 {
            return Ok(Some(page));
        }
        let old = match self.files.sums(id, had) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            answer => answer?,
        };
        for index in 1..=had / PER_PAGE {
            let read = old.read_at(&mut page, u64::from(index) * PAGE as u64)?;
            page[read..].fill(0);
            out.write_at(&page, u64::from(index) * PAGE as u64)?;
        }
        if had.is_multiple_of(PER_PAGE) {
            page.fill(0);
            return Ok(Some(page));
        }
        let index = had / PER_PAGE + 1;
        let read = old.read_at(&mut page, u64::from(index) * PAGE as u64)?;
        let valid = sums::page_is_valid(&page[..read], &self.uuid, id, index);
        Ok(valid.then_some(page))
    }
}

impl Layer {
    /// Whether all blocks that were handed out have sums.
    pub(super) fn is_summed(&self) -> bool {
        self.summed.load(Ordering::Acquire) >= self.next.load(Ordering::Acquire)
    }
}
