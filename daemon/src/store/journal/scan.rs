//! Reads the journal back: checks every frame, tells a torn tail from damage, finds the last durable
//! point. Nothing here writes.

use super::frame::{self, ALIGN, Barrier, HEADER, Kind, SegmentSeed, frame_len};
use super::segment::{self, HEADER_LEN, SegmentHeader};
use super::window::Window;
use crate::store::boot::BootToken;
use crate::store::disk::{Disk, OpenHow};
use crate::store::error::{Damage, Naming, OpenError};
use std::io;

/// What looking for whole frames may cost: a segment is read so many times over at most. A torn tail has some bytes that look
/// like frames and are none, where a program wrote a copy of a journal; one that has so many was forged.
const TIMES: u64 = 4;

const MISSING: &str = "it is missing";
const BAD_HEADER: &str = "its header does not match its checksum";

/// A segment as it was found.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub header: SegmentHeader,
    /// Where its valid frames end.
    pub end: u64,
    /// Frames with this sequence number or a higher one were dropped by an earlier recovery.
    pub void_from: u64,
}

/// What the journal holds.
#[derive(Debug)]
pub(crate) struct Scan {
    pub segments: Vec<Segment>,
    /// The last durable point, and the sequence number of its frame (0: only a header told it).
    pub barrier: Barrier,
    pub barrier_seq: u64,
    /// The page cache of the last writer is gone.
    pub power_lost: bool,
    /// Frames up to this sequence number count.
    pub limit: u64,
    /// The first damaged place; what lies behind it is not in `segments`.
    pub damage: Option<Damage>,
}

/// A frame that was checked.
pub(crate) struct Frame<'a> {
    pub kind: Kind,
    pub seq: u64,
    pub payload: &'a [u8],
}

/// Reads all segments. `image_seq` is what the newest usable image covers (0 without one).
pub(crate) fn scan(
    disk: &dyn Disk,
    uuid: &[u8; 16],
    boot: BootToken,
    image_seq: u64,
) -> Result<Scan, OpenError> {
    let numbers = segment::list(disk).naming(segment::DIR)?;
    let (headers, mut damage) = read_headers(disk, uuid, &numbers, image_seq)?;
    let mut scan = Scan {
        power_lost: headers.last().is_none_or(|last| last.boot != boot),
        segments: Vec::new(),
        barrier: Barrier::default(),
        barrier_seq: 0,
        limit: 0,
        damage: None,
    };
    let mut last_seq = headers
        .first()
        .map_or(image_seq, |first| first.first_seq - 1);
    for (index, header) in headers.iter().enumerate() {
        let later = &headers[index + 1..];
        let void_from = later.iter().map(|h| h.first_seq).min().unwrap_or(u64::MAX);
        if header.barrier.covers >= scan.barrier.covers {
            scan.barrier = header.barrier;
        }
        let end = scan_segment(disk, uuid, header, void_from, later.first(), &mut scan)?;
        last_seq = end.next_seq.min(void_from) - 1;
        scan.segments.push(Segment {
            header: header.clone(),
            end: end.offset,
            void_from,
        });
        if let Some(what) = end.damage {
            damage = Some(Damage {
                segment: header.number,
                offset: end.offset,
                what,
            });
            break;
        }
    }
    if damage.is_none() && last_seq < image_seq {
        let last = scan.segments.last();
        damage = Some(Damage {
            segment: last.map_or(0, |s| s.header.number),
            offset: last.map_or(0, |s| s.end),
            what: format!("it ends at {last_seq}, an image covers {image_seq}"),
        });
    }
    scan.limit = if scan.power_lost {
        scan.barrier.covers.min(last_seq).max(image_seq)
    } else {
        last_seq.max(image_seq)
    };
    scan.damage = damage;
    Ok(scan)
}

