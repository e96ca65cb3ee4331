//! Archiving a layer: its pack takes the place of its data file.

use super::pack::{self, CHUNK_BLOCKS, Pack};
use super::read::read_present;
use super::{BLOCK, Blocks, CLOSED, DIR, Layer, LayerId, Layers, data_path, pack_path, sums};
use crate::store::disk::{Disk, DiskFile, OpenHow};
use crate::store::journal::segment::number_of;
use nix::errno::Errno;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A pack that takes more than this part of what the data takes is not worth its slower reads.
const WORTH: (u64, u64) = (7, 8);

/// What archiving a layer gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Archived {
    /// Bytes that its data took on the medium.
    pub before: u64,
    /// Bytes that they take now; as many as before if it was not worth it, or not finished.
    pub after: u64,
}

/// A pack that is complete and durable, and has not got its name yet.
pub(crate) struct WrittenPack {
    id: LayerId,
    layer: Arc<Layer>,
    /// `None`: it is not worth it, or was not finished.
    pack: Option<Pack>,
    sizes: Archived,
}

impl Layers {
    /// Compresses the blocks of a layer that takes no more of them and has the checksums of all. `None`: it is not one, or is archived
    /// already, or gone. `progress` is told the bytes of each step, and answers whether to go on. One at a time. Blocks may be given back
    /// meanwhile: as long as none is needed, it does not matter what the pack has of it.
    pub fn write_pack(
        &self,
        id: LayerId,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> io::Result<Option<WrittenPack>> {
        self.health.check()?;
        let Some(layer) = self.map.read().get(&id.0).cloned() else {
            return Ok(None);
        };
        if layer.sealed.load(Ordering::Acquire) != CLOSED || !layer.is_summed() {
            return Ok(None);
        }
        let data = match self.blocks(id, &layer, OpenHow::Write) {
            // Nothing was ever written to it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
            Ok(Blocks::Packed(..)) => return Ok(None),
            Ok(Blocks::Plain(data)) => data,
        };
        let before = data.disk_bytes()?;
        let whole = Archived {
            before,
            after: before,
        };
        match self.fill_pack(&*data, (id, &layer), before, progress) {
            Ok(Some((pack, after))) => Ok(Some(WrittenPack {
                id,
                layer,
                pack: Some(pack),
                sizes: Archived { before, after },
            })),
            other => {
                self.drop_unfinished(id);
                other.map(|_| {
                    Some(WrittenPack {
                        id,
                        layer,
                        pack: None,
                        sizes: whole,
                    })
                })
            }
        }
    }

    /// A pack takes the place of the data file. No layer may be removed, and no block given back, meanwhile. `None`: the layer was
    /// removed before.
    ///
    /// The pack was synced before it gets its name, and its name is before the data file goes: whatever is cut in between, one of
    /// the two is whole.
    pub fn place_pack(&self, written: WrittenPack) -> io::Result<Option<Archived>> {
        let WrittenPack {
            id,
            layer,
            pack,
            sizes,
        } = written;
        let Some(pack) = pack else {
            return Ok(Some(sizes));
        };
        if !self.map.read().contains_key(&id.0) {
            self.drop_unfinished(id);
            return Ok(None);
        }
        if let Err(error) = self.disk.rename(&unfinished(id), &pack_path(id.0)) {
            self.drop_unfinished(id);
            return Err(error);
        }
        self.dirty.renamed();
        self.sync_names()?;
        // From here on readers find this, before the data file is gone.
        if layer.packed.set(pack).is_err() {
            tracing::error!(layer = id.0, "a layer was archived twice");
        }
        self.dirty.forget(id);
        self.files.forget_data(id);
        self.disk.remove(&data_path(id.0))?;
        self.dirty.names_changed();
        Ok(Some(sizes))
    }

    /// Writes a pack and syncs it, and tells how much it takes. `None`: it would not be worth it, or `progress` said no.
    fn fill_pack(
        &self,
        data: &dyn DiskFile,
        (id, layer): (LayerId, &Layer),
        before: u64,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> io::Result<Option<(Pack, u64)>> {
        let blocks = u32::try_from(data.len()?.div_ceil(BLOCK)).map_err(|_| Errno::EFBIG)?;
        let out = self.disk.open(&unfinished(id), OpenHow::Replace)?;
        let mut writer = pack::Writer::new(&*out, &self.uuid, id, blocks)?;
        let summed = layer.summed.load(Ordering::Acquire);
        let page = &mut sums::Page::default();
        let mut bytes = vec![0; CHUNK_BLOCKS as usize * BLOCK as usize];
        for first in (0..blocks).step_by(CHUNK_BLOCKS as usize) {
            let end = blocks.min(first + CHUNK_BLOCKS);
            let chunk = &mut bytes[..(end - first) as usize * BLOCK as usize];
            read_present(data, chunk, u64::from(first) * BLOCK)?;
            self.is_what_was_written((id, summed), first..end, chunk, page)?;
            writer.add(chunk)?;
            if !progress(chunk.len() as u64) {
                return Ok(None);
            }
        }
        let pack = writer.finish(before)?;
        if let Err(error) = out.sync_data() {
            return Err(self.health.poisoned("an archived layer", &error));
        }
        let after = out.disk_bytes()?;
        let worth = after <= before / WORTH.1 * WORTH.0;
        Ok(worth.then_some((pack, after)))
    }

    /// The data file goes afterwards, so nothing is made of what was read wrong. What was given back reads as zeros.
    fn is_what_was_written(
        &self,
        (id, summed): (LayerId, u32),
        blocks: Range<u32>,
        bytes: &[u8],
        page: &mut sums::Page,
    ) -> io::Result<()> {
        let mut damaged = None;
        let first = blocks.start;
        self.compare(id, summed, blocks, bytes, page, &mut |block| {
            let at = (block - first) as usize * BLOCK as usize;
            if bytes[at..at + BLOCK as usize].iter().any(|byte| *byte != 0) {
                damaged = Some(block);
            }
        })?;
        let Some(block) = damaged else {
            return Ok(());
        };
        tracing::error!(layer = id.0, block, "a damaged layer is not archived");
        Err(Errno::EIO.into())
    }

    fn drop_unfinished(&self, id: LayerId) {
        // On a full disk its space is needed.
        if let Err(error) = self.disk.remove(&unfinished(id)) {
            tracing::debug!(layer = id.0, %error, "an unfinished pack was not removed");
        }
    }
}

/// A start removes what has such a name.
fn unfinished(id: LayerId) -> PathBuf {
    Path::new(DIR).join(format!("{:08}.pack.tmp", id.0))
}

/// At a start: data files of layers whose pack has its name go. The pack was synced before it got it; its name may not have been.
pub(crate) fn drop_archived_data(disk: &dyn Disk, uuid: &[u8; 16]) -> io::Result<()> {
    let names = disk.list(Path::new(DIR))?;
    let mut synced = false;
    for id in names.iter().filter_map(|name| number_of(name, "pack")) {
        let data = data_path(id);
        let has_data = names
            .iter()
            .any(|name| Some(name.as_os_str()) == data.file_name());
        if !has_data {
            continue;
        }
        let file = disk.open(&pack_path(id), OpenHow::Read)?;
        if Pack::read(&*file, uuid, LayerId(id))?.is_none() {
            continue;
        }
        if !synced {
            disk.sync_dir(Path::new(DIR))?;
            synced = true;
        }
        disk.remove(&data)?;
    }
    Ok(())
}
