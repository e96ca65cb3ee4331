//! The store: bytes on disk, never names. A journal of opaque records, layers of 4 KiB blocks, images
//! of the state. docs/FORMAT.md describes every byte and what a crash may leave.
//!
//! Lock order, outermost first: `images` or `sums`; the flush of `group` (no lock, but one at a time);
//! `superblock`; the names of layers; `reserve`; the journal's tail; then, never two of them at once, the leaves: the map of
//! layers, pending seals, open files, dirty marks, the reason of the latch. Of these only the tail, the names, the
//! reserve, `images` and `sums` are held across I/O, and reads and writes of layers take leaves only.

mod boot;
mod disk;
mod error;
mod flush;
mod group;
mod health;
mod host_disk;
mod images;
mod journal;
mod layers;
mod notes;
mod open;
mod options;
mod quota;
mod repair;
mod reserve;
mod superblock;
mod watch;

pub use boot::BootToken;
pub use disk::{Disk, DiskFile, OpenHow};
pub use error::{Damage, OpenError};
pub use host_disk::HostDisk;
pub use images::ImageReader;
pub use journal::frame::MAX_PAYLOAD;
pub use layers::{Archived, BLOCK, LayerId, LayerInfo};
pub use notes::{NoteKind, framed, next_frame};
pub use open::{Found, Recovered, replace_superblock, uuid_of_journal};
pub use options::StoreOptions;
pub use superblock::{FORMAT_VERSION, Superblock};
pub use watch::Watch;

use group::Group;
use health::Health;
use journal::{Journal, Room, segment};
use layers::Layers;
use parking_lot::{Mutex, RwLock};
use quota::Quota;
use reserve::Reserve;
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

const LOCK: &str = "lock";

/// An open store. One process has it at a time.
pub struct Store {
    disk: Arc<dyn Disk>,
    /// Held for its lock; `None` when a read-only store could not be locked.
    #[allow(dead_code, reason = "dropping it unlocks the store")]
    lock: Option<Arc<dyn DiskFile>>,
    superblock: RwLock<Superblock>,
    health: Arc<Health>,
    journal: Journal,
    layers: Layers,
    group: Group,
    /// Records up to this sequence number are durable.
    durable: AtomicU64,
    reserve: Reserve,
    /// What the newest image covers. Held while one is written.
    images: Mutex<u64>,
    /// Told of each record.
    watch: OnceLock<Arc<dyn Watch>>,
    /// Held while checksums are written.
    sums: Mutex<()>,
    /// Held while a layer is archived.
    archives: Mutex<()>,
    /// Blocks from which on a layer does not go on after a seal.
    layer_blocks: u32,
    read_only: bool,
    /// What it may take, if that is limited: the same as `disk`.
    quota: Option<Arc<Quota>>,
    /// Where the journal was damaged when it was opened.
    damage: Option<Damage>,
}

/// Bytes that the parts of a store take on the medium.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreSizes {
    /// The journal's segments.
    pub journal: u64,
    /// Layers and their checksums.
    pub layers: u64,
    /// How many layers there are.
    pub layer_files: u64,
    /// How many of them are archived, and the bytes that this gave.
    pub archived: u64,
    pub saved: u64,
    /// Images.
    pub images: u64,
    /// What is good to know: the history, who changed what, checksums of the base's files, rules.
    pub notes: u64,
    /// What is held in reserve.
    pub reserve: u64,
    /// What the medium has left.
    pub free: u64,
}

/// What is damaged of the history, see [`Store::verify_history`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryCheck {
    /// Damaged images, by number.
    pub images: Vec<u32>,
    /// The first damaged place of the journal.
    pub journal: Option<Damage>,
}

impl Store {
    /// The store's superblock.
    pub fn superblock(&self) -> Superblock {
        self.superblock.read().clone()
    }

    /// Tells this store from every other.
    pub fn uuid(&self) -> [u8; 16] {
        self.superblock.read().uuid
    }

    /// The base directory has moved: rewrites the superblock.
    pub fn relink(&self, path: PathBuf, dev: u64, ino: u64) -> io::Result<()> {
        self.health.check()?;
        let mut superblock = self.superblock.write();
        let moved = Superblock {
            base_path: path,
            base_dev: dev,
            base_ino: ino,
            ..superblock.clone()
        };
        moved.write(&*self.disk)?;
        *superblock = moved;
        Ok(())
    }

    /// Appends a record, at most [`MAX_PAYLOAD`] bytes, and gives its sequence number. It survives
    /// the death of the process at once, and a power cut after the next [`Self::sync`]. After an
    /// error the journal is as before. `EROFS` once the store is latched.
    pub fn append(&self, payload: &[u8]) -> io::Result<u64> {
        self.watched(payload, Room::Ordinary)
    }