/// The headers that matter, up to the first that is damaged or missing.
///
/// Nothing before the last segment that begins within the image is needed, whole or not, there or
/// not: segments are deleted oldest first, but a power cut may bring an older one back and not its
/// successor.
pub(super) fn read_headers(
    disk: &dyn Disk,
    uuid: &[u8; 16],
    numbers: &[u32],
    image_seq: u64,
) -> Result<(Vec<SegmentHeader>, Option<Damage>), OpenError> {
    let mut headers = Vec::with_capacity(numbers.len());
    for &number in numbers {
        let path = segment::path(number);
        let file = disk.open(&path, OpenHow::Read).naming(&path)?;
        let mut bytes = [0; HEADER_LEN as usize];
        let read = file.read_at(&mut bytes, 0).naming(&path)?;
        headers.push(SegmentHeader::decode(&bytes[..read], uuid, number));
    }
    let damaged = |segment, what: &str| Damage {
        segment,
        offset: 0,
        what: what.to_owned(),
    };
    let begins = |header: &Option<SegmentHeader>| {
        let first_seq = header.as_ref().map(|header| header.first_seq);
        first_seq.is_some_and(|seq| (1..=image_seq + 1).contains(&seq))
    };
    let Some(start) = headers.iter().rposition(begins) else {
        let what = match headers.first() {
            None => MISSING,
            Some(None) => BAD_HEADER,
            Some(Some(_)) => "the records before it are missing",
        };
        let first = numbers.first().copied().unwrap_or(1);
        return Ok((Vec::new(), Some(damaged(first, what))));
    };
    let mut needed: Vec<SegmentHeader> = Vec::new();
    for (header, expected) in headers.into_iter().skip(start).zip(numbers[start]..) {
        match header {
            Some(header) if header.number == expected => needed.push(header),
            Some(_) => return Ok((needed, Some(damaged(expected, MISSING)))),
            None => return Ok((needed, Some(damaged(expected, BAD_HEADER)))),
        }
    }
    Ok((needed, None))
}

/// Where a segment's valid frames end.
struct End {
    offset: u64,
    next_seq: u64,
    /// Why this end is no ordinary one.
    damage: Option<String>,
}

fn scan_segment(
    disk: &dyn Disk,
    uuid: &[u8; 16],
    header: &SegmentHeader,
    void_from: u64,
    next: Option<&SegmentHeader>,
    scan: &mut Scan,
) -> Result<End, OpenError> {
    let path = segment::path(header.number);
    let file = disk.open(&path, OpenHow::Read).naming(&path)?;
    let mut window = Window::new(&*file).naming(&path)?;
    let limit = next.map_or(u64::MAX, |next| next.previous_end);
    let end = walk(&mut window, header, uuid, limit, &mut |frame| {
        if frame.kind == Kind::Barrier
            && frame.seq < void_from
            && let Some(barrier) = Barrier::decode(frame.payload)
        {
            scan.barrier = barrier;
            scan.barrier_seq = frame.seq;
        }
        Ok(())
    })
    .naming(&path)?;
    let damage = match next {
        Some(next) if next.first_seq > end.1 => Some(format!(
            "records {} to {} are missing behind it",
            end.1,
            next.first_seq - 1
        )),
        Some(_) => None,
        None => evidence(&mut window, header.seed(uuid), end, scan.power_lost).naming(&path)?,
    };
    Ok(End {
        offset: end.0,
        next_seq: end.1,
        damage,
    })
}

