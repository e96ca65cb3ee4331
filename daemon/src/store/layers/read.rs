//! Reads from layers, checked against the sums where there are some.

use super::{BLOCK, Blocks, Layer, LayerId, Layers, pack, sums};
use crate::store::disk::{DiskFile, OpenHow};
use nix::errno::Errno;
use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering;

/// Fills `out` with what a data file has from `offset` on. What was given back, and what is behind its end, is zeros, for which the
/// system need not fill its cache.
pub(super) fn read_present(data: &dyn DiskFile, out: &mut [u8], offset: u64) -> io::Result<()> {
    let read = match data.is_hole(offset, out.len() as u64)? {
        true => 0,
        false => data.read_at(out, offset)?,
    };
    out[read..].fill(0);
    Ok(())
}

impl Layers {
    /// Fills `out` from byte `offset` of the layer. With `verify` every touched block that has a
    /// sum is checked: a wrong one gives `EIO` and a line in the log.
    pub fn read(&self, id: LayerId, offset: u64, out: &mut [u8], verify: bool) -> io::Result<()> {
        if out.is_empty() {
            return Ok(());
        }
        let layer = self.layer(id)?;
        let first = offset / BLOCK;
        let summed = layer.summed.load(Ordering::Acquire);
        if !verify || first >= u64::from(summed) {
            return self.read_bytes(id, &layer, offset, out);
        }
        let end = (offset + out.len() as u64).div_ceil(BLOCK);
        let blocks = first as u32..end as u32;
        if offset == first * BLOCK && (offset + out.len() as u64) == end * BLOCK {
            self.read_bytes(id, &layer, offset, out)?;
            return self.check(id, summed, blocks, out);
        }
        let mut whole = vec![0; ((end - first) * BLOCK) as usize];
        self.read_bytes(id, &layer, first * BLOCK, &mut whole)?;
        self.check(id, summed, blocks, &whole)?;
        let skip = (offset - first * BLOCK) as usize;
        out.copy_from_slice(&whole[skip..skip + out.len()]);
        Ok(())
    }

    fn check(&self, id: LayerId, summed: u32, blocks: Range<u32>, bytes: &[u8]) -> io::Result<()> {
        let mut damaged = None;
        let mut own = None;
        let mut kept = self.page.try_lock();
        let page = match &mut kept {
            Some(page) => &mut **page,
            None => own.get_or_insert_default(),
        };
        self.compare(id, summed, blocks, bytes, page, &mut |block| {
            damaged.get_or_insert(block);
        })?;
        let Some(block) = damaged else {
            return Ok(());
        };
        tracing::error!(layer = id.0, block, "a block does not match its checksum");
        Err(Errno::EIO.into())
    }

    /// Compares blocks with their sums, which those below `summed` have, and names those that differ. A page of sums that
    /// is in `page` already is not read again.
    pub(super) fn compare(
        &self,
        id: LayerId,
        summed: u32,
        blocks: Range<u32>,
        bytes: &[u8],
        page: &mut sums::Page,
        damaged: &mut dyn FnMut(u32),
    ) -> io::Result<()> {
        let blocks = blocks.start..blocks.end.min(summed);
        let file = || self.files.sums(id, summed).map_err(lost);
        for (block, bytes) in blocks.zip(bytes.chunks(BLOCK as usize)) {
            match page.sum(file, &self.uuid, (id, summed), block)? {
                Some(sum) if sum == sums::block_sum(&self.uuid, bytes) => {}
                _ => damaged(block),
            }
        }
        Ok(())
    }

    /// Fills `out`. The last block of the file may be short, its rest is zeros; blocks that begin
    /// behind the end of the file are lost.
    fn read_bytes(
        &self,
        id: LayerId,
        layer: &Layer,
        offset: u64,
        out: &mut [u8],
    ) -> io::Result<()> {
        if !self.overlay.is_empty() {
            return self.read_overlaid(id, layer, offset, out);
        }
        self.read_file(id, layer, offset, out)
    }

    fn read_file(&self, id: LayerId, layer: &Layer, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let file = self.blocks(id, layer, self.how()).inspect_err(|error| {
            tracing::error!(layer = id.0, %error, "a layer cannot be opened");
        });
        let file = match file.map_err(lost)? {
            Blocks::Plain(file) => file,
            Blocks::Packed(pack, file) => {
                return pack::read(pack, &*file, &self.chunks, offset, out);
            }
        };
        let read = file.read_at(out, offset)?;
        self.cached.read(id, offset, read);
        if read < out.len() {
            let end = file.len()?.next_multiple_of(BLOCK);
            if offset + out.len() as u64 > end {
                tracing::error!(layer = id.0, end, "a layer is shorter than it was");
                return Err(Errno::EIO.into());
            }
            out[read..].fill(0);
        }
        if self.doubtful && self.lacks(id, &*file, offset, out.len() as u64)? {
            tracing::error!(layer = id.0, offset, "blocks were given back already");
            return Err(Errno::EIO.into());
        }
        Ok(())
    }

    /// Whether a block of the range was given back to the medium. Those with checksums tell that by themselves.
    pub(super) fn lacks(
        &self,
        id: LayerId,
        file: &dyn DiskFile,
        offset: u64,
        len: u64,
    ) -> io::Result<bool> {
        let summed = u64::from(self.layer(id)?.summed.load(Ordering::Acquire));
        for block in (offset / BLOCK).max(summed)..(offset + len).div_ceil(BLOCK) {
            if file.is_hole(block * BLOCK, BLOCK)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// How to open data files: for writing as well while that is allowed, since they are shared.
    pub(super) fn how(&self) -> OpenHow {
        if self.health.check().is_ok() {
            OpenHow::Write
        } else {
            OpenHow::Read
        }
    }

    /// As [`Self::read_file`], block by block, preferring what the journal holds.
    fn read_overlaid(
        &self,
        id: LayerId,
        layer: &Layer,
        offset: u64,
        out: &mut [u8],
    ) -> io::Result<()> {
        let mut done = 0;
        while done < out.len() {
            let at = offset + done as u64;
            let within = (at % BLOCK) as usize;
            let count = (BLOCK as usize - within).min(out.len() - done);
            let part = &mut out[done..done + count];
            match self.overlay.get(&(id.0, (at / BLOCK) as u32)) {
                Some(bytes) => part.copy_from_slice(&bytes[within..within + count]),
                None => self.read_file(id, layer, at, part)?,
            }
            done += count;
        }
        Ok(())
    }

    /// A block as it is now, for the journal; zeros where it has none. The layer is not synced with it: were the block written
    /// back in vain meanwhile, what is read might be older, and nobody else would ask.
    pub fn read_block(&self, id: LayerId, block: u32) -> io::Result<Vec<u8>> {
        let file = self.files.data(id, self.how())?;
        let mut bytes = vec![0; BLOCK as usize];
        let read = file.read_at(&mut bytes, u64::from(block) * BLOCK)?;
        bytes[read..].fill(0);
        file.told_written(u64::from(block) * BLOCK, BLOCK)
            .map_err(|error| self.health.poisoned("a layer", &error))?;
        Ok(bytes)
    }
}

/// A file that should be there and is not is damage.
pub(super) fn lost(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::NotFound => Errno::EIO.into(),
        _ => error,
    }
}
