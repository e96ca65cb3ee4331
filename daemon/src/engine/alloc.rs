//! Sizes, holes, and copies within the file system.

use nix::errno::Errno;

use super::attr::{kill_capability, kill_privileges, set_attr};
use super::authors::Did;
use super::blocks::Target;
use super::browse::FIRST_VIEW;
use super::io::{File, SIZE_MAX};
use super::seed::Seed;
use super::{Answer, Caller, Engine, SetAttr, WriteHow};
use crate::base::Seek;
use crate::tree::{BLOCK, FIRST_INO, Ino, Piece, Src};

/// Bytes that are copied at a time.
const CHUNK: usize = 1 << 20;
/// Bytes that one request copies: the caller comes again, and others get their turn.
const COPY_MAX: u64 = 16 << 20;

impl Engine {
    /// Sets a file's size, and other attributes in the same change.
    pub(super) fn truncate(&self, ino: Ino, size: u64, set: &SetAttr, who: &Caller) -> Answer<()> {
        if size > SIZE_MAX {
            return Err(Errno::EFBIG);
        }
        let _stripe = self.stripe(ino).lock();
        let seed = self.seed(ino)?;
        let file = self.file(ino, &seed)?;
        let mut maps = Vec::new();
        if size > file.size {
            self.zero_tail_here(ino, &file, &mut maps)?;
        }
        let freed = self.change(|tx| {
            let mut freed = 0;
            if size < file.size && matches!(seed, Seed::Over) {
                let from = size.div_ceil(BLOCK);
                freed = file.size.div_ceil(BLOCK) - from;
                tx.map(ino, from, freed, None);
            }
            tx.edit(ino, &seed, |i, now| {
                if who.uid != 0 {
                    kill_privileges(i);
                }
                kill_capability(i);
                i.size = size;
                i.base_len = i.base_len.get().map(|b| b.min(size)).into();
                i.mtime = now;
                set_attr(i, set, now);
            })?;
            for (from, len, to) in maps {
                tx.map(ino, from, len, Some(to));
            }
            Ok(freed)
        })?;
        self.freed(freed * BLOCK);
        Ok(())
    }

    fn zero_tail_here(&self, ino: Ino, file: &File, maps: &mut Vec<(u64, u64, Src)>) -> Answer<()> {
        if file.size.is_multiple_of(BLOCK) {
            return Ok(());
        }
        self.zero_tail(ino, file, self.target(), maps)
    }

    /// Allocates (which only sets the size: a copy-on-write file system cannot promise space for later), punches a hole, or zeroes a range;
    /// flags as in `fallocate(2)`.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for other flags, `EFBIG`, `EINVAL`, `ENOSPC`, `ENODEV` for what is no file, `ESTALE`
    /// for a file that a revert took away, or what the base says.
    pub fn fallocate(&self, ino: Ino, off: u64, len: u64, mode: i32, who: &Caller) -> Answer<()> {
        let keep = mode & libc::FALLOC_FL_KEEP_SIZE != 0;
        let zero = match mode & !libc::FALLOC_FL_KEEP_SIZE {
            0 => false,
            libc::FALLOC_FL_PUNCH_HOLE if keep => true,
            libc::FALLOC_FL_ZERO_RANGE => true,
            _ => return Err(Errno::EOPNOTSUPP),
        };
        if len == 0 {
            return Err(Errno::EINVAL);
        }
        let end = off
            .checked_add(len)
            .filter(|e| *e <= SIZE_MAX)
            .ok_or(Errno::EFBIG)?;
        self.with_room(|| {
            let _stripe = self.stripe(ino).lock();
            let seed = self.seed(ino)?;
            let file = self.file(ino, &seed).map_err(|e| match e {
                Errno::ESTALE => e,
                _ => Errno::ENODEV,
            })?;
            let grows = !keep && end > file.size;
            let mut maps: Vec<(u64, u64, Option<Src>)> = Vec::new();
            if zero {
                self.zero_range(ino, &file, off, end.min(file.size), &mut maps)?;
            }
            let given_up: u64 = maps.iter().map(|m| self.in_layers(ino, m.0, m.1)).sum();
            // Zeroing up to the old end zeroes the rest of its block too.
            if grows && !(zero && off < file.size) {
                let mut tail = Vec::new();
                self.zero_tail_here(ino, &file, &mut tail)?;
                maps.extend(
                    tail.into_iter()
                        .map(|(from, len, to)| (from, len, Some(to))),
                );
            }
            self.change(|tx| {
                tx.edit(ino, &seed, |i, now| {
                    if who.uid != 0 {
                        kill_privileges(i);
                    }
                    kill_capability(i);
                    if grows {
                        i.size = end;
                    }
                    (i.mtime, i.ctime) = (now, now);
                })?;
                for (from, len, to) in maps {
                    tx.map(ino, from, len, to);
                }
                Ok(())
            })?;
            self.freed(given_up * BLOCK);
            self.did(ino, Did::WROTE);
            Ok(())
        })
    }

