//! Runs a history of store operations on a simulated disk, knows what was promised when, and checks
//! what a recovery gives.

use super::{Image, SimDisk, Syncing};
use llfs::store::{BLOCK, BootToken, Disk, LayerId, Recovered, Store, StoreOptions, Superblock};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

const SECTOR: usize = 512;

/// One operation of a history.
#[derive(Clone, Debug)]
pub enum Op {
    /// A record with so many bytes of ballast.
    Record(usize),
    /// New blocks, then the record that refers to them.
    Fresh {
        blocks: u32,
        bytes: usize,
    },
    /// Bytes over a block of the head that is in use; with a record or without.
    Again {
        pick: usize,
        offset: usize,
        bytes: usize,
        record: bool,
    },
    /// The medium is told to begin with what it was given, and nothing is promised.
    StartWriteback,
    Sync,
    SyncLayers,
    /// An image of the state.
    Image,
    /// The head is sealed, another begins.
    Seal,
    /// What of the head was handed out is sealed; it goes on.
    SealBlocks,
    FinishSeals,
    /// What is sealed whole and has checksums is compressed.
    Archive,
    /// The oldest sealed layer is dropped.
    Remove,
    /// The daemon is killed and started again.
    Kill,
    /// The same, but it had the time to close the store.
    Restart,
    /// An operation, and on another thread a second one in the middle of it: just before its sync number `at` of those at which
    /// that can be.
    Amid {
        outer: Box<Op>,
        at: usize,
        inner: Box<Op>,
    },
}

impl Op {
    /// Whether one thread can do this just before that sync of another thread and be done before it: without waiting for what is
    /// held there.
    fn fits(&self, syncing: Syncing) -> bool {
        use Syncing::{Flush, Held, Image, Pack, Sums};
        match self {
            _ if syncing == Held => false,
            Op::Record(_) | Op::Fresh { .. } | Op::Again { .. } | Op::Seal | Op::SealBlocks => true,
            Op::StartWriteback | Op::Sync | Op::SyncLayers | Op::Remove => syncing != Flush,
            Op::Image => !matches!(syncing, Flush | Image),
            Op::FinishSeals => !matches!(syncing, Flush | Sums),
            Op::Archive => !matches!(syncing, Flush | Sums | Pack),
            Op::Kill | Op::Restart | Op::Amid { .. } => false,
        }
    }
}

/// What a record means.
#[derive(Clone, Debug)]
enum Meaning {
    Nothing,
    Uses {
        layer: LayerId,
        first: u32,
        blocks: u32,
    },
    Drops(LayerId),
}

struct Record {
    meaning: Meaning,
    /// Steps of the disk before it was appended.
    began: usize,
}

/// A sector as it was from some write on.
struct Version {
    bytes: Vec<u8>,
    began: usize,
    ended: usize,
    /// Records that had been appended.
    records: usize,
}

/// A sync that returned.
struct Promise {
    began: usize,
    ended: usize,
    records: usize,
}

pub const BOOT: BootToken = BootToken([1; 16]);
pub const NEXT_BOOT: BootToken = BootToken([2; 16]);

/// A store small enough that a short history meets every boundary.
pub fn options(boot: BootToken) -> StoreOptions {
    StoreOptions {
        boot: Some(boot),
        segment_bytes: 24 << 10,
        prepare_bytes: 1024,
        kept_bytes: 256,
        reserve_bytes: 1024,
        inline_blocks: 2,
        open_files: 2,
        layer_blocks: 12,
        ..StoreOptions::default()
    }
}

pub fn superblock() -> Superblock {
    Superblock {
        uuid: [7; 16],
        base_path: PathBuf::from("/somewhere"),
        base_dev: 3,
        base_ino: 4,
        created: 5,
    }
}

/// Makes the store on a disk one of version 1, as far as its superblock tells.
pub fn make_old(disk: &SimDisk) {
    disk.tamper("superblock", |bytes| {
        bytes[8] = 1;
        let sum = xxhash_rust::xxh3::xxh3_64(&bytes[..16]);
        bytes[16..24].copy_from_slice(&sum.to_le_bytes());
        let end = bytes.len() - 8;
        let sum = xxhash_rust::xxh3::xxh3_64(&bytes[..end]);
        bytes[end..].copy_from_slice(&sum.to_le_bytes());
    });
}