    /// Has somebody told of each record from now on. Later calls change nothing.
    pub fn set_watch(&self, watch: Arc<dyn Watch>) {
        if self.health.watch.set(watch.clone()).is_err() || self.watch.set(watch).is_err() {
            tracing::warn!("the journal was watched before");
        }
    }

    fn watched(&self, payload: &[u8], room: Room) -> io::Result<u64> {
        let Some(watch) = self.watch.get() else {
            return self.journal.append(payload, room);
        };
        watch.appending(self.journal.last_seq(), payload);
        let seq = self.journal.append(payload, room)?;
        watch.appended();
        Ok(seq)
    }

    /// As [`Self::append`], for records that free space: takes what is held back for them when the
    /// medium is full.
    pub fn append_kept(&self, payload: &[u8]) -> io::Result<u64> {
        self.with_reserve(|| self.watched(payload, Room::Kept))
    }

    /// Does it once more, if the medium was full and the reserve could be given up.
    fn with_reserve<T>(&self, append: impl Fn() -> io::Result<T>) -> io::Result<T> {
        let before = self.reserve.given();
        match append() {
            Err(error) if is_full(&error) && self.reserve.release_since(before)? => {
                tracing::warn!("no space left: the reserve was given up");
                append()
            }
            answer => answer,
        }
    }

    /// As [`Self::append`], for records that a user wants on a full disk too and that free nothing: they take what the
    /// journal has ready, and leave the reserve to those of [`Self::append_kept`], or there would soon be nothing left to
    /// revert and to delete with.
    pub fn append_ready(&self, payload: &[u8]) -> io::Result<u64> {
        self.watched(payload, Room::Ready)
    }

    /// As [`Self::append`], for a record that may as well not have been made: it goes with the next one, or with the next
    /// [`Self::sync`], and is gone if the process dies before.
    pub fn append_later(&self, payload: &[u8]) -> io::Result<()> {
        self.journal.append_later(payload, Room::Ordinary)
    }

    /// The same, with what is held back as for [`Self::append_kept`].
    pub fn append_later_kept(&self, payload: &[u8]) -> io::Result<()> {
        self.with_reserve(|| self.journal.append_later(payload, Room::Kept))
    }

    /// The sequence number of the last frame; what was acknowledged has this one or a lower one.
    pub fn last_seq(&self) -> u64 {
        self.journal.last_seq()
    }

    /// Takes the reserve again when space has come back; whether it is held.
    pub fn refill_reserve(&self) -> io::Result<bool> {
        self.health.check()?;
        self.reserve.refill()
    }

    /// Gives the reserve up, so that a little can be written with no space left; whether there was
    /// any. [`Self::append_kept`] does so by itself.
    pub fn release_reserve(&self) -> io::Result<bool> {
        self.reserve.release()
    }

