//! A disk in memory that remembers every step, for cutting its power; it can be full, and can fail.

#![allow(dead_code, reason = "each test uses its part")]

pub mod choices;
pub mod history;
pub mod medium;

use llfs::store::{Disk, DiskFile, OpenHow};
pub use medium::{Entry, Image, Medium, Step};
use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, ThreadId};

/// Bytes of a barrier's frame, see docs/FORMAT.md.
const BARRIER: usize = 56;

const ENOENT: i32 = 2;
const EIO: i32 = 5;
const EBADF: i32 = 9;
const EWOULDBLOCK: i32 = 11;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;

/// Something that happens in the middle of something else.
type Meanwhile = Box<dyn FnOnce() + Send>;

/// What another thread does just before a sync.
type Between<T = Syncing> = Box<dyn FnMut(T) + Send>;

/// What is about to be synced, which tells what of the store is held: whoever does something in the middle of it on the same
/// thread would wait for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syncing {
    /// A layer, the names of layers, or a barrier of the journal: a flush runs.
    Flush,
    /// An image, its name, or a list of checksums that goes with it.
    Image,
    /// The checksums of a layer.
    Sums,
    /// An archived layer.
    Pack,
    /// A segment that is left or begun, while the journal is held, or something of a start.
    Held,
}

#[derive(Default)]
struct State {
    image: Image,
    next_file: usize,
    steps: Vec<Step>,
    /// Bytes that all files together may have.
    capacity: Option<u64>,
    /// Writes (or syncs) still to succeed before one fails with `EIO`.
    fail_write: Option<u64>,
    fail_sync: Option<u64>,
    /// The same for what gives space back: files that are deleted, and ranges of them; and with what it fails.
    fail_giving: Option<(u64, i32)>,
    /// The medium finds out that it could not write what it had in memory.
    fail_drop: bool,
    /// How often it found that out, by file, and of how many of these anybody was told. It tells each descriptor once; one that
    /// is opened later is told what nobody was told.
    lost: HashMap<usize, (u64, u64)>,
    /// Every write fails.
    refuse_writes: bool,
    /// No file can be opened (the process has too many).
    refuse_opens: bool,
    /// What another thread does just before the next sync of a file.
    meanwhile: Option<Meanwhile>,
    /// What is done when a file was made, when a write has found no space, and when a drop was told of a loss, each before
    /// whoever did that goes on.
    once_made: Option<Meanwhile>,
    /// The same when a file was opened, whichever.
    once_opened: Option<Meanwhile>,
    when_full: Option<Between<()>>,
    once_told: Option<Meanwhile>,
    /// What is done just before each sync of this thread.
    between: Option<(ThreadId, Between)>,
    locked: bool,
    /// How many have a file open: as long as somebody does, its bytes stay, with or without a name.
    open: HashMap<usize, usize>,
}

/// A handle to the disk; clones share it.
#[derive(Clone, Default)]
pub struct SimDisk(Arc<Mutex<State>>);

