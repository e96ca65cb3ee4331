//! Parts of a store with right checksums and any content, as docs/FORMAT.md has them: an implementation of its own,
//! so that what the daemon reads is not only what it wrote.

use std::path::PathBuf;
use std::sync::Arc;

use llfs::store::{BootToken, OpenError, Recovered, Store, StoreOptions, Superblock};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::disk::MemDisk;

pub const UUID: [u8; 16] = *b"a store, 16 byte";
/// The life of the machine that wrote the store, and the next one.
pub const BOOT: BootToken = BootToken([1; 16]);
pub const NEXT_BOOT: BootToken = BootToken([2; 16]);

/// Small sizes, so that little happens for each input.
pub fn options(boot: BootToken) -> StoreOptions {
    StoreOptions {
        boot: Some(boot),
        segment_bytes: 16 << 10,
        prepare_bytes: 512,
        kept_bytes: 256,
        reserve_bytes: 0,
        ..StoreOptions::default()
    }
}

pub fn superblock() -> Superblock {
    Superblock {
        uuid: UUID,
        base_path: PathBuf::from("/some/where"),
        base_dev: 66,
        base_ino: 77,
        created: 1_700_000_000,
    }
}

/// A new store.
pub fn made() -> MemDisk {
    let disk = MemDisk::default();
    Store::create(&disk, &superblock()).expect("an empty disk takes a store");
    disk
}

pub fn open(disk: &MemDisk, options: &StoreOptions) -> Result<(Store, Recovered), OpenError> {
    Store::open(Arc::new(disk.clone()), options)
}

/// What a start finds in the journal.
pub fn records(recovered: &Recovered) -> Result<Vec<Vec<u8>>, OpenError> {
    let mut all = Vec::new();
    recovered.replay(&mut |_, bytes| {
        all.push(bytes.to_vec());
        Ok(())
    })?;
    Ok(all)
}

/// What a segment's header says besides who it belongs to.
pub struct Header {
    pub number: u32,
    pub boot: BootToken,
    pub first_seq: u64,
    pub previous_end: u64,
    pub covers: u64,
    pub data_seq: u64,
}

pub fn header(h: &Header) -> Vec<u8> {
    let mut out = vec![0; 128];
    out[..8].copy_from_slice(b"LLFSJRNL");
    out[8..12].copy_from_slice(&h.number.to_le_bytes());
    out[16..32].copy_from_slice(&UUID);
    out[32..48].copy_from_slice(&h.boot.0);
    for (at, value) in [
        (48, h.first_seq),
        (56, h.previous_end),
        (64, h.covers),
        (72, h.data_seq),
    ] {
        out[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    let sum = xxh3_64(&out[..120]);
    out[120..].copy_from_slice(&sum.to_le_bytes());
    out
}

/// Adds a frame to the segment `number`.
pub fn frame(segment: &mut Vec<u8>, number: u32, kind: u8, seq: u64, payload: &[u8]) {
    segment.resize(segment.len().next_multiple_of(8), 0);
    let start = segment.len();
    segment.extend_from_slice(&[0; 8]);
    segment.extend_from_slice(b"LjF");
    segment.push(kind);
    segment.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    segment.extend_from_slice(&seq.to_le_bytes());
    segment.extend_from_slice(payload);
    segment.resize(segment.len().next_multiple_of(8), 0);
    let mut seed = UUID.to_vec();
    seed.extend_from_slice(&number.to_le_bytes());
    let seed = xxh3_64(&seed).wrapping_add(start as u64);
    let sum = xxh3_64_with_seed(&segment[start + 8..], seed);
    segment[start..start + 8].copy_from_slice(&sum.to_le_bytes());
}

/// An image with this body.
pub fn image(number: u32, covers: u64, length: u64, body: &[u8]) -> Vec<u8> {
    let mut out = b"LLFSIMAG".to_vec();
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&(1u32 << 20).to_le_bytes());
    out.extend_from_slice(&UUID);
    out.extend_from_slice(&covers.to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&xxh3_64_with_seed(&out, 0).to_le_bytes());
    for (index, chunk) in body.chunks(1 << 20).enumerate() {
        let seed = xxh3_64_with_seed(&UUID, u64::from(number)).wrapping_add(index as u64);
        out.extend_from_slice(chunk);
        out.extend_from_slice(&xxh3_64_with_seed(chunk, seed).to_le_bytes());
    }
    out
}
