//! The end of the journal: where the next frame goes, and what is known about the bytes there.

use super::frame::{self, Barrier, Kind, SegmentSeed};
use super::segment::{HEADER_LEN, SegmentHeader};
use crate::store::disk::DiskFile;
use std::io;
use std::sync::Arc;

/// What is written ahead of the tail.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

pub(super) struct Tail {
    pub file: Arc<dyn DiskFile>,
    pub segment: u32,
    seed: SegmentSeed,
    /// Where the next frame goes.
    pub offset: u64,
    /// Zeros were written up to here, so that overwriting them changes no metadata and takes no space.
    pub prepared: u64,
    /// A failed write may have left bytes at `offset`.
    torn: bool,
    /// The number of the next frame that is written.
    next_seq: u64,
    /// Synced up to here.
    pub durable: u64,
    /// The last barrier written.
    pub barrier: Barrier,
    /// The number of the last record.
    pub last_record: u64,
    /// Do not try to rotate before this offset.
    pub rotate_after: u64,
    /// Frames that were put and not yet written; kept for its allocation.
    buffer: Vec<u8>,
    put: u64,
    /// So many of them, in so many bytes at the front, wait for the next write, whoever makes it.
    waiting: (u64, usize),
}

impl Tail {
    pub fn begin(header: &SegmentHeader, uuid: &[u8; 16], file: Arc<dyn DiskFile>) -> Self {
        Self {
            file,
            segment: header.number,
            seed: header.seed(uuid),
            offset: HEADER_LEN,
            prepared: HEADER_LEN,
            torn: false,
            next_seq: header.first_seq,
            durable: HEADER_LEN,
            barrier: header.barrier,
            // Before the first barrier of this life everything is news.
            last_record: header.first_seq,
            rotate_after: 0,
            buffer: Vec::new(),
            put: 0,
            waiting: (0, 0),
        }
    }

    /// Where the next frame goes, behind those that wait.
    pub fn end(&self) -> u64 {
        self.offset + self.buffer.len() as u64
    }

    /// The number of the next frame.
    pub fn next_seq(&self) -> u64 {
        self.next_seq + self.put
    }

    /// Goes on in a new, empty segment; the old one's file.
    pub fn follow(
        &mut self,
        header: &SegmentHeader,
        uuid: &[u8; 16],
        file: Arc<dyn DiskFile>,
    ) -> Arc<dyn DiskFile> {
        self.segment = header.number;
        self.seed = header.seed(uuid);
        self.offset = HEADER_LEN;
        self.prepared = HEADER_LEN;
        self.durable = HEADER_LEN;
        self.rotate_after = 0;
        std::mem::replace(&mut self.file, file)
    }

    /// Adds a frame to those of the next [`Self::write`]. Room must have been made.
    pub fn put(&mut self, kind: Kind, payload: &[&[u8]]) {
        let seq = self.next_seq();
        frame::encode(&mut self.buffer, self.seed, self.offset, kind, seq, payload);
        self.put += 1;
    }

    /// What was put goes with the next write, or now if that is enough for one of its own: `most` bytes.
    pub fn wait(&mut self, most: usize) -> io::Result<()> {
        if self.buffer.len() > most {
            return self.write();
        }
        self.waiting = (self.put, self.buffer.len());
        Ok(())
    }

    /// Writes what was put, all or (as far as anyone will ever see) nothing; then what waited goes on waiting.
    pub fn write(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let answer = self.file.write_at(&self.buffer, self.offset);
        let (frames, written) = (self.put, self.buffer.len() as u64);
        if answer.is_ok() {
            self.waiting = (0, 0);
        }
        self.put = self.waiting.0;
        self.buffer.truncate(self.waiting.1);
        // One giant record must not keep its memory for ever.
        self.buffer.shrink_to(1 << 20);
        match answer {
            Ok(()) => {
                self.offset += written;
                self.prepared = self.prepared.max(self.offset);
                self.next_seq += frames;
                Ok(())
            }
            Err(error) => {
                self.torn = true;
                if let Err(error) = self.repair() {
                    tracing::warn!(%error, "a torn journal tail waits for its repair");
                }
                Err(error)
            }
        }
    }

    /// Cuts away what a failed write left. Until that worked nothing can be appended: a shorter frame
    /// over a longer torn one would leave bytes behind it that look like damage.
    pub fn repair(&mut self) -> io::Result<()> {
        if self.torn {
            self.file.set_len(self.offset)?;
            self.prepared = self.offset;
            self.torn = false;
        }
        Ok(())
    }

    /// Writes zeros up to `least` bytes or, if they fit, a whole step beyond.
    pub fn prepare(&mut self, least: u64, step: u64) -> io::Result<()> {
        if self.zero_to(least.next_multiple_of(step.max(1))).is_ok() {
            return Ok(());
        }
        self.zero_to(least)
    }

    fn zero_to(&mut self, end: u64) -> io::Result<()> {
        while self.prepared < end {
            let step = (end - self.prepared).min(ZEROS.len() as u64);
            self.file.write_at(&ZEROS[..step as usize], self.prepared)?;
            self.prepared += step;
        }
        Ok(())
    }
}
