//! One file that is written, cut, punched and read at random, and what it must hold.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use nix::fcntl::{FallocateFlags, fallocate};

use crate::dice::{Random, pattern};
use crate::sys;

/// The file is never longer.
const MOST: usize = 600_000;

/// What the file holds, as far as that was acknowledged.
#[derive(Clone, Debug, Default)]
pub struct Bytes(pub Vec<u8>);

/// The end of a row of operations.
#[derive(Debug)]
pub struct Left {
    /// What all but the last operation has left,
    pub sure: Bytes,
    /// and what it is if that one, whose call returned an error, was carried out.
    pub perhaps: Bytes,
}

/// What others tell the one who writes, and are told.
#[derive(Debug, Default)]
pub struct Orders {
    /// It is to end.
    pub enough: AtomicBool,
    /// Operations that were acknowledged.
    pub done: AtomicU64,
    /// Operations for which there was no space.
    pub refused: AtomicU64,
}

enum Op {
    Write(usize, Vec<u8>),
    Cut(usize),
    Punch(usize, usize),
    Read(usize, usize),
    Sync,
}

impl Op {
    fn roll(random: &mut Random, len: usize) -> Op {
        let at = random.below(len + 5000);
        let most = [100, 5000, 70_000][random.below(3)];
        let size = 1 + random.below(most);
        match random.below(12) {
            0 => Op::Cut(random.below(MOST)),
            1 => Op::Punch(at, size),
            2..=4 => Op::Read(at, size),
            5 => Op::Sync,
            _ => {
                let size = size.min(MOST.saturating_sub(at)).max(1);
                Op::Write(at.min(MOST - 1), pattern(random.next_u64() as u16, size))
            }
        }
    }

    /// What `file` is told; how many bytes of a write were taken.
    fn carry_out(&self, file: &File, holds: &Bytes) -> io::Result<usize> {
        match self {
            Op::Write(at, bytes) => return file.write_at(bytes, *at as u64),
            Op::Cut(len) => file.set_len(*len as u64)?,
            Op::Punch(at, len) => {
                let how =
                    FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
                fallocate(file.as_fd(), how, *at as i64, *len as i64)?;
            }
            Op::Read(at, len) => {
                sys::drop_caches(file)?;
                let mut found = vec![0; *len];
                let count = file.read_at(&mut found, *at as u64)?;
                let right = holds.0.get(*at..(at + len).min(holds.0.len()));
                let right = right.unwrap_or_default();
                assert!(found[..count] == *right, "{len} bytes at {at} are others");
            }
            Op::Sync => file.sync_all()?,
        }
        Ok(0)
    }

    /// What is left to be written when `taken` bytes were taken of more.
    fn rest(&self, taken: usize) -> Option<Op> {
        match self {
            Op::Write(at, bytes) if taken < bytes.len() => {
                Some(Op::Write(at + taken, bytes[taken..].to_vec()))
            }
            _ => None,
        }
    }

    /// What that leaves, if `taken` bytes of a write were taken.
    fn apply(&self, to: &mut Bytes, taken: usize) {
        let bytes = &mut to.0;
        match self {
            Op::Write(at, from) => {
                let end = at + taken;
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*at..end].copy_from_slice(&from[..taken]);
            }
            Op::Cut(len) => bytes.resize(*len, 0),
            Op::Punch(at, len) => {
                let end = (at + len).min(bytes.len());
                if *at < end {
                    bytes[*at..end].fill(0);
                }
            }
            Op::Read(..) | Op::Sync => {}
        }
    }
}

impl Bytes {
    /// Goes on until there is an error, or it is enough. What there is no space for leaves all else as it was. `between` is called now
    /// and then, with what the file holds just then.
    ///
    /// # Panics
    /// When a read shows something else, or the file cannot be opened.
    pub fn work(
        mut self,
        path: &Path,
        random: &mut Random,
        orders: &Orders,
        mut between: impl FnMut(&Bytes),
    ) -> Left {
        let mut options = File::options();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path);
        let file = file.expect("the mount has begun");
        for number in 1.. {
            if orders.enough.load(Relaxed) {
                break;
            }
            let op = Op::roll(random, self.0.len());
            let refused = match op.carry_out(&file, &self) {
                Ok(taken) => {
                    let rest = op.rest(taken);
                    op.apply(&mut self, taken);
                    orders.done.fetch_add(1, Relaxed);
                    rest
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => Some(op),
                Err(_) => return Left::of(self, &op),
            };
            if let Some(op) = refused {
                self = match self.refused(&op, path, orders) {
                    Ok(now) => now,
                    Err(left) => return left,
                };
            }
            if number % 50 == 0 {
                between(&self);
            }
        }
        Left {
            perhaps: self.clone(),
            sure: self,
        }
    }

    /// What the file holds after an operation for which there was no space. Blocks that no snapshot holds may have some of it; the
    /// length is what it was. Without a daemon nobody can tell.
    fn refused(self, op: &Op, path: &Path, orders: &Orders) -> Result<Bytes, Left> {
        orders.refused.fetch_add(1, Relaxed);
        let mut left = Left::of(self, op);
        left.perhaps.0.truncate(left.sure.0.len());
        match std::fs::read(path) {
            Ok(found) => Ok(left.settle(found)),
            Err(_) => Err(left),
        }
    }
}

impl Left {
    /// What there may be when an operation returned an error.
    fn of(sure: Bytes, op: &Op) -> Left {
        let mut perhaps = sure.clone();
        let taken = match op {
            Op::Write(_, bytes) => bytes.len(),
            _ => 0,
        };
        op.apply(&mut perhaps, taken);
        Left { sure, perhaps }
    }

    /// What the file holds, which must be one of the two, or of each byte either: a write that a kill cut short has written some.
    ///
    /// # Panics
    /// When it is something else.
    #[track_caller]
    #[must_use]
    pub fn settle(self, found: Vec<u8>) -> Bytes {
        let (sure, perhaps) = (&self.sure.0, &self.perhaps.0);
        let lengths = [sure.len(), perhaps.len()];
        assert!(
            lengths.contains(&found.len()),
            "{} bytes, not {lengths:?}",
            found.len()
        );
        let at = |bytes: &[u8], n: usize| bytes.get(n).copied().unwrap_or(0);
        let wrong = (found.iter().enumerate())
            .find(|(n, byte)| **byte != at(sure, *n) && **byte != at(perhaps, *n));
        assert!(
            wrong.is_none(),
            "byte {wrong:?} was acknowledged as another"
        );
        Bytes(found)
    }
}
