//! A limit to what a store may take, which looks to everything above it like the end of the medium.
//!
//! Space is counted when a file grows, and given back when it is cut, punched or deleted. That is nearly what the medium counts
//! (holes count as taken until the next [`Quota::recount`]), costs nothing where nothing grows, and errs to the safe side.

use super::disk::{Disk, DiskFile, OpenHow};
use super::images;
use super::journal::segment;
use super::layers;
use super::notes::NoteKind;
use nix::errno::Errno;
use parking_lot::Mutex;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Files take space in steps of this.
const UNIT: u64 = 4096;
/// At the limit the medium is asked again what is taken, but not more often than this.
const AGAIN: Duration = Duration::from_millis(500);

/// A disk of which at most a part is used.
pub(super) struct Quota(Arc<Shared>);

struct Shared {
    inner: Arc<dyn Disk>,
    limit: u64,
    taken: AtomicU64,
    /// A store that takes more than its limit may not grow, but need not shrink: what it took when it was last counted.
    excess: AtomicU64,
    counted: Mutex<Instant>,
}

impl Quota {
    /// Limits what lies on `inner` to `limit` bytes.
    pub fn over(inner: Arc<dyn Disk>, limit: u64) -> io::Result<Self> {
        let shared = Shared {
            inner,
            limit,
            taken: AtomicU64::new(0),
            excess: AtomicU64::new(u64::MAX),
            counted: Mutex::new(Instant::now()),
        };
        shared.count()?;
        Ok(Self(Arc::new(shared)))
    }

    /// A file that was opened before there was a limit.
    pub fn adopt(&self, file: Arc<dyn DiskFile>) -> io::Result<Arc<dyn DiskFile>> {
        let end = AtomicU64::new(file.len()?);
        let shared = self.0.clone();
        Ok(Arc::new(QuotaFile { file, shared, end }))
    }

    /// The limit in bytes, and about how much is taken.
    pub fn usage(&self) -> (u64, u64) {
        (self.0.limit, self.0.taken.load(Ordering::Relaxed))
    }

    /// Asks the medium how much is taken, where that comes near the limit.
    pub fn recount(&self) -> io::Result<()> {
        if self.0.taken.load(Ordering::Relaxed) < self.0.limit / 4 * 3 {
            return Ok(());
        }
        self.0.count()
    }
}

impl Shared {
    fn count(&self) -> io::Result<()> {
        let before = self.taken.load(Ordering::Relaxed);
        let notes = NoteKind::ALL.map(NoteKind::dir);
        let dirs = [segment::DIR, layers::DIR, images::DIR];
        let dirs = || dirs.iter().chain(&notes).map(Path::new);
        let mut taken = 0;
        for dir in dirs().chain([Path::new("")]) {
            let names = match self.inner.list(dir) {
                // The first note makes its directory.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                answer => answer?,
            };
            // The log too, which is not written through here.
            for path in names.into_iter().map(|name| dir.join(name)) {
                if !dirs().any(|dir| dir == path) {
                    taken += self.size_of(&path)?;
                }
            }
        }
        // What others took and gave meanwhile is perhaps counted twice, or not: the next time tells.
        let meanwhile = self.taken.load(Ordering::Relaxed).saturating_sub(before);
        self.taken.store(taken + meanwhile, Ordering::Relaxed);
        self.excess.fetch_min(taken, Ordering::Relaxed);
        *self.counted.lock() = Instant::now();
        Ok(())
    }