    /// Bytes that the medium has left.
    pub fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }

    /// The bytes that the store may take, and about how many it takes; if that is limited.
    pub fn limit(&self) -> Option<(u64, u64)> {
        self.quota.as_ref().map(|quota| quota.usage())
    }

    /// Has what a limited store takes counted exactly.
    pub fn recount(&self) -> io::Result<()> {
        self.quota.as_ref().map_or(Ok(()), |quota| quota.recount())
    }

    /// A new layer; its file is made by the first write.
    pub fn open_layer(&self) -> LayerId {
        self.layers.open_layer()
    }

    /// Tells, after opening, what the state refers to: blocks of `layer` below `block` are in use.
    pub fn set_next(&self, layer: LayerId, block: u32) {
        self.layers.set_next(layer, block);
    }

    /// Hands out `count` blocks in a row of a layer and gives the first. A block is handed out once.
    pub fn alloc(&self, layer: LayerId, count: u32) -> io::Result<u32> {
        self.layers.alloc(layer, count)
    }

    /// Writes `data` from byte `offset` of block `block` on. After an error any part of it may have
    /// been written. `EIO` for a sealed block, `EROFS` once the store is latched.
    pub fn write_blocks(
        &self,
        layer: LayerId,
        block: u32,
        data: &[u8],
        offset: u32,
    ) -> io::Result<()> {
        self.layers.write(layer, block, offset, data)
    }

    /// Fills `out` from byte `offset` of the layer. With `verify`, blocks that have checksums are
    /// checked: `EIO` and a line in the log if one differs. What is lost is `EIO` too.
    pub fn read(
        &self,
        layer: LayerId,
        offset: u64,
        out: &mut [u8],
        verify: bool,
    ) -> io::Result<()> {
        self.layers.read(layer, offset, out, verify)
    }

    /// The layer is never written again. Cheap; [`Self::finish_seals`] does the work. Call it after
    /// the record that seals the layer was appended and all writes to it have returned, and again
    /// after opening for every sealed layer.
    pub fn seal(&self, layer: LayerId) -> io::Result<()> {
        self.layers.seal(layer)
    }

    /// The blocks of the layer that were handed out so far are never written again; it goes on with the one that this
    /// gives. `None`: it has enough, all of it is sealed as by [`Self::seal`]. The same holds as there; and no writer may
    /// keep blocks that it was handed before for a write behind this.
    pub fn seal_blocks(&self, layer: LayerId) -> io::Result<Option<u32>> {
        let sealed = self.layers.seal_blocks(layer)?;
        if sealed < self.layer_blocks {
            return Ok(Some(sealed));
        }
        self.layers.seal(layer)?;
        Ok(None)
    }

    /// Computes the checksums of what was sealed and makes them durable; of how many layers. Slow: for a
    /// background thread.
    pub fn finish_seals(&self) -> io::Result<usize> {
        let _one_at_a_time = self.sums.lock();
        let sealed = self.layers.take_seals();
        if sealed.is_empty() {
            return Ok(0);
        }
        // Sums speak of data on the medium, and of a seal that will not be undone by a power cut.
        if let Err(error) = self.sync_layers() {
            self.layers.return_seals(&sealed);
            return Err(error);
        }
        for (done, &pending) in sealed.iter().enumerate() {
            if let Err(error) = self.layers.write_sums(pending) {
                self.layers.return_seals(&sealed[done..]);
                return Err(error);
            }
        }
        Ok(sealed.len())
    }

    /// Notes durably which layers have checksums, so that one that loses them is noticed at the next start. An image
    /// does that by the way.
    pub fn list_sums(&self) -> io::Result<()> {
        self.health.check()?;
        self.layers.list_sums()
    }

    /// Compresses a layer that was sealed whole, in place; see [`Archived`]. `None`: it is archived already, takes blocks yet, has no
    /// checksums or is gone. `progress` is told the bytes of each step, and answers whether to go on. `hold` is called when the pack is
    /// complete: no layer may be removed, and no block given back, while what it gives is there. `EIO` if a block of it is damaged.
    pub fn archive_layer<G>(
        &self,
        layer: LayerId,
        progress: &mut dyn FnMut(u64) -> bool,
        hold: impl FnOnce() -> G,
    ) -> io::Result<Option<Archived>> {
        let _one_at_a_time = self.archives.lock();
        let Some(written) = self.layers.write_pack(layer, progress)? else {
            return Ok(None);
        };
        let _held = hold();
        self.layers.place_pack(written)
    }

    /// Gives blocks back to the medium. `unreachable_since` is the sequence number of the record that
    /// dropped the last reference to them; it is made durable first.
    pub fn free(
        &self,
        layer: LayerId,
        blocks: &[Range<u32>],
        unreachable_since: u64,
    ) -> io::Result<()> {
        self.sync_through(unreachable_since)?;
        self.layers.punch(layer, blocks)
    }

    /// Deletes a layer that nothing refers to since the record `unreachable_since`.
    pub fn remove_layer(&self, layer: LayerId, unreachable_since: u64) -> io::Result<()> {
        self.sync_through(unreachable_since)?;
        self.layers.remove(layer)
    }

    /// Whether there is a layer of that number.
    pub fn has_layer(&self, layer: LayerId) -> bool {
        self.layers.has(layer)
    }

    /// All layers, by number.
    pub fn layers(&self) -> io::Result<Vec<LayerInfo>> {
        self.layers.list()
    }

    /// Reads the blocks in `live` and gives those that are lost or damaged. `progress` is told the
    /// number of blocks of each step and answers whether to go on.
    pub fn verify_layer(
        &self,
        layer: LayerId,
        live: &[Range<u32>],
        progress: &mut dyn FnMut(u32) -> bool,
    ) -> io::Result<Vec<u32>> {
        self.layers.verify(layer, live, progress)
    }

    /// Whether a layer's checksum file says what it should (`None`: the layer has none).
    pub fn sums_are_whole(&self, layer: LayerId) -> io::Result<Option<bool>> {
        self.layers.sums_header_is_whole(layer)
    }

    /// Reads all images and the journal that belongs to them, and tells what is damaged there.
    pub fn verify_history(&self) -> io::Result<HistoryCheck> {
        // Nothing is deleted meanwhile.
        let _no_image = self.images.lock();
        let disk = &*self.disk;
        let uuid = self.uuid();
        let mut result = HistoryCheck::default();
        let mut covered = 0;
        for number in images::list(disk)?.into_iter().rev() {
            let read = ImageReader::open(disk, uuid, number)
                .and_then(|mut image| image.check().map(|()| image));
            match read {
                Ok(image) => covered = image.covers(),
                Err(_) => result.images.push(number),
            }
        }
        result.journal = self.journal.check(covered)?;
        Ok(result)
    }

    /// Writes an image of the state that holds everything up to record `covers`, and lets go of what
    /// it makes superfluous: images but the newest two, and the journal that the older of them covers.
    pub fn write_image(
        &self,
        covers: u64,
        body: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        self.health.check()?;
        let mut imaged = self.images.lock();
        // The layers too: journal segments with copies of blocks will be removed.
        self.sync_layers()?;
        let disk = &*self.disk;
        if let Err(error) = self.layers.list_sums() {
            tracing::warn!(%error, "the list of checksums was not written");
        }
        let newest = images::list(disk)?.last().copied().unwrap_or(0);
        if covers < *imaged {
            // Somebody else's is newer, and has let go of the journal that this one would need.
            return Ok(());
        }
        images::write(disk, &self.uuid(), newest + 1, covers, body)?;
        *imaged = covers;
        match self.journal.rotate_beyond(1) {
            // Deleting what the image made superfluous may help.
            Err(error) if is_full(&error) => {}
            answer => answer?,
        }
        self.drop_superseded()
    }

    /// Deletes old images, then journal segments, each durable before the next.
    fn drop_superseded(&self) -> io::Result<()> {
        let disk = &*self.disk;
        let numbers = images::list(disk)?;
        if numbers.len() < images::KEPT {
            return Ok(());
        }
        let (old, kept) = numbers.split_at(numbers.len() - images::KEPT);
        let uuid = self.uuid();
        let mut oldest = ImageReader::open(disk, uuid, kept[0])?;
        // A damaged image covers nothing; whatever it needs stays.
        oldest.check()?;
        for &number in old {
            disk.remove(&images::path(number))?;
        }
        disk.sync_dir(Path::new(images::DIR))?;
        self.journal.remove_covered(oldest.covers())
    }

    /// Segments of the journal. Each start of a store begins one.
    pub fn journal_segments(&self) -> io::Result<usize> {
        Ok(segment::list(&*self.disk)?.len())
    }

    /// Bytes that the journal takes on the medium.
    pub fn journal_bytes(&self) -> io::Result<u64> {
        let disk = &*self.disk;
        let mut bytes = 0;
        for number in segment::list(disk)? {
            bytes += size_of(disk, &segment::path(number))?;
        }
        Ok(bytes)
    }

    /// What the store takes on the medium.
    pub fn sizes(&self) -> io::Result<StoreSizes> {
        let disk = &*self.disk;
        let mut sizes = StoreSizes {
            journal: self.journal_bytes()?,
            reserve: self.reserve.held(),
            free: disk.free_bytes()?,
            ..StoreSizes::default()
        };
        for number in images::list(disk)? {
            sizes.images += size_of(disk, &images::path(number))?;
        }
        for kind in NoteKind::ALL {
            sizes.notes += self.notes_bytes(kind)?;
        }
        for info in self.layers.list()? {
            sizes.layer_files += 1;
            sizes.layers += info.disk_bytes;
            if let Some(before) = info.archived {
                sizes.archived += 1;
                sizes.saved += before.saturating_sub(info.data_bytes);
            }
        }
        Ok(sizes)
    }

    /// Why the store cannot be written any more, if so.
    pub fn is_readonly(&self) -> Option<String> {
        self.health.reason()
    }

    /// Whether it was opened to be looked at only.
    pub fn opened_read_only(&self) -> bool {
        self.read_only
    }

    /// Where the journal was found damaged at opening: what lies behind that is not in the state.
    pub fn damage(&self) -> Option<&Damage> {
        self.damage.as_ref()
    }

    /// Lets nothing be written any more.
    pub fn latch_readonly(&self, reason: &str) {
        self.health.latch(reason);
    }

    /// Makes everything durable, twice: the second barrier proves that the first was synced, so that
    /// damage to the end of the journal is seen for what it is.
    pub fn close(self) -> io::Result<()> {
        if self.is_readonly().is_some() {
            return Ok(());
        }
        self.sync_layers()?;
        self.sync_layers()
    }
}

fn size_of(disk: &dyn Disk, path: &Path) -> io::Result<u64> {
    match disk.open(path, OpenHow::Read) {
        Ok(file) => file.disk_bytes(),
        // Removed since it was listed.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

/// Whether the medium, or the owner's quota on it, is full.
fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