impl SimDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// A disk as it comes up after a cut.
    pub fn from_image(image: Image) -> Self {
        let next_file = image.files.keys().max().map_or(0, |id| id + 1);
        Self(Arc::new(Mutex::new(State {
            image,
            next_file,
            ..State::default()
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics with the lock held")
    }

    /// How many steps were taken.
    pub fn now(&self) -> usize {
        self.state().steps.len()
    }

    pub fn steps(&self) -> Vec<Step> {
        self.state().steps.clone()
    }

    /// What the running system sees.
    pub fn image(&self) -> Image {
        let mut image = self.state().image.clone();
        image.forget_nameless(|_| false);
        image
    }

    /// How many files take space without a name, since somebody has them open.
    pub fn nameless(&self) -> usize {
        let named = self.image().files.len();
        self.state().image.files.len() - named
    }

    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    pub fn used(&self) -> u64 {
        self.state().used()
    }

    /// The write after `count` more fails, after half of it was done.
    pub fn fail_write_after(&self, count: Option<u64>) {
        self.state().fail_write = count;
    }

    /// The deletion of a file, or of a range of one, after `count` more fails with `errno`.
    pub fn fail_giving_after(&self, failing: Option<(u64, i32)>) {
        self.state().fail_giving = failing;
    }

    /// Whether a failure that was asked for is still to come.
    pub fn is_failing(&self) -> bool {
        let state = self.state();
        state.fail_write.is_some() || state.fail_sync.is_some() || state.fail_giving.is_some()
    }

    /// Every write fails, or none.
    pub fn refuse_writes(&self, refuse: bool) {
        self.state().refuse_writes = refuse;
    }

    /// What is to leave the cache turns out not to be on the medium.
    pub fn fail_drop(&self) {
        self.state().fail_drop = true;
    }

    /// The medium loses what it had in memory of a file. It tells each descriptor once, when it is asked.
    pub fn lose(&self, path: &str) {
        let mut state = self.state();
        let Some(&Entry::File(id)) = state.image.names.get(Path::new(path)) else {
            panic!("no file {path}");
        };
        state.lost.entry(id).or_default().0 += 1;
    }

    /// When the next file was made another thread does this, before who made it goes on.
    pub fn once_made(&self, act: impl FnOnce() + Send + 'static) {
        self.state().once_made = Some(Box::new(act));
    }

    /// When the next file was opened another thread does this, before who opened it goes on.
    pub fn once_opened(&self, act: impl FnOnce() + Send + 'static) {
        self.state().once_opened = Some(Box::new(act));
    }

    /// When a write finds no space another thread does this, before who writes goes on.
    pub fn when_full(&self, mut act: impl FnMut() + Send + 'static) {
        self.state().when_full = Some(Box::new(move |()| act()));
    }

    /// When a drop was told of a loss another thread does this, before who drops goes on.
    pub fn once_told(&self, act: impl FnOnce() + Send + 'static) {
        self.state().once_told = Some(Box::new(act));
    }

    /// No file can be opened, or any.
    pub fn refuse_opens(&self, refuse: bool) {
        self.state().refuse_opens = refuse;
    }

    /// Just before the next sync of a file another thread does this.
    pub fn meanwhile(&self, act: impl FnOnce() + Send + 'static) {
        self.state().meanwhile = Some(Box::new(act));
    }

    /// Just before each sync of the calling thread another thread does this; not before those that it makes itself.
    pub fn between(&self, act: impl FnMut(Syncing) + Send + 'static) {
        self.state().between = Some((thread::current().id(), Box::new(act)));
    }

    /// Nothing is done before syncs any more.
    pub fn undisturbed(&self) {
        self.state().between = None;
    }

    fn disturb(&self, syncing: impl FnOnce(&State) -> Syncing) {
        let mut state = self.state();
        let mine = |(of, _): &mut (ThreadId, Between)| *of == thread::current().id();
        let Some((of, mut act)) = state.between.take_if(mine) else {
            return;
        };
        let syncing = syncing(&state);
        drop(state);
        act(syncing);
        self.state().between = Some((of, act));
    }

    /// The sync after `count` more fails.
    pub fn fail_sync_after(&self, count: Option<u64>) {
        self.state().fail_sync = count;
    }

    /// A file's bytes, changed behind the store's back.
    pub fn tamper(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let Some(&Entry::File(id)) = state.image.names.get(Path::new(path)) else {
            panic!("no file {path}");
        };
        change(state.image.files.get_mut(&id).expect("a file has bytes"));
    }

    pub fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        let state = self.state();
        match state.image.names.get(Path::new(path)) {
            Some(Entry::File(id)) => state.image.files.get(id).cloned(),
            _ => None,
        }
    }
}

impl State {
    fn syncing_file(&self, file: usize) -> Syncing {
        let is_it = |entry: &Entry| *entry == Entry::File(file);
        let mut names = self.image.names.iter();
        let Some((path, _)) = names.find(|(_, entry)| is_it(entry)) else {
            return Syncing::Held;
        };
        let ends = |end: &str| {
            path.as_os_str()
                .as_encoded_bytes()
                .ends_with(end.as_bytes())
        };
        match path.parent().and_then(Path::to_str) {
            Some("images") => Syncing::Image,
            Some("layers") if ends(".data") => Syncing::Flush,
            Some("layers") if ends("summed.tmp") => Syncing::Image,
            Some("layers") if ends(".pack.tmp") => Syncing::Pack,
            Some("layers") => Syncing::Sums,
            Some("journal") if self.ends_with_barrier(file) => Syncing::Flush,
            _ => Syncing::Held,
        }
    }

    /// Whether a barrier was written to a segment, and nothing since: who does that syncs it without holding the journal.
    fn ends_with_barrier(&self, file: usize) -> bool {
        let of_file = |step: &&Step| match step {
            Step::Write { file: of, .. } | Step::SetLen { file: of, .. } | Step::SyncFile(of) => {
                *of == file
            }
            _ => false,
        };
        let Some(Step::Write { bytes, .. }) = self.steps.iter().rev().find(of_file) else {
            return false;
        };
        let frame = bytes.len().checked_sub(BARRIER);
        frame.is_some_and(|at| bytes[at + 8..].starts_with(b"LjF\x03"))
    }

    /// Fails if what gives space back is to.
    fn giving(&mut self) -> io::Result<()> {
        let Some((left, errno)) = self.fail_giving else {
            return Ok(());
        };
        let mut count = Some(left);
        let failed = fails(&mut count);
        self.fail_giving = count.map(|left| (left, errno));
        if failed { Err(os(errno)) } else { Ok(()) }
    }

    fn forget_nameless(&mut self) {
        let open = &self.open;
        self.image.forget_nameless(|id| open.contains_key(&id));
    }

    fn used(&self) -> u64 {
        self.image
            .files
            .values()
            .map(|bytes| bytes.len() as u64)
            .sum()
    }

    fn name(&mut self, path: &Path, entry: Entry) {
        let path = path.to_owned();
        match entry {
            Entry::Nothing => self.image.names.remove(&path),
            _ => self.image.names.insert(path.clone(), entry),
        };
        self.steps.push(Step::Name { path, entry });
    }

    fn set_len(&mut self, file: usize, len: u64) -> io::Result<()> {
        let old = self
            .image
            .files
            .get(&file)
            .map_or(0, |bytes| bytes.len() as u64);
        if let Some(capacity) = self.capacity
            && self.used() + len.saturating_sub(old) > capacity
            && len > old
        {
            return Err(os(ENOSPC));
        }
        self.image
            .files
            .entry(file)
            .or_default()
            .resize(len as usize, 0);
        self.steps.push(Step::SetLen { file, len });
        Ok(())
    }

    fn write(&mut self, file: usize, bytes: &[u8], offset: u64) {
        let now = self.image.files.entry(file).or_default();
        let end = offset as usize + bytes.len();
        if now.len() < end {
            now.resize(end, 0);
        }
        now[offset as usize..end].copy_from_slice(bytes);
        self.steps.push(Step::Write {
            file,
            offset,
            bytes: bytes.to_vec(),
        });
    }
}

/// Counts down to the failure that was asked for.
fn fails(left: &mut Option<u64>) -> bool {
    match left {
        Some(0) => {
            *left = None;
            true
        }
        Some(n) => {
            *n -= 1;
            false
        }
        None => false,
    }
}

fn os(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

struct SimFile {
    disk: SimDisk,
    id: usize,
    /// Losses that this descriptor was told of, or that were before it.
    told: AtomicU64,
    writable: bool,
    unlock: bool,
}

impl SimFile {
    /// Whether there was a loss of which this descriptor was not told; it is now.
    fn is_told(&self, state: &mut State) -> bool {
        let Some((losses, told)) = state.lost.get_mut(&self.id) else {
            return false;
        };
        *told = *losses;
        self.told.swap(*losses, Ordering::AcqRel) < *losses
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        state.locked &= !self.unlock;
        let open = state.open.entry(self.id).or_default();
        *open -= 1;
        if *open == 0 {
            state.open.remove(&self.id);
            state.forget_nameless();
        }
    }
}

impl SimDisk {
    fn open_id(&self, path: &Path, how: OpenHow) -> io::Result<usize> {
        let mut state = self.state();
        if state.refuse_opens {
            return Err(os(EMFILE));
        }
        let found = state.image.names.get(path).copied();
        let opened = match (found, how) {
            (Some(Entry::File(id)), OpenHow::Replace) => state.set_len(id, 0).map(|()| id),
            (Some(Entry::File(id)), _) => Ok(id),
            (None, OpenHow::Create | OpenHow::Replace) => {
                let id = state.next_file;
                state.next_file += 1;
                state.image.files.insert(id, Vec::new());
                state.name(path, Entry::File(id));
                Ok(id)
            }
            _ => Err(os(ENOENT)),
        };
        if let Ok(id) = opened {
            *state.open.entry(id).or_default() += 1;
        }
        opened
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, how: OpenHow) -> io::Result<Arc<dyn DiskFile>> {
        let id = self.open_id(path, how)?;
        let made = self.state().once_made.take_if(|_| how == OpenHow::Create);
        let opened = self.state().once_opened.take();
        for act in made.into_iter().chain(opened) {
            act();
        }
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            id,
            told: AtomicU64::new(self.state().lost.get(&id).map_or(0, |(_, told)| *told)),
            writable: how != OpenHow::Read,
            unlock: false,
        }))
    }

    fn lock(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let id = self.open_id(path, OpenHow::Create)?;
        let mut state = self.state();
        let unlock = !std::mem::replace(&mut state.locked, true);
        drop(state);
        let file = SimFile {
            disk: self.clone(),
            id,
            told: AtomicU64::new(0),
            writable: true,
            unlock,
        };
        match unlock {
            true => Ok(Arc::new(file)),
            false => Err(os(EWOULDBLOCK)),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let entry = *state.image.names.get(from).ok_or_else(|| os(ENOENT))?;
        state.name(to, entry);
        state.name(from, Entry::Nothing);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !state.image.names.contains_key(path) {
            return Err(os(ENOENT));
        }
        state.giving()?;
        state.name(path, Entry::Nothing);
        state.forget_nameless();
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let state = self.state();
        let root = dir.as_os_str().is_empty();
        if !root && state.image.names.get(dir) != Some(&Entry::Dir) {
            return Err(os(ENOENT));
        }
        let names = state
            .image
            .names
            .keys()
            .filter(|path| path.parent() == Some(dir));
        Ok(names
            .filter_map(|path| path.file_name())
            .map(ToOwned::to_owned)
            .collect())
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        if state.image.names.get(dir) != Some(&Entry::Dir) {
            state.name(dir, Entry::Dir);
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disturb(|_| match dir.to_str() {
            Some("layers") => Syncing::Flush,
            Some("images") => Syncing::Image,
            _ => Syncing::Held,
        });
        let mut state = self.state();
        if fails(&mut state.fail_sync) {
            return Err(os(EIO));
        }
        let dir: PathBuf = dir.to_owned();
        state.steps.push(Step::SyncDir(dir));
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.state();
        Ok(state
            .capacity
            .map_or(1 << 40, |c| c.saturating_sub(state.used())))
    }

    fn medium(&self) -> io::Result<u64> {
        Ok(1)
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.state();
        let empty = Vec::new();
        let bytes = state.image.files.get(&self.id).unwrap_or(&empty);
        let from = (offset as usize).min(bytes.len());
        let count = buf.len().min(bytes.len() - from);
        buf[..count].copy_from_slice(&bytes[from..from + count]);
        Ok(count)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        if !self.writable {
            return Err(os(EBADF));
        }
        if state.refuse_writes || fails(&mut state.fail_write) {
            state.write(self.id, &data[..data.len() / 2], offset);
            return Err(os(EIO));
        }
        let len = state
            .image
            .files
            .get(&self.id)
            .map_or(0, |b| b.len() as u64);
        let more = (offset + data.len() as u64).saturating_sub(len);
        if let Some(capacity) = state.capacity
            && state.used() + more > capacity
            && more > 0
        {
            // As much as fits is written, as the system does.
            let room = capacity.saturating_sub(state.used()) + len;
            let part = room.saturating_sub(offset).min(data.len() as u64) as usize;
            state.write(self.id, &data[..part], offset);
            if let Some(mut act) = state.when_full.take() {
                drop(state);
                act(());
                self.disk.state().when_full = Some(act);
            }
            return Err(os(ENOSPC));
        }
        state.write(self.id, data, offset);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let meanwhile = self.disk.state().meanwhile.take();
        if let Some(act) = meanwhile {
            act();
        }
        self.disk.disturb(|state| state.syncing_file(self.id));
        let mut state = self.disk.state();
        if fails(&mut state.fail_sync) || self.is_told(&mut state) {
            return Err(os(EIO));
        }
        state.steps.push(Step::SyncFile(self.id));
        Ok(())
    }

    fn told_written(&self, _: u64, _: u64) -> io::Result<()> {
        match self.is_told(&mut self.disk.state()) {
            true => Err(os(EIO)),
            false => Ok(()),
        }
    }

    fn drop_cached(&self, _: u64, _: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        if !state.fail_drop && !self.is_told(&mut state) {
            return Ok(());
        }
        let act = state.once_told.take();
        drop(state);
        if let Some(act) = act {
            act();
        }
        Err(os(EIO))
    }

    fn len(&self) -> io::Result<u64> {
        let state = self.disk.state();
        Ok(state
            .image
            .files
            .get(&self.id)
            .map_or(0, |b| b.len() as u64))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.state().set_len(self.id, len)
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.giving()?;
        let end = state
            .image
            .files
            .get(&self.id)
            .map_or(0, |b| b.len() as u64);
        let from = offset.min(end);
        let count = (offset + len).min(end) - from;
        state.write(self.id, &vec![0; count as usize], from);
        Ok(())
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let now = state
            .image
            .files
            .get(&self.id)
            .map_or(0, |b| b.len() as u64);
        state.set_len(self.id, now.max(offset + len))
    }

    fn disk_bytes(&self) -> io::Result<u64> {
        self.len()
    }
}
