//! System calls that the standard library and nix do not wrap.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("test paths hold no NUL")
}

fn checked(result: libc::ssize_t) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| Errno::last())
}

/// lsetxattr(2).
pub fn set_xattr(path: &Path, name: &[u8], value: &[u8], flags: i32) -> Result<(), Errno> {
    let (path, name) = (
        c_path(path),
        CString::new(name).expect("xattr names hold no NUL"),
    );
    // SAFETY: both strings end in NUL and `value` is readable for its length.
    let result = unsafe {
        libc::lsetxattr(
            path.as_ptr(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            flags,
        )
    };
    Errno::result(result).map(drop)
}

/// lgetxattr(2), with as large a buffer as the kernel allows.
pub fn get_xattr(path: &Path, name: &[u8]) -> Result<Vec<u8>, Errno> {
    let (path, name) = (
        c_path(path),
        CString::new(name).expect("xattr names hold no NUL"),
    );
    let mut value = vec![0u8; 65536];
    // SAFETY: both strings end in NUL and `value` is writable for its length.
    let length = checked(unsafe {
        libc::lgetxattr(
            path.as_ptr(),
            name.as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    })?;
    value.truncate(length);
    Ok(value)
}

/// lremovexattr(2).
pub fn remove_xattr(path: &Path, name: &[u8]) -> Result<(), Errno> {
    let (path, name) = (
        c_path(path),
        CString::new(name).expect("xattr names hold no NUL"),
    );
    // SAFETY: both strings end in NUL.
    Errno::result(unsafe { libc::lremovexattr(path.as_ptr(), name.as_ptr()) }).map(drop)
}

/// llistxattr(2): the names.
pub fn list_xattr(path: &Path) -> Result<Vec<Vec<u8>>, Errno> {
    let path = c_path(path);
    let mut names = vec![0u8; 65536];
    // SAFETY: `path` ends in NUL and `names` is writable for its length.
    let length = checked(unsafe {
        libc::llistxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len())
    })?;
    names.truncate(length);
    Ok(names
        .split(|&b| b == 0)
        .filter(|name| !name.is_empty())
        .map(<[u8]>::to_vec)
        .collect())
}

/// copy_file_range(2) with explicit offsets: how many bytes were copied.
pub fn copy_file_range(
    source: &File,
    from: u64,
    target: &File,
    to: u64,
    len: usize,
) -> Result<usize, Errno> {
    let (mut from, mut to) = (from.cast_signed(), to.cast_signed());
    // SAFETY: both offsets live until the call returns.
    checked(unsafe {
        libc::copy_file_range(
            source.as_raw_fd(),
            &mut from,
            target.as_raw_fd(),
            &mut to,
            len,
            0,
        )
    })
}

/// posix_fadvise(2): the kernel forgets the pages of the file that are not dirty.
pub fn drop_caches(file: &File) -> Result<(), Errno> {
    // SAFETY: takes numbers only.
    match unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) } {
        0 => Ok(()),
        errno => Err(Errno::from_raw(errno)),
    }
}

/// A shared mapping of a file's beginning.
#[derive(Debug)]
pub struct Mapping {
    start: *mut u8,
    length: usize,
}

impl Mapping {
    /// Maps the first `length` bytes of `file` shared, writable when `writable`.
    pub fn new(file: &File, length: usize, writable: bool) -> Result<Mapping, Errno> {
        let access = if writable {
            libc::PROT_READ | libc::PROT_WRITE
        } else {
            libc::PROT_READ
        };
        // SAFETY: the kernel picks an unused address; nothing of ours is replaced.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                access,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        Ok(Mapping {
            start: start.cast(),
            length,
        })
    }

    /// Copies bytes out of the mapping. They must lie in the file as it is now.
    #[must_use]
    pub fn read(&self, offset: usize, length: usize) -> Vec<u8> {
        assert!(offset + length <= self.length, "inside of the mapping");
        let mut bytes = Vec::with_capacity(length);
        for place in offset..offset + length {
            // SAFETY: inside of the mapping; volatile because the file changes below it.
            bytes.push(unsafe { self.start.add(place).read_volatile() });
        }
        bytes
    }

    /// Stores bytes through the mapping, which must be writable.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.length, "inside of the mapping");
        for (index, byte) in bytes.iter().enumerate() {
            // SAFETY: inside of the mapping; volatile because it is a store to a shared file.
            unsafe { self.start.add(offset + index).write_volatile(*byte) };
        }
    }

    /// The number at `offset`, a multiple of 8, as one access.
    #[must_use]
    pub fn load(&self, offset: usize) -> u64 {
        self.number(offset).load(Ordering::SeqCst)
    }

    /// Stores a number at `offset`, a multiple of 8, as one access. The mapping must be writable.
    pub fn store(&self, offset: usize, number: u64) {
        self.number(offset).store(number, Ordering::SeqCst);
    }

    fn number(&self, offset: usize) -> &AtomicU64 {
        assert!(
            offset + 8 <= self.length && offset.is_multiple_of(8),
            "inside of the mapping"
        );
        // SAFETY: inside of the mapping, which lives as long as `self` and begins at a page; whoever else
        // changes it, here or in another process, does so by atomic accesses or through the file.
        unsafe { AtomicU64::from_ptr(self.start.add(offset).cast()) }
    }

    /// msync(2) with MS_SYNC.
    pub fn sync(&self) -> Result<(), Errno> {
        // SAFETY: the range is the mapping.
        Errno::result(unsafe { libc::msync(self.start.cast(), self.length, libc::MS_SYNC) })
            .map(drop)
    }
}

// SAFETY: it owns its range; what threads share of it they access atomically or volatile, as files are.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is the mapping and nobody holds a reference into it.
        let result = unsafe { libc::munmap(self.start.cast(), self.length) };
        debug_assert_eq!(result, 0, "the mapping was there");
    }
}
