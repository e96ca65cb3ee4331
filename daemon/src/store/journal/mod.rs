//! The journal: an append-only run of checksummed frames in segments. `scan` reads it back after a
//! start; here is the writing half.

pub(crate) mod behind;
mod check;
pub(crate) mod frame;
pub(crate) mod scan;
pub(crate) mod segment;
mod tail;
mod window;

use super::boot::BootToken;
use super::disk::{Disk, DiskFile};
use super::health::Health;
use frame::{Barrier, Kind, MAX_PAYLOAD, frame_len};
use nix::errno::Errno;
use parking_lot::Mutex;
use segment::{HEADER_LEN, SegmentHeader};
use std::io;
use std::path::Path;
use std::sync::Arc;
use tail::Tail;

/// Sizes of the journal, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// A segment is left for a new one beyond this.
    pub segment: u64,
    /// Zeros are written ahead of the tail in steps of this.
    pub prepare: u64,
    /// What ordinary records leave free of the zeros ahead, for barriers and kept appends.
    pub kept: u64,
}

/// Bytes of frames that wait for the next write, at most.
const WAITING_MAX: usize = 4096;

/// Who may use the last of the space that was written ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// Ordinary records stop before it.
    Ordinary,
    /// Records that take what is ready: they leave a barrier's worth, or making them durable would cost the reserve.
    Ready,
    /// Barriers, and records that free space.
    Kept,
}

/// A block of a layer, copied.
pub(crate) struct BlockCopy {
    pub layer: u32,
    pub block: u32,
    pub bytes: Vec<u8>,
}

/// Frames that were written and wait for their sync.
pub(crate) struct Commit {
    pub file: Arc<dyn DiskFile>,
    segment: u32,
    end: u64,
}

/// The writing half of the journal. Its lock is taken last (see the order in the store's module).
pub(crate) struct Journal {
    disk: Arc<dyn Disk>,
    uuid: [u8; 16],
    boot: BootToken,
    health: Arc<Health>,
    sizes: Sizes,
    tail: Mutex<Tail>,
}

impl Journal {
    /// Continues in the segment of `header`, which was just made and has no frames.
    pub fn new(
        disk: Arc<dyn Disk>,
        uuid: [u8; 16],
        health: Arc<Health>,
        sizes: Sizes,
        header: &SegmentHeader,
        file: Arc<dyn DiskFile>,
    ) -> Self {
        let tail = Mutex::new(Tail::begin(header, &uuid, file));
        Self {
            disk,
            uuid,
            boot: header.boot,
            health,
            sizes,
            tail,
        }
    }

    /// Appends a record; its sequence number. On an error the journal is as before.
    pub fn append(&self, payload: &[u8], room: Room) -> io::Result<u64> {
        if payload.len() > MAX_PAYLOAD {
            return Err(Errno::EFBIG.into());
        }
        let mut tail = self.tail.lock();
        self.make_room(&mut tail, frame_len(payload.len()), room)?;
        tail.put(Kind::Record, &[payload]);
        tail.write()?;
        tail.last_record = tail.next_seq() - 1;
        Ok(tail.last_record)
    }

    /// Appends a record that is written with the next one, or by the next barrier. Until then it does not survive the
    /// process, nor does anything that comes after it.
    pub fn append_later(&self, payload: &[u8], room: Room) -> io::Result<()> {
        if payload.len() > MAX_PAYLOAD {
            return Err(Errno::EFBIG.into());
        }
        let mut tail = self.tail.lock();
        self.make_room(&mut tail, frame_len(payload.len()), room)?;
        tail.put(Kind::Record, &[payload]);
        tail.wait(WAITING_MAX)?;
        tail.last_record = tail.next_seq() - 1;
        Ok(())
    }

    /// The last frame's sequence number; every record that was acknowledged has this or a lower one.
    pub fn last_seq(&self) -> u64 {
        self.tail.lock().next_seq() - 1
    }

    /// The last record's sequence number. A flush that covers it makes it durable; one in the middle of which it came lies
    /// around it, and does not.
    pub fn last_record(&self) -> u64 {
        self.tail.lock().last_record
    }

