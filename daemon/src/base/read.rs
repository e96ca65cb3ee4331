//! The contents of base files.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{Whence, lseek};

use super::resolve::open_to_read;
use super::{Base, ROOT};
use crate::tree::Kind;

/// What [`Base::seek_data_hole`] looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    Data,
    Hole,
}

impl Base {
    /// The regular file `ino`, open for reading. It is shared with other readers: use no file position.
    ///
    /// # Errors
    /// EISDIR, EINVAL: not a regular file; ESTALE: not known, or something else is there now; what
    /// `openat2` gives, EACCES above all.
    pub fn open_file(&self, ino: u64) -> Result<Arc<File>, Errno> {
        if let Some(file) = self.files.get(ino) {
            return Ok(file);
        }
        if ino == ROOT {
            return Err(Errno::EISDIR);
        }
        // The type is known before anything is opened: opening a device has effects of its own.
        let (dir, name, stat) = self.locate(ino)?;
        match Kind::from_mode(stat.st_mode) {
            Some(Kind::File) => {}
            Some(Kind::Dir) => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
        let fd = open_to_read(dir.as_fd(), name.as_cstr(), flags).map_err(|error| match error {
            // Someone has a lease on it; `EAGAIN` means something else to our callers.
            Errno::EAGAIN => Errno::EBUSY,
            error => error,
        })?;
        Ok(self.files.insert(ino, File::from(fd)))
    }

    /// Reads from byte `off` of the file `ino` until `buf` is full or the file ends; returns the count of
    /// bytes, which is below `buf.len()` at the end of the file only. With `nowait` nothing waits for a disk.
    ///
    /// # Errors
    /// EAGAIN: with `nowait`, some of it is not in memory; as for [`Base::open_file`]; what `preadv2` gives.
    pub fn read_at(
        &self,
        ino: u64,
        buf: &mut [u8],
        off: u64,
        nowait: bool,
    ) -> Result<usize, Errno> {
        let file = self.open_file(ino)?;
        let flags = if nowait { libc::RWF_NOWAIT } else { 0 };
        let mut done = 0;
        while done < buf.len() {
            let at = off.checked_add(done as u64).ok_or(Errno::EINVAL)?;
            match pread(&file, &mut buf[done..], at, flags) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(Errno::EINTR) => {}
                // A filesystem that cannot tell what is in memory.
                Err(Errno::EOPNOTSUPP) if nowait => return Err(Errno::EAGAIN),
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// The first byte at or after `off` that is in a stretch of data, or in a hole.
    ///
    /// # Errors
    /// ENXIO: none before the end, or `off` beyond it; as for [`Base::open_file`]; what `lseek` gives.
    pub fn seek_data_hole(&self, ino: u64, off: u64, what: Seek) -> Result<u64, Errno> {
        let file = self.open_file(ino)?;
        let off = i64::try_from(off).map_err(|_| Errno::ENXIO)?;
        let whence = match what {
            Seek::Data => Whence::SeekData,
            Seek::Hole => Whence::SeekHole,
        };
        let found = lseek(&*file, off, whence)?;
        u64::try_from(found).map_err(|_| Errno::EIO)
    }
}

/// One `preadv2(2)`.
fn pread(file: &File, buf: &mut [u8], off: u64, flags: libc::c_int) -> Result<usize, Errno> {
    let off = i64::try_from(off).map_err(|_| Errno::EINVAL)?;
    let iov = libc::iovec {
        iov_base: buf.as_mut_ptr().cast(),
        iov_len: buf.len(),
    };
    // SAFETY: `iov` describes `buf`, which is borrowed mutably for the whole call.
    let count = unsafe { libc::preadv2(file.as_raw_fd(), &raw const iov, 1, off, flags) };
    Errno::result(count).map(|count| count as usize)
}
