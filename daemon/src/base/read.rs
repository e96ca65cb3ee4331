//! The contents of base files.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;
use nix::unistd::{Whence, lseek};

use super::resolve::open_to_read;
use super::{Base, BaseStat, ROOT};
use crate::tree::Kind;

/// A base file that is open for reading. It is shared with other readers: use no file position.
pub(super) struct OpenFile {
    pub(super) file: File,
    /// Its length in bytes, which stays: nobody writes to the base.
    size: u64,
}

/// What [`Base::seek_data_hole`] looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    Data,
    Hole,
}

impl Base {
    /// The regular file `ino`, open for reading.
    ///
    /// # Errors
    /// EISDIR, EINVAL: not a regular file; ESTALE: not known, or something else is there now; what
    /// `openat2` gives, EACCES above all.
    pub(super) fn open_file(&self, ino: u64) -> Result<Arc<OpenFile>, Errno> {
        if let Some(file) = self.files.get(ino) {
            return Ok(file);
        }
        if ino == ROOT {
            return Err(Errno::EISDIR);
        }
        // The type is known before anything is opened: opening a device has effects of its own.
        if let Some(seen) = self.recent.get(ino) {
            check_kind(&seen.stat)?;
            let wrong = |error| self.found_wrong(ino, error);
            let (dir, name) = self.spot(ino).map_err(wrong)?;
            let file = open_regular(dir.as_fd(), name.as_cstr()).map_err(wrong)?;
            let raw = fstat(&file)?;
            self.expect(ino, &raw).map_err(wrong)?;
            let size = self.convert(&raw)?.size;
            return Ok(self.files.insert(ino, Arc::new(OpenFile { file, size })));
        }
        let (dir, name, raw) = self.locate(ino)?;
        let stat = self.convert(&raw)?;
        check_kind(&stat)?;
        let file = open_regular(dir.as_fd(), name.as_cstr())?;
        let size = stat.size;
        Ok(self.files.insert(ino, Arc::new(OpenFile { file, size })))
    }

    /// Reads from byte `off` of the file `ino` until `buf` is full or the file ends; returns the count of
    /// bytes, which is below `buf.len()` at the end of the file only, as it was when the file was opened. With `nowait`
    /// nothing waits for a disk.
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
        if i64::try_from(off).is_err() {
            return Err(Errno::EINVAL);
        }
        let flags = if nowait { libc::RWF_NOWAIT } else { 0 };
        // Asking beyond the end, to hear that there is nothing, would cost as much as the read.
        let left = file.size.saturating_sub(off).min(buf.len() as u64);
        let buf = &mut buf[..left as usize];
        let mut done = 0;
        while done < buf.len() {
            let at = off.checked_add(done as u64).ok_or(Errno::EINVAL)?;
            match pread(&file.file, &mut buf[done..], at, flags) {
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
        let found = lseek(&file.file, off, whence)?;
        u64::try_from(found).map_err(|_| Errno::EIO)
    }
}

/// EISDIR, EINVAL: not a regular file.
fn check_kind(stat: &BaseStat) -> Result<(), Errno> {
    match stat.kind {
        Kind::File => Ok(()),
        Kind::Dir => Err(Errno::EISDIR),
        _ => Err(Errno::EINVAL),
    }
}

/// Opens what is known to be a regular file.
fn open_regular(dir: BorrowedFd<'_>, name: &CStr) -> Result<File, Errno> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
    match open_to_read(dir, name, flags) {
        // Someone has a lease on it; `EAGAIN` means something else to our callers.
        Err(Errno::EAGAIN) => Err(Errno::EBUSY),
        fd => fd.map(File::from),
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
