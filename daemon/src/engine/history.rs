//! The history of acts: appended after each, before its answer is sent, and never synced.
//!
//! It is good to know and needed by nothing, like the authors: a kill between an act and its line loses the line, a power
//! cut loses the last of them, damage ends what is read of one file, and failing to write it fails nobody.

use std::io;

use llctl::protocol::{Act, HistoryQuery};
use serde::{Deserialize, Serialize};

use super::Engine;
use crate::relay::Errand;
use crate::store::{NoteKind, framed, next_frame};

/// A file is not appended to beyond this many bytes.
const FILE_BYTES: u64 = 256 << 10;
/// Files in which an act is looked for that may have been written down just before a worker died.
const LAST_FILES: usize = 2;

/// Where the next line goes; one writes at a time.
#[derive(Default)]
pub(super) struct History {
    /// The file that this process appends to, and its length; it was seen whole.
    open: Option<(u32, u64)>,
}

impl Engine {
    /// Writes down an act.
    pub(super) fn note_act(&self, act: &Act) {
        if let Err(error) = self.append_act(act) {
            tracing::warn!(%error, "an act is missing from the history");
        }
    }

    /// Whether an errand was written down, by this worker or the one before it.
    pub(super) fn is_noted(&self, errand: Errand) -> io::Result<bool> {
        let files = self.store.notes(NoteKind::History)?;
        for file in files.into_iter().rev().take(LAST_FILES) {
            let bytes = self.store.read_note(NoteKind::History, file)?;
            let mut rest = &bytes[..];
            while let Some((body, behind)) = next_frame(rest) {
                if errand_of(body) == Some(errand) {
                    return Ok(true);
                }
                rest = behind;
            }
        }
        Ok(false)
    }

    fn append_act(&self, act: &Act) -> io::Result<()> {
        let body = with_errand(act, self.relay.errand()).map_err(io::Error::other)?;
        let bytes = framed(&body)?;
        let mut history = self.history.lock();
        let (file, len) = match history.open {
            Some((file, len)) if len < self.act_file_bytes() => (file, len),
            _ => self.next_file()?,
        };
        // What an error leaves of it is a torn tail.
        history.open = None;
        self.store.append_note(NoteKind::History, file, &bytes)?;
        history.open = Some((file, len + bytes.len() as u64));
        Ok(())
    }

    /// The file to go on in: the last one, if it is short and whole, else a new one. What is torn or damaged is left alone; of files, the
    /// oldest go.
    fn next_file(&self) -> io::Result<(u32, u64)> {
        let files = self.store.notes(NoteKind::History)?;
        let Some(last) = files.last().copied() else {
            return Ok((1, 0));
        };
        let bytes = self.store.read_note(NoteKind::History, last)?;
        let whole = read(&bytes, &mut |_| {});
        if whole == bytes.len() && (whole as u64) < self.act_file_bytes() {
            return Ok((last, whole as u64));
        }
        self.store.trim_notes(NoteKind::History)?;
        Ok((last + 1, 0))
    }

    /// Bytes beyond which a file is not appended to: of a small store, so few that the oldest acts can go and the newest stay.
    fn act_file_bytes(&self) -> u64 {
        FILE_BYTES.min(self.store.note_room(NoteKind::History) / 4)
    }

    /// The acts that are asked for, oldest first.
    ///
    /// # Errors
    /// What the disk says.
    pub(super) fn acts(&self, query: &HistoryQuery) -> io::Result<Vec<Act>> {
        let limit = query.limit.map_or(usize::MAX, |n| n as usize);
        let mut newest_first = Vec::new();
        for file in self.store.notes(NoteKind::History)?.into_iter().rev() {
            if newest_first.len() >= limit {
                break;
            }
            let bytes = match self.store.read_note(NoteKind::History, file) {
                // It went meanwhile.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                answer => answer?,
            };
            let mut acts = Vec::new();
            let whole = read(&bytes, &mut |act| {
                if query.selects(&act) {
                    acts.push(act);
                }
            });
            if whole < bytes.len() {
                tracing::debug!(
                    file,
                    bytes = bytes.len() - whole,
                    "the rest of a history is left out"
                );
            }
            acts.reverse();
            newest_first.append(&mut acts);
        }
        newest_first.truncate(limit);
        newest_first.reverse();
        Ok(newest_first)
    }
}

/// What is kept of an act or an event, and of which request it tells.
#[derive(Serialize)]
struct Kept<'a, T> {
    #[serde(flatten)]
    told: &'a T,
    errand: (u64, u64),
}

/// That part of it.
#[derive(Deserialize)]
struct Of {
    #[serde(default)]
    errand: Option<(u64, u64)>,
}

/// A map of named fields, with the errand as one more.
pub(super) fn with_errand<T: Serialize>(
    told: &T,
    errand: Option<Errand>,
) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    match errand {
        Some(Errand { client, number }) => {
            let errand = (client, number);
            rmp_serde::to_vec_named(&Kept { told, errand })
        }
        None => rmp_serde::to_vec_named(told),
    }
}

/// The errand of which such a map tells.
pub(super) fn errand_of(bytes: &[u8]) -> Option<Errand> {
    let (client, number) = rmp_serde::from_slice::<Of>(bytes).ok()?.errand?;
    Some(Errand { client, number })
}

/// Gives each act to `each`, up to the end or to what does not fit; how many bytes that were.
fn read(bytes: &[u8], each: &mut dyn FnMut(Act)) -> usize {
    let mut at = 0;
    while let Some((act, len)) = next(&bytes[at..]) {
        each(act);
        at += len;
    }
    at
}

fn next(bytes: &[u8]) -> Option<(Act, usize)> {
    let (body, rest) = next_frame(bytes)?;
    Some((rmp_serde::from_slice(body).ok()?, bytes.len() - rest.len()))
}
