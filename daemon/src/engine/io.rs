//! Reading and writing files.
//!
//! Bytes after a file's end in its last block mean nothing, whatever a layer holds there: reads stop at the size, and
//! whatever lets a file grow over such bytes writes zeros there first.

use nix::errno::Errno;

use super::attr::{has_capability, has_set_id, kill_capability, kill_privileges};
use super::authors::Did;
use super::blocks::Target;
use super::browse::FIRST_VIEW;
use super::seed::Seed;
use super::{Answer, Engine, WriteHow};
use crate::tree::{BLOCK, FIRST_INO, Ino, Inode, Kind, LayerId, Piece, Src, extent};

/// The largest file, as on ext4 with blocks of 4 KiB.
pub(super) const SIZE_MAX: u64 = (u32::MAX as u64) * BLOCK;

const B: usize = BLOCK as usize;
static ZEROS: [u8; B] = [0; B];

/// What of a file an operation on its data must know.
pub(super) struct File {
    pub size: u64,
    /// Bytes of it that the base may have.
    pub base_len: u64,
    /// Writing must take set-ID bits away.
    pub set_id: bool,
    /// Writing must take capabilities away.
    pub capability: bool,
}

impl File {
    pub fn of(inode: &Inode) -> File {
        File {
            size: inode.size,
            base_len: inode.base_len.get().unwrap_or(0),
            set_id: has_set_id(inode),
            capability: has_capability(inode),
        }
    }

    /// One of the base's of so many bytes, to be read only.
    pub fn of_base(size: u64) -> File {
        File {
            size,
            base_len: size,
            set_id: false,
            capability: false,
        }
    }
}

/// A run of blocks that a write puts in one place.
struct Run {
    from: u64,
    len: u64,
    /// Its blocks in the layer that takes the writes, all of them behind its seal; `None`: to be allocated.
    at: Option<u32>,
}

impl Engine {
    /// Reads into `buf`, and tells how many bytes there were. With `wait` false, `EAGAIN` means that the disk must be asked.
    ///
    /// # Errors
    /// `EIO` for damaged blocks, `ESTALE` for a file that a revert took away, or what the base says.
    pub fn read(&self, ino: Ino, off: u64, buf: &mut [u8], wait: bool) -> Answer<usize> {
        let _gate = self.gate.read();
        self.read_file(ino, off, buf, wait)
    }

    pub(super) fn read_file(
        &self,
        ino: Ino,
        off: u64,
        buf: &mut [u8],
        wait: bool,
    ) -> Answer<usize> {
        let view = {
            let state = self.state.read();
            state.head.inode(ino).map(|inode| {
                let end = off.saturating_add(buf.len() as u64).min(inode.size);
                let pieces = if off < end {
                    extent::pieces(&state.head.extents, ino, off / BLOCK, end.div_ceil(BLOCK))
                } else {
                    Vec::new()
                };
                (inode.kind, File::of(inode), pieces)
            })
        };
        match view {
            Some((Kind::File, file, pieces)) => {
                let len = file.size.saturating_sub(off).min(buf.len() as u64) as usize;
                self.fetch(ino, file.base_len, &pieces, off, &mut buf[..len], wait)?;
                Ok(len)
            }
            Some((Kind::Dir, ..)) => Err(Errno::EISDIR),
            Some(_) => Err(Errno::EINVAL),
            None if ino >= FIRST_INO => self.read_hidden(ino, off, buf, wait),
            None => self.base_read(ino, off, buf, wait),
        }
    }

