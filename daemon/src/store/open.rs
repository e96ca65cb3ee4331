//! Making a store, and opening one: what recovery does, in which order.

use super::boot::BootToken;
use super::disk::{Disk, DiskFile, OpenHow};
use super::error::{Damage, Naming, OpenError};
use super::group::Group;
use super::health::Health;
use super::images::{self, ImageReader};
use super::journal::frame::{Barrier, Kind};
use super::journal::scan::{self, Scan};
use super::journal::segment::{self, SegmentHeader};
use super::journal::{Journal, Sizes, behind};
use super::layers::{self, BLOCK, Layers};
use super::options::StoreOptions;
use super::quota::Quota;
use super::repair;
use super::reserve::{self, Reserve};
use super::superblock::{self, Superblock, u32_at};
use super::{LOCK, Store};
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// What was found at opening, for the caller to build its state from.
pub struct Recovered {
    disk: Arc<dyn Disk>,
    uuid: [u8; 16],
    scan: Scan,
    image: Option<ImageReader>,
    image_seq: u64,
    damaged_images: Vec<u32>,
}

impl Recovered {
    /// The newest image that is whole. Every chunk of it was checked.
    pub fn image(&mut self) -> Option<ImageReader> {
        self.image.take()
    }

    /// Hands out the records behind the image, in order, with their sequence numbers.
    pub fn replay(
        &self,
        record: &mut dyn FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> Result<(), OpenError> {
        let wanted = self.image_seq + 1..=self.scan.limit;
        scan::visit(&*self.disk, &self.uuid, &self.scan, &mut |frame| {
            if frame.kind == Kind::Record && wanted.contains(&frame.seq) {
                record(frame.seq, frame.payload)?;
            }
            Ok(())
        })
    }

    /// Whether the last writer's unsynced work was lost with the power (or the machine was restarted).
    pub fn power_was_lost(&self) -> bool {
        self.scan.power_lost
    }

    /// What is damaged in the journal. Only a store that was opened read-only, or repaired, gets this
    /// far with it.
    pub fn damage(&self) -> Option<&Damage> {
        self.scan.damage.as_ref()
    }

    /// The sequence number of the last record that counts.
    pub fn last_seq(&self) -> u64 {
        self.scan.limit
    }

    /// Shows the records behind the damage that are whole, with their sequence numbers. They count for nothing.
    pub fn behind_damage(&self, record: &mut dyn FnMut(u64, &[u8])) -> io::Result<()> {
        match &self.scan.damage {
            Some(damage) => behind::records(&*self.disk, &self.uuid, damage, record),
            None => Ok(()),
        }
    }

    /// Whether there is a state at all, however old; without one there is nothing to go on with.
    pub fn has_state(&self) -> bool {
        self.image_seq > 0 || !self.scan.segments.is_empty()
    }

    /// Images that were passed over because they are damaged, by number.
    pub fn damaged_images(&self) -> &[u32] {
        &self.damaged_images
    }
}

impl Store {
    /// Makes a store in an empty directory. A crash leaves nothing or a whole store (or the beginnings
    /// of one, which the next call takes for nothing).
    pub fn create(disk: &dyn Disk, superblock: &Superblock) -> Result<(), OpenError> {
        let _lock = lock(disk)?;
        match superblock::Superblock::read(disk) {
            Ok(None) if is_fresh(disk)? => {}
            _ => return Err(OpenError::NotEmpty),
        }
        for dir in [segment::DIR, layers::DIR, images::DIR] {
            disk.create_dir(Path::new(dir)).naming(dir)?;
        }
        superblock
            .write_temporary(disk)
            .naming(superblock::TEMPORARY)?;
        let first = SegmentHeader {
            number: 1,
            boot: BootToken([0; 16]),
            first_seq: 1,
            previous_end: 0,
            barrier: Barrier::default(),
        };
        first
            .create(disk, &superblock.uuid)
            .naming(segment::path(1))?;
        disk.sync_dir(Path::new("")).naming("")?;
        Superblock::commit(disk).naming(superblock::PATH)
    }

    /// Opens a store: [`Store::find`] and [`Found::begin`].
    pub fn open(
        disk: Arc<dyn Disk>,
        options: &StoreOptions,
    ) -> Result<(Self, Recovered), OpenError> {
        let (found, recovered) = Store::find(disk, options)?;
        Ok((found.begin(&recovered)?, recovered))
    }