    /// How many of a file's blocks are in layers, from one on.
    fn in_layers(&self, ino: Ino, from: u64, len: u64) -> u64 {
        let pieces = self.pieces(ino, from, from + len);
        let of_layers = |p: &&Piece| matches!(p.src, Some(Src::Layer { .. }));
        pieces.iter().filter(of_layers).map(|p| p.len).sum()
    }

    /// Makes bytes zero: whole blocks by saying so, parts of blocks by writing zeros where there is something. They go into new blocks
    /// always: the kernel keeps its pages when it is told of an error, so then nothing may have changed.
    fn zero_range(
        &self,
        ino: Ino,
        file: &File,
        off: u64,
        end: u64,
        maps: &mut Vec<(u64, u64, Option<Src>)>,
    ) -> Answer<()> {
        if off >= end {
            return Ok(());
        }
        // The last block of the file counts as whole: what comes after its end means nothing.
        let whole_end = if end == file.size {
            end.div_ceil(BLOCK)
        } else {
            end / BLOCK
        };
        let whole = (off.div_ceil(BLOCK), whole_end);
        let mut edges = Vec::new();
        if whole.0 > whole.1 {
            edges.push((off, end));
        } else {
            edges.push((off, whole.0 * BLOCK));
            edges.push((whole.1 * BLOCK, end));
        }
        let mut written = Vec::new();
        let target = Target {
            sealed: u32::MAX,
            ..self.target()
        };
        for (start, stop) in edges.into_iter().filter(|(a, b)| a < b) {
            let block = start / BLOCK;
            if self.has_data(ino, file, block) {
                let zeros = vec![0; (stop - start) as usize];
                self.put(ino, file, target, start, &zeros, &mut written)?;
            }
        }
        maps.extend(written.into_iter().map(|(f, l, s)| (f, l, Some(s))));
        if whole.0 < whole.1 {
            // Holes hide the base only where it has something.
            let of_base = file.base_len.div_ceil(BLOCK).clamp(whole.0, whole.1);
            maps.push((whole.0, of_base - whole.0, Some(Src::Zero)));
            maps.push((of_base, whole.1 - of_base, None));
        }
        Ok(())
    }

    /// Whether a block may hold anything but zeros.
    fn has_data(&self, ino: Ino, file: &File, block: u64) -> bool {
        match self.pieces(ino, block, block + 1)[..] {
            [
                Piece {
                    src: Some(Src::Layer { .. }),
                    ..
                },
            ] => true,
            [Piece { src: None, .. }] => {
                self.base_data(ino, file, block * BLOCK) < (block + 1) * BLOCK
            }
            _ => false,
        }
    }

    /// Where the base's part of a file has data next, at `off` or after; `u64::MAX` if nowhere.
    fn base_data(&self, ino: Ino, file: &File, off: u64) -> u64 {
        if off >= file.base_len {
            return u64::MAX;
        }
        match self.base.seek_data_hole(ino, off, Seek::Data) {
            Ok(at) if at < file.base_len => at.max(off),
            Ok(_) | Err(Errno::ENXIO) => u64::MAX,
            // A base that can't tell has data everywhere.
            Err(_) => off,
        }
    }

