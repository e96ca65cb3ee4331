//! A segment of the journal: its name, its header, how a new one comes to be.

use super::frame::{Barrier, SEQ_MAX, SegmentSeed};
use crate::store::boot::BootToken;
use crate::store::disk::{Disk, DiskFile, OpenHow};
use crate::store::superblock::{u32_at, u64_at};
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

pub(crate) const DIR: &str = "journal";
/// The first frame's offset.
pub(crate) const HEADER_LEN: u64 = 128;
const MAGIC: &[u8; 8] = b"LLFSJRNL";
/// Files with this number, or a higher one, are none of ours: that many are never made.
const NUMBER_MAX: u32 = 1 << 31;

/// What a segment's header says. It is written once, before the segment gets its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub number: u32,
    pub boot: BootToken,
    /// The first frame's sequence number. Frames of earlier segments with this number or a higher one
    /// were dropped by the recovery that made this segment.
    pub first_seq: u64,
    /// Where the segment before ends; it was synced up to there when this one was made.
    pub previous_end: u64,
    /// The durable point at that time (its `durable` is not used).
    pub barrier: Barrier,
}

impl SegmentHeader {
    pub fn encode(&self, uuid: &[u8; 16]) -> [u8; HEADER_LEN as usize] {
        let mut out = [0; HEADER_LEN as usize];
        out[..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&self.number.to_le_bytes());
        out[16..32].copy_from_slice(uuid);
        out[32..48].copy_from_slice(&self.boot.0);
        out[48..56].copy_from_slice(&self.first_seq.to_le_bytes());
        out[56..64].copy_from_slice(&self.previous_end.to_le_bytes());
        out[64..72].copy_from_slice(&self.barrier.covers.to_le_bytes());
        out[72..80].copy_from_slice(&self.barrier.data_seq.to_le_bytes());
        let sum = xxh3_64(&out[..120]);
        out[120..].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// `None` when the bytes are not the header of segment `number` of this store.
    pub fn decode(bytes: &[u8], uuid: &[u8; 16], number: u32) -> Option<Self> {
        if bytes.len() < HEADER_LEN as usize
            || xxh3_64(&bytes[..120]) != u64_at(bytes, 120)
            || &bytes[..8] != MAGIC
            || &bytes[16..32] != uuid
            || u32_at(bytes, 8) != number
        {
            return None;
        }
        let barrier = Barrier {
            covers: u64_at(bytes, 64),
            data_seq: u64_at(bytes, 72),
            durable: (0, 0),
        };
        let first_seq = u64_at(bytes, 48);
        if !(1..=SEQ_MAX).contains(&first_seq) || !barrier.makes_sense() {
            return None;
        }
        let mut boot = [0; 16];
        boot.copy_from_slice(&bytes[32..48]);
        Some(Self {
            number,
            boot: BootToken(boot),
            first_seq,
            previous_end: u64_at(bytes, 56),
            barrier,
        })
    }

    /// Makes the segment. Its name is durable when this returns, and not before its header is: a
    /// segment with a bad header is damage, never a crash.
    pub fn create(&self, disk: &dyn Disk, uuid: &[u8; 16]) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.prepare(disk, uuid)?;
        disk.sync_dir(Path::new(DIR))?;
        Ok(file)
    }

    /// Makes the segment, but for the sync of its name. On an error it has no name.
    pub fn prepare(&self, disk: &dyn Disk, uuid: &[u8; 16]) -> io::Result<Arc<dyn DiskFile>> {
        let path = path(self.number);
        let temporary = path.with_extension("tmp");
        let file = disk.open(&temporary, OpenHow::Replace)?;
        file.write_at(&self.encode(uuid), 0)?;
        file.sync_data()?;
        disk.rename(&temporary, &path)?;
        Ok(file)
    }

    pub fn seed(&self, uuid: &[u8; 16]) -> SegmentSeed {
        SegmentSeed::new(uuid, self.number)
    }
}

/// The store's number in a header that is whole, of whichever store it is.
pub(crate) fn uuid_of(bytes: &[u8]) -> Option<[u8; 16]> {
    let mut uuid = [0; 16];
    uuid.copy_from_slice(bytes.get(16..32)?);
    let number = u32_at(bytes, 8);
    SegmentHeader::decode(bytes, &uuid, number).map(|_| uuid)
}

pub(crate) fn path(number: u32) -> PathBuf {
    Path::new(DIR).join(format!("{number:08}.log"))
}

/// The numbers of the segments there are, ascending.
pub(crate) fn list(disk: &dyn Disk) -> io::Result<Vec<u32>> {
    let mut numbers: Vec<u32> = disk
        .list(Path::new(DIR))?
        .iter()
        .filter_map(|name| number_of(name, "log"))
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The number in a name like `00000012.log`.
pub(crate) fn number_of(name: &OsStr, extension: &str) -> Option<u32> {
    let path = Path::new(name);
    let stem = path.file_stem()?.to_str()?;
    let ours = path.extension()? == extension
        && stem.len() >= 8
        && stem.bytes().all(|b| b.is_ascii_digit());
    // There is always a next one.
    let number = ours.then(|| stem.parse().ok()).flatten();
    number.filter(|&number: &u32| number < NUMBER_MAX)
}