    /// Locks a store and checks everything that must be read to know its state. Nothing is written but who has the lock.
    pub fn find(
        disk: Arc<dyn Disk>,
        options: &StoreOptions,
    ) -> Result<(Found, Recovered), OpenError> {
        // Somebody else's directory is left as it is, without so much as a lock in it.
        match Superblock::read(&*disk) {
            Ok(None) if !is_fresh(&*disk)? => return Err(OpenError::NoSuperblock),
            // Its first bytes are not what they should be, but its journal is one of ours.
            Err(OpenError::Foreign) if uuid_of_journal(&*disk).is_ok_and(|u| u.is_some()) => {
                return Err(OpenError::BadSuperblock("its signature is gone"));
            }
            found => drop(found?),
        }
        let lock = match lock(&*disk) {
            Err(OpenError::Io { .. }) if options.read_only => None,
            answer => Some(answer?),
        };
        let Some(superblock) = Superblock::read(&*disk)? else {
            return Err(OpenError::Empty);
        };
        let boot = match options.boot {
            Some(boot) => boot,
            None => BootToken::current(&*disk).naming("")?,
        };
        let recovered = find_state(disk.clone(), superblock.uuid, boot)?;
        let options = options.clone();
        let found = Found {
            disk,
            options,
            lock,
            superblock,
            boot,
        };
        Ok((found, recovered))
    }
}

/// A store of which is known what is in it, before anything of it is changed.
pub struct Found {
    disk: Arc<dyn Disk>,
    options: StoreOptions,
    /// `None`: it is to be read only, and cannot be locked.
    lock: Option<Arc<dyn DiskFile>>,
    superblock: Superblock,
    boot: BootToken,
}

impl Found {
    /// Begins another life of the store, if what was found is sound. What counts of its journal and images stays as it is: they
    /// may be read meanwhile.
    pub fn begin(self, recovered: &Recovered) -> Result<Store, OpenError> {
        let Found {
            disk,
            options,
            lock,
            superblock,
            boot,
        } = self;
        let health = Arc::new(Health::default());
        let overlay = if options.read_only {
            health.look_only();
            data_frames(recovered)?
        } else {
            if let Some(damage) = recovered.scan.damage.clone() {
                if !options.repair || !recovered.has_state() {
                    return Err(OpenError::Damaged(damage));
                }
                repair::set_aside(&*disk, &damage)?;
            }
            if options.repair {
                repair::set_images_aside(&*disk, &recovered.damaged_images)?;
            }
            settle(&*disk, recovered)?;
            HashMap::new()
        };
        let reserve = Reserve::new(disk.clone(), options.reserve_bytes);
        let (header, file, full) = begin_segment(&*disk, recovered, boot, &options, &reserve)?;
        if !options.read_only
            && let Err(error) = cut_tail(&*disk, recovered)
        {
            tracing::debug!(%error, "the zeros behind an old journal segment stay");
        }
        if !options.read_only && Superblock::is_old(&*disk).naming(superblock::PATH)? {
            renew_superblock(&*disk, &superblock, &reserve)?;
        }
        // From here on: what opening the store takes it must have, however full it is.
        let limited = options.max_bytes.filter(|_| !options.read_only);
        let quota = match limited {
            Some(limit) => Some(Arc::new(Quota::over(disk.clone(), limit).naming("")?)),
            None => None,
        };
        let (disk, file, reserve) = match &quota {
            Some(quota) => {
                let disk: Arc<dyn Disk> = quota.clone();
                let reserve = Reserve::new(disk.clone(), options.reserve_bytes);
                (disk, quota.adopt(file).naming(segment::DIR)?, reserve)
            }
            None => (disk, file, reserve),
        };
        let sizes = Sizes {
            segment: options.segment_bytes,
            prepare: options.prepare_bytes,
            kept: options.kept_bytes,
        };
        let layers = Layers::open(
            disk.clone(),
            superblock.uuid,
            health.clone(),
            options.open_files,
            options.inline_blocks,
            overlay,
            recovered.scan.damage.is_some(),
        )
        .naming(layers::DIR)?;
        let journal = Journal::new(
            disk.clone(),
            superblock.uuid,
            health.clone(),
            sizes,
            &header,
            file,
        );
        let store = Store {
            disk,
            lock,
            superblock: parking_lot::RwLock::new(superblock),
            health,
            journal,
            layers,
            group: Group::default(),
            durable: AtomicU64::new(header.barrier.covers),
            reserve,
            images: parking_lot::Mutex::new(recovered.image_seq),
            watch: std::sync::OnceLock::new(),
            sums: parking_lot::Mutex::new(()),
            archives: parking_lot::Mutex::new(()),
            layer_blocks: options.layer_blocks,
            read_only: options.read_only,
            quota,
            damage: recovered.scan.damage.clone(),
        };
        if full {
            store.journal.keep_room();
        }
        if !options.read_only
            && let Err(error) = store.refill_reserve()
        {
            tracing::warn!(%error, "no space could be held in reserve");
        }
        Ok(store)
    }
}

/// The number that the journal of a store without a superblock has in its segments' headers.
pub fn uuid_of_journal(disk: &dyn Disk) -> io::Result<Option<[u8; 16]>> {
    for number in segment::list(disk)? {
        let mut bytes = [0; segment::HEADER_LEN as usize];
        let file = disk.open(&segment::path(number), OpenHow::Read)?;
        let read = file.read_at(&mut bytes, 0)?;
        if let Some(uuid) = segment::uuid_of(&bytes[..read]) {
            return Ok(Some(uuid));
        }
    }
    Ok(None)
}

/// Gives a store that has lost its superblock a new one. What is there of the old one is kept beside it.
pub fn replace_superblock(disk: &dyn Disk, superblock: &Superblock) -> Result<(), OpenError> {
    let _lock = lock(disk)?;
    repair::keep_superblock(disk).naming(superblock::PATH)?;
    superblock.write(disk).naming(superblock::PATH)
}

/// One daemon per store.
fn lock(disk: &dyn Disk) -> Result<Arc<dyn DiskFile>, OpenError> {
    let path = Path::new(LOCK);
    match disk.lock(path) {
        Ok(file) => {
            let pid = format!("{}\n", std::process::id());
            // Only for the message that the next daemon gives.
            if let Err(error) = file
                .set_len(0)
                .and_then(|()| file.write_at(pid.as_bytes(), 0))
            {
                tracing::debug!(%error, "the lock file does not tell the process id");
            }
            Ok(file)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let mut text = [0; 16];
            let read = disk
                .open(path, OpenHow::Read)
                .and_then(|file| file.read_at(&mut text, 0))
                .unwrap_or(0);
            let pid = std::str::from_utf8(&text[..read]).unwrap_or("").trim();
            Err(OpenError::Locked {
                pid: pid.parse().ok(),
            })
        }
        Err(error) => Err(error).naming(LOCK),
    }
}

/// Whether the directory is empty but for what a creation that was cut short may have left.
fn is_fresh(disk: &dyn Disk) -> Result<bool, OpenError> {
    // The daemon begins its log before it makes the store.
    let known = [
        LOCK,
        superblock::TEMPORARY,
        segment::DIR,
        layers::DIR,
        images::DIR,
        reserve::PATH,
        "llfs.log",
        "llfs.log.1",
        "llfs.log.next",
    ];
    let names = disk.list(Path::new("")).naming("")?;
    if !names.iter().all(|name| known.iter().any(|k| name == k)) {
        return Ok(false);
    }
    let list = |dir: &str| -> Result<Vec<OsString>, OpenError> {
        if !names.iter().any(|name| name == dir) {
            return Ok(Vec::new());
        }
        disk.list(Path::new(dir)).naming(dir)
    };
    if !list(layers::DIR)?.is_empty() || !list(images::DIR)?.is_empty() {
        return Ok(false);
    }
    for name in list(segment::DIR)? {
        let path = Path::new(segment::DIR).join(&name);
        let is_first = name == "00000001.log" || name == "00000001.tmp";
        let length = disk
            .open(&path, OpenHow::Read)
            .and_then(|file| file.len())
            .naming(&path)?;
        if !is_first || length > segment::HEADER_LEN {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Finds the newest whole image and reads the journal.
fn find_state(
    disk: Arc<dyn Disk>,
    uuid: [u8; 16],
    boot: BootToken,
) -> Result<Recovered, OpenError> {
    let mut damaged_images = Vec::new();
    let mut image = None;
    for number in images::list(&*disk).naming(images::DIR)?.into_iter().rev() {
        let checked = ImageReader::open(&*disk, uuid, number)
            .and_then(|mut image| image.check().map(|()| image));
        match checked {
            Ok(found) => {
                image = Some(found);
                break;
            }
            Err(error) => {
                tracing::error!(image = number, %error, "an image cannot be read, looking for an older one");
                damaged_images.push(number);
            }
        }
    }
    let image_seq = image.as_ref().map_or(0, ImageReader::covers);
    let scan = scan::scan(&*disk, &uuid, boot, image_seq)?;
    Ok(Recovered {
        disk,
        uuid,
        scan,
        image,
        image_seq,
        damaged_images,
    })
}

/// The blocks that only the journal holds for certain, the last copy of each.
fn data_frames(recovered: &Recovered) -> Result<HashMap<(u32, u32), Vec<u8>>, OpenError> {
    let mut blocks = HashMap::new();
    let scan = &recovered.scan;
    if !scan.power_lost {
        return Ok(blocks);
    }
    let in_force = scan.barrier.data_seq + 1..scan.barrier_seq;
    scan::visit(&*recovered.disk, &recovered.uuid, scan, &mut |frame| {
        if frame.kind == Kind::Data
            && in_force.contains(&frame.seq)
            && frame.payload.len() == 8 + BLOCK as usize
        {
            let place = (u32_at(frame.payload, 0), u32_at(frame.payload, 4));
            blocks.insert(place, frame.payload[8..].to_vec());
        }
        Ok(())
    })?;
    Ok(blocks)
}

/// The first writes of a recovery: whatever the state refers to gets onto the medium, before a new
/// segment says so. Cut anywhere in here, the next recovery does the same again.
fn settle(disk: &dyn Disk, recovered: &Recovered) -> Result<(), OpenError> {
    let blocks = data_frames(recovered)?;
    let touched: HashSet<u32> = blocks.keys().map(|&(layer, _)| layer).collect();
    for &layer in &touched {
        let path = layers::data_path(layer);
        let file = disk.open(&path, OpenHow::Create).naming(&path)?;
        for ((_, block), bytes) in blocks.iter().filter(|((l, _), _)| *l == layer) {
            file.write_at(bytes, u64::from(*block) * BLOCK)
                .naming(&path)?;
        }
        file.sync_data().naming(&path)?;
    }
    if !touched.is_empty() {
        disk.sync_dir(Path::new(layers::DIR)).naming(layers::DIR)?;
    }
    if let Some(last) = recovered.scan.segments.last() {
        let path = segment::path(last.header.number);
        let file = disk.open(&path, OpenHow::Write).naming(&path)?;
        file.sync_data().naming(&path)?;
    }
    for dir in [segment::DIR, layers::DIR, images::DIR] {
        for name in disk.list(Path::new(dir)).naming(dir)? {
            if Path::new(&name).extension().is_some_and(|e| e == "tmp") {
                let path = Path::new(dir).join(name);
                disk.remove(&path).naming(&path)?;
            }
        }
    }
    layers::drop_archived_data(disk, &recovered.uuid).naming(layers::DIR)?;
    Ok(())
}

/// A store of an older format becomes one of ours before anything is written that an older program would not understand.
/// What older ones wrote means the same in ours.
fn renew_superblock(
    disk: &dyn Disk,
    superblock: &Superblock,
    reserve: &Reserve,
) -> Result<(), OpenError> {
    let written = match superblock.write(disk) {
        Err(error) if super::is_full(&error) => {
            reserve.release().naming(reserve::PATH)?;
            superblock.write(disk)
        }
        answer => answer,
    };
    match written {
        Err(error) if super::is_full(&error) => Err(OpenError::Full),
        answer => answer.naming(superblock::PATH),
    }
}

/// Every life of the store writes a segment of its own; making it is the commit of the recovery. Also whether the disk was full.
fn begin_segment(
    disk: &dyn Disk,
    recovered: &Recovered,
    boot: BootToken,
    options: &StoreOptions,
    reserve: &Reserve,
) -> Result<(SegmentHeader, Arc<dyn DiskFile>, bool), OpenError> {
    let scan = &recovered.scan;
    let last = scan.segments.last();
    let barrier = if scan.power_lost {
        // Data frames in force were written to their layers, which were synced.
        Barrier {
            covers: scan.limit,
            data_seq: scan.limit,
            durable: (0, 0),
        }
    } else {
        scan.barrier
    };
    // Without a segment to follow, the place of the one that was set aside is taken.
    let vacant = scan.damage.as_ref().map_or(1, |damage| damage.segment);
    let header = SegmentHeader {
        number: last.map_or(vacant, |s| s.header.number + 1),
        boot,
        first_seq: scan.limit + 1,
        previous_end: last.map_or(0, |s| s.end),
        barrier,
    };
    if options.read_only {
        let path = last.map(|s| segment::path(s.header.number));
        let path = path.unwrap_or_else(|| superblock::PATH.into());
        let file = disk.open(&path, OpenHow::Read).naming(&path)?;
        return Ok((header, file, false));
    }
    let path = segment::path(header.number);
    let mut full = false;
    let made = match header.create(disk, &recovered.uuid) {
        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
            full = true;
            reserve.release_for_start().naming(reserve::PATH)?;
            match header.create(disk, &recovered.uuid) {
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                    cut_tail(disk, recovered).naming(segment::DIR)?;
                    header.create(disk, &recovered.uuid)
                }
                answer => answer,
            }
        }
        answer => answer,
    };
    match made {
        Err(error) if error.kind() == io::ErrorKind::StorageFull => Err(OpenError::Full),
        answer => Ok((header, answer.naming(&path)?, full)),
    }
}

/// Gives back what lies behind the journal's end, zeros or a torn tail, when there is no other space for a new segment: the reserve may
/// have gone to lives before this one. The next recovery finds the same end.
fn cut_tail(disk: &dyn Disk, recovered: &Recovered) -> io::Result<()> {
    let scan = &recovered.scan;
    match scan.segments.last() {
        Some(last) if scan.damage.is_none() => {
            let path = segment::path(last.header.number);
            disk.open(&path, OpenHow::Write)?.set_len(last.end)
        }
        _ => Ok(()),
    }
}