    /// Finds the next data or the next hole.
    ///
    /// # Errors
    /// `ENXIO` past the end, `EINVAL` for another `whence`, or what the base says.
    pub fn lseek(&self, ino: Ino, off: i64, whence: i32) -> Answer<i64> {
        let _gate = self.gate.read();
        let data = match whence {
            libc::SEEK_DATA => true,
            libc::SEEK_HOLE => false,
            _ => return Err(Errno::EINVAL),
        };
        let (ino, file, pieces) = match ino {
            FIRST_VIEW.. => self.blocks_hidden(ino)?,
            _ => {
                let file = self.file(ino, &self.seed(ino)?)?;
                let pieces = self.pieces(ino, 0, file.size.div_ceil(BLOCK));
                (ino, file, pieces)
            }
        };
        let off = u64::try_from(off).map_err(|_| Errno::ENXIO)?;
        if off >= file.size {
            return Err(Errno::ENXIO);
        }
        for p in pieces {
            if p.from + p.len <= off / BLOCK {
                continue;
            }
            let start = (p.from * BLOCK).max(off);
            let stop = ((p.from + p.len) * BLOCK).min(file.size);
            let found = match (p.src, data) {
                (Some(Src::Layer { .. }), true) | (Some(Src::Zero), false) => start,
                (Some(_), _) => continue,
                (None, true) => self.base_data(ino, &file, start),
                (None, false) if start >= file.base_len => start,
                (None, false) => match self.base.seek_data_hole(ino, start, Seek::Hole) {
                    Ok(at) => at.min(file.base_len.max(start)),
                    Err(_) => file.base_len,
                },
            };
            if found < stop {
                return Ok(found as i64);
            }
        }
        if data {
            Err(Errno::ENXIO)
        } else {
            Ok(file.size as i64)
        }
    }

    /// Copies bytes from file to file, at most 16 MiB, and tells how many.
    ///
    /// # Errors
    /// `EINVAL` for ranges of one file that overlap, and what reading and writing say.
    pub fn copy_file_range(
        &self,
        ino_in: Ino,
        off_in: u64,
        ino_out: Ino,
        off_out: u64,
        len: u64,
        who: &Caller,
    ) -> Answer<u32> {
        let len = (self.getattr(ino_in)?.size.saturating_sub(off_in))
            .min(len)
            .min(COPY_MAX);
        if ino_in == ino_out && off_in < off_out + len && off_out < off_in + len {
            return Err(Errno::EINVAL);
        }
        let how = WriteHow {
            kill_priv: who.uid != 0,
            ..WriteHow::default()
        };
        let mut buf = vec![0; CHUNK.min(len as usize)];
        let mut done = 0;
        while done < len {
            let want = (len - done).min(CHUNK as u64) as usize;
            let step = self
                .read(ino_in, off_in + done, &mut buf[..want], true)
                .and_then(|got| match got {
                    0 => Ok(0),
                    _ => self.write(ino_out, off_out + done, &buf[..got], how),
                });
            match step {
                Ok(0) => break,
                Ok(n) => done += u64::from(n),
                Err(e) => {
                    // Some of the bytes may be there, of which the kernel's pages know nothing.
                    self.house.forget_inode(ino_out);
                    match done {
                        0 => return Err(e),
                        _ => break,
                    }
                }
            }
        }
        Ok(done as u32)
    }

    /// Makes everything durable that was acknowledged before.
    ///
    /// # Errors
    /// What the disk says; the store takes no writes after that.
    pub fn fsync(&self, ino: Ino, _datasync: bool) -> Answer<()> {
        if ino >= FIRST_INO && self.inode(ino).is_none() {
            // What is below `.llfs` is durable already.
            return self.attr_hidden(ino).map(drop);
        }
        self.store.sync().map_err(|e| super::errno(&e))
    }
}
