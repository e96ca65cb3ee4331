//! A bounded number of open layer files.

use super::{LayerId, data_path, pack_path, sum_path};
use crate::store::disk::{Disk, DiskFile, OpenHow};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    Data,
    Pack,
    /// A file that covers at least so many blocks. A file that was opened before it was replaced by a longer one is not
    /// found under the longer one's number, whoever puts it into the cache when.
    Sums(u32),
}

#[derive(Default)]
struct Cache {
    files: HashMap<(LayerId, Part), (Arc<dyn DiskFile>, u64)>,
    clock: u64,
    /// How often something was forgotten.
    forgotten: u64,
}

/// Open files, the least recently used one closed first. Its lock is never held across I/O, and a
/// file that was handed out stays open as long as it is used (by the dirty list too, so that a failed
/// writeback is reported to the descriptor that wrote).
pub(super) struct FileCache {
    disk: Arc<dyn Disk>,
    most: usize,
    cache: Mutex<Cache>,
}

impl FileCache {
    pub fn new(disk: Arc<dyn Disk>, most: usize) -> Self {
        Self {
            disk,
            most: most.max(1),
            cache: Mutex::new(Cache::default()),
        }
    }

    /// The layer's data. All share what was opened first: with [`OpenHow::Read`] only where nobody may write any more.
    pub fn data(&self, id: LayerId, how: OpenHow) -> io::Result<Arc<dyn DiskFile>> {
        self.get(id, Part::Data, how)
    }

    /// The layer's data, compressed.
    pub fn pack(&self, id: LayerId, how: OpenHow) -> io::Result<Arc<dyn DiskFile>> {
        self.get(id, Part::Pack, how)
    }

    /// The layer's checksums, which cover at least `blocks`: so many were on the medium before this call.
    pub fn sums(&self, id: LayerId, blocks: u32) -> io::Result<Arc<dyn DiskFile>> {
        self.get(id, Part::Sums(blocks), OpenHow::Read)
    }

    /// The layer's checksums were replaced.
    pub fn forget_sums(&self, id: LayerId) {
        self.let_go(|key| key.0 == id && matches!(key.1, Part::Sums(_)));
    }

    /// The layer's data has a pack in its place.
    pub fn forget_data(&self, id: LayerId) {
        self.let_go(|key| *key == (id, Part::Data));
    }

    /// The layer is gone.
    pub fn forget(&self, id: LayerId) {
        self.let_go(|key| key.0 == id);
    }

    fn let_go(&self, of: impl Fn(&(LayerId, Part)) -> bool) {
        let mut cache = self.cache.lock();
        cache.forgotten += 1;
        cache.files.retain(|key, _| !of(key));
    }

    fn get(&self, id: LayerId, part: Part, how: OpenHow) -> io::Result<Arc<dyn DiskFile>> {
        let key = (id, part);
        let forgotten = {
            let mut cache = self.cache.lock();
            cache.clock += 1;
            let now = cache.clock;
            if let Some((file, used)) = cache.files.get_mut(&key) {
                *used = now;
                return Ok(file.clone());
            }
            cache.forgotten
        };
        let path = match part {
            Part::Data => data_path(id.0),
            Part::Pack => pack_path(id.0),
            Part::Sums(_) => sum_path(id.0),
        };
        let file = self.disk.open(&path, how)?;
        let mut cache = self.cache.lock();
        if cache.forgotten != forgotten {
            // It may be this one that was to be let go of while it was opened.
            return Ok(file);
        }
        if cache.files.len() >= self.most {
            let oldest = cache.files.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(key) = oldest.map(|(&key, _)| key) {
                cache.files.remove(&key);
            }
        }
        let now = cache.clock;
        cache.files.insert(key, (file.clone(), now));
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::store::HostDisk;
    use std::fs;

    #[test]
    fn open_files_are_bounded_and_the_least_recently_used_goes_first() {
        let root = std::env::temp_dir().join(format!("llfs-files-{}", std::process::id()));
        for id in 1..=20 {
            let path = root.join(data_path(id));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let files = FileCache::new(Arc::new(HostDisk::open(&root).unwrap()), 3);
        for id in 1..=20 {
            files.data(LayerId(id), OpenHow::Read).unwrap();
            files.data(LayerId(1), OpenHow::Read).unwrap();
            assert!(files.cache.lock().files.len() <= 3, "{id}");
        }
        let open = |id| {
            let cache = files.cache.lock();
            cache.files.contains_key(&(LayerId(id), Part::Data))
        };
        assert!(open(1) && open(20) && open(19) && !open(18));
        fs::remove_dir_all(root).unwrap();
    }
}