/// The number of records that an opened store knows: those in the image, then those replayed.
pub fn count_records(recovered: &mut Recovered) -> Result<usize, String> {
    let mut count = match recovered.image() {
        None => 0,
        Some(mut image) => {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut image, &mut bytes).map_err(|e| e.to_string())?;
            decode(&bytes)?
        }
    };
    let mut wrong = None;
    recovered
        .replay(&mut |seq, payload| {
            match decode(payload) {
                Ok(index) if index == count => count += 1,
                other => wrong = Some(format!("record {seq} is {other:?}, not {count}")),
            }
            Ok(())
        })
        .map_err(|e| e.to_string())?;
    wrong.map_or(Ok(count), Err)
}

fn decode(bytes: &[u8]) -> Result<usize, String> {
    let raw = bytes.get(..4).ok_or("too short")?;
    Ok(u32::from_le_bytes(raw.try_into().expect("four bytes")) as usize)
}

pub struct History {
    pub disk: SimDisk,
    store: Option<Arc<Store>>,
    /// What is to be done in the middle of the next operation, and behind how many chances.
    amid: Option<(usize, Op)>,
    head: LayerId,
    sealed: Vec<LayerId>,
    dropped: Vec<LayerId>,
    records: Vec<Record>,
    promises: Vec<Promise>,
    sectors: BTreeMap<(LayerId, u32, usize), Vec<Version>>,
    /// Blocks of the head that are in use and not sealed.
    used: Vec<u32>,
    ballast: u8,
    /// Steps that it took to make the store.
    pub made: usize,
}

impl History {
    pub fn run(ops: &[Op]) -> Self {
        let disk = SimDisk::new();
        Store::create(&disk, &superblock()).expect("the disk is empty");
        let made = disk.now();
        let mut history = Self::new(disk, made);
        history.start();
        for op in ops {
            history.step(op);
        }
        history
    }

    fn new(disk: SimDisk, made: usize) -> Self {
        Self {
            disk,
            store: None,
            amid: None,
            head: LayerId(0),
            sealed: Vec::new(),
            dropped: Vec::new(),
            records: Vec::new(),
            promises: Vec::new(),
            sectors: BTreeMap::new(),
            used: Vec::new(),
            ballast: 0,
            made,
        }
    }

    /// Whether a promise was given just behind so many steps.
    pub fn promised_at(&self, step: usize) -> bool {
        self.promises.iter().any(|promise| promise.ended == step)
    }

    fn store(&self) -> &Store {
        self.store.as_ref().expect("the store is open")
    }

    /// Opens the store, in the boot that it was written in: everything must be there.
    fn start(&mut self) {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let (store, mut recovered) =
            Store::open(disk, &options(BOOT)).expect("a killed daemon's store opens");
        let count = count_records(&mut recovered).expect("the records are in order");
        assert_eq!(count, self.records.len(), "records after kill -9");
        self.store = Some(Arc::new(store));
        self.tell_blocks(self.store(), count);
        seal_all(self.store()).expect("they exist");
        for ((layer, block, sector), versions) in &self.sectors {
            if self.dropped.contains(layer) {
                continue;
            }
            let last = versions.last().expect("a sector has a version");
            let read = read_sector(self.store(), *layer, *block, *sector);
            assert_eq!(
                read.as_ref(),
                Ok(&last.bytes),
                "block {block} of {layer:?} after kill -9"
            );
        }
        self.head = self.store().open_layer();
        self.used.clear();
    }

    fn layers_in_use(&self, count: usize) -> BTreeMap<LayerId, u32> {
        let mut layers = BTreeMap::new();
        for record in &self.records[..count] {
            match record.meaning {
                Meaning::Nothing => {}
                Meaning::Uses {
                    layer,
                    first,
                    blocks,
                } => {
                    let next = layers.entry(layer).or_insert(0);
                    *next = (*next).max(first + blocks);
                }
                Meaning::Drops(layer) => {
                    layers.remove(&layer);
                }
            }
        }
        layers
    }

