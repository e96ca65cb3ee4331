//! What can still be read behind a damaged place of the journal, to tell what would be given up with it.

use super::frame::{self, ALIGN, HEADER, Kind, SegmentSeed, frame_len};
use super::scan::Frame;
use super::segment::{self, HEADER_LEN, SegmentHeader};
use super::window::Window;
use crate::store::disk::{Disk, OpenHow};
use crate::store::error::Damage;
use std::io;

/// What finding frames may cost: a segment is read so many times over at most. More is only asked for by bytes that were
/// made to look like many long frames.
const TIMES: u64 = 4;

/// Visits the records that are whole behind the damage, in the order in which they lie there. None of them counts for
/// anything; those that an earlier recovery dropped are left out.
pub(crate) fn records(
    disk: &dyn Disk,
    uuid: &[u8; 16],
    damage: &Damage,
    record: &mut dyn FnMut(u64, &[u8]),
) -> io::Result<()> {
    let mut numbers = segment::list(disk)?;
    numbers.retain(|&number| number >= damage.segment);
    let mut void_from = Vec::with_capacity(numbers.len());
    for &number in &numbers {
        void_from.push(first_seq(disk, uuid, number)?.unwrap_or(u64::MAX));
    }
    for (index, &number) in numbers.iter().enumerate() {
        let void = void_from[index + 1..].iter().min();
        let void = void.copied().unwrap_or(u64::MAX);
        let file = disk.open(&segment::path(number), OpenHow::Read)?;
        let mut window = Window::new(&*file)?;
        let begin = match number == damage.segment {
            true => damage.offset.max(HEADER_LEN),
            false => HEADER_LEN,
        };
        let seed = SegmentSeed::new(uuid, number);
        find(&mut window, seed, begin, &mut |frame| {
            if frame.kind == Kind::Record && frame.seq < void {
                record(frame.seq, frame.payload);
            }
        })?;
    }
    Ok(())
}

fn first_seq(disk: &dyn Disk, uuid: &[u8; 16], number: u32) -> io::Result<Option<u64>> {
    let mut bytes = [0; HEADER_LEN as usize];
    let file = disk.open(&segment::path(number), OpenHow::Read)?;
    let read = file.read_at(&mut bytes, 0)?;
    Ok(SegmentHeader::decode(&bytes[..read], uuid, number).map(|header| header.first_seq))
}

/// Visits every whole frame from `offset` on.
fn find(
    window: &mut Window<'_>,
    seed: SegmentSeed,
    mut offset: u64,
    visit: &mut dyn FnMut(Frame<'_>),
) -> io::Result<()> {
    let mut left = window.len.saturating_mul(TIMES);
    while offset + HEADER as u64 <= window.len {
        let at = offset;
        offset += ALIGN as u64;
        let Some(claim) = frame::claim(window.get(at, HEADER)?) else {
            continue;
        };
        let length = frame_len(claim.payload) as u64;
        if at + length > window.len || length > left {
            continue;
        }
        left -= length;
        let bytes = window.get(at, length as usize)?;
        if let Some(kind) = claim.check(seed, at, bytes) {
            visit(Frame {
                kind,
                seq: claim.seq,
                payload: &bytes[HEADER..HEADER + claim.payload],
            });
            offset = at + length;
        }
    }
    Ok(())
}
