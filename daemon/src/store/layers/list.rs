//! Which layers have checksums, of how many blocks: so that a checksum file that is gone is told from one that never was.
//!
//! What it says was true when it was written, and a layer never has fewer later. An older list is a true one too.

use super::{DIR, LayerId};
use crate::store::disk::{Disk, OpenHow};
use crate::store::superblock::u32_at;
use std::io;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

const MAGIC: &[u8; 8] = b"LLFSLIST";
/// Checksum, signature, uuid, number of entries, zeros.
const HEADER: usize = 40;
const ENTRY: usize = 8;
/// More layers than a store can have disk for: what states more is damaged.
const MOST: usize = 1 << 22;

/// A layer, and how many of its blocks have checksums.
pub(super) type Summed = (LayerId, u32);

fn path() -> PathBuf {
    Path::new(DIR).join("summed")
}

fn sum(uuid: &[u8; 16], bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(&bytes[8..], xxh3_64(uuid))
}

/// Writes the list in place of the one that is there. After an error that one is still there.
pub(super) fn write(disk: &dyn Disk, uuid: &[u8; 16], layers: &[Summed]) -> io::Result<()> {
    let mut bytes = vec![0; HEADER];
    bytes[8..16].copy_from_slice(MAGIC);
    bytes[16..32].copy_from_slice(uuid);
    bytes[32..36].copy_from_slice(&(layers.len() as u32).to_le_bytes());
    for (id, blocks) in layers {
        bytes.extend_from_slice(&id.0.to_le_bytes());
        bytes.extend_from_slice(&blocks.to_le_bytes());
    }
    let sum = sum(uuid, &bytes);
    bytes[..8].copy_from_slice(&sum.to_le_bytes());
    let temporary = path().with_extension("tmp");
    let file = disk.open(&temporary, OpenHow::Replace)?;
    let written = file
        .write_at(&bytes, 0)
        .and_then(|()| file.sync_data())
        .and_then(|()| disk.rename(&temporary, &path()));
    if written.is_err()
        && let Err(error) = disk.remove(&temporary)
    {
        tracing::debug!(%error, "an unfinished list of checksums was not removed");
    }
    written
}

/// Reads the list; empty without one. A damaged one says nothing.
pub(super) fn read(disk: &dyn Disk, uuid: &[u8; 16]) -> io::Result<Vec<Summed>> {
    let file = match disk.open(&path(), OpenHow::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let length = file.len()?;
    let most = (HEADER + MOST * ENTRY) as u64;
    let mut bytes = vec![0; usize::try_from(length.min(most)).unwrap_or(0)];
    let read = file.read_at(&mut bytes, 0)?;
    let Some(layers) = decode(&bytes[..read], uuid) else {
        tracing::error!("the list of the layers that have checksums is damaged");
        return Ok(Vec::new());
    };
    Ok(layers)
}

fn decode(bytes: &[u8], uuid: &[u8; 16]) -> Option<Vec<Summed>> {
    if bytes.len() < HEADER || bytes[..8] != sum(uuid, bytes).to_le_bytes() {
        return None;
    }
    let count = u32_at(bytes, 32) as usize;
    if &bytes[8..16] != MAGIC || &bytes[16..32] != uuid || bytes.len() != HEADER + count * ENTRY {
        return None;
    }
    let entries = bytes[HEADER..].chunks(ENTRY);
    Some(
        entries
            .map(|entry| (LayerId(u32_at(entry, 0)), u32_at(entry, 4)))
            .collect(),
    )
}
