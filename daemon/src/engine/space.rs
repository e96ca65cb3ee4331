//! How much room there is for what is written, and the early word when it comes to an end.

use std::sync::atomic::Ordering::Relaxed;

use super::{Answer, Engine, Space};

/// Less free space than this many bytes on the store's disk is worth a warning,
const LOW_BYTES: u64 = 256 << 20;
/// and so is less than one part in so many of it.
const LOW_PART: u64 = 20;
/// Of what the store may take, so many parts in 100 taken are worth one.
const EARLY: u64 = 90;

impl Engine {
    /// What a user should know about the space that is left.
    pub(super) fn low_space(&self) -> Option<String> {
        let way_out = "`llctl delete` gives up old snapshots";
        if let Some((limit, taken)) = self.store.limit()
            && taken >= limit / 100 * EARLY
        {
            return Some(format!(
                "the store takes {} MiB of the {} MiB that it may (--max-store); {way_out}",
                taken >> 20,
                limit >> 20
            ));
        }
        let disk = nix::sys::statvfs::statvfs(&self.store_place).ok()?;
        let whole = disk.blocks() * disk.fragment_size();
        let free = disk.blocks_available() * disk.fragment_size();
        (free < LOW_BYTES || free < whole / LOW_PART).then(|| {
            format!(
                "the store's disk has only {} MiB left; {way_out}",
                free >> 20
            )
        })
    }

    /// Logs when space becomes scarce, once for each time.
    pub(super) fn warn_of_low_space(&self) {
        match self.low_space() {
            Some(warning) => {
                if !self.warned.swap(true, Relaxed) {
                    tracing::warn!("{warning}");
                }
            }
            None => self.warned.store(false, Relaxed),
        }
    }

    /// Figures of the file system that takes the writes; of a limited store, of what it may take.
    ///
    /// # Errors
    /// What it says.
    pub fn statfs(&self) -> Answer<Space> {
        let s = nix::sys::statvfs::statvfs(&self.store_place)?;
        let mut space = Space {
            blocks: s.blocks(),
            free: s.blocks_free(),
            available: s.blocks_available(),
            files: s.files(),
            files_free: s.files_free(),
            block_size: s.fragment_size() as u32,
        };
        if let Some((limit, taken)) = self.store.limit() {
            let unit = s.fragment_size().max(1);
            let left = limit.saturating_sub(taken) / unit;
            space.blocks = space.blocks.min(limit / unit);
            space.free = space.free.min(left);
            space.available = space.available.min(left);
        }
        Ok(space)
    }
}