    /// Writes copies of blocks and a barrier behind them, in one write. `flushed` says that all
    /// layer data up to `covers` was synced, so that older copies are superseded.
    ///
    /// The caller syncs the file of the answer and then calls [`Self::synced`].
    pub fn barrier(&self, covers: u64, copies: &[BlockCopy], flushed: bool) -> io::Result<Commit> {
        let mut need = frame_len(Barrier::LEN);
        for copy in copies {
            need += frame_len(8 + copy.bytes.len());
        }
        let mut tail = self.tail.lock();
        // The room that is kept is for what has no other way: without copies the layers are synced.
        let room = match copies.is_empty() {
            true => Room::Kept,
            false => Room::Ordinary,
        };
        self.make_room(&mut tail, need, room)?;
        for copy in copies {
            let place = [copy.layer.to_le_bytes(), copy.block.to_le_bytes()].concat();
            tail.put(Kind::Data, &[&place, &copy.bytes]);
        }
        let data_seq = if flushed {
            covers
        } else {
            tail.barrier.data_seq
        };
        let barrier = Barrier {
            covers,
            data_seq,
            durable: (tail.segment, tail.durable),
        };
        tail.put(Kind::Barrier, &[&barrier.encode()]);
        tail.write()?;
        tail.barrier = barrier;
        Ok(Commit {
            file: tail.file.clone(),
            segment: tail.segment,
            end: tail.offset,
        })
    }

    /// The commit's file was synced after its frames were written.
    pub fn synced(&self, commit: &Commit) {
        let mut tail = self.tail.lock();
        if tail.segment == commit.segment {
            tail.durable = tail.durable.max(commit.end);
        }
    }

    /// Deletes the segments of which every frame is in an image that covers `seq`.
    pub fn remove_covered(&self, seq: u64) -> io::Result<()> {
        if !scan::remove_covered(&*self.disk, &self.uuid, seq)? {
            return Ok(());
        }
        // Held: a rotation relies on the sync of its segment's name, which is not told an error that this one was told.
        let _tail = self.tail.lock();
        let synced = self.disk.sync_dir(Path::new(segment::DIR));
        synced.map_err(|error| self.health.poisoned("the journal's directory", &error))
    }

    /// Begins a new segment if the present one has at least `bytes` of frames.
    pub fn rotate_beyond(&self, bytes: u64) -> io::Result<()> {
        let mut tail = self.tail.lock();
        self.health.check()?;
        if tail.end() - HEADER_LEN < bytes {
            return Ok(());
        }
        tail.repair()?;
        self.rotate(&mut tail)
    }

    /// Takes the room that is kept for barriers and kept appends, or as much of it as there is: where the disk is full, ordinary writes
    /// would take it otherwise, and the next start of the store has no other space than what lies behind the end (`cut_tail`).
    pub fn keep_room(&self) {
        let mut tail = self.tail.lock();
        let (end, mut room) = (tail.end(), self.sizes.kept);
        while room >= 2 * HEADER_LEN && tail.prepare(end + room, 1).is_err() {
            room -= room / 8;
        }
    }

    /// Sees to it that `need` bytes can be written at the tail.
    fn make_room(&self, tail: &mut Tail, need: usize, room: Room) -> io::Result<()> {
        self.health.check()?;
        tail.repair()?;
        let need = need as u64;
        if tail.end() + need > self.sizes.segment.max(tail.rotate_after)
            && tail.end() > HEADER_LEN
            && let Err(error) = self.rotate(tail)
        {
            self.health.check()?;
            // A segment may be longer than it should; try again later.
            tracing::debug!(%error, "no new journal segment");
            tail.rotate_after = tail.end() + self.sizes.prepare;
        }
        let kept = match room {
            Room::Ordinary => self.sizes.kept,
            Room::Ready => frame_len(Barrier::LEN) as u64,
            Room::Kept => 0,
        };
        let needed = tail.end() + need;
        if needed + kept <= tail.prepared {
            return Ok(());
        }
        match tail.prepare(needed + kept, self.sizes.prepare) {
            Err(_) if room != Room::Ordinary && needed + kept <= tail.prepared => Ok(()),
            answer => answer,
        }
    }

    /// Leaves the segment for a new one. The old one is synced first: a segment that has a successor
    /// is whole on the medium up to the end that the successor names.
    fn rotate(&self, tail: &mut Tail) -> io::Result<()> {
        tail.write()?;
        if let Err(error) = tail.file.sync_data() {
            return Err(self.health.poisoned("the journal", &error));
        }
        tail.durable = tail.offset;
        let header = SegmentHeader {
            number: tail.segment + 1,
            boot: self.boot,
            first_seq: tail.next_seq(),
            previous_end: tail.offset,
            barrier: tail.barrier,
        };
        let file = header.prepare(&*self.disk, &self.uuid)?;
        if let Err(error) = self.disk.sync_dir(Path::new(segment::DIR)) {
            // It may or may not have its name: neither segment can be written any more.
            return Err(self.health.poisoned("the journal's directory", &error));
        }
        let old = tail.follow(&header, &self.uuid, file);
        if let Err(error) = old.set_len(header.previous_end) {
            tracing::debug!(%error, "the zeros behind an old journal segment stay");
        }
        Ok(())
    }
}
