//! The contents of files: whole ones for what is new, the changed blocks in place for what is the base's.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;

use super::super::Answer;
use super::hand::{Hand, Spot};
use crate::tree::extent::extents_in;
use crate::tree::{BLOCK, Ino, Inode, LayerId, Piece, Place, Root, Src};

/// Bytes that are copied at a time.
const CHUNK: u64 = 1 << 20;

/// Reads from the byte of a layer on.
pub(super) type Layers<'a> = &'a dyn Fn(LayerId, u64, &mut [u8]) -> Answer<()>;

/// The parts of a file that the overlay has, in order.
fn parts<'a>(head: &'a Root, ino: Ino, inode: &Inode) -> impl Iterator<Item = Piece> + 'a {
    extents_in(&head.extents, ino, 0, inode.size.div_ceil(BLOCK))
}

/// Bytes of a file that lie in layers.
pub(super) fn layered(head: &Root, ino: Ino, inode: &Inode) -> u64 {
    let mut bytes = 0;
    for p in parts(head, ino, inode) {
        if matches!(p.src, Some(Src::Layer { .. })) {
            bytes += range(&p, inode).1;
        }
    }
    bytes
}

/// Whether the head has other bytes, or another size, than the base had.
pub(super) fn changed(head: &Root, ino: Ino, inode: &Inode, place: Option<&Place>) -> bool {
    let same_size = place.is_some_and(|p| {
        p.fact.size == inode.size && inode.base_len.get().is_some_and(|len| len >= inode.size)
    });
    !same_size || parts(head, ino, inode).next().is_some()
}

/// First byte and number of bytes of a piece, as far as the file goes.
fn range(p: &Piece, inode: &Inode) -> (u64, u64) {
    let from = p.from * BLOCK;
    (from, ((p.from + p.len) * BLOCK).min(inode.size) - from)
}

/// Reads everything that will be written in place, so that damage is found before anything is touched.
pub(super) fn check(layers: Layers<'_>, head: &Root, ino: Ino, inode: &Inode) -> Answer<()> {
    copy(layers, head, ino, inode, &mut |_, _| Ok(()), &mut |_, _| {
        Ok(())
    })
}

/// Writes a new file: its blocks, and holes where it has none.
pub(super) fn write_new(
    hand: &Hand<'_>,
    layers: Layers<'_>,
    head: &Root,
    ino: Ino,
    inode: &Inode,
    file: BorrowedFd<'_>,
    meter: &mut dyn FnMut(u64),
) -> Answer<()> {
    let mut put = |off, data: &[u8]| {
        meter(data.len() as u64);
        hand.write(file, data, off)
    };
    copy(layers, head, ino, inode, &mut put, &mut |_, _| Ok(()))?;
    hand.truncate(file, inode.size)
}

/// Writes what changed into a file of the base. Done twice it gives the same: what it writes comes from the store, and
/// the blocks that it leaves alone are the base's own.
pub(super) fn write_changes(
    hand: &Hand<'_>,
    layers: Layers<'_>,
    head: &Root,
    ino: Ino,
    inode: &Inode,
    file: BorrowedFd<'_>,
    meter: &mut dyn FnMut(u64),
) -> Answer<()> {
    // What the base has after this was cut off; growing again brings zeros.
    let kept = inode.base_len.get().unwrap_or(0).min(inode.size);
    let size = || fstat(file).map(|s| u64::try_from(s.st_size).unwrap_or(0));
    if size()? > kept {
        hand.truncate(file, kept)?;
    }
    if size()? != inode.size {
        hand.truncate(file, inode.size)?;
    }
    let mut put = |off, data: &[u8]| {
        meter(data.len() as u64);
        hand.write(file, data, off)
    };
    let mut punch = |off, len| match hand.punch(file, off, len) {
        Err(Errno::EOPNOTSUPP) => zeros(hand, file, off, len.min(inode.size - off)),
        answer => answer,
    };
    copy(layers, head, ino, inode, &mut put, &mut punch)
}

/// Hands on what the overlay has of a file, piece by piece.
fn copy(
    layers: Layers<'_>,
    head: &Root,
    ino: Ino,
    inode: &Inode,
    put: &mut dyn FnMut(u64, &[u8]) -> Answer<()>,
    hole: &mut dyn FnMut(u64, u64) -> Answer<()>,
) -> Answer<()> {
    let mut buf = Vec::new();
    for p in parts(head, ino, inode) {
        let (from, len) = range(&p, inode);
        match p.src {
            Some(Src::Layer { layer, block }) => {
                let mut done = 0;
                while done < len {
                    let n = (len - done).min(CHUNK);
                    buf.resize(n as usize, 0);
                    layers(layer, u64::from(block) * BLOCK + done, &mut buf)?;
                    put(from + done, &buf)?;
                    done += n;
                }
            }
            // The last block too is a hole as a whole, wherever the file ends in it.
            Some(Src::Zero) => hole(from, len.next_multiple_of(BLOCK))?,
            None => {}
        }
    }
    Ok(())
}

/// Writes zeros, where a file system knows no holes.
fn zeros(hand: &Hand<'_>, file: BorrowedFd<'_>, off: u64, len: u64) -> Answer<()> {
    let zeros = vec![0; len.min(CHUNK) as usize];
    let mut done = 0;
    while done < len {
        let n = (len - done).min(CHUNK);
        hand.write(file, &zeros[..n as usize], off + done)?;
        done += n;
    }
    Ok(())
}

/// Opens a base file for writing, as its owner whatever its mode says.
pub(super) fn open(hand: &Hand<'_>, at: &Spot) -> Answer<std::os::fd::OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    match at.open(flags) {
        Err(Errno::EACCES) => {
            hand.open_up(at.dir.as_fd())?;
            if let Some(stat) = at.stat()? {
                // The head's mode comes back with the other attributes.
                hand.chmod(at, (stat.st_mode & 0o7777 | 0o600) as u16)?;
            }
            at.open(flags)
        }
        answer => answer,
    }
}

/// Bytes of new space that writing the changes takes: those in holes, after the end, or, where blocks may be
/// shared or are never written in place, all.
pub(super) fn growth(
    head: &Root,
    ino: Ino,
    inode: &Inode,
    file: BorrowedFd<'_>,
    in_place: bool,
) -> Answer<u64> {
    use nix::unistd::{Whence, lseek};
    let end = fstat(file).map(|s| u64::try_from(s.st_size).unwrap_or(0))?;
    let kept = end.min(inode.base_len.get().unwrap_or(0));
    let mut bytes = 0;
    for p in parts(head, ino, inode) {
        if !matches!(p.src, Some(Src::Layer { .. })) {
            continue;
        }
        let (from, len) = range(&p, inode);
        let whole = len.next_multiple_of(BLOCK);
        if !in_place {
            bytes += whole;
            continue;
        }
        // Data of the base within the piece, which is overwritten where it is.
        let mut at = from;
        let mut old = 0;
        while at < (from + len).min(kept) {
            let data = match lseek(file, at as i64, Whence::SeekData) {
                Ok(off) => off as u64,
                Err(Errno::ENXIO) => break,
                Err(e) => return Err(e),
            };
            let hole = match lseek(file, data as i64, Whence::SeekHole) {
                Ok(off) => off as u64,
                Err(Errno::ENXIO) => break,
                Err(e) => return Err(e),
            };
            let stop = (from + len).min(kept);
            // A file that ends within a block has the whole block.
            old += hole.min(stop).next_multiple_of(BLOCK).saturating_sub(data);
            at = hole;
        }
        bytes += whole - old.min(whole);
    }
    Ok(bytes)
}
