//! Notes: numbered files beside the journal with what is good to know and needed by nothing. They are never synced, no
//! mount looks at them, and losing one loses only what it says. Only the rules are synced, when they are trusted. Each kind has a
//! bound, so that whoever asks for much again and again fills no disk with them.

use std::io;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use super::Store;
use super::disk::OpenHow;
use super::journal::segment::number_of;

/// What notes are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteKind {
    /// Which programs changed what.
    Who,
    /// What was done to snapshots and the tree.
    History,
    /// Checksums of the base's files.
    Contents,
    /// Rules that the user has trusted.
    Rules,
}

/// Bytes that a history has at most, and one of a small store: by part of its limit.
const HISTORY_MAX: (u64, u64) = (4 << 20, 64);
const WHO_MAX: (u64, u64) = (64 << 20, 16);
const RULES_MAX: (u64, u64) = (16 << 20, 64);
/// Checksums of the base's files are as many as these.
const CONTENTS_MAX: (u64, u64) = (u64::MAX, 8);

impl NoteKind {
    /// All there are.
    pub(super) const ALL: [NoteKind; 4] = [
        NoteKind::Who,
        NoteKind::History,
        NoteKind::Contents,
        NoteKind::Rules,
    ];

    /// The directory of its files.
    pub(super) fn dir(self) -> &'static str {
        self.place().0
    }

    /// Directory, and how the names of its files end.
    fn place(self) -> (&'static str, &'static str) {
        match self {
            NoteKind::Who => ("notes", "who"),
            NoteKind::History => ("history", "acts"),
            NoteKind::Contents => ("contents", "sums"),
            NoteKind::Rules => ("rules", "toml"),
        }
    }

    fn path(self, number: u32) -> PathBuf {
        let (dir, end) = self.place();
        Path::new(dir).join(format!("{number:08}.{end}"))
    }
}

/// Length and checksum.
const HEADER: usize = 12;

/// A part of a note that is whole or not there: the body's length in 4 bytes, its XXH3-64 in 8, the body.
///
/// # Errors
/// It has 4 GiB or more.
pub fn framed(body: &[u8]) -> io::Result<Vec<u8>> {
    let len = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend(len.to_le_bytes());
    bytes.extend(xxh3_64(body).to_le_bytes());
    bytes.extend(body);
    Ok(bytes)
}

/// The body of the first frame, and what is behind it; `None` at the end, and where it is torn or damaged.
pub fn next_frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let sum = u64::from_le_bytes(bytes.get(4..HEADER)?.try_into().ok()?);
    let end = HEADER.checked_add(len)?;
    let body = bytes.get(HEADER..end)?;
    (xxh3_64(body) == sum).then(|| (body, &bytes[end..]))
}

impl Store {
    /// The numbers of the notes there are, ascending.
    ///
    /// # Errors
    /// What the disk says.
    pub fn notes(&self, kind: NoteKind) -> io::Result<Vec<u32>> {
        let (dir, end) = kind.place();
        let names = match self.disk.list(Path::new(dir)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            answer => answer?,
        };
        let mut numbers: Vec<u32> = names.iter().filter_map(|n| number_of(n, end)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Appends to a note, which is made if there is none.
    ///
    /// # Errors
    /// What the disk says; any part of the bytes may have been written.
    pub fn append_note(&self, kind: NoteKind, number: u32, bytes: &[u8]) -> io::Result<()> {
        self.health.check()?;
        self.disk.create_dir(Path::new(kind.place().0))?;
        let file = self.disk.open(&kind.path(number), OpenHow::Create)?;
        file.write_at(bytes, file.len()?)
    }

    /// Makes a note durable.
    ///
    /// # Errors
    /// What the disk says.
    pub fn sync_note(&self, kind: NoteKind, number: u32) -> io::Result<()> {
        self.disk
            .open(&kind.path(number), OpenHow::Write)?
            .sync_data()?;
        self.disk.sync_dir(Path::new(kind.place().0))?;
        self.disk.sync_dir(Path::new(""))
    }

    /// Bytes of a note.
    ///
    /// # Errors
    /// `NotFound`, or what the disk says.
    pub fn note_bytes(&self, kind: NoteKind, number: u32) -> io::Result<u64> {
        self.disk.open(&kind.path(number), OpenHow::Read)?.len()
    }

    /// All of a note.
    ///
    /// # Errors
    /// `NotFound`, or what the disk says.
    pub fn read_note(&self, kind: NoteKind, number: u32) -> io::Result<Vec<u8>> {
        let file = self.disk.open(&kind.path(number), OpenHow::Read)?;
        let mut bytes = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
        let read = file.read_at(&mut bytes, 0)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Bytes that all notes of a kind may take together. They are needed by nothing, so they are a small part of what a
    /// limited store may take.
    pub fn note_room(&self, kind: NoteKind) -> u64 {
        let (most, part) = match kind {
            NoteKind::Who => WHO_MAX,
            NoteKind::History => HISTORY_MAX,
            NoteKind::Contents => CONTENTS_MAX,
            NoteKind::Rules => RULES_MAX,
        };
        let limit = self.quota.as_ref().map(|quota| quota.usage().0);
        limit.map_or(most, |limit| most.min(limit / part))
    }

    /// Bytes that all notes of a kind take together.
    ///
    /// # Errors
    /// What the disk says.
    pub fn notes_bytes(&self, kind: NoteKind) -> io::Result<u64> {
        let mut bytes = 0;
        for number in self.notes(kind)? {
            bytes += self.bytes_or_none(kind, number)?;
        }
        Ok(bytes)
    }

    /// Removes the oldest notes until the others take no more than they may; the newest stays. Which ones went.
    ///
    /// # Errors
    /// What the disk says.
    pub fn trim_notes(&self, kind: NoteKind) -> io::Result<Vec<u32>> {
        let numbers = self.notes(kind)?;
        let room = self.note_room(kind);
        let mut bytes = 0_u64;
        let mut kept = 0;
        for number in numbers.iter().rev() {
            bytes = bytes.saturating_add(self.bytes_or_none(kind, *number)?);
            if bytes > room && kept > 0 {
                break;
            }
            kept += 1;
        }
        let gone = &numbers[..numbers.len() - kept];
        for number in gone {
            self.remove_note(kind, *number)?;
        }
        Ok(gone.to_vec())
    }

    /// Bytes of a note that may be gone.
    fn bytes_or_none(&self, kind: NoteKind, number: u32) -> io::Result<u64> {
        match self.note_bytes(kind, number) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
            answer => answer,
        }
    }

    /// Removes a note.
    ///
    /// # Errors
    /// What the disk says.
    pub fn remove_note(&self, kind: NoteKind, number: u32) -> io::Result<()> {
        self.health.check()?;
        match self.disk.remove(&kind.path(number)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            answer => answer,
        }
    }
}