    fn tell_blocks(&self, store: &Store, count: usize) {
        // The numbers of layers that are gone are known as well.
        let known = self.records[..count]
            .iter()
            .filter_map(|record| match record.meaning {
                Meaning::Uses { layer, .. } => Some(layer),
                _ => None,
            });
        if let Some(newest) = known.max() {
            store.set_next(newest, 0);
        }
        for (layer, next) in self.layers_in_use(count) {
            store.set_next(layer, next);
        }
    }

    fn record(&mut self, meaning: Meaning, ballast: usize) -> u64 {
        let mut payload = (self.records.len() as u32).to_le_bytes().to_vec();
        payload.resize(4 + ballast, 0xee);
        let began = self.disk.now();
        let seq = self.store().append(&payload).expect("there is space");
        self.records.push(Record { meaning, began });
        seq
    }

    fn write(&mut self, block: u32, offset: usize, length: usize) {
        self.ballast = self.ballast % 250 + 1;
        let data = vec![self.ballast; length];
        let began = self.disk.now();
        self.store()
            .write_blocks(self.head, block, &data, offset as u32)
            .expect("there is space");
        let ended = self.disk.now();
        let start = block as usize * BLOCK as usize + offset;
        for sector in start / SECTOR..(start + length).div_ceil(SECTOR) {
            let place = (self.head, (sector / 8) as u32, sector % 8);
            let versions = self.sectors.entry(place).or_default();
            let mut bytes = versions
                .last()
                .map_or_else(|| vec![0; SECTOR], |v| v.bytes.clone());
            let from = start.max(sector * SECTOR) - sector * SECTOR;
            let to = (start + length).min((sector + 1) * SECTOR) - sector * SECTOR;
            bytes[from..to].fill(self.ballast);
            versions.push(Version {
                bytes,
                began,
                ended,
                records: self.records.len(),
            });
        }
    }

    fn promise(&mut self, act: impl FnOnce(&Store)) {
        let began = self.disk.now();
        let records = self.records.len();
        self.act(act);
        self.promises.push(Promise {
            began,
            ended: self.disk.now(),
            records,
        });
    }

