//! Layers: files of 4 KiB blocks. Block `b` of a layer lies at byte `b * 4096` of its data file, or in its pack.

mod archive;
pub(crate) mod dirty;
mod files;
mod large;
mod list;
mod pack;
mod read;
mod seal;
mod sums;
mod verify;

pub use archive::Archived;
pub(crate) use archive::drop_archived_data;

use super::disk::{Disk, DiskFile, OpenHow};
use super::health::Health;
use super::journal::segment::number_of;
use dirty::Dirty;
use files::FileCache;
use large::{Cached, EarlySums};
use nix::errno::Errno;
use pack::{Chunks, Pack};
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

/// Bytes of a block.
pub const BLOCK: u64 = 4096;
pub(crate) const DIR: &str = "layers";

/// Bytes of a file that are given back at a time. File systems let nobody write to the file meanwhile (`inode_lock` in ext4's
/// `ext4_punch_hole`), and 512 MiB take more than 0.1 s.
const GIVEN_BACK: u64 = 4 << 20;

/// Gives bytes of a file back to the medium, a piece at a time.
fn give_back(file: &dyn DiskFile, bytes: Range<u64>) -> io::Result<()> {
    let mut at = bytes.start;
    while at < bytes.end {
        // Joints lie where the medium's blocks end.
        let end = bytes.end.min((at / GIVEN_BACK + 1) * GIVEN_BACK);
        file.punch(at, end - at)?;
        at = end;
    }
    Ok(())
}

/// A layer's number. Numbers count up from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerId(pub u32);

/// What a layer is and takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerInfo {
    /// Which.
    pub id: LayerId,
    /// Blocks handed out so far.
    pub blocks: u32,
    /// Bytes that its files take on the medium.
    pub disk_bytes: u64,
    /// Blocks below this are never written again.
    pub sealed: u32,
    /// Checksums of the blocks below this are durable, reads of them are checked.
    pub summed: u32,
    /// Bytes of these that its blocks take.
    pub data_bytes: u64,
    /// It is archived, and its blocks took so many bytes on the medium before.
    pub archived: Option<u64>,
}

/// The seal of a layer that takes no more blocks: all of it is final.
const CLOSED: u32 = u32::MAX;

/// A layer. Always `summed <= sealed`, and both only grow.
struct Layer {
    /// The next block to hand out.
    next: AtomicU32,
    /// Blocks below this are final; [`CLOSED`]: all are, and those not handed out never will be.
    sealed: AtomicU32,
    /// Blocks below this have sums on the medium.
    summed: AtomicU32,
    /// Sums of some blocks that have none on the medium. A leaf lock.
    early: Mutex<EarlySums>,
    /// It has a file. If that is gone it was taken away, and all that was in it.
    made: AtomicBool,
    /// It is archived. Set once, when the pack has its name for good, and before the data file goes.
    packed: OnceLock<Pack>,
}

/// Where a layer's blocks are.
enum Blocks<'a> {
    /// Each at its place.
    Plain(Arc<dyn DiskFile>),
    /// Compressed.
    Packed(&'a Pack, Arc<dyn DiskFile>),
}

/// All layers of a store. No lock is held across reads and writes.
pub(crate) struct Layers {
    disk: Arc<dyn Disk>,
    uuid: [u8; 16],
    health: Arc<Health>,
    files: FileCache,
    map: RwLock<HashMap<u32, Arc<Layer>>>,
    next_id: AtomicU32,
    pending_seals: Mutex<Vec<LayerId>>,
    pub dirty: Dirty,
    pub cached: Cached,
    /// The last page of checksums that a read used. Never waited for.
    page: Mutex<sums::Page>,
    /// Chunks of archived layers. A leaf lock, held for a look.
    chunks: Mutex<Chunks>,
    /// Blocks that only the journal holds, when the store may not be written.
    overlay: HashMap<(u32, u32), Vec<u8>>,
    /// The state is older than the layers: the journal was damaged, and blocks may be gone that the state still has.
    doubtful: bool,
    /// What the list of checksums says on the medium.
    listed: Mutex<Vec<list::Summed>>,
    /// Held while the directory is synced.
    naming: Mutex<()>,
}

