//! The real medium: a directory of the host, reached through its descriptor.

use super::disk::{Disk, DiskFile, OpenHow};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{
    FallocateFlags, OFlag, PosixFadviseAdvice, fallocate, openat, posix_fadvise, renameat,
};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{UnlinkatFlags, fdatasync, unlinkat};
use parking_lot::Mutex;
use std::ffi::{OsStr, OsString};
use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// What is written in one call, in bytes. The kernel keeps what one call wrote as one folio, up to megabytes, and a later
/// write of 4 KiB into it looks at all of its blocks (`ext4_block_write_begin`): 13 µs in 1 MiB, under 1 µs in this.
const PIECE: u64 = 64 << 10;

/// How long a lock is waited for. Who let go of it may just have forked: until the child is its program it has the same open file,
/// and so the lock (`flock(2)`).
const MOMENT: Duration = Duration::from_millis(250);

/// A directory of the host's filesystem. The directory stays the same one if it is renamed.
pub struct HostDisk {
    root: OwnedFd,
    /// A lock taken over from another process. A lock is of the open file, whoever has a descriptor of it.
    inherited: Option<File>,
    /// The file that is locked now.
    locked: Mutex<Weak<HostFile>>,
}

impl HostDisk {
    /// Opens `dir`, which must exist.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = nix::fcntl::open(dir, flags, Mode::empty())?;
        Ok(Self {
            root,
            inherited: None,
            locked: Mutex::default(),
        })
    }

    /// Takes over the lock of a process before this one, which [`HostDisk::lock_fd`] gave out.
    pub fn inherit_lock(&mut self, locked: OwnedFd) {
        self.inherited = Some(File::from(locked));
    }

    /// A descriptor that keeps the store locked as long as it is open, for another process.
    ///
    /// # Errors
    /// The store is not locked, or there are no descriptors left.
    pub fn lock_fd(&self) -> io::Result<OwnedFd> {
        let locked = self.locked.lock().upgrade();
        let file = locked.ok_or(io::ErrorKind::NotFound)?;
        Ok(file.0.try_clone()?.into())
    }

    fn open_file(&self, path: &Path, flags: OFlag) -> io::Result<File> {
        let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let fd = openat(&self.root, path, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
        Ok(File::from(fd))
    }

    fn open_dir(&self, dir: &Path) -> io::Result<File> {
        self.open_file(directory(dir), OFlag::O_RDONLY | OFlag::O_DIRECTORY)
    }
}

/// `""` names the store itself, which the system calls `.`.
fn directory(dir: &Path) -> &Path {
    if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    }
}

impl Disk for HostDisk {
    fn open(&self, path: &Path, how: OpenHow) -> io::Result<Arc<dyn DiskFile>> {
        let flags = match how {
            OpenHow::Read => OFlag::O_RDONLY,
            OpenHow::Write => OFlag::O_RDWR,
            OpenHow::Create => OFlag::O_RDWR | OFlag::O_CREAT,
            OpenHow::Replace => OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_TRUNC,
        };
        Ok(Arc::new(HostFile(self.open_file(path, flags)?)))
    }

    fn lock(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let locked = |file| {
            let file = Arc::new(HostFile(file));
            *self.locked.lock() = Arc::downgrade(&file);
            file
        };
        if let Some(inherited) = &self.inherited {
            return Ok(locked(inherited.try_clone()?));
        }
        let file = match self.open_file(path, OFlag::O_RDWR | OFlag::O_CREAT) {
            // Whoever only looks can lock a file that cannot be written.
            Err(error) if error.raw_os_error() == Some(libc::EROFS) => {
                self.open_file(path, OFlag::O_RDONLY)?
            }
            answer => answer?,
        };
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(locked(file)),
                Err(TryLockError::WouldBlock) if begun.elapsed() < MOMENT => {
                    thread::sleep(MOMENT / 50);
                }
                Err(TryLockError::WouldBlock) => return Err(Errno::EWOULDBLOCK.into()),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(renameat(&self.root, from, &self.root, to)?)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Ok(unlinkat(&self.root, path, UnlinkatFlags::NoRemoveDir)?)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let mut dir = Dir::from_fd(self.open_dir(dir)?.into())?;
        let mut names = Vec::new();
        for entry in dir.iter() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsStr::from_bytes(name).to_owned());
            }
        }
        Ok(names)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        match mkdirat(&self.root, dir, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.open_dir(dir)?.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = fstatvfs(&self.root)?;
        Ok(stat.blocks_available() * stat.fragment_size())
    }

    fn medium(&self) -> io::Result<u64> {
        Ok(fstat(&self.root)?.st_dev)
    }
}

struct HostFile(File);