    fn size_of(&self, path: &Path) -> io::Result<u64> {
        match self.inner.open(path, OpenHow::Read) {
            Ok(file) => file.disk_bytes(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    fn most(&self) -> u64 {
        self.limit.max(self.excess.load(Ordering::Relaxed))
    }

    fn left(&self) -> u64 {
        self.most()
            .saturating_sub(self.taken.load(Ordering::Relaxed))
    }

    fn take(&self, bytes: u64) -> io::Result<()> {
        if self.try_take(bytes) {
            return Ok(());
        }
        let due = (self.counted.try_lock()).is_some_and(|counted| counted.elapsed() > AGAIN);
        if due {
            self.count()?;
        }
        if due && self.try_take(bytes) {
            return Ok(());
        }
        Err(Errno::ENOSPC.into())
    }

    fn try_take(&self, bytes: u64) -> bool {
        let most = self.most();
        let more = |taken: u64| taken.checked_add(bytes).filter(|taken| *taken <= most);
        let (set, get) = (Ordering::Relaxed, Ordering::Relaxed);
        self.taken.fetch_update(set, get, more).is_ok()
    }

    fn give(&self, bytes: u64) {
        let less = |taken: u64| Some(taken.saturating_sub(bytes));
        let (set, get) = (Ordering::Relaxed, Ordering::Relaxed);
        // Never fails: there is always a number.
        self.taken.fetch_update(set, get, less).unwrap_or_default();
    }
}

fn rounded(bytes: u64) -> u64 {
    bytes.div_ceil(UNIT) * UNIT
}

impl Disk for Quota {
    fn open(&self, path: &Path, how: OpenHow) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.0.inner.open(path, how)?;
        if how == OpenHow::Read {
            return Ok(file);
        }
        self.adopt(file)
    }

    fn lock(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.0.inner.lock(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let replaced = self.0.size_of(to)?;
        self.0.inner.rename(from, to)?;
        self.0.give(replaced);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = self.0.size_of(path)?;
        self.0.inner.remove(path)?;
        self.0.give(removed);
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        self.0.inner.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.inner.create_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.inner.sync_dir(dir)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.0.inner.free_bytes()?.min(self.0.left()))
    }

    fn medium(&self) -> io::Result<u64> {
        self.0.inner.medium()
    }
}

struct QuotaFile {
    file: Arc<dyn DiskFile>,
    shared: Arc<Shared>,
    /// Bytes before this are counted.
    end: AtomicU64,
}

impl QuotaFile {
    /// Counts what the file grows by up to `end`, does it, and takes that back if it failed.
    fn grow(&self, end: u64, act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let counted = self.end.load(Ordering::Acquire);
        let more = rounded(end).saturating_sub(rounded(counted));
        if more > 0 {
            self.shared.take(more)?;
        }
        match act() {
            Ok(()) => {
                // Two writers may both have counted the same growth; the next count tells.
                self.end.fetch_max(end, Ordering::AcqRel);
                Ok(())
            }
            Err(error) => {
                self.shared.give(more);
                Err(error)
            }
        }
    }
}

impl DiskFile for QuotaFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let end = offset + data.len() as u64;
        self.grow(end, || self.file.write_at(data, offset))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn start_writeback(&self) -> io::Result<()> {
        self.file.start_writeback()
    }

    fn drop_cached(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.drop_cached(offset, len)
    }

    fn told_written(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.told_written(offset, len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        let before = self.end.swap(len, Ordering::AcqRel);
        // What it is made longer by is a hole.
        self.shared
            .give(rounded(before).saturating_sub(rounded(len)));
        Ok(())
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        let before = self.file.disk_bytes()?;
        self.file.punch(offset, len)?;
        let after = self.file.disk_bytes()?;
        self.shared.give(before.saturating_sub(after));
        Ok(())
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.grow(offset + len, || self.file.allocate(offset, len))
    }

    fn is_hole(&self, offset: u64, len: u64) -> io::Result<bool> {
        self.file.is_hole(offset, len)
    }

    fn disk_bytes(&self) -> io::Result<u64> {
        self.file.disk_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::HostDisk;

    /// They are made by whoever asks, again and again.
    #[test]
    fn notes_and_the_log_count() {
        let place = std::env::temp_dir().join(format!("llfs-quota-{}", std::process::id()));
        let dirs = NoteKind::ALL.map(NoteKind::dir).map(|dir| place.join(dir));
        let files = dirs.iter().map(|dir| dir.join("1"));
        let files: Vec<_> = files.chain([place.join("llfs.log")]).collect();
        for file in &files {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, vec![1; 64 << 10]).unwrap();
        }
        let disk = Arc::new(HostDisk::open(&place).unwrap());
        let (limit, taken) = Quota::over(disk, 8 << 20).unwrap().usage();
        std::fs::remove_dir_all(&place).unwrap();
        assert_eq!(limit, 8 << 20);
        assert!(taken >= (files.len() as u64) << 16, "{taken}");
    }
}
