//! The authors on disk: batches in numbered notes of the store, each complete in itself.
//!
//! A batch is its length and its checksum, then [`Batch`] as MessagePack. What does not fit its checksum ends its note:
//! a batch that was being appended, or damage.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use serde::{Deserialize, Serialize};

use super::process::Process;
use crate::store::{NoteKind, Store, framed, next_frame};
use crate::tree::{Ino, StateId, Time};

/// A note is not appended to beyond this many bytes.
const NOTE_BYTES: u64 = 256 << 10;

/// Somebody did something to an inode for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::engine) struct Entry {
    /// Which process, by its place in the batch.
    pub process: u32,
    pub ino: Ino,
    /// See [`super::Did`].
    pub did: u8,
    pub at: Time,
}

/// What was new at one time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::engine) struct Batch {
    /// The state that it led to.
    pub state: StateId,
    pub processes: Vec<Process>,
    pub entries: Vec<Entry>,
}

/// Which states' batches are in which note, once it was looked at.
#[derive(Default)]
pub(super) struct Notes {
    states: Option<BTreeMap<u32, BTreeSet<StateId>>>,
}

impl Notes {
    /// Appends batches.
    ///
    /// # Errors
    /// What the disk says; some of them may have been written.
    pub fn append(&mut self, store: &Store, batches: &[Batch]) -> io::Result<()> {
        let (note, begun) = append(store, batches)?;
        if let Some(states) = &mut self.states {
            let of = states.entry(note).or_default();
            of.extend(batches.iter().map(|batch| batch.state));
        }
        if begun {
            for gone in store.trim_notes(NoteKind::Who)? {
                self.forget(gone);
            }
        }
        Ok(())
    }

    /// Removes the notes that say nothing of any of these states.
    ///
    /// # Errors
    /// What the disk says.
    pub fn tidy(&mut self, store: &Store, alive: &BTreeSet<StateId>) -> io::Result<()> {
        let dead = self.known(store)?.iter();
        let dead = dead.filter(|(_, states)| states.is_disjoint(alive));
        let dead: Vec<u32> = dead.map(|(note, _)| *note).collect();
        dead.into_iter().try_for_each(|n| self.remove(store, n))
    }

    /// Which states' batches are in which note.
    fn known(&mut self, store: &Store) -> io::Result<&BTreeMap<u32, BTreeSet<StateId>>> {
        if self.states.is_none() {
            let mut found: BTreeMap<u32, BTreeSet<StateId>> = store
                .notes(NoteKind::Who)?
                .into_iter()
                .map(|n| (n, BTreeSet::new()))
                .collect();
            read(store, &mut |note, batch| {
                found.entry(note).or_default().insert(batch.state);
            })?;
            self.states = Some(found);
        }
        Ok(self.states.get_or_insert_default())
    }

    fn remove(&mut self, store: &Store, note: u32) -> io::Result<()> {
        store.remove_note(NoteKind::Who, note)?;
        self.forget(note);
        Ok(())
    }

    /// A note is gone.
    fn forget(&mut self, note: u32) {
        if let Some(states) = &mut self.states {
            states.remove(&note);
        }
    }
}

/// Appends batches to the last note, or to a new one; which one, and whether it is new.
fn append(store: &Store, batches: &[Batch]) -> io::Result<(u32, bool)> {
    let mut bytes = Vec::new();
    for batch in batches {
        let body = rmp_serde::to_vec(batch).map_err(io::Error::other)?;
        bytes.extend(framed(&body)?);
    }
    let last = store.notes(NoteKind::Who)?.last().copied().unwrap_or(0);
    let full = NOTE_BYTES.min(store.note_room(NoteKind::Who) / 4);
    let note = match store.note_bytes(NoteKind::Who, last) {
        Ok(len) if len < full => last,
        _ => last + 1,
    };
    store.append_note(NoteKind::Who, note, &bytes)?;
    Ok((note, note != last))
}

/// Gives every batch that can be read to `each`, with the number of its note, in the order in which they were written.
///
/// # Errors
/// What the disk says.
pub(super) fn read(store: &Store, each: &mut dyn FnMut(u32, Batch)) -> io::Result<()> {
    for note in store.notes(NoteKind::Who)? {
        let bytes = match store.read_note(NoteKind::Who, note) {
            // It went meanwhile.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            answer => answer?,
        };
        let mut rest = &bytes[..];
        while let Some((batch, after)) = next(rest) {
            each(note, batch);
            rest = after;
        }
        if !rest.is_empty() {
            tracing::debug!(note, bytes = rest.len(), "the rest of a note is left out");
        }
    }
    Ok(())
}

fn next(bytes: &[u8]) -> Option<(Batch, &[u8])> {
    let (body, rest) = next_frame(bytes)?;
    let batch: Batch = rmp_serde::from_slice(body).ok()?;
    let known = batch.processes.len();
    let whole = batch.entries.iter().all(|e| (e.process as usize) < known);
    whole.then_some((batch, rest))
}