impl Layers {
    /// Finds the layers there are. `inline_blocks` is how many blocks a sync may copy to the journal.
    pub fn open(
        disk: Arc<dyn Disk>,
        uuid: [u8; 16],
        health: Arc<Health>,
        open_files: usize,
        inline_blocks: usize,
        overlay: HashMap<(u32, u32), Vec<u8>>,
        doubtful: bool,
    ) -> io::Result<Self> {
        let mut map: HashMap<u32, Layer> = HashMap::new();
        let names = disk.list(Path::new(DIR))?;
        for id in names.iter().filter_map(|name| number_of(name, "data")) {
            let length = disk.open(&data_path(id), OpenHow::Read)?.len()?;
            let next = u32::try_from(length.div_ceil(BLOCK)).map_err(|_| Errno::EFBIG)?;
            map.insert(id, Layer::new(next));
        }
        for id in names.iter().filter_map(|name| number_of(name, "pack")) {
            let file = disk.open(&pack_path(id), OpenHow::Read)?;
            let layer = map.entry(id).or_insert_with(|| Layer::new(0));
            match Pack::read(&*file, &uuid, LayerId(id))? {
                Some(pack) => layer.found_pack(pack),
                None => tracing::error!(layer = id, "an archived layer is damaged"),
            }
        }
        let dirty = Dirty::new(inline_blocks);
        for id in names.iter().filter_map(|name| number_of(name, "sum")) {
            if let Some(layer) = map.get_mut(&id) {
                layer.found_sums(read_header(&*disk, &uuid, LayerId(id))?);
            }
        }
        let listed = list::read(&*disk, &uuid)?;
        // Also of those that are gone: the list, and checksums that a power cut brought back, would be taken for a new layer's.
        let sums = names.iter().filter_map(|name| number_of(name, "sum"));
        let known = map.keys().copied().chain(sums);
        let known = known.chain(listed.iter().map(|(id, _)| id.0));
        let next_id = known.max().map_or(1, |id| id + 1);
        for &(id, blocks) in &listed {
            if let Some(layer) = map.get_mut(&id.0) {
                layer.must_have_sums(id, blocks);
            }
        }
        // A daemon that was killed may have left unsynced data in any block that has no sum.
        for (&id, layer) in &mut map {
            if *layer.summed.get_mut() < *layer.next.get_mut() {
                dirty.suspect(LayerId(id));
            }
        }
        let map = map.into_iter().map(|(id, l)| (id, Arc::new(l))).collect();
        Ok(Self {
            files: FileCache::new(disk.clone(), open_files),
            disk,
            uuid,
            health,
            map: RwLock::new(map),
            next_id: AtomicU32::new(next_id),
            pending_seals: Mutex::new(Vec::new()),
            dirty,
            cached: Cached::default(),
            page: Mutex::default(),
            chunks: Mutex::default(),
            overlay,
            doubtful,
            listed: Mutex::new(listed),
            naming: Mutex::new(()),
        })
    }

    /// A new layer. Its file is made by the first write.
    pub fn open_layer(&self) -> LayerId {
        let id = self.next_id.fetch_add(1, Ordering::AcqRel);
        self.map.write().insert(id, Arc::new(Layer::new(0)));
        LayerId(id)
    }

    /// Whether there is a layer of that number, and its file. The state may know one whose file somebody took away.
    pub fn has(&self, id: LayerId) -> bool {
        let Some(layer) = self.map.read().get(&id.0).cloned() else {
            return false;
        };
        let file = self.blocks(id, &layer, self.how());
        !file.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    /// Makes the names of all files durable that were made, renamed or deleted before this call.
    pub fn sync_names(&self) -> io::Result<()> {
        // One at a time: an error is told to one only, and nobody goes on before that one has latched.
        let _naming = self.naming.lock();
        self.health.check()?;
        if let Some(changes) = self.dirty.unsynced_names() {
            if let Err(error) = self.disk.sync_dir(Path::new(DIR)) {
                return Err(self.health.poisoned("the layers' directory", &error));
            }
            self.dirty.names_synced(changes);
        }
        Ok(())
    }

    /// The caller knows this layer and everything below `block` in it: neither is handed out again.
    pub fn set_next(&self, id: LayerId, block: u32) {
        self.next_id.fetch_max(id.0 + 1, Ordering::AcqRel);
        let mut map = self.map.write();
        let layer = map.entry(id.0).or_insert_with(|| Arc::new(Layer::new(0)));
        layer.next.fetch_max(block, Ordering::AcqRel);
        // Blocks that a state has were written.
        layer.made.fetch_or(block > 0, Ordering::AcqRel);
    }

    /// Hands out `count` blocks in a row; the first. A block is handed out once.
    pub fn alloc(&self, id: LayerId, count: u32) -> io::Result<u32> {
        let layer = self.layer(id)?;
        self.dirty.handed_out(count);
        layer
            .next
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |next| {
                next.checked_add(count)
            })
            .map_err(|_| Errno::ENOSPC.into())
    }