    /// Reads from the base until `buf` is full or the file ends.
    pub(super) fn base_read(
        &self,
        ino: Ino,
        off: u64,
        buf: &mut [u8],
        wait: bool,
    ) -> Answer<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.base.read_at(ino, buf, off, !wait)
    }

    /// Fills `buf` with the bytes from `off` on, which `pieces` cover and which all lie before the file's end.
    pub(super) fn fetch(
        &self,
        ino: Ino,
        base_len: u64,
        pieces: &[Piece],
        off: u64,
        buf: &mut [u8],
        wait: bool,
    ) -> Answer<()> {
        let end = off + buf.len() as u64;
        for p in pieces {
            let start = (p.from * BLOCK).max(off);
            let stop = ((p.from + p.len) * BLOCK).min(end);
            if start >= stop {
                continue;
            }
            let part = &mut buf[(start - off) as usize..(stop - off) as usize];
            match p.src {
                Some(Src::Layer { layer, block }) => {
                    let at = u64::from(block) * BLOCK + (start - p.from * BLOCK);
                    self.get_bytes(layer, at, part)?;
                }
                Some(Src::Zero) => part.fill(0),
                None => {
                    let of_base = base_len.saturating_sub(start).min(part.len() as u64) as usize;
                    let (base, rest) = part.split_at_mut(of_base);
                    // A file that was cut off behind the mount has no zeros there that anybody wrote.
                    if self.base_read(ino, start, base, wait)? < of_base {
                        return Err(self.base.found_short(ino));
                    }
                    rest.fill(0);
                }
            }
        }
        Ok(())
    }

    /// Writes, and tells how many bytes were: all of them.
    ///
    /// # Errors
    /// `EFBIG`, `ENOSPC`, `EROFS` after a failure of the disk, `ESTALE`, or what the base says. A failed write changed
    /// nothing, or, if it went to blocks that were written since the last snapshot, left some of the new bytes.
    pub fn write(&self, ino: Ino, off: u64, data: &[u8], how: WriteHow) -> Answer<u32> {
        if data.is_empty() {
            return Ok(0);
        }
        let at = match self.with_room(|| self.write_once(ino, off, data, how)) {
            Err(Errno::EROFS) if ino >= FIRST_VIEW => {
                // The kernel has the bytes in its cache already: files are opened without a message, so nobody was asked.
                self.house.forget_inode(ino);
                return Err(Errno::EROFS);
            }
            answer => answer?,
        };
        if at != off {
            // The kernel took another end for the file's: what it has of the file is old.
            self.house.forget_inode(ino);
        }
        Ok(data.len() as u32)
    }

    fn write_once(&self, ino: Ino, off: u64, data: &[u8], how: WriteHow) -> Answer<u64> {
        if how.cached
            && let Some(reverting) = &*self.reverting.read()
            && reverting.inodes.contains(&ino)
        {
            // A page of the state that a revert is just discarding, or of a store since, which is undone with it.
            reverting.dropped.lock().insert(ino);
            return Ok(off);
        }
        let _stripe = self.stripe(ino).lock();
        let seed = self.seed(ino)?;
        let file = self.file(ino, &seed)?;
        let off = if how.append { file.size } else { off };
        let end = off
            .checked_add(data.len() as u64)
            .filter(|e| *e <= SIZE_MAX)
            .ok_or(Errno::EFBIG)?;
        let target = self.target();
        let mut maps = Vec::new();
        if off > file.size {
            self.zero_tail(ino, &file, target, &mut maps)?;
        }
        self.put(ino, &file, target, off, data, &mut maps)?;
        self.change(|tx| {
            let size = (end > file.size).then_some(end);
            // A store through a mapping takes nothing away: on Linux only calls do.
            if !how.cached && (file.set_id && how.kill_priv || file.capability) {
                tx.edit(ino, &seed, |i, now| {
                    if how.kill_priv {
                        kill_privileges(i);
                    }
                    kill_capability(i);
                    i.size = size.unwrap_or(i.size);
                    (i.mtime, i.ctime) = (now, now);
                })?;
            } else {
                tx.touch(ino, &seed, size, true)?;
            }
            for (from, len, to) in maps {
                tx.map(ino, from, len, Some(to));
            }
            Ok(())
        })?;
        self.did(ino, Did::WROTE);
        Ok(off)
    }

    /// What an operation on the file's data must know. Stays true while its stripe is held, or the gate exclusively.
    pub(super) fn file(&self, ino: Ino, seed: &Seed) -> Answer<File> {
        let of = |inode: &Inode| {
            super::attr::check_sizable(inode)?;
            Ok(File::of(inode))
        };
        match seed {
            Seed::Base(s) => of(&s.inode),
            Seed::Over => of(&*self.inode(ino).ok_or(Errno::ESTALE)?),
        }
    }

    /// Puts bytes into the layer: in place where it holds the block already and may change it, else into new blocks, which
    /// `maps` gets.
    pub(super) fn put(
        &self,
        ino: Ino,
        file: &File,
        target: Target,
        off: u64,
        data: &[u8],
        maps: &mut Vec<(u64, u64, Src)>,
    ) -> Answer<()> {
        let end = off + data.len() as u64;
        let pieces = self.pieces(ino, off / BLOCK, end.div_ceil(BLOCK));
        let layer = target.layer;
        let mut gather = Gather::new(self, layer);
        for run in runs(&pieces, target) {
            let start = off.max(run.from * BLOCK);
            let stop = end.min((run.from + run.len) * BLOCK);
            let part = &data[(start - off) as usize..(stop - off) as usize];
            if let Some(block) = run.at {
                let at = u64::from(block) * BLOCK + (start - run.from * BLOCK);
                if part.len() == data.len() {
                    return self.put_bytes(layer, at, part);
                }
                gather.put(at, part)?;
                continue;
            }
            let block = self.alloc(layer, run.len)?;
            let at = u64::from(block) * BLOCK;
            let origin = run.from * BLOCK;
            // The first and the last block may be written in part: the rest of them is what it was.
            let mut whole = (start, stop);
            if !start.is_multiple_of(BLOCK)
                || (!stop.is_multiple_of(BLOCK) && stop - origin < BLOCK)
            {
                let n = ((run.from + 1) * BLOCK).min(stop) - start;
                let merged = self.merge(ino, file, &pieces, start, &part[..n as usize])?;
                gather.put(at, &merged)?;
                whole.0 = start + n;
            }
            let tail = if whole.0 < whole.1 && !stop.is_multiple_of(BLOCK) {
                whole.1 = stop / BLOCK * BLOCK;
                &part[(whole.1 - start) as usize..]
            } else {
                &[]
            };
            if whole.0 < whole.1 {
                let middle = &part[(whole.0 - start) as usize..(whole.1 - start) as usize];
                gather.put(at + (whole.0 - origin), middle)?;
            }
            if !tail.is_empty() {
                let merged = self.merge(ino, file, &pieces, whole.1, tail)?;
                gather.put(at + (whole.1 - origin), &merged)?;
            }
            maps.push((run.from, run.len, Src::Layer { layer, block }));
        }
        gather.flush()
    }

    /// A block's content after `new` was written into it at the offset `at` of the file.
    fn merge(
        &self,
        ino: Ino,
        file: &File,
        pieces: &[Piece],
        at: u64,
        new: &[u8],
    ) -> Answer<[u8; B]> {
        let mut content = [0; B];
        let start = at / BLOCK * BLOCK;
        let old = file.size.saturating_sub(start).min(BLOCK) as usize;
        self.fetch(ino, file.base_len, pieces, start, &mut content[..old], true)?;
        let within = (at - start) as usize;
        content[within..within + new.len()].copy_from_slice(new);
        Ok(content)
    }

    /// Makes the bytes after the file's end in its last block zeros, before the file grows over them.
    pub(super) fn zero_tail(
        &self,
        ino: Ino,
        file: &File,
        target: Target,
        maps: &mut Vec<(u64, u64, Src)>,
    ) -> Answer<()> {
        let used = (file.size % BLOCK) as usize;
        let block = file.size / BLOCK;
        let pieces = self.pieces(ino, block, block + 1);
        // A hole has zeros there, and so has the base's part: it ends where the file was cut, or at the base file's end.
        if used == 0
            || !matches!(
                pieces[..],
                [Piece {
                    src: Some(Src::Layer { .. }),
                    ..
                }]
            )
        {
            return Ok(());
        }
        self.put(ino, file, target, file.size, &ZEROS[used..], maps)
    }

    /// Where blocks of a file are in the head.
    pub(super) fn pieces(&self, ino: Ino, from: u64, to: u64) -> Vec<Piece> {
        extent::pieces(&self.state.read().head.extents, ino, from, to)
    }
}

