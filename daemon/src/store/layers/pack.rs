//! Archived layers: one that takes no more blocks, compressed in chunks. Its pack takes the place of its data file, block by
//! block the same; the checksums of its blocks stay what and where they are, and are what proves a read. Each chunk has a checksum of its
//! own besides, of what is stored: nothing is decompressed that was not written so, and damage that changes no block is told too.

use super::{BLOCK, LayerId};
use crate::store::disk::DiskFile;
use crate::store::superblock::{u32_at, u64_at};
use nix::errno::Errno;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

const MAGIC: &[u8; 8] = b"LLFSPACK";
const HEADER: usize = 64;
/// Blocks of a chunk: what a read of one block decompresses.
pub(super) const CHUNK_BLOCKS: u32 = 16;
/// Bytes of a chunk.
const CHUNK: u64 = CHUNK_BLOCKS as u64 * BLOCK;
/// Bytes of the checksum behind each chunk.
const SUM: usize = 8;
/// Chunks that are kept decompressed: 2 MiB.
const KEPT: usize = 32;

/// What is known of an archived layer.
pub(super) struct Pack {
    id: LayerId,
    /// The seed of its checksums.
    seed: u64,
    /// Blocks that its data file had.
    blocks: u32,
    /// Bytes that the data file took on the medium.
    pub plain: u64,
    /// Where each chunk begins in the file, and where the last one ends.
    starts: Vec<u64>,
}

fn seed(uuid: &[u8; 16], id: LayerId) -> u64 {
    xxh3_64(uuid) ^ u64::from(id.0) << 32
}

/// The checksum of chunk `number` as it is stored.
fn chunk_sum(seed: u64, number: usize, stored: &[u8]) -> [u8; SUM] {
    xxh3_64_with_seed(stored, seed ^ (number as u64 + 1)).to_le_bytes()
}

fn damaged(id: LayerId, why: &str) -> io::Error {
    tracing::error!(layer = id.0, why, "an archived layer is damaged");
    Errno::EIO.into()
}

impl Pack {
    /// Reads what a pack says of itself; `None` if that is damaged.
    pub fn read(file: &dyn DiskFile, uuid: &[u8; 16], id: LayerId) -> io::Result<Option<Pack>> {
        let seed = seed(uuid, id);
        let mut header = [0; HEADER];
        let read = file.read_at(&mut header, 0)?;
        let ours = read == HEADER
            && u64_at(&header, 56) == xxh3_64_with_seed(&header[..56], seed)
            && &header[..8] == MAGIC
            && &header[16..32] == uuid
            && u32_at(&header, 8) == id.0
            && u32_at(&header, 12) == CHUNK_BLOCKS;
        if !ours {
            return Ok(None);
        }
        let blocks = u32_at(&header, 32);
        let count = blocks.div_ceil(CHUNK_BLOCKS) as usize;
        // The index is within the file, so it bounds what a wrong number of blocks could ask for.
        if file.len()? < (HEADER + count * 4) as u64 {
            return Ok(None);
        }
        let mut index = vec![0; count * 4];
        let read = file.read_at(&mut index, HEADER as u64)?;
        if read < index.len() || u64_at(&header, 48) != xxh3_64_with_seed(&index, seed) {
            return Ok(None);
        }
        let mut at = (HEADER + index.len()) as u64;
        let mut starts = vec![at];
        starts.extend((0..count).map(|n| {
            at += u64::from(u32_at(&index, n * 4));
            at
        }));
        Ok(Some(Pack {
            id,
            seed,
            blocks,
            plain: u64_at(&header, 40),
            starts,
        }))
    }

    /// Whether the file still says of itself what this knows.
    pub fn is_whole(&self, file: &dyn DiskFile, uuid: &[u8; 16]) -> io::Result<bool> {
        let found = Pack::read(file, uuid, self.id)?;
        Ok(found.is_some_and(|found| found.starts == self.starts))
    }

    /// Blocks that there are.
    pub fn blocks(&self) -> u32 {
        self.blocks
    }