/// Visits the frames that are valid and in sequence, up to `limit` bytes; the offset and the sequence
/// number behind the last of them.
pub(super) fn walk(
    window: &mut Window<'_>,
    header: &SegmentHeader,
    uuid: &[u8; 16],
    limit: u64,
    visit: &mut dyn FnMut(Frame<'_>) -> io::Result<()>,
) -> io::Result<(u64, u64)> {
    let seed = header.seed(uuid);
    let mut offset = HEADER_LEN;
    let mut seq = header.first_seq;
    while offset < limit {
        let Some(claim) = frame::claim(window.get(offset, HEADER)?) else {
            break;
        };
        let length = frame_len(claim.payload);
        if claim.seq != seq || offset + length as u64 > limit {
            break;
        }
        let bytes = window.get(offset, length)?;
        let Some(kind) = claim.check(seed, offset, bytes) else {
            break;
        };
        visit(Frame {
            kind,
            seq,
            payload: &bytes[HEADER..HEADER + claim.payload],
        })?;
        offset += length as u64;
        seq += 1;
    }
    Ok((offset, seq))
}

/// Looks behind the end of the last segment for a proof that frames were there before: then this is
/// damage. A torn tail has none.
fn evidence(
    window: &mut Window<'_>,
    seed: SegmentSeed,
    (end, next_seq): (u64, u64),
    power_lost: bool,
) -> io::Result<Option<String>> {
    let mut offset = end + ALIGN as u64;
    let mut left = window.len.saturating_mul(TIMES);
    while offset + (HEADER as u64) <= window.len {
        let at = offset;
        offset += ALIGN as u64;
        let Some(claim) = frame::claim(window.get(at, HEADER)?) else {
            continue;
        };
        let length = frame_len(claim.payload) as u64;
        if claim.seq < next_seq || at + length > window.len {
            continue;
        }
        let Some(rest) = left.checked_sub(length) else {
            return Ok(Some(
                "what lies behind it was made to look like frames".to_owned(),
            ));
        };
        left = rest;
        let bytes = window.get(at, frame_len(claim.payload))?;
        let Some(kind) = claim.check(seed, at, bytes) else {
            continue;
        };
        offset = at + length;
        if !power_lost {
            // One writer wrote one frame after the other into the page cache.
            return Ok(Some(format!("frame {} behind it is whole", claim.seq)));
        }
        // After a power cut later frames may be there and earlier ones not, unless they were synced.
        if kind == Kind::Barrier
            && let Some(barrier) = Barrier::decode(&bytes[HEADER..HEADER + claim.payload])
            && barrier.durable.1 > end
        {
            return Ok(Some(format!(
                "it was synced up to byte {}",
                barrier.durable.1
            )));
        }
    }
    Ok(None)
}

/// Visits the frames of all segments that count, in order: those above `after`, up to `scan.limit`
/// for records and up to the last barrier for data.
pub(crate) fn visit(
    disk: &dyn Disk,
    uuid: &[u8; 16],
    scan: &Scan,
    visit: &mut dyn FnMut(Frame<'_>) -> io::Result<()>,
) -> Result<(), OpenError> {
    for segment in &scan.segments {
        let path = segment::path(segment.header.number);
        let file = disk.open(&path, OpenHow::Read).naming(&path)?;
        let mut window = Window::new(&*file).naming(&path)?;
        let end = walk(
            &mut window,
            &segment.header,
            uuid,
            segment.end,
            &mut |frame| {
                if frame.seq < segment.void_from {
                    visit(frame)?;
                }
                Ok(())
            },
        )
        .naming(&path)?;
        if end.0 < segment.end {
            return Err(OpenError::Damaged(Damage {
                segment: segment.header.number,
                offset: end.0,
                what: "it changed while it was read".to_owned(),
            }));
        }
    }
    Ok(())
}

/// Deletes the segments of which every frame is in an image that covers `seq`, and tells whether there were any. The last one
/// stays.
pub(super) fn remove_covered(disk: &dyn Disk, uuid: &[u8; 16], seq: u64) -> io::Result<bool> {
    let numbers = segment::list(disk)?;
    let mut removed = false;
    for pair in numbers.windows(2) {
        let file = disk.open(&segment::path(pair[1]), OpenHow::Read)?;
        let mut bytes = [0; HEADER_LEN as usize];
        let read = file.read_at(&mut bytes, 0)?;
        match SegmentHeader::decode(&bytes[..read], uuid, pair[1]) {
            Some(next) if next.first_seq <= seq + 1 => disk.remove(&segment::path(pair[0]))?,
            _ => break,
        }
        removed = true;
    }
    Ok(removed)
}
