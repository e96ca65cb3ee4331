//! Images of the state, which bound how much a mount replays.

use std::io::{self, BufWriter, Write};
use std::sync::atomic::Ordering::Relaxed;

use super::Engine;
use crate::tree::image;

/// Changes between two images, at least; more for a state that is bigger than that.
const CHANGES_MIN: u64 = 200_000;
/// Journal segments that one image leaves behind, at most: each start begins one, and the next one opens them all.
const SEGMENTS_MAX: usize = 32;
/// A journal of so many bytes is worth an image whatever is in it: small synced writes are in it whole.
const JOURNAL_MAX: u64 = 128 << 20;

impl Engine {
    /// Writes an image if so much was journaled since the last one that it is worth it.
    pub(super) fn image_if_worth(&self) -> io::Result<()> {
        let (changes, size) = {
            let state = self.state.read();
            (state.changes, state.head.inodes.len() as u64)
        };
        if self.since_image(changes) < CHANGES_MIN.max(size)
            && self.store.journal_bytes()? < JOURNAL_MAX
        {
            return Ok(());
        }
        self.write_image()
    }

    /// Writes an image if reading the journal since the last one would keep the next worker busy.
    ///
    /// # Errors
    /// What the disk says.
    pub fn image_if_many(&self) -> io::Result<()> {
        let changes = self.state.read().changes;
        if !self.has_grown(changes, CHANGES_MIN / 20)? {
            return Ok(());
        }
        self.write_image()
    }

    /// How many of so many changes are behind the newest image, which somebody else may just have written of more of them.
    pub(super) fn since_image(&self, changes: u64) -> u64 {
        changes.saturating_sub(self.imaged.load(Relaxed))
    }

    /// Whether there is so much behind the newest image, when there are `changes` in all: as many changes, or too many segments.
    fn has_grown(&self, changes: u64, least: u64) -> io::Result<bool> {
        Ok(self.since_image(changes) >= least || self.store.journal_segments()? > SEGMENTS_MAX)
    }

    /// Finishes what is left to the background: block checksums of sealed layers, space to be taken back, an image.
    ///
    /// # Errors
    /// What the disk says.
    pub fn checkpoint(&self) -> io::Result<()> {
        self.store.finish_seals()?;
        self.reclaim()?;
        self.write_image()
    }

    /// Writes an image of the state as it is now, unless the newest one says the same and no journal has grown behind it.
    pub(super) fn write_image(&self) -> io::Result<()> {
        let (state, seq) = {
            let state = self.state.read();
            (state.clone(), self.store.last_seq())
        };
        // What is being staged is in the journal only, which an image would cover.
        if !state.staged.is_empty() || !self.has_grown(state.changes, 1)? {
            return Ok(());
        }
        // An image must not know more than what a power cut would leave: what it says is made durable first.
        self.store.sync()?;
        self.store.write_image(seq, &mut |to: &mut dyn Write| {
            let mut buffered = BufWriter::with_capacity(1 << 16, to);
            image::write(&state, &mut buffered)?;
            buffered.flush()
        })?;
        self.imaged.fetch_max(state.changes, Relaxed);
        Ok(())
    }
}