    /// How many chunks there are.
    pub fn chunks(&self) -> usize {
        self.starts.len() - 1
    }

    fn len(&self) -> u64 {
        u64::from(self.blocks) * BLOCK
    }

    /// A chunk as it was.
    pub fn chunk(&self, file: &dyn DiskFile, number: usize) -> io::Result<Vec<u8>> {
        let length = (self.len() - number as u64 * CHUNK).min(CHUNK) as usize;
        let (start, end) = (self.starts[number], self.starts[number + 1]);
        if start == end {
            return Ok(vec![0; length]);
        }
        // No longer than what is not compressed: the index is proved, so anything else is no pack of ours.
        let Some(stored) = usize::try_from(end - start)
            .ok()
            .filter(|&stored| stored > SUM && stored - SUM <= length)
        else {
            return Err(damaged(self.id, "a chunk has no length that it can have"));
        };
        let mut bytes = vec![0; stored];
        if file.read_at(&mut bytes, start)? < stored {
            return Err(damaged(self.id, "it is shorter than it was"));
        }
        let (stored, sum) = bytes.split_at(stored - SUM);
        if chunk_sum(self.seed, number, stored) != sum {
            return Err(damaged(self.id, "a chunk does not match its checksum"));
        }
        if stored.len() == length {
            bytes.truncate(length);
            return Ok(bytes);
        }
        match zstd::bulk::decompress(stored, length) {
            Ok(chunk) if chunk.len() == length => Ok(chunk),
            _ => Err(damaged(self.id, "a chunk cannot be decompressed")),
        }
    }

    /// Gives back what belongs to nothing but these blocks.
    pub fn punch(&self, file: &dyn DiskFile, blocks: &[Range<u32>]) -> io::Result<()> {
        for range in blocks {
            let first = range.start.div_ceil(CHUNK_BLOCKS) as usize;
            let end = match range.end >= self.blocks {
                true => self.chunks(),
                false => (range.end / CHUNK_BLOCKS) as usize,
            };
            if first < end && self.starts[first] < self.starts[end] {
                super::give_back(file, self.starts[first]..self.starts[end])?;
            }
        }
        Ok(())
    }
}

/// Writes a pack, chunk by chunk.
pub(super) struct Writer<'a> {
    file: &'a dyn DiskFile,
    uuid: [u8; 16],
    id: LayerId,
    seed: u64,
    blocks: u32,
    packer: zstd::bulk::Compressor<'static>,
    lengths: Vec<u32>,
    /// Of each chunk as it is before it is compressed.
    sums: Vec<u64>,
    at: u64,
}

/// How hard the compressor tries: what is archived is written once and read seldom.
const LEVEL: i32 = 9;

