//! A piece of a file in memory, shared with whoever maps it too.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

/// Shared memory, mapped for reading and writing until it is dropped.
#[derive(Debug)]
pub(super) struct Mapping {
    at: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory belongs to no thread, and all access to it is by atomics.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes of `file` from `offset` on, a multiple of the page size. The file must be as long.
    pub fn new(file: BorrowedFd<'_>, offset: u64, len: usize) -> io::Result<Mapping> {
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        // SAFETY: a new mapping at a place that the kernel chooses touches no memory that is in use.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                offset,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let at = NonNull::new(at.cast()).ok_or_else(|| io::Error::other("mapped at zero"))?;
        Ok(Mapping { at, len })
    }

    /// The memory as `count` values.
    ///
    /// # Safety
    /// `T` consists of atomics only, and any bytes are a valid one.
    pub unsafe fn as_slice<T>(&self, count: usize) -> &[T] {
        assert!(count * size_of::<T>() <= self.len && align_of::<T>() <= 4096);
        // SAFETY: mapped, long enough, aligned to a page, and with T of atomics others may write it meanwhile.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr().cast(), count) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and borrows of it have ended.
        let done = unsafe { libc::munmap(self.at.as_ptr().cast(), self.len) };
        debug_assert_eq!(done, 0);
    }
}
