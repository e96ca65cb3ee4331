//! Space held back: given up when the medium is full, so that what frees space can still be recorded.

use super::disk::{Disk, OpenHow};
use parking_lot::Mutex;
use std::io;
use std::path::Path;
use std::sync::Arc;

pub(super) const PATH: &str = "reserve";

/// A file that only takes space.
pub(super) struct Reserve {
    disk: Arc<dyn Disk>,
    bytes: u64,
    /// Whether the space is held.
    held: Mutex<bool>,
}

impl Reserve {
    /// The reserve as an earlier daemon left it.
    pub fn new(disk: Arc<dyn Disk>, bytes: u64) -> Self {
        Self {
            disk,
            bytes,
            held: Mutex::new(false),
        }
    }

    /// Gives the space up; whether there was any.
    pub fn release(&self) -> io::Result<bool> {
        let mut held = self.held.lock();
        *held = false;
        match self.disk.open(Path::new(PATH), OpenHow::Write) {
            Ok(file) => {
                let had = file.len()? > 0;
                file.set_len(0)?;
                Ok(had)
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
