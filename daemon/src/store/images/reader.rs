//! Reads an image; every chunk is checked before a byte of it is handed out.

use super::{CHUNK, HEADER_LEN, ImageHeader, chunk_sum, path};
use crate::store::disk::{Disk, DiskFile, OpenHow};
use std::io::{self, Read};
use std::sync::Arc;

/// An image's body, as [`Read`]. Damage gives `InvalidData`.
pub struct ImageReader {
    file: Arc<dyn DiskFile>,
    uuid: [u8; 16],
    header: ImageHeader,
    chunk: Vec<u8>,
    taken: usize,
    next_chunk: u64,
}

impl ImageReader {
    /// Opens image `number` and checks its header.
    pub(crate) fn open(disk: &dyn Disk, uuid: [u8; 16], number: u32) -> io::Result<Self> {
        let file = disk.open(&path(number), OpenHow::Read)?;
        let mut bytes = [0; HEADER_LEN];
        file.read_at(&mut bytes, 0)?;
        let header = ImageHeader::decode(&bytes, &uuid, number).ok_or_else(damaged)?;
        let chunks = header.length.div_ceil(CHUNK as u64);
        let length = (HEADER_LEN as u64)
            .checked_add(header.length)
            .and_then(|n| n.checked_add(chunks * 8));
        if length != Some(file.len()?) {
            return Err(damaged());
        }
        Ok(Self {
            file,
            uuid,
            header,
            chunk: Vec::new(),
            taken: 0,
            next_chunk: 0,
        })
    }

    /// Reads everything once, to know that it can be read.
    pub(crate) fn check(&mut self) -> io::Result<()> {
        while self.load()? {}
        self.chunk.clear();
        self.taken = 0;
        self.next_chunk = 0;
        Ok(())
    }

    /// The image holds the state after this sequence number.
    pub fn covers(&self) -> u64 {
        self.header.covers
    }

    /// Bytes of the body.
    pub fn length(&self) -> u64 {
        self.header.length
    }

    /// Loads the next chunk; whether there is one.
    fn load(&mut self) -> io::Result<bool> {
        let begin = self.next_chunk * CHUNK as u64;
        if begin >= self.header.length {
            return Ok(false);
        }
        let length = (self.header.length - begin).min(CHUNK as u64) as usize;
        let offset = HEADER_LEN as u64 + self.next_chunk * (CHUNK as u64 + 8);
        self.chunk.resize(length + 8, 0);
        if self.file.read_at(&mut self.chunk, offset)? != length + 8 {
            return Err(damaged());
        }
        let sum = chunk_sum(
            &self.uuid,
            self.header.number,
            self.next_chunk,
            &self.chunk[..length],
        );
        if self.chunk[length..] != sum.to_le_bytes() {
            return Err(damaged());
        }
        self.chunk.truncate(length);
        self.taken = 0;
        self.next_chunk += 1;
        Ok(true)
    }
}

impl Read for ImageReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.chunk.len() && !self.load()? {
            return Ok(0);
        }
        let count = out.len().min(self.chunk.len() - self.taken);
        out[..count].copy_from_slice(&self.chunk[self.taken..self.taken + count]);
        self.taken += count;
        Ok(count)
    }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the image is damaged")
}
