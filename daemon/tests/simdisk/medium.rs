//! What a medium may hold after a power cut: every version of a sector, a length or a name that was
//! written since its last sync is possible, each independently of the others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub const SECTOR: usize = 512;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    Nothing,
    File(usize),
    Dir,
}

/// One step that a program took on the disk.
#[derive(Clone, Debug)]
pub enum Step {
    Write {
        file: usize,
        offset: u64,
        bytes: Vec<u8>,
    },
    SetLen {
        file: usize,
        len: u64,
    },
    Name {
        path: PathBuf,
        entry: Entry,
    },
    SyncFile(usize),
    SyncDir(PathBuf),
}

/// A file: what it reads as now, and what of it is not certain.
#[derive(Clone, Debug)]
struct File {
    now: Vec<u8>,
    /// Earlier versions of sectors, the oldest (the synced one) first.
    sectors: BTreeMap<usize, Vec<Vec<u8>>>,
    /// Earlier lengths, the synced one first.
    lens: Vec<usize>,
}

/// Whole disks: names and files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    pub names: BTreeMap<PathBuf, Entry>,
    pub files: BTreeMap<usize, Vec<u8>>,
}

impl Image {
    /// Files without a name go, unless `kept` says otherwise.
    pub fn forget_nameless(&mut self, kept: impl Fn(usize) -> bool) {
        let named: BTreeSet<usize> = (self.names.values())
            .filter_map(|entry| match entry {
                Entry::File(id) => Some(*id),
                _ => None,
            })
            .collect();
        self.files.retain(|id, _| named.contains(id) || kept(*id));
    }
}

/// The medium below a history of steps.
#[derive(Clone, Debug, Default)]
pub struct Medium {
    files: BTreeMap<usize, File>,
    names: BTreeMap<PathBuf, Vec<Entry>>,
}

impl Medium {
    /// A medium on which `image` is certain.
    pub fn new(image: &Image) -> Self {
        let file = |bytes: &Vec<u8>| File {
            now: bytes.clone(),
            sectors: BTreeMap::new(),
            lens: Vec::new(),
        };
        Self {
            files: image
                .files
                .iter()
                .map(|(&id, bytes)| (id, file(bytes)))
                .collect(),
            names: image
                .names
                .iter()
                .map(|(path, &e)| (path.clone(), vec![e]))
                .collect(),
        }
    }

    pub fn apply(&mut self, step: &Step) {
        match step {
            Step::Write {
                file,
                offset,
                bytes,
            } => self.file(*file).write(*offset as usize, bytes),
            Step::SetLen { file, len } => self.file(*file).set_len(*len as usize),
            Step::Name { path, entry } => {
                let versions = self
                    .names
                    .entry(path.clone())
                    .or_insert_with(|| vec![Entry::Nothing]);
                versions.push(*entry);
            }
            Step::SyncFile(file) => {
                let file = self.file(*file);
                file.sectors.clear();
                file.lens.clear();
            }
            Step::SyncDir(dir) => {
                for (path, versions) in &mut self.names {
                    if path.parent() == Some(dir) {
                        versions.drain(..versions.len() - 1);
                    }
                }
            }
        }
    }

    fn file(&mut self, id: usize) -> &mut File {
        self.files.entry(id).or_insert_with(|| File {
            now: Vec::new(),
            sectors: BTreeMap::new(),
            lens: Vec::new(),
        })
    }

    /// One thing that the medium may hold now. `choose(n)` picks one of `n` versions, 0 the synced
    /// one, n - 1 the latest; it is asked only where there is a choice.
    pub fn crash(&self, choose: &mut dyn FnMut(usize) -> usize) -> Image {
        let mut image = Image::default();
        for (path, versions) in &self.names {
            let entry = match versions.len() {
                1 => versions[0],
                n => versions[choose(n)],
            };
            if entry == Entry::Nothing || !parent_is_there(&image, path) {
                continue;
            }
            image.names.insert(path.clone(), entry);
            if let Entry::File(id) = entry
                && !image.files.contains_key(&id)
            {
                let bytes = self
                    .files
                    .get(&id)
                    .map_or_else(Vec::new, |file| file.crash(choose));
                image.files.insert(id, bytes);
            }
        }
        image
    }
}

/// Names are visited in order, directories before what is in them.
fn parent_is_there(image: &Image, path: &Path) -> bool {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => image.names.contains_key(parent),
        _ => true,
    }
}

impl File {
    fn remember(&mut self, sector: usize) {
        let mut bytes = vec![0; SECTOR];
        let from = (sector * SECTOR).min(self.now.len());
        let to = (from + SECTOR).min(self.now.len());
        bytes[..to - from].copy_from_slice(&self.now[from..to]);
        self.sectors.entry(sector).or_default().push(bytes);
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len();
        for sector in offset / SECTOR..end.div_ceil(SECTOR) {
            self.remember(sector);
        }
        if end > self.now.len() {
            self.lens.push(self.now.len());
            self.now.resize(end, 0);
        }
        self.now[offset..end].copy_from_slice(bytes);
    }

    fn set_len(&mut self, len: usize) {
        if len < self.now.len() {
            for sector in len / SECTOR..self.now.len().div_ceil(SECTOR) {
                self.remember(sector);
            }
        }
        self.lens.push(self.now.len());
        self.now.resize(len, 0);
    }

    fn crash(&self, choose: &mut dyn FnMut(usize) -> usize) -> Vec<u8> {
        let mut bytes = self.now.clone();
        if !self.lens.is_empty() {
            let pick = choose(self.lens.len() + 1);
            bytes.resize(*self.lens.get(pick).unwrap_or(&self.now.len()), 0);
        }
        for (sector, versions) in &self.sectors {
            let from = sector * SECTOR;
            if from >= bytes.len() {
                continue;
            }
            let to = (from + SECTOR).min(bytes.len());
            if let Some(version) = versions.get(choose(versions.len() + 1)) {
                bytes[from..to].copy_from_slice(&version[..to - from]);
            }
        }
        bytes
    }
}
