//! Reading extended attributes where they are.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};

use nix::errno::Errno;

use super::super::Answer;
use super::hand::Spot;

/// The longest value and the longest list of names that Linux allows (`linux/limits.h`), in bytes.
const XATTR_MAX: usize = 65536;

/// All extended attributes of an object that can be read, none where its file system has no such thing.
pub(super) fn read(at: &Spot) -> Answer<BTreeMap<Vec<u8>, Vec<u8>>> {
    let path = at.proc_path()?;
    let mut all = BTreeMap::new();
    let names = match list(&path) {
        Err(Errno::EOPNOTSUPP) => return Ok(all),
        names => names?,
    };
    for name in names.split(|b| *b == 0).filter(|n| !n.is_empty()) {
        if is_shadow(name) {
            continue;
        }
        match get(&path, name) {
            Ok(value) => {
                all.insert(name.to_vec(), value);
            }
            // Listed, but not for us to read: taking an object into the overlay skips it likewise.
            Err(Errno::ENODATA | Errno::EPERM | Errno::EACCES | Errno::EOPNOTSUPP) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(all)
}

/// Whether this is another attribute under a second name: XFS shows the ACLs that it keeps to root once more, and setting
/// the one sets the other.
pub(super) fn is_shadow(name: &[u8]) -> bool {
    matches!(name, b"trusted.SGI_ACL_FILE" | b"trusted.SGI_ACL_DEFAULT")
}

fn list(path: &CStr) -> Answer<Vec<u8>> {
    fill(|buf| {
        // SAFETY: the path is NUL-terminated; the kernel writes at most `buf.len()` bytes into `buf`.
        unsafe { libc::llistxattr(path.as_ptr(), buf.as_mut_ptr().cast(), buf.len()) }
    })
}

fn get(path: &CStr, name: &[u8]) -> Answer<Vec<u8>> {
    let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
    fill(|buf| {
        // SAFETY: both strings are NUL-terminated; the kernel writes at most `buf.len()` bytes into `buf`.
        unsafe {
            libc::lgetxattr(
                path.as_ptr(),
                name.as_ptr(),
                buf.as_mut_ptr().cast(),
                buf.len(),
            )
        }
    })
}

fn fill(read: impl Fn(&mut [u8]) -> libc::ssize_t) -> Answer<Vec<u8>> {
    for size in [256, XATTR_MAX] {
        let mut buf = vec![0; size];
        match Errno::result(read(&mut buf)) {
            Err(Errno::ERANGE) => {}
            count => {
                buf.truncate(count? as usize);
                return Ok(buf);
            }
        }
    }
    Err(Errno::E2BIG)
}