impl HostFile {
    fn sync_range(&self, offset: i64, len: i64, how: libc::c_uint) -> io::Result<()> {
        // SAFETY: the call takes a descriptor, which is open as long as `self` lives, and integers.
        let answer = unsafe { libc::sync_file_range(self.0.as_raw_fd(), offset, len, how) };
        match Errno::result(answer) {
            // A file system that cannot.
            Ok(_) | Err(Errno::ENOSYS | Errno::EINVAL | Errno::ESPIPE) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Takes space the slow way: zeros from the end of the file up to `end`.
    fn fill(&self, end: u64) -> io::Result<()> {
        let zeros = [0; 64 << 10];
        let mut at = self.0.metadata()?.len();
        while at < end {
            let step = (end - at).min(zeros.len() as u64);
            self.0.write_all_at(&zeros[..step as usize], at)?;
            at += step;
        }
        Ok(())
    }
}

fn offset_of(bytes: u64) -> io::Result<i64> {
    i64::try_from(bytes).map_err(|_| Errno::EFBIG.into())
}

impl DiskFile for HostFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.0.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let most = match data.len() - done {
                left if left <= PIECE as usize => left,
                _ => (PIECE - at % PIECE) as usize,
            };
            match self
                .0
                .write_at(&data[done..data.len().min(done + most)], at)
            {
                // A short write is followed by the errno that explains it.
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(fdatasync(&self.0)?)
    }

    fn start_writeback(&self) -> io::Result<()> {
        // SAFETY: the call takes a descriptor, which is open as long as `self` lives, and integers.
        let answer =
            unsafe { libc::sync_file_range(self.0.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
        Errno::result(answer)?;
        Ok(())
    }

    fn drop_cached(&self, offset: u64, len: u64) -> io::Result<()> {
        let (offset, len) = (offset_of(offset)?, offset_of(len)?);
        let how = libc::SYNC_FILE_RANGE_WAIT_BEFORE
            | libc::SYNC_FILE_RANGE_WRITE
            | libc::SYNC_FILE_RANGE_WAIT_AFTER;
        self.sync_range(offset, len, how)?;
        // That it does not forget is no fault.
        let forgot = posix_fadvise(
            &self.0,
            offset,
            len,
            PosixFadviseAdvice::POSIX_FADV_DONTNEED,
        );
        if let Err(error) = forgot {
            tracing::debug!(%error, "the cache keeps what it need not");
        }
        Ok(())
    }

    fn told_written(&self, offset: u64, len: u64) -> io::Result<()> {
        let (offset, len) = (offset_of(offset)?, offset_of(len)?);
        self.sync_range(offset, len, libc::SYNC_FILE_RANGE_WAIT_BEFORE)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        let how = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        match fallocate(&self.0, how, offset_of(offset)?, offset_of(len)?) {
            // The space stays taken until the file is deleted.
            Err(Errno::EOPNOTSUPP) => Ok(()),
            answer => Ok(answer?),
        }
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let how = FallocateFlags::empty();
        match fallocate(&self.0, how, offset_of(offset)?, offset_of(len)?) {
            Err(Errno::EOPNOTSUPP) => self.fill(offset + len),
            answer => Ok(answer?),
        }
    }

    fn is_hole(&self, offset: u64, len: u64) -> io::Result<bool> {
        use nix::unistd::{Whence, lseek};
        // No other call uses the file's position.
        match lseek(&self.0, offset_of(offset)?, Whence::SeekData) {
            Ok(data) => Ok(u64::try_from(data).unwrap_or(0) >= offset + len),
            Err(Errno::ENXIO) => Ok(true),
            Err(Errno::EINVAL) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    fn disk_bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.blocks() * 512)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// As a child has it that has not become its program yet.
    #[test]
    fn a_lock_that_somebody_has_for_a_moment_is_waited_for() {
        let root = std::env::temp_dir().join(format!("llfs-lock-{}", std::process::id()));
        fs::create_dir(&root).unwrap();
        let lock = || HostDisk::open(&root).unwrap().lock(Path::new("lock"));
        let before = lock().unwrap();
        let refused = lock().err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(MOMENT / 10);
                drop(before);
            });
            lock().unwrap();
        });
        fs::remove_dir_all(root).unwrap();
    }

    /// Whoever could put a link into a store would have the daemon write somewhere else.
    #[test]
    fn nothing_is_opened_through_a_link() {
        let root = std::env::temp_dir().join(format!("llfs-disk-{}", std::process::id()));
        fs::create_dir_all(root.join("elsewhere")).unwrap();
        fs::create_dir(root.join("store")).unwrap();
        fs::write(root.join("victim"), "precious").unwrap();
        symlink("../victim", root.join("store/file")).unwrap();
        symlink("../elsewhere", root.join("store/dir")).unwrap();
        let disk = HostDisk::open(&root.join("store")).unwrap();
        let errno = |error: io::Error| Errno::from_raw(error.raw_os_error().unwrap());
        let file = Path::new("file");
        for how in [
            OpenHow::Read,
            OpenHow::Write,
            OpenHow::Create,
            OpenHow::Replace,
        ] {
            let refused = disk.open(file, how).err().unwrap();
            assert_eq!(errno(refused), Errno::ELOOP);
        }
        assert_eq!(errno(disk.lock(file).err().unwrap()), Errno::ELOOP);
        let dir = Path::new("dir");
        assert_eq!(errno(disk.list(dir).unwrap_err()), Errno::ENOTDIR);
        assert_eq!(errno(disk.sync_dir(dir).unwrap_err()), Errno::ENOTDIR);
        assert_eq!(fs::read(root.join("victim")).unwrap(), b"precious");
        fs::remove_dir_all(root).unwrap();
    }
}
