//! One frame of the journal, as bytes. Layout in docs/FORMAT.md.

use crate::store::superblock::{u32_at, u64_at};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Sequence numbers above this are those of nobody: at a million records a second it takes 140,000 years to come here.
pub(crate) const SEQ_MAX: u64 = 1 << 62;
/// The longest payload, in bytes.
pub const MAX_PAYLOAD: usize = 16 << 20;
/// Checksum, signature and kind, payload length, sequence number.
pub(crate) const HEADER: usize = 24;
/// Frames begin at multiples of this.
pub(crate) const ALIGN: usize = 8;
const SIGNATURE: [u8; 3] = *b"LjF";

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// An opaque record of the caller.
    Record = 1,
    /// A copy of a layer's block.
    Data = 2,
    /// A durable point.
    Barrier = 3,
}

/// A durable point, as a barrier frame (or a segment's header) states it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Barrier {
    /// Records up to this sequence number have their layer data on the medium, or in data frames
    /// between `data_seq` and this barrier.
    pub covers: u64,
    /// Data frames up to this number are superseded by what the layers hold.
    pub data_seq: u64,
    /// The journal up to this segment and offset was synced when the barrier was written.
    pub durable: (u32, u64),
}

impl Barrier {
    pub const LEN: usize = 28;

    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[..8].copy_from_slice(&self.covers.to_le_bytes());
        out[8..16].copy_from_slice(&self.data_seq.to_le_bytes());
        out[16..20].copy_from_slice(&self.durable.0.to_le_bytes());
        out[20..].copy_from_slice(&self.durable.1.to_le_bytes());
        out
    }

    pub fn decode(payload: &[u8]) -> Option<Self> {
        if payload.len() != Self::LEN {
            return None;
        }
        let barrier = Self {
            covers: u64_at(payload, 0),
            data_seq: u64_at(payload, 8),
            durable: (u32_at(payload, 16), u64_at(payload, 20)),
        };
        barrier.makes_sense().then_some(barrier)
    }

    /// Whether its numbers are some that were ever given.
    pub fn makes_sense(&self) -> bool {
        self.covers <= SEQ_MAX && self.data_seq <= SEQ_MAX
    }
}

/// What all checksums of a segment start from: a frame is valid in its own store, segment and place
/// only, so that a copy of the journal that someone keeps in a file never looks like the journal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentSeed(u64);

impl SegmentSeed {
    pub fn new(uuid: &[u8; 16], segment: u32) -> Self {
        let mut bytes = [0; 20];
        bytes[..16].copy_from_slice(uuid);
        bytes[16..].copy_from_slice(&segment.to_le_bytes());
        Self(xxh3_64(&bytes))
    }

    fn sum(self, offset: u64, bytes: &[u8]) -> u64 {
        xxh3_64_with_seed(bytes, self.0.wrapping_add(offset))
    }
}

/// How long a frame with this payload is on disk, in bytes.
pub(crate) fn frame_len(payload: usize) -> usize {
    (HEADER + payload).next_multiple_of(ALIGN)
}

/// Adds a frame to `out`, whose first byte will lie at `base` in the segment.
pub(crate) fn encode(
    out: &mut Vec<u8>,
    seed: SegmentSeed,
    base: u64,
    kind: Kind,
    seq: u64,
    payload: &[&[u8]],
) {
    let start = out.len();
    let length: usize = payload.iter().map(|part| part.len()).sum();
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&SIGNATURE);
    out.push(kind as u8);
    out.extend_from_slice(&(length as u32).to_le_bytes());
    out.extend_from_slice(&seq.to_le_bytes());
    for part in payload {
        out.extend_from_slice(part);
    }
    out.resize(start + frame_len(length), 0);
    let sum = seed.sum(base + start as u64, &out[start + 8..]);
    out[start..start + 8].copy_from_slice(&sum.to_le_bytes());
}

/// A frame's header, not yet to be believed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    sum: u64,
    kind: u8,
    /// Payload bytes, at most [`MAX_PAYLOAD`].
    pub payload: usize,
    pub seq: u64,
}

/// Reads a header; `None` when this cannot begin a frame.
pub(crate) fn claim(header: &[u8]) -> Option<Claim> {
    if header.len() < HEADER || header[8..11] != SIGNATURE {
        return None;
    }
    let payload = u32_at(header, 12) as usize;
    (payload <= MAX_PAYLOAD).then(|| Claim {
        sum: u64_at(header, 0),
        kind: header[11],
        payload,
        seq: u64_at(header, 16),
    })
}

impl Claim {
    /// Checks the whole frame (header, payload, padding) that lies at `offset`.
    pub fn check(&self, seed: SegmentSeed, offset: u64, frame: &[u8]) -> Option<Kind> {
        if frame.len() != frame_len(self.payload) || seed.sum(offset, &frame[8..]) != self.sum {
            return None;
        }
        match self.kind {
            1 => Some(Kind::Record),
            2 => Some(Kind::Data),
            3 => Some(Kind::Barrier),
            _ => None,
        }
    }
}
