//! Images of the state: opaque to the store, written now and then so that the journal can be short.

mod reader;
mod writer;

pub use reader::ImageReader;
pub(crate) use writer::write;

use super::disk::Disk;
use super::journal::frame::SEQ_MAX;
use super::journal::segment::number_of;
use super::superblock::{u32_at, u64_at};
use std::io;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64_with_seed;

pub(crate) const DIR: &str = "images";
/// How many are kept: if the newest is damaged the one before serves, with its longer journal.
pub(crate) const KEPT: usize = 2;

const MAGIC: &[u8; 8] = b"LLFSIMAG";
const HEADER_LEN: usize = 64;
/// Bytes of the body below one checksum.
const CHUNK: usize = 1 << 20;

/// What an image's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ImageHeader {
    pub number: u32,
    /// It holds everything up to this sequence number.
    pub covers: u64,
    /// Bytes of the body, without checksums.
    pub length: u64,
}

impl ImageHeader {
    fn encode(&self, uuid: &[u8; 16]) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&self.number.to_le_bytes());
        out[12..16].copy_from_slice(&(CHUNK as u32).to_le_bytes());
        out[16..32].copy_from_slice(uuid);
        out[32..40].copy_from_slice(&self.covers.to_le_bytes());
        out[40..48].copy_from_slice(&self.length.to_le_bytes());
        let sum = xxh3_64_with_seed(&out[..56], 0);
        out[56..].copy_from_slice(&sum.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8; HEADER_LEN], uuid: &[u8; 16], number: u32) -> Option<Self> {
        let ours = xxh3_64_with_seed(&bytes[..56], 0) == u64_at(bytes, 56)
            && &bytes[..8] == MAGIC
            && &bytes[16..32] == uuid
            && u32_at(bytes, 8) == number
            && u32_at(bytes, 12) as usize == CHUNK
            && u64_at(bytes, 32) <= SEQ_MAX;
        ours.then(|| Self {
            number,
            covers: u64_at(bytes, 32),
            length: u64_at(bytes, 40),
        })
    }
}

/// The checksum of a chunk; a chunk is valid in its own image and place only.
fn chunk_sum(uuid: &[u8; 16], number: u32, index: u64, bytes: &[u8]) -> u64 {
    let seed = xxh3_64_with_seed(uuid, u64::from(number)).wrapping_add(index);
    xxh3_64_with_seed(bytes, seed)
}

pub(crate) fn path(number: u32) -> PathBuf {
    Path::new(DIR).join(format!("{number:08}.img"))
}

/// The numbers of the images there are, ascending.
pub(crate) fn list(disk: &dyn Disk) -> io::Result<Vec<u32>> {
    let mut numbers: Vec<u32> = disk
        .list(Path::new(DIR))?
        .iter()
        .filter_map(|name| number_of(name, "img"))
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}
