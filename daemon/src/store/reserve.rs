//! Space held back: given up when the medium is full, so that what frees space can still be recorded.

use super::disk::{Disk, OpenHow};
use parking_lot::Mutex;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) const PATH: &str = "reserve";

/// Bytes that a start on a full disk gives up: a new segment of the journal, and the room that is kept in it.
const START: u64 = 96 << 10;
/// Bytes that only starts give up, of a reserve that is larger.
const STARTS: u64 = 16 * START;

/// A file that only takes space.
pub(super) struct Reserve {
    disk: Arc<dyn Disk>,
    bytes: u64,
    /// Whether the space is held.
    held: Mutex<bool>,
    /// How often space was given up.
    given: AtomicU64,
}

impl Reserve {
    /// The reserve as an earlier daemon left it.
    pub fn new(disk: Arc<dyn Disk>, bytes: u64) -> Self {
        Self {
            disk,
            bytes,
            held: Mutex::new(false),
            given: AtomicU64::new(0),
        }
    }

    /// How often space was given up.
    pub fn given(&self) -> u64 {
        self.given.load(Ordering::Acquire)
    }

    /// Gives up what is not for starts; whether that was done since `before`, by whomever: who found the medium full before
    /// another one did so has not tried what there is now.
    pub fn release_since(&self, before: u64) -> io::Result<bool> {
        Ok(self.release()? || self.given() != before)
    }

    /// Gives up what is not for starts; whether there was any.
    pub fn release(&self) -> io::Result<bool> {
        let for_starts = if self.bytes > STARTS { STARTS } else { 0 };
        self.shrink(|len| len.min(for_starts))
    }

    /// Gives up what one start of the store needs, so that there is as much for the next: each dies as the one before, if
    /// something kills them all, and others take whatever more is given up at once. Whether there was any.
    pub fn release_for_start(&self) -> io::Result<bool> {
        self.shrink(|len| len.saturating_sub(START))
    }

    fn shrink(&self, to: impl FnOnce(u64) -> u64) -> io::Result<bool> {
        let mut held = self.held.lock();
        *held = false;
        match self.disk.open(Path::new(PATH), OpenHow::Write) {
            Ok(file) => {
                let had = file.len()?;
                let left = to(had);
                if left < had {
                    file.set_len(left)?;
                    self.given.fetch_add(1, Ordering::AcqRel);
                }
                Ok(left < had)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes the space (again), if that leaves as much free for others; whether it is held.
    pub fn refill(&self) -> io::Result<bool> {
        let mut held = self.held.lock();
        if *held || self.bytes == 0 {
            return Ok(true);
        }
        let file = self.disk.open(Path::new(PATH), OpenHow::Create)?;
        if file.len()? < self.bytes || file.disk_bytes()? < self.bytes {
            if self.disk.free_bytes()? < 2 * self.bytes {
                return Ok(false);
            }
            file.allocate(0, self.bytes)?;
        }
        *held = true;
        Ok(true)
    }

    /// Bytes held.
    pub fn held(&self) -> u64 {
        if *self.held.lock() { self.bytes } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::HostDisk;

    #[test]
    fn many_starts_find_something_after_everybody_else_took_what_there_was() {
        let place = std::env::temp_dir().join(format!("llfs-reserve-{}", std::process::id()));
        std::fs::create_dir_all(&place).unwrap();
        let disk = Arc::new(HostDisk::open(&place).unwrap());
        let reserve = Reserve::new(disk.clone(), 4 << 20);
        let held = reserve.refill();
        let len = || std::fs::metadata(place.join(PATH)).unwrap().len();
        let full = len();
        let first = reserve.release().unwrap();
        let again = reserve.release().unwrap();
        let starts = (0..100)
            .take_while(|_| reserve.release_for_start().unwrap())
            .count();
        let (left, small) = (len(), Reserve::new(disk, 64 << 10));
        let refilled = small.refill();
        let whole = small.release().unwrap();
        let none = len();
        std::fs::remove_dir_all(&place).unwrap();
        assert!(held.unwrap() && refilled.unwrap());
        assert_eq!(full, 4 << 20);
        assert!(first && !again, "syncs leave what is for starts");
        assert_eq!((starts, left), (16, 0));
        assert!(whole && none == 0, "a small one goes at once");
    }
}