    /// Writes `data` at `offset` bytes into block `block`; it may run on into the blocks behind.
    /// After an error any part of it may be written.
    pub fn write(&self, id: LayerId, block: u32, offset: u32, data: &[u8]) -> io::Result<()> {
        self.health.check()?;
        let layer = self.layer(id)?;
        if block < layer.sealed.load(Ordering::Acquire) {
            tracing::error!(layer = id.0, block, "a write to a sealed block was refused");
            return Err(Errno::EIO.into());
        }
        if data.is_empty() {
            return Ok(());
        }
        let file = match self.files.data(id, OpenHow::Write) {
            // Another writer may just have made it.
            Err(error) if is_none(&error) && layer.made.load(Ordering::Acquire) => {
                let file = self.files.data(id, OpenHow::Write);
                file.map_err(|error| {
                    tracing::error!(layer = id.0, %error, "a layer cannot be written");
                    read::lost(error)
                })?
            }
            Err(error) if is_none(&error) => self.files.data(id, OpenHow::Create)?,
            answer => answer?,
        };
        if !layer.made.load(Ordering::Acquire) {
            // By whoever finds the file first, who need not be the one that made it: its name must be durable with what is in
            // it. Counted before others may rely on that; twice hurts nobody.
            self.dirty.names_changed();
            layer.made.store(true, Ordering::Release);
        }
        let at = u64::from(block) * BLOCK + u64::from(offset);
        let answer = file.write_at(data, at);
        // Marked behind the write and before the answer: a sync that begins after this call returned
        // sees the mark, and a sync that took the marks before it cannot have missed the bytes.
        let last = (at + data.len() as u64 - 1) / BLOCK;
        let first = at / BLOCK;
        self.dirty.wrote(id, &file, first as u32..last as u32 + 1);
        let mut early = layer.early.lock();
        early.wrote(&self.uuid, block, offset, data, answer.is_ok());
        drop(early);
        self.cached.used(id, at, data.len());
        answer
    }

    /// Gives the blocks back to the medium. Nothing durable may refer to them any more.
    pub fn punch(&self, id: LayerId, blocks: &[Range<u32>]) -> io::Result<()> {
        self.health.check()?;
        let layer = self.layer(id)?;
        let file = match self.blocks(id, &layer, OpenHow::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            answer => answer?,
        };
        let file = match file {
            Blocks::Plain(file) => file,
            Blocks::Packed(pack, file) => return pack.punch(&*file, blocks),
        };
        for range in blocks.iter().filter(|range| !range.is_empty()) {
            layer.early.lock().forget(range.clone());
            let bytes = |block| u64::from(block) * BLOCK;
            give_back(&*file, bytes(range.start)..bytes(range.end))?;
        }
        Ok(())
    }

    /// Deletes the layer. Nothing durable may refer to it any more. After an error it is one of [`Self::list`] again, whatever
    /// is left of it.
    pub fn remove(&self, id: LayerId) -> io::Result<()> {
        self.health.check()?;
        let layer = self.map.write().remove(&id.0);
        self.pending_seals.lock().retain(|&other| other != id);
        self.dirty.forget(id);
        self.files.forget(id);
        let removed = self.remove_files(id);
        self.dirty.names_changed();
        if let (Err(_), Some(layer)) = (&removed, layer) {
            self.map.write().insert(id.0, layer);
        }
        removed
    }

    fn remove_files(&self, id: LayerId) -> io::Result<()> {
        for path in [sum_path(id.0), data_path(id.0), pack_path(id.0)] {
            match self.disk.remove(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                answer => answer?,
            }
        }
        Ok(())
    }

    /// All layers, by number.
    pub fn list(&self) -> io::Result<Vec<LayerInfo>> {
        let layers: Vec<(u32, Arc<Layer>)> = {
            let map = self.map.read();
            map.iter().map(|(&id, l)| (id, l.clone())).collect()
        };
        let mut infos = Vec::with_capacity(layers.len());
        for (id, layer) in layers {
            let blocks_path = match layer.packed.get() {
                Some(_) => pack_path(id),
                None => data_path(id),
            };
            let data_bytes = self.taken(&blocks_path)?;
            let disk_bytes = data_bytes + self.taken(&sum_path(id))?;
            let blocks = layer.next.load(Ordering::Acquire);
            infos.push(LayerInfo {
                id: LayerId(id),
                blocks,
                disk_bytes,
                data_bytes,
                sealed: layer.sealed.load(Ordering::Acquire).min(blocks),
                summed: layer.summed.load(Ordering::Acquire),
                archived: layer.packed.get().map(|pack| pack.plain),
            });
        }
        infos.sort_unstable_by_key(|info| info.id);
        Ok(infos)
    }

