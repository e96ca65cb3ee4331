//! A disk in memory: files and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use llfs::store::{Disk, DiskFile, OpenHow};

/// No file grows beyond this: a block's number may be anything, and memory has no holes.
const FILE_MAX: u64 = 32 << 20;
const ENOENT: i32 = 2;
const EBADF: i32 = 9;
const EFBIG: i32 = 27;

type Bytes = Arc<Mutex<Vec<u8>>>;

#[derive(Default)]
struct Names {
    files: BTreeMap<PathBuf, Bytes>,
    dirs: BTreeSet<PathBuf>,
}

/// A handle; clones share the disk.
#[derive(Clone, Default)]
pub struct MemDisk(Arc<Mutex<Names>>);

struct MemFile {
    bytes: Bytes,
    writable: bool,
}

fn os(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().expect("nobody panics with the lock held")
}

impl MemDisk {
    /// A file's bytes.
    pub fn get(&self, path: &str) -> Option<Vec<u8>> {
        let names = lock(&self.0);
        names
            .files
            .get(Path::new(path))
            .map(|bytes| lock(bytes).clone())
    }

    /// Makes or replaces a file.
    pub fn put(&self, path: &str, bytes: Vec<u8>) {
        let mut names = lock(&self.0);
        names.files.insert(path.into(), Arc::new(Mutex::new(bytes)));
    }

    /// All files but the lock, which tells who looks.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let names = lock(&self.0);
        let all = names
            .files
            .iter()
            .filter(|(path, _)| *path != Path::new("lock"));
        all.map(|(path, bytes)| (path.clone(), lock(bytes).clone()))
            .collect()
    }

    /// Another disk with the same files.
    pub fn copied(&self) -> Self {
        let copy = Self::default();
        for (path, bytes) in self.files() {
            lock(&copy.0)
                .files
                .insert(path, Arc::new(Mutex::new(bytes)));
        }
        lock(&copy.0).dirs = lock(&self.0).dirs.clone();
        copy
    }

    fn file(&self, path: &Path, how: OpenHow) -> io::Result<Arc<MemFile>> {
        let mut names = lock(&self.0);
        let bytes = match (names.files.get(path), how) {
            (Some(bytes), OpenHow::Replace) => {
                lock(bytes).clear();
                bytes.clone()
            }
            (Some(bytes), _) => bytes.clone(),
            (None, OpenHow::Create | OpenHow::Replace) => {
                names.files.entry(path.to_owned()).or_default().clone()
            }
            _ => return Err(os(ENOENT)),
        };
        let writable = how != OpenHow::Read;
        Ok(Arc::new(MemFile { bytes, writable }))
    }
}

impl Disk for MemDisk {
    fn open(&self, path: &Path, how: OpenHow) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(path, how)?)
    }

    fn lock(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(path, OpenHow::Create)?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut names = lock(&self.0);
        let bytes = names.files.remove(from).ok_or_else(|| os(ENOENT))?;
        names.files.insert(to.to_owned(), bytes);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = lock(&self.0).files.remove(path);
        removed.map(drop).ok_or_else(|| os(ENOENT))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let names = lock(&self.0);
        let all = names.files.keys().chain(&names.dirs);
        let inside = all.filter(|path| path.parent() == Some(dir));
        Ok(inside
            .filter_map(|path| path.file_name())
            .map(OsString::from)
            .collect())
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        lock(&self.0).dirs.insert(dir.to_owned());
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(1 << 40)
    }

    fn medium(&self) -> io::Result<u64> {
        Ok(1)
    }
}

impl MemFile {
    fn grow(&self, end: u64) -> io::Result<MutexGuard<'_, Vec<u8>>> {
        if !self.writable {
            return Err(os(EBADF));
        }
        if end > FILE_MAX {
            return Err(os(EFBIG));
        }
        let mut bytes = lock(&self.bytes);
        if bytes.len() < end as usize {
            bytes.resize(end as usize, 0);
        }
        Ok(bytes)
    }
}

impl DiskFile for MemFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = lock(&self.bytes);
        let from = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        let count = buf.len().min(bytes.len() - from);
        buf[..count].copy_from_slice(&bytes[from..from + count]);
        Ok(count)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let end = offset.saturating_add(data.len() as u64);
        let mut bytes = self.grow(end)?;
        bytes[offset as usize..end as usize].copy_from_slice(data);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.bytes).len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.grow(len)?.truncate(len as usize);
        Ok(())
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut bytes = lock(&self.bytes);
        let from = (offset as usize).min(bytes.len());
        let to = (offset.saturating_add(len) as usize).min(bytes.len());
        bytes[from..to].fill(0);
        Ok(())
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.grow(offset.saturating_add(len)).map(drop)
    }

    fn disk_bytes(&self) -> io::Result<u64> {
        self.len()
    }
}
