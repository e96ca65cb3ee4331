//! The rules that the user has trusted: texts of `llfs.toml`, kept in the store, of which the last one is in force.
//!
//! The file in the tree is not obeyed: any program in the mount may write it (docs/SECURITY.md). A text that is torn or
//! damaged is passed over, and the one before it is in force.

use std::io;
use std::sync::Arc;

use llctl::config::Config;
use llctl::protocol::UnixNanos;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::Engine;
use crate::store::NoteKind;

/// Texts that are kept: what is older than the rules in force is good to know only.
const TEXTS_MAX: usize = 256;
/// The checksum.
const HEADER: usize = 8;

/// What is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct InForce {
    pub config: Config,
    /// None: nothing was trusted, or the defaults were.
    pub trusted: Option<Trusted>,
    /// What was trusted could not be read, and these are the defaults: nothing that cannot be taken back is to be done by them.
    pub unread: bool,
}

/// A text that the user trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Trusted {
    pub at: UnixNanos,
    pub text: String,
    /// What a snapshot says of it.
    #[serde(skip)]
    pub hash: String,
}

/// The hash of a text, in hex.
fn hash(text: &str) -> String {
    format!("{:032x}", xxh3_128(text.as_bytes()))
}

/// What is in force, once it was looked for; while it cannot be read it is looked for each time.
#[derive(Default)]
pub(super) struct Rules(Mutex<Option<Arc<InForce>>>);

impl Engine {
    /// What is in force.
    pub(super) fn rules(&self) -> Arc<InForce> {
        let mut rules = self.rules.0.lock();
        if let Some(known) = rules.as_ref().filter(|known| !known.unread) {
            return known.clone();
        }
        let found = self.last_trusted().unwrap_or_else(|error| {
            if rules.is_none() {
                tracing::error!(%error, "the rules that were trusted cannot be read: until they can, the defaults are in force, and retention rests");
            }
            InForce { unread: true, ..InForce::default() }
        });
        match &*rules {
            // The same as before, for who looks whether they are others.
            Some(known) if found.unread => known.clone(),
            _ => rules.insert(Arc::new(found)).clone(),
        }
    }

    /// Puts a text in force, durably; it must have been parsed. The empty one stands for the defaults.
    ///
    /// # Errors
    /// What the disk says; then what was in force still is.
    pub(super) fn trust(&self, text: &str, config: Config) -> io::Result<()> {
        let mut rules = self.rules.0.lock();
        let at = UnixNanos::now();
        let text = text.to_owned();
        let hash = hash(&text);
        let trusted = Trusted { at, text, hash };
        let body = rmp_serde::to_vec_named(&trusted).map_err(io::Error::other)?;
        let mut bytes = xxh3_64(&body).to_le_bytes().to_vec();
        bytes.extend(body);
        let numbers = self.store.notes(NoteKind::Rules)?;
        let number = numbers.last().map_or(1, |last| last + 1);
        let written = (self.store.append_note(NoteKind::Rules, number, &bytes))
            .and_then(|()| self.store.sync_note(NoteKind::Rules, number));
        if let Err(error) = written {
            // The next mount must not find what was said to have failed.
            if let Err(error) = self.store.remove_note(NoteKind::Rules, number) {
                tracing::warn!(%error, number, "rules that could not be kept are still there");
            }
            return Err(error);
        }
        // It is in force from here on, for the next mount too, whatever becomes of older ones.
        if let Err(error) = self.forget_texts(&numbers) {
            tracing::warn!(%error, "old rules are still there");
        }
        let trusted = Some(trusted).filter(|trusted| !trusted.text.is_empty());
        *rules = Some(Arc::new(InForce {
            config,
            trusted,
            unread: false,
        }));
        Ok(())
    }

    /// Removes the oldest of these texts, as far as there are too many behind which another one came.
    fn forget_texts(&self, numbers: &[u32]) -> io::Result<()> {
        let excess = numbers.len().saturating_sub(TEXTS_MAX - 1);
        for old in &numbers[..excess] {
            self.store.remove_note(NoteKind::Rules, *old)?;
        }
        self.store.trim_notes(NoteKind::Rules).map(drop)
    }

    /// The text of this hash, if it was trusted and is still kept.
    pub(super) fn trusted_text(&self, wanted: &str) -> Option<String> {
        let numbers = self.store.notes(NoteKind::Rules).ok()?;
        let texts = numbers.into_iter().rev();
        let mut texts = texts.filter_map(|n| self.text(n).ok().flatten());
        texts.find(|t| t.hash == wanted).map(|t| t.text)
    }

    fn last_trusted(&self) -> io::Result<InForce> {
        for number in self.store.notes(NoteKind::Rules)?.into_iter().rev() {
            let Some(trusted) = self.text(number)? else {
                tracing::warn!(number, "a text of rules is damaged and passed over");
                continue;
            };
            if trusted.text.is_empty() {
                break;
            }
            match Config::parse(&trusted.text) {
                Ok(config) => {
                    let trusted = Some(trusted);
                    return Ok(InForce {
                        config,
                        trusted,
                        unread: false,
                    });
                }
                // Another version of llfs understood it.
                Err(error) => {
                    tracing::error!(%error, "the rules that were trusted are not understood: the defaults are in force");
                    break;
                }
            }
        }
        Ok(InForce::default())
    }

    /// A text; `None` if it is torn, damaged or gone.
    fn text(&self, number: u32) -> io::Result<Option<Trusted>> {
        match self.store.read_note(NoteKind::Rules, number) {
            Ok(bytes) => Ok(decoded(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // Not an older one instead: what was asked for last may be readable a moment later.
            Err(error) => Err(error),
        }
    }
}

fn decoded(bytes: &[u8]) -> Option<Trusted> {
    let sum = u64::from_le_bytes(bytes.get(..HEADER)?.try_into().ok()?);
    let body = &bytes[HEADER..];
    if xxh3_64(body) != sum {
        return None;
    }
    let mut trusted: Trusted = rmp_serde::from_slice(body).ok()?;
    trusted.hash = hash(&trusted.text);
    Some(trusted)
}
