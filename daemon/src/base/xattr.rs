//! Link targets and extended attributes, read without opening the object.

use std::ffi::{CStr, CString, OsString};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::sys::stat::fstat;

use super::resolve::CName;
use super::{Base, BaseStat, ROOT};

/// The longest value and the longest list of names that Linux allows (`linux/limits.h`), in bytes.
const XATTR_MAX: usize = 65536;

/// Bytes that most values and lists of names fit into.
const XATTR_SMALL: usize = 512;

/// XFS shows root the ACLs a second time, under names that begin so. Setting them under one name changes both.
const XFS_ACL: &[u8] = b"trusted.SGI_ACL_";

/// What the kernel asks for before the first write into a file. Almost none has it; see [`Base::getxattr`].
const CAPABILITY: &[u8] = b"security.capability";

/// The extended attributes of an object: names and values.
pub type BaseXattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// An object for calls that take no descriptor of it: the directory that it is in, and its name there.
struct Spot {
    dir: Arc<OwnedFd>,
    /// `None`: it is the directory itself, the root.
    name: Option<CName>,
    /// It is what it should be.
    stat: BaseStat,
}

impl Spot {
    fn name(&self) -> &CStr {
        self.name.as_ref().map_or(c".", CName::as_cstr)
    }
}

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
        self.names_at(&self.find(ino)?)
    }

    /// The value of one extended attribute of `ino`.
    ///
    /// # Errors
    /// ENODATA: there is none of that name; EINVAL: not a name; ESTALE: not known, or something else is
    /// there now; what `lgetxattr` gives.
    pub fn getxattr(&self, ino: u64, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let spot = self.find(ino)?;
        // A file that is about to be written needs all its attributes next: to know that there are none answers both.
        if name == CAPABILITY && self.names_at(&spot)?.is_empty() {
            return Err(Errno::ENODATA);
        }
        self.value_at(&spot, name)
    }

    /// All about `ino` that is not its data: attributes, and the extended ones that can be read. What was asked of it a
    /// moment ago is not asked again.
    ///
    /// # Errors
    /// ESTALE: not known, or something else is there now; what `fstatat`, `llistxattr` and `lgetxattr` give.
    pub fn describe(&self, ino: u64) -> Result<(BaseStat, BaseXattrs), Errno> {
        let spot = match self.recent.get(ino) {
            Some(seen) if seen.bare => return Ok((seen.stat, Vec::new())),
            Some(seen) if ino != ROOT => {
                let (dir, name) = self.spot(ino).map_err(|e| self.found_wrong(ino, e))?;
                Spot {
                    dir,
                    name: Some(name),
                    stat: seen.stat,
                }
            }
            _ => self.find(ino)?,
        };
        let mut all = Vec::new();
        for name in self.names_at(&spot)? {
            match self.value_at(&spot, &name) {
                Ok(value) => all.push((name, value)),
                // Listed, but not for us to read (`trusted.*` of an unprivileged daemon): not shown either.
                Err(Errno::ENODATA | Errno::EPERM | Errno::EACCES) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((spot.stat, all))
    }

    /// Where `ino` is, after a look that it is there.
    fn find(&self, ino: u64) -> Result<Spot, Errno> {
        if ino == ROOT {
            return Ok(Spot {
                dir: Arc::clone(&self.view),
                name: None,
                stat: self.convert(&fstat(&self.view)?)?,
            });
        }
        let (dir, name, raw) = self.locate(ino)?;
        Ok(Spot {
            dir,
            name: Some(name),
            stat: self.convert(&raw)?,
        })
    }

    fn names_at(&self, spot: &Spot) -> Result<Vec<Vec<u8>>, Errno> {
        let list = match fill(|buf| self.read_xattr(spot, None, buf)) {
            Err(Errno::EOPNOTSUPP) => Vec::new(),
            list => list?,
        };
        let names = list.split(|byte| *byte == 0);
        let names: Vec<_> = names
            .filter(|n| !n.is_empty() && !n.starts_with(XFS_ACL))
            .map(<[u8]>::to_vec)
            .collect();
        self.recent.note(&spot.stat, names.is_empty());
        Ok(names)
    }

    fn value_at(&self, spot: &Spot, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
        match fill(|buf| self.read_xattr(spot, Some(&name), buf)) {
            Err(Errno::EOPNOTSUPP) => Err(Errno::ENODATA),
            value => value,
        }
    }

    /// The value of an attribute, or without a name the list of names, into `buf`; returns the count of bytes.
    fn read_xattr(&self, at: &Spot, name: Option<&CStr>, buf: &mut [u8]) -> Result<usize, Errno> {
        let count = if self.xattrs_at {
            ask_at(at.dir.as_raw_fd(), at.name(), name, buf)
        } else {
            ask_through_proc(at.dir.as_raw_fd(), at.name(), name, buf)?
        };
        Errno::result(count).map(|count| count as usize)
    }
}

/// Numbers of `getxattrat` and `listxattrat`, Linux 6.13, the same on all architectures that llfs is built for.
const SYS_GETXATTRAT: libc::c_long = 464;
const SYS_LISTXATTRAT: libc::c_long = 465;

/// `struct xattr_args` of `linux/xattr.h`.
#[repr(C)]
struct XattrArgs {
    value: u64,
    size: u32,
    flags: u32,
}

/// Whether this kernel, and the sandbox that we may be in, have `listxattrat` and `getxattrat`.
pub(super) fn available_at(dir: BorrowedFd<'_>) -> bool {
    let common = cfg!(any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        target_arch = "riscv64"
    ));
    let answers = |name| {
        let asked = ask_at(dir.as_raw_fd(), c".", name, &mut []);
        !matches!(Errno::result(asked), Err(Errno::ENOSYS | Errno::EPERM))
    };
    common && answers(None) && answers(Some(c"security.capability"))
}

