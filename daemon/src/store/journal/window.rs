//! Reads a file front to back in big steps, handing out any range of it.

use crate::store::disk::DiskFile;
use std::io;

const STEP: usize = 1 << 20;

pub(super) struct Window<'a> {
    file: &'a dyn DiskFile,
    bytes: Vec<u8>,
    start: u64,
    /// The file's length when it was opened.
    pub len: u64,
}

impl<'a> Window<'a> {
    pub fn new(file: &'a dyn DiskFile) -> io::Result<Self> {
        Ok(Self {
            file,
            bytes: Vec::new(),
            start: 0,
            len: file.len()?,
        })
    }

    /// Up to `count` bytes at `offset`, fewer at the end of the file.
    pub fn get(&mut self, offset: u64, count: usize) -> io::Result<&[u8]> {
        let count = (count as u64).min(self.len.saturating_sub(offset)) as usize;
        let end = self.start + self.bytes.len() as u64;
        if offset < self.start || offset + count as u64 > end {
            let wanted = (count.max(STEP) as u64).min(self.len - offset) as usize;
            self.bytes.resize(wanted, 0);
            let read = self.file.read_at(&mut self.bytes, offset)?;
            self.bytes.truncate(read);
            self.start = offset;
        }
        let from = (offset - self.start) as usize;
        let to = (from + count).min(self.bytes.len());
        Ok(&self.bytes[from..to])
    }
}