    /// Bytes that a file takes on the medium, if it is there.
    fn taken(&self, path: &Path) -> io::Result<u64> {
        match self.disk.open(path, OpenHow::Read) {
            Ok(file) => file.disk_bytes(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Notes durably which layers have checksums, so that one that loses them is noticed.
    pub fn list_sums(&self) -> io::Result<()> {
        let mut listed = self.listed.lock();
        let mut now: Vec<list::Summed> = {
            let map = self.map.read();
            let summed = |(id, layer): (&u32, &Arc<Layer>)| {
                (LayerId(*id), layer.summed.load(Ordering::Acquire))
            };
            map.iter()
                .map(summed)
                .filter(|(_, blocks)| *blocks > 0)
                .collect()
        };
        now.sort_unstable();
        if *listed != now {
            list::write(&*self.disk, &self.uuid, &now)?;
            *listed = now;
        }
        Ok(())
    }

    /// The file that has a layer's blocks. Its data file goes away when it is archived, at any time.
    fn blocks<'a>(&self, id: LayerId, layer: &'a Layer, how: OpenHow) -> io::Result<Blocks<'a>> {
        let packed = |pack| Ok(Blocks::Packed(pack, self.files.pack(id, how)?));
        if let Some(pack) = layer.packed.get() {
            return packed(pack);
        }
        let opened = self.files.data(id, how);
        if let Some(pack) = layer.packed.get() {
            // Archived since. What was opened just now must not keep the space of a file that is gone.
            self.files.forget_data(id);
            return packed(pack);
        }
        opened.map(Blocks::Plain)
    }

    fn layer(&self, id: LayerId) -> io::Result<Arc<Layer>> {
        self.map.read().get(&id.0).cloned().ok_or_else(|| {
            tracing::error!(layer = id.0, "there is no such layer in the store");
            Errno::EIO.into()
        })
    }
}

impl Layer {
    fn new(next: u32) -> Self {
        Self {
            next: AtomicU32::new(next),
            sealed: AtomicU32::new(0),
            summed: AtomicU32::new(0),
            made: AtomicBool::new(next > 0),
            early: Mutex::default(),
            packed: OnceLock::new(),
        }
    }

    /// It is archived: all that it will ever have is there.
    fn found_pack(&mut self, pack: Pack) {
        let next = self.next.get_mut();
        *next = pack.blocks().max(*next);
        self.packed = OnceLock::from(pack);
    }

    /// Its checksum file covers the blocks below `stated`, or does not say what it covers: then, for all that is known, all.
    fn found_sums(&mut self, stated: Option<u32>) {
        let next = self.next.get_mut();
        let summed = stated.unwrap_or(*next);
        *next = summed.max(*next);
        *self.summed.get_mut() = summed;
        *self.sealed.get_mut() = summed;
    }

    /// The list says that so many blocks have checksums. If they are not there they are lost: the blocks cannot be checked,
    /// and are not served.
    fn must_have_sums(&mut self, id: LayerId, blocks: u32) {
        let summed = self.summed.get_mut();
        if *summed >= blocks {
            return;
        }
        tracing::error!(layer = id.0, "the layer's checksums are gone");
        *summed = blocks;
        let (next, sealed) = (self.next.get_mut(), self.sealed.get_mut());
        (*next, *sealed) = (blocks.max(*next), blocks.max(*sealed));
    }
}

fn is_none(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// The number of blocks that a layer's checksum file covers; `None` when it is damaged.
fn read_header(disk: &dyn Disk, uuid: &[u8; 16], id: LayerId) -> io::Result<Option<u32>> {
    let mut page = vec![0; sums::PAGE];
    let read = disk
        .open(&sum_path(id.0), OpenHow::Read)
        .and_then(|file| file.read_at(&mut page, 0));
    let stated = match read {
        Ok(read) => sums::header_blocks(&page[..read], uuid, id),
        Err(error) if error.raw_os_error() == Some(Errno::EIO as i32) => None,
        Err(error) => return Err(error),
    };
    if stated.is_none() {
        tracing::error!(layer = id.0, "the layer's checksums are damaged");
    }
    Ok(stated)
}

pub(crate) fn data_path(id: u32) -> PathBuf {
    Path::new(DIR).join(format!("{id:08}.data"))
}

pub(crate) fn sum_path(id: u32) -> PathBuf {
    Path::new(DIR).join(format!("{id:08}.sum"))
}

pub(crate) fn pack_path(id: u32) -> PathBuf {
    Path::new(DIR).join(format!("{id:08}.pack"))
}
