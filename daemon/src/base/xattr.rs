//! Link targets and extended attributes, read without opening the object.

use std::ffi::{CString, OsString};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;
use nix::fcntl::readlinkat;

use super::{Base, ROOT};

/// The longest value and the longest list of names that Linux allows (`linux/limits.h`), in bytes.
const XATTR_MAX: usize = 65536;

/// XFS shows root the ACLs a second time, under names that begin so. Setting them under one name changes both.
const XFS_ACL: &[u8] = b"trusted.SGI_ACL_";

impl Base {
    /// The target of the symbolic link `ino`.
    ///
    /// # Errors
    /// EINVAL: not a symbolic link; ESTALE: not known, or something else is there now; what `readlinkat` gives.
    pub fn readlink(&self, ino: u64) -> Result<Vec<u8>, Errno> {
        if ino == ROOT {
            return Err(Errno::EINVAL);
        }
        let (dir, name, _) = self.locate(ino)?;
        readlinkat(&*dir, name.as_cstr()).map(OsString::into_vec)
    }

    /// The names of the extended attributes of `ino`, none where its filesystem has no such thing.
    ///
    /// # Errors
    /// ESTALE: not known, or something else is there now; what `llistxattr` gives.
    pub fn listxattr(&self, ino: u64) -> Result<Vec<Vec<u8>>, Errno> {
        let path = self.proc_path(ino)?;
        let read = fill(|buf| {
            // SAFETY: the path is NUL-terminated; the kernel writes at most `buf.len()` bytes into `buf`.
            unsafe { libc::llistxattr(path.as_ptr(), buf.as_mut_ptr().cast(), buf.len()) }
        });
        let names = match read {
            Err(Errno::EOPNOTSUPP) => return Ok(Vec::new()),
            names => names?,
        };
        let names = names.split(|byte| *byte == 0);
        Ok(names
            .filter(|n| !n.is_empty() && !n.starts_with(XFS_ACL))
            .map(<[u8]>::to_vec)
            .collect())
    }

    /// The value of one extended attribute of `ino`.
    ///
    /// # Errors
    /// ENODATA: there is none of that name; EINVAL: not a name; ESTALE: not known, or something else is
    /// there now; what `lgetxattr` gives.
    pub fn getxattr(&self, ino: u64, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
        let path = self.proc_path(ino)?;
        let read = fill(|buf| {
            // SAFETY: both strings are NUL-terminated; the kernel writes at most `buf.len()` bytes into `buf`.
            unsafe {
                libc::lgetxattr(
                    path.as_ptr(),
                    name.as_ptr(),
                    buf.as_mut_ptr().cast(),
                    buf.len(),
                )
            }
        });
        match read {
            Err(Errno::EOPNOTSUPP) => Err(Errno::ENODATA),
            value => value,
        }
    }

    /// A path to `ino` for calls that take no descriptor. It goes through `/proc/self/fd` to the parent
    /// directory, which the returned path keeps open, and by one name from there.
    fn proc_path(&self, ino: u64) -> Result<ProcPath, Errno> {
        let (dir, name) = if ino == ROOT {
            (std::sync::Arc::clone(&self.view), c".".to_owned())
        } else {
            let (dir, name, _) = self.locate(ino)?;
            (dir, name.as_cstr().to_owned())
        };
        let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
        path.extend_from_slice(name.as_bytes());
        Ok(ProcPath {
            path: CString::new(path).map_err(|_| Errno::EINVAL)?,
            _dir: dir,
        })
    }
}

/// A path and the descriptor that it goes through.
struct ProcPath {
    path: CString,
    _dir: std::sync::Arc<std::os::fd::OwnedFd>,
}

impl ProcPath {
    fn as_ptr(&self) -> *const libc::c_char {
        self.path.as_ptr()
    }
}

/// What `read` puts into a buffer: into a small one, or if it says ERANGE into one of the largest size.
fn fill(read: impl Fn(&mut [u8]) -> libc::ssize_t) -> Result<Vec<u8>, Errno> {
    for size in [512, XATTR_MAX] {
        let mut buf = vec![0; size];
        match Errno::result(read(&mut buf)) {
            Err(Errno::ERANGE) => {}
            count => {
                buf.truncate(count? as usize);
                buf.shrink_to_fit();
                return Ok(buf);
            }
        }
    }
    Err(Errno::E2BIG)
}