impl<'a> Writer<'a> {
    pub fn new(
        file: &'a dyn DiskFile,
        uuid: &[u8; 16],
        id: LayerId,
        blocks: u32,
    ) -> io::Result<Writer<'a>> {
        let count = blocks.div_ceil(CHUNK_BLOCKS) as usize;
        Ok(Writer {
            file,
            uuid: *uuid,
            id,
            seed: seed(uuid, id),
            blocks,
            packer: zstd::bulk::Compressor::new(LEVEL)?,
            lengths: Vec::with_capacity(count),
            sums: Vec::with_capacity(count),
            at: (HEADER + count * 4) as u64,
        })
    }

    /// The next chunk.
    pub fn add(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.sums.push(xxh3_64(chunk));
        if chunk.iter().all(|byte| *byte == 0) {
            self.lengths.push(0);
            return Ok(());
        }
        let mut stored = self.packer.compress(chunk)?;
        if stored.len() >= chunk.len() {
            stored = chunk.to_vec();
        }
        let sum = chunk_sum(self.seed, self.lengths.len(), &stored);
        stored.extend_from_slice(&sum);
        self.file.write_at(&stored, self.at)?;
        self.lengths.push(stored.len() as u32);
        self.at += stored.len() as u64;
        Ok(())
    }

    /// Writes what the pack says of itself, and reads all of it back: the data file goes when this has its place, so what cannot be read
    /// would be lost. `plain` bytes were taken on the medium before. Nothing is synced.
    pub fn finish(self, plain: u64) -> io::Result<Pack> {
        let index: Vec<u8> = self.lengths.iter().flat_map(|n| n.to_le_bytes()).collect();
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(MAGIC);
        header[8..12].copy_from_slice(&self.id.0.to_le_bytes());
        header[12..16].copy_from_slice(&CHUNK_BLOCKS.to_le_bytes());
        header[16..32].copy_from_slice(&self.uuid);
        header[32..36].copy_from_slice(&self.blocks.to_le_bytes());
        header[40..48].copy_from_slice(&plain.to_le_bytes());
        let sum = xxh3_64_with_seed(&index, self.seed);
        header[48..56].copy_from_slice(&sum.to_le_bytes());
        let own = xxh3_64_with_seed(&header[..56], self.seed);
        header[56..].copy_from_slice(&own.to_le_bytes());
        self.file.write_at(&index, HEADER as u64)?;
        self.file.write_at(&header, 0)?;
        let Some(pack) = Pack::read(self.file, &self.uuid, self.id)? else {
            return Err(damaged(self.id, "it cannot be read back"));
        };
        for (number, sum) in self.sums.iter().enumerate() {
            if xxh3_64(&pack.chunk(self.file, number)?) != *sum {
                return Err(damaged(
                    self.id,
                    "what is read back is not what was written",
                ));
            }
        }
        Ok(pack)
    }
}

/// The chunks that were read last, the newest at the end.
#[derive(Default)]
pub(super) struct Chunks(VecDeque<(LayerId, usize, Arc<Vec<u8>>)>);

impl Chunks {
    fn find(&mut self, id: LayerId, number: usize) -> Option<Arc<Vec<u8>>> {
        let at = (self.0.iter()).rposition(|(layer, chunk, _)| (*layer, *chunk) == (id, number))?;
        let found = self.0.remove(at)?;
        let chunk = found.2.clone();
        self.0.push_back(found);
        Some(chunk)
    }

    fn keep(&mut self, id: LayerId, number: usize, chunk: Arc<Vec<u8>>) {
        if self.0.len() >= KEPT {
            self.0.pop_front();
        }
        self.0.push_back((id, number, chunk));
    }

    /// Whatever is read from here on comes from the medium.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// Fills `out` from byte `offset` of an archived layer on. `chunks` is not held while anything is read or decompressed.
pub(super) fn read(
    pack: &Pack,
    file: &dyn DiskFile,
    chunks: &Mutex<Chunks>,
    offset: u64,
    out: &mut [u8],
) -> io::Result<()> {
    let id = pack.id;
    if offset + out.len() as u64 > pack.len() {
        return Err(damaged(id, "it is shorter than it was"));
    }
    let mut done = 0;
    while done < out.len() {
        let at = offset + done as u64;
        let number = (at / CHUNK) as usize;
        let kept = chunks.lock().find(id, number);
        let chunk = match kept {
            Some(chunk) => chunk,
            None => {
                let chunk = Arc::new(pack.chunk(file, number)?);
                chunks.lock().keep(id, number, chunk.clone());
                chunk
            }
        };
        let within = (at % CHUNK) as usize;
        let count = (chunk.len() - within).min(out.len() - done);
        out[done..done + count].copy_from_slice(&chunk[within..within + count]);
        done += count;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_that_were_read_last_are_kept_and_no_more() {
        let mut chunks = Chunks::default();
        for number in 0..10 * KEPT {
            chunks.keep(LayerId(1), number, Arc::new(Vec::new()));
            assert!(chunks.find(LayerId(1), 0).is_some(), "{number}");
        }
        assert_eq!(chunks.0.len(), KEPT);
        assert!(chunks.find(LayerId(1), 1).is_none());
    }
}
