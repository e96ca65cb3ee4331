//! Checksums of the base's files, kept beside the journal so that the next mount need not read them again.

use std::collections::HashMap;
use std::io;

use serde::{Deserialize, Serialize};

use super::NOTED;
use super::content::{Fingerprint, Hash};
use crate::store::{NoteKind, Store, framed, next_frame};
use crate::tree::{Ino, StateId};

/// A file is not appended to beyond this many bytes.
const FILE_BYTES: u64 = 4 << 20;

/// All that is known.
#[derive(Default)]
pub(super) struct Known {
    /// Files of the base.
    pub files: HashMap<Ino, Base>,
    /// Which base the recorded checksum of a snapshot goes back to, in short.
    pub states: HashMap<StateId, u64>,
    /// How many files were written down, over and over too.
    pub lines: usize,
}

/// A file of the base.
pub(super) struct Base {
    pub print: Fingerprint,
    pub hash: Hash,
    /// It was met since.
    pub seen: bool,
}

#[derive(Serialize, Deserialize)]
struct Batch(Vec<Line>, Vec<(StateId, u64)>);

#[derive(Serialize, Deserialize)]
struct Line(Ino, Fingerprint, #[serde(with = "serde_bytes")] Hash);

/// Appends what was found. Nothing is lost if that fails but the time of reading it again.
///
/// # Errors
/// What the disk says.
pub(super) fn append(
    store: &Store,
    files: &[(Ino, Fingerprint, Hash)],
    states: &[(StateId, u64)],
) -> io::Result<()> {
    let lines = files.iter().map(|(i, f, h)| Line(*i, *f, *h)).collect();
    let body = rmp_serde::to_vec(&Batch(lines, states.to_vec())).map_err(io::Error::other)?;
    let bytes = framed(&body)?;
    let room = store.note_room(NoteKind::Contents);
    if room < u64::MAX && store.notes_bytes(NoteKind::Contents)? + bytes.len() as u64 > room {
        return Err(io::ErrorKind::StorageFull.into());
    }
    let last = store.notes(NoteKind::Contents)?.last().copied();
    let last = last.unwrap_or(0);
    let file = match store.note_bytes(NoteKind::Contents, last) {
        Ok(len) if len < FILE_BYTES => last,
        _ => last + 1,
    };
    store.append_note(NoteKind::Contents, file, &bytes)
}

/// All that can be read.
///
/// # Errors
/// What the disk says.
pub(super) fn read(store: &Store) -> io::Result<Known> {
    let mut all = Known::default();
    for file in store.notes(NoteKind::Contents)? {
        let bytes = store.read_note(NoteKind::Contents, file)?;
        let mut rest = &bytes[..];
        while let Some((Batch(lines, states), after)) = next(rest) {
            all.lines += lines.len();
            all.states.extend(states);
            for Line(ino, print, hash) in lines {
                let seen = false;
                all.files.insert(ino, Base { print, hash, seen });
            }
            rest = after;
        }
    }
    Ok(all)
}

/// Writes down anew what still says something: of files that are there, and of states that are.
///
/// # Errors
/// What the disk says; then all of it may be gone, which costs the time of reading the base again.
pub(super) fn replace(
    store: &Store,
    files: &[(Ino, Fingerprint, Hash)],
    states: &[(StateId, u64)],
) -> io::Result<()> {
    clear(store)?;
    append(store, &[], states)?;
    (files.chunks(NOTED)).try_for_each(|some| append(store, some, &[]))
}

/// Lets go of what it says of states that are no more.
///
/// # Errors
/// As for [`replace`].
pub(super) fn forget_states(store: &Store, gone: &dyn Fn(StateId) -> bool) -> io::Result<()> {
    let known = read(store)?;
    let files = known.files.iter();
    let files: Vec<_> = files.map(|(i, b)| (*i, b.print, b.hash)).collect();
    let states = known.states.into_iter().filter(|(id, _)| !gone(*id));
    replace(store, &files, &states.collect::<Vec<_>>())
}

/// Forgets all of it.
///
/// # Errors
/// What the disk says.
fn clear(store: &Store) -> io::Result<()> {
    let files = store.notes(NoteKind::Contents)?;
    (files.into_iter()).try_for_each(|file| store.remove_note(NoteKind::Contents, file))
}

fn next(bytes: &[u8]) -> Option<(Batch, &[u8])> {
    let (body, rest) = next_frame(bytes)?;
    Some((rmp_serde::from_slice(body).ok()?, rest))
}