/// Small writes to neighbouring bytes of a layer, made one: copying a few blocks costs less than a system call.
struct Gather<'a> {
    engine: &'a Engine,
    layer: LayerId,
    /// Where the gathered bytes go.
    at: u64,
    bytes: Vec<u8>,
}

impl<'a> Gather<'a> {
    /// Bytes that are gathered at most. What is longer than a block is not worth a copy.
    const MOST: usize = 8 * B;

    fn new(engine: &'a Engine, layer: LayerId) -> Self {
        Self {
            engine,
            layer,
            at: 0,
            bytes: Vec::new(),
        }
    }

    fn put(&mut self, at: u64, data: &[u8]) -> Answer<()> {
        let joins = at == self.at + self.bytes.len() as u64;
        if !joins || data.len() > B || self.bytes.len() + data.len() > Self::MOST {
            self.flush()?;
            self.at = at;
        }
        if data.len() > B {
            return self.engine.put_bytes(self.layer, at, data);
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    fn flush(&mut self) -> Answer<()> {
        if !self.bytes.is_empty() {
            self.engine.put_bytes(self.layer, self.at, &self.bytes)?;
            self.bytes.clear();
        }
        Ok(())
    }
}

/// Groups pieces into runs that may be written where they are and runs that must not. A piece may reach over the seal:
/// extents join what was written before a snapshot and behind it.
fn runs(pieces: &[Piece], target: Target) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::with_capacity(pieces.len());
    let mut add = |from: u64, len: u64, at: Option<u32>| match runs.last_mut() {
        _ if len == 0 => {}
        Some(last) if last.at.is_none() && at.is_none() => last.len += len,
        _ => runs.push(Run { from, len, at }),
    };
    for p in pieces {
        match p.src {
            Some(Src::Layer { layer, block }) if layer == target.layer => {
                let kept = u64::from(target.sealed.saturating_sub(block)).min(p.len);
                add(p.from, kept, None);
                add(p.from + kept, p.len - kept, Some(block + kept as u32));
            }
            _ => add(p.from, p.len, None),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_behind_the_seal_is_written_in_place() {
        let piece = |from, len, src| Piece { from, len, src };
        let at = |layer, block| Some(Src::Layer { layer, block });
        let pieces = [
            piece(0, 2, at(7, 3)),
            piece(2, 4, at(7, 8)),
            piece(6, 1, None),
            piece(7, 2, at(6, 90)),
            piece(9, 3, at(7, 10)),
        ];
        let target = Target {
            layer: 7,
            sealed: 10,
        };
        let found: Vec<_> = (runs(&pieces, target).iter())
            .map(|r| (r.from, r.len, r.at))
            .collect();
        assert_eq!(
            found,
            [
                (0, 4, None),
                (4, 2, Some(10)),
                (6, 3, None),
                (9, 3, Some(10))
            ]
        );
    }
}