    /// Does something that syncs, and in the middle of it what was asked for.
    fn act(&mut self, act: impl FnOnce(&Store)) {
        let store = self.store.clone().expect("the store is open");
        let Some((mut left, inner)) = self.amid.take() else {
            return act(&store);
        };
        let disk = self.disk.clone();
        let hollow = Self::new(disk.clone(), self.made);
        let whole = Arc::new(Mutex::new(std::mem::replace(self, hollow)));
        let (within, mut inner) = (whole.clone(), Some(inner));
        disk.between(move |syncing| {
            let Some(op) = inner.take_if(|op| op.fits(syncing)) else {
                return;
            };
            match left.checked_sub(1) {
                None => within.lock().expect("no step panicked").step(&op),
                Some(fewer) => (left, inner) = (fewer, Some(op)),
            }
        });
        act(&store);
        disk.undisturbed();
        let whole = Arc::into_inner(whole).expect("the disk has let go of it");
        *self = whole.into_inner().expect("no step panicked");
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Amid {
                ref outer,
                at,
                ref inner,
            } => {
                self.amid = Some((at, (**inner).clone()));
                self.step(outer);
                self.amid = None;
            }
            Op::Record(ballast) => {
                self.record(Meaning::Nothing, ballast);
            }
            Op::Fresh { blocks, bytes } => {
                let layer = self.head;
                let first = self
                    .store()
                    .alloc(layer, blocks)
                    .expect("there are numbers");
                let most = blocks as usize * BLOCK as usize;
                // Every block is begun; the last perhaps not filled.
                let least = (blocks as usize - 1) * BLOCK as usize + 1;
                self.write(first, 0, bytes.clamp(least, most));
                self.record(
                    Meaning::Uses {
                        layer,
                        first,
                        blocks,
                    },
                    0,
                );
                self.used.extend(first..first + blocks);
            }
            Op::Again {
                pick,
                offset,
                bytes,
                record,
            } => {
                if self.used.is_empty() {
                    return;
                }
                let block = self.used[pick % self.used.len()];
                let offset = offset % BLOCK as usize;
                let bytes = bytes.clamp(1, BLOCK as usize - offset);
                self.write(block, offset, bytes);
                if record {
                    self.record(Meaning::Nothing, 0);
                }
            }
            Op::StartWriteback => {
                self.act(|store| store.start_writeback().expect("the disk works"));
            }
            Op::Sync => self.promise(|store| store.sync().expect("the disk works")),
            Op::SyncLayers => self.promise(|store| store.sync_layers().expect("the disk works")),
            Op::Image => {
                let count = self.records.len() as u32;
                self.promise(|store| {
                    store
                        .write_image(store.last_seq(), &mut |out| {
                            out.write_all(&count.to_le_bytes())
                        })
                        .expect("the disk works");
                });
            }
            Op::Seal => {
                let layer = self.head;
                self.record(
                    Meaning::Uses {
                        layer,
                        first: 0,
                        blocks: 0,
                    },
                    0,
                );
                self.store().seal(layer).expect("it exists");
                self.sealed.push(self.head);
                self.head = self.store().open_layer();
                self.used.clear();
            }
            Op::SealBlocks => {
                self.record(Meaning::Nothing, 0);
                let goes_on = self.store().seal_blocks(self.head).expect("it exists");
                let refused = |block| {
                    let written = self.store().write_blocks(self.head, block, b"x", 0);
                    assert!(
                        written.is_err(),
                        "block {block} of {:?} is final",
                        self.head
                    );
                };
                self.used.iter().copied().for_each(refused);
                self.used.clear();
                if goes_on.is_none() {
                    self.sealed.push(self.head);
                    self.head = self.store().open_layer();
                }
            }
            Op::FinishSeals => self.act(|store| {
                store.finish_seals().expect("the disk works");
            }),
            Op::Archive => {
                let sealed = self.sealed.clone();
                self.act(|store| {
                    store.finish_seals().expect("the disk works");
                    for layer in sealed {
                        store
                            .archive_layer(layer, &mut |_| true, || ())
                            .expect("the disk works");
                    }
                });
            }
            Op::Remove => {
                if self.sealed.is_empty() {
                    return;
                }
                let layer = self.sealed.remove(0);
                let seq = self.record(Meaning::Drops(layer), 0);
                self.dropped.push(layer);
                self.promise(|store| store.remove_layer(layer, seq).expect("the disk works"));
            }
            Op::Kill => {
                self.store = None;
                self.start();
            }
            Op::Restart => {
                let store = self.store.take().and_then(Arc::into_inner);
                let store = store.expect("nobody else has it open");
                let began = self.disk.now();
                store.close().expect("the disk works");
                self.promises.push(Promise {
                    began,
                    ended: self.disk.now(),
                    records: self.records.len(),
                });
                self.start();
            }
        }
    }

    /// Opens a disk as it may be after the power was cut behind `cut` steps, and checks everything
    /// that was promised until then. Gives the disk that recovery left.
    pub fn check(&self, cut: usize, image: Image) -> Result<SimDisk, String> {
        let disk = SimDisk::from_image(image.clone());
        let (store, mut recovered) = Store::open(Arc::new(disk.clone()), &options(NEXT_BOOT))
            .map_err(|error| format!("recovery failed: {error}"))?;
        let count = count_records(&mut recovered)?;
        let begun = self.records.iter().filter(|r| r.began < cut).count();
        if count > begun {
            return Err(format!("{count} records, but only {begun} were written"));
        }
        let kept: Vec<&Promise> = self.promises.iter().filter(|p| p.ended <= cut).collect();
        let promised = kept.iter().map(|p| p.records).max().unwrap_or(0);
        if count < promised {
            return Err(format!("{count} records, but {promised} were promised"));
        }
        let synced = kept.iter().map(|p| p.began).max().unwrap_or(0);
        self.check_sectors(&store, count, synced, cut)?;
        self.cut_again(&image, &disk, count)?;
        self.go_on(&store, &disk, count, synced, cut)?;
        Ok(disk)
    }

    fn check_sectors(
        &self,
        store: &Store,
        count: usize,
        synced: usize,
        cut: usize,
    ) -> Result<(), String> {
        for (layer, next) in self.layers_in_use(count) {
            let sectors = self.sectors.range((layer, 0, 0)..(layer, next, 0));
            for (&(_, block, sector), versions) in sectors {
                // What must be there: written before the last record that is, or before a sync.
                let must = versions
                    .iter()
                    .rposition(|v| v.records < count || v.ended <= synced);
                let read = read_sector(store, layer, block, sector)?;
                let untouched = must.is_none();
                let must = must.unwrap_or(0);
                // By byte: an old length may end a sector that is new.
                let allowed = |at: usize, byte: u8| {
                    let mut begun = versions[must..].iter().filter(|v| v.began < cut);
                    begun.any(|v| v.bytes[at] == byte) || (untouched && byte == 0)
                };
                if !read.iter().enumerate().all(|(at, &byte)| allowed(at, byte)) {
                    return Err(format!(
                        "sector {sector} of block {block} of {layer:?} begins with {}, not one of {:?}",
                        read[0],
                        versions[must..]
                            .iter()
                            .map(|v| v.bytes[0])
                            .collect::<Vec<_>>(),
                    ));
                }
            }
        }
        Ok(())
    }

    /// What a recovery gave is durable: another cut, before anything else was done, changes nothing.
    fn cut_again(&self, before: &Image, disk: &SimDisk, count: usize) -> Result<(), String> {
        let mut medium = super::Medium::new(before);
        for step in &disk.steps() {
            medium.apply(step);
        }
        let next = SimDisk::from_image(medium.crash(&mut |_| 0));
        let (_store, mut recovered) = Store::open(Arc::new(next), &options(BootToken([4; 16])))
            .map_err(|error| format!("recovery after a recovery failed: {error}"))?;
        match count_records(&mut recovered)? {
            n if n == count => Ok(()),
            n => Err(format!(
                "{n} records after a cut behind the recovery, not {count}"
            )),
        }
    }

    /// The recovered store goes on: what it promises now survives the next, most forgetful cut, and
    /// new blocks are nobody's. The layers get the checksums that they lack, which fit what is on the medium.
    fn go_on(
        &self,
        store: &Store,
        disk: &SimDisk,
        count: usize,
        synced: usize,
        cut: usize,
    ) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("going on: {error}");
        self.tell_blocks(store, count);
        let layers = self.layers_in_use(count);
        for (&layer, &next) in &layers {
            let block = store.alloc(layer, 1).map_err(failed)?;
            if block < next {
                return Err(format!("block {block} of {layer:?} was handed out twice"));
            }
        }
        let head = store.open_layer();
        if layers.contains_key(&head) {
            return Err(format!("{head:?} was handed out twice"));
        }
        let before = disk.now();
        let mut medium = super::Medium::new(&disk.image());
        // Their numbers reach beyond those of records that the recovery dropped.
        let more = 4;
        for index in count..count + more {
            let payload = (index as u32).to_le_bytes();
            store.append(&payload).map_err(failed)?;
        }
        store.sync().map_err(failed)?;
        // Not behind every cut, for it takes long.
        let sums = cut.is_multiple_of(5);
        if sums {
            seal_all(store).map_err(failed)?;
            store.finish_seals().map_err(failed)?;
            self.check_sectors(store, count, synced, cut)?;
        }
        for step in &disk.steps()[before..] {
            medium.apply(step);
        }
        let next = SimDisk::from_image(medium.crash(&mut |_| 0));
        let (store, mut recovered) = Store::open(Arc::new(next), &options(BootToken([3; 16])))
            .map_err(|error| format!("the second recovery failed: {error}"))?;
        for info in store.layers().map_err(failed)? {
            let in_use = layers.get(&info.id).copied().unwrap_or(0);
            if sums && info.summed < in_use {
                return Err(format!("{info:?} has blocks in use without sums"));
            }
        }
        if sums {
            self.check_sectors(&store, count, synced, cut)?;
        }
        match count_records(&mut recovered)? {
            n if n == count + more => Ok(()),
            n => Err(format!(
                "{n} records after the second cut, not {}",
                count + more
            )),
        }
    }
}

/// As a mount does: no layer of an earlier life is written again.
fn seal_all(store: &Store) -> std::io::Result<()> {
    let layers = store.layers()?;
    layers.iter().try_for_each(|info| store.seal(info.id))
}

fn read_sector(
    store: &Store,
    layer: LayerId,
    block: u32,
    sector: usize,
) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; SECTOR];
    let offset = u64::from(block) * BLOCK + (sector * SECTOR) as u64;
    store
        .read(layer, offset, &mut bytes, true)
        .map_err(|error| format!("block {block} of {layer:?}: {error}"))?;
    Ok(bytes)
}
