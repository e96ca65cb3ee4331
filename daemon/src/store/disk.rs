//! The one door to the medium: everything the store reads, writes or syncs goes through [`Disk`], so
//! that tests can put a simulated medium below the store and cut its power at any write.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// How [`Disk::open`] treats a file that is there, or is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenHow {
    /// For reading; it must exist.
    Read,
    /// For reading and writing; it must exist.
    Write,
    /// For reading and writing; made (empty) when missing.
    Create,
    /// For reading and writing; made when missing, emptied when there.
    Replace,
}

/// A directory on a medium. Paths are relative to it; errors keep their raw OS error.
///
/// What the store assumes of a medium: bytes written are kept after `sync_data` of their file and a
/// name after `sync_dir` of its directory; until then a write may be lost, kept or kept in part (512
/// byte sectors are whole), in any order; `rename` replaces its target atomically.
pub trait Disk: Send + Sync {
    /// Opens a file.
    fn open(&self, path: &Path, how: OpenHow) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens (making it if needed) and locks a file for as long as the handle lives, or fails with
    /// `EWOULDBLOCK` when another process goes on holding it.
    fn lock(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Renames a file, replacing a file of the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Unlinks a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory (`""` is the store itself), in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>>;
    /// Makes a directory; one that is already there is no error.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes the names in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that an unprivileged writer can still take.
    fn free_bytes(&self) -> io::Result<u64>;
    /// A number that changes when the medium below is another one (the device number).
    fn medium(&self) -> io::Result<u64>;
}

/// A file on a [`Disk`]. Offsets and lengths are bytes.
pub trait DiskFile: Send + Sync {
    /// Reads until `buf` is full or the file ends; how many bytes.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `data`; on an error any part of it may have been written.
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the bytes (and the length needed to read them) durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Has the medium begin to write, without waiting for it. Promises nothing.
    fn start_writeback(&self) -> io::Result<()> {
        Ok(())
    }
    /// Waits until the medium has the bytes of the range, and lets go of the memory that its cache has for them. Promises
    /// nothing; but an error is as one of [`Self::sync_data`], which will not tell it again.
    fn drop_cached(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }
    /// Waits for what is just being written of the range, and tells an error of writing to the file that nobody was told through
    /// this handle. It has nothing written, and promises nothing else; but an error is as one of [`Self::sync_data`].
    fn told_written(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }
    /// The length.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts or extends (with zeros) to `len`.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Gives the range back to the medium; it reads as zeros, the length stays.
    fn punch(&self, offset: u64, len: u64) -> io::Result<()>;
    /// Takes space for the range, extending the file when needed.
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()>;
    /// Whether nothing of the range takes space, so that it was given back or never written. `false` from a medium that does
    /// not know.
    fn is_hole(&self, _offset: u64, _len: u64) -> io::Result<bool> {
        Ok(false)
    }
    /// Bytes that the file takes on the medium.
    fn disk_bytes(&self) -> io::Result<u64>;
}