/// `getxattrat` or, without a name, `listxattrat`, of what `path` in `dir` is, links not followed.
fn ask_at(dir: i32, path: &CStr, name: Option<&CStr>, buf: &mut [u8]) -> libc::ssize_t {
    let follow = libc::AT_SYMLINK_NOFOLLOW;
    let (value, size) = (buf.as_mut_ptr(), buf.len());
    let count = match name {
        Some(name) => {
            let args = XattrArgs {
                value: value as u64,
                size: u32::try_from(size).unwrap_or(u32::MAX),
                flags: 0,
            };
            // SAFETY: both strings are NUL-terminated, `args` has the layout and the size that are told, and the kernel
            // writes at most `args.size` bytes, no more than `buf` has, into it.
            unsafe {
                libc::syscall(
                    SYS_GETXATTRAT,
                    dir,
                    path.as_ptr(),
                    follow,
                    name.as_ptr(),
                    &raw const args,
                    size_of::<XattrArgs>(),
                )
            }
        }
        // SAFETY: the path is NUL-terminated; the kernel writes at most `size` bytes into `buf`.
        None => unsafe { libc::syscall(SYS_LISTXATTRAT, dir, path.as_ptr(), follow, value, size) },
    };
    count as libc::ssize_t
}

/// The same on older kernels: the path goes through `/proc/self/fd` to the directory, which must stay open, and by one
/// name from there.
fn ask_through_proc(
    dir: i32,
    path: &CStr,
    name: Option<&CStr>,
    buf: &mut [u8],
) -> Result<libc::ssize_t, Errno> {
    let mut whole = format!("/proc/self/fd/{dir}/").into_bytes();
    whole.extend_from_slice(path.to_bytes());
    let whole = CString::new(whole).map_err(|_| Errno::EINVAL)?;
    let (value, size) = (buf.as_mut_ptr(), buf.len());
    Ok(match name {
        // SAFETY: both strings are NUL-terminated; the kernel writes at most `size` bytes into `buf`.
        Some(name) => unsafe { libc::lgetxattr(whole.as_ptr(), name.as_ptr(), value.cast(), size) },
        // SAFETY: the path is NUL-terminated; the kernel writes at most `size` bytes into `buf`.
        None => unsafe { libc::llistxattr(whole.as_ptr(), value.cast(), size) },
    })
}

/// What `read` puts into a buffer: into a small one, or if it says ERANGE into one of the largest size.
fn fill(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut small = [0; XATTR_SMALL];
    match read(&mut small) {
        Err(Errno::ERANGE) => {}
        count => return Ok(small[..count?].to_vec()),
    }
    let mut large = vec![0; XATTR_MAX];
    match read(&mut large) {
        Err(Errno::ERANGE) => Err(Errno::E2BIG),
        count => {
            large.truncate(count?);
            large.shrink_to_fit();
            Ok(large)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    /// The two ways to ask agree, names and values, sizes and errors.
    #[test]
    fn old_and_new_kernels_are_asked_the_same() {
        let base = Base::open(&std::env::temp_dir()).unwrap();
        let dir = base.root_fd().as_raw_fd();
        for name in [None, Some(c"security.capability"), Some(c"user.llfs-none")] {
            for path in [c".", c"llfs-nothing-here"] {
                let (mut a, mut b) = ([0; 4096], [0; 4096]);
                let old = Errno::result(ask_through_proc(dir, path, name, &mut b).unwrap());
                if available_at(base.root_fd().as_fd()) {
                    assert_eq!(Errno::result(ask_at(dir, path, name, &mut a)), old);
                    assert_eq!(a, b);
                }
                if path != c"." {
                    assert_eq!(old, Err(Errno::ENOENT));
                }
            }
        }
    }
}
