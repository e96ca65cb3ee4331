//! How much room there is for what is written, and the early word when it comes to an end.

use std::sync::atomic::Ordering::Relaxed;

use llctl::protocol::{Event, Happening, Room};

use super::{Answer, Engine, Space};

/// Less free space than this many bytes on the store's disk is worth a warning,
const LOW_BYTES: u64 = 256 << 20;
/// and so is less than one part in so many of it,
const LOW_PART: u64 = 20;
/// if it is not more than this all the same.
const LOW_MOST: u64 = 4 << 30;
/// Of what the store may take, so many parts in 100 taken are worth one.
const EARLY: u64 = 90;

impl Engine {
    /// What a user should know about the space that is left.
    pub(super) fn low_space(&self) -> Option<String> {
        // A disk that does not say how much is left has said nothing that a user should know.
        let (_, text) = self.scarce().ok()??;
        Some(text)
    }

    /// How space is scarce, if it is.
    fn scarce(&self) -> Answer<Option<(Happening, String)>> {
        let way_out = "`llctl delete` gives up old snapshots";
        if let Some((limit, taken)) = self.store.limit()
            && taken >= limit / 100 * EARLY
        {
            let text = format!(
                "the store takes {} MiB of the {} MiB that it may (--max-store); {way_out}",
                taken >> 20,
                limit >> 20
            );
            return Ok(Some((Happening::StoreLimit, text)));
        }
        let disk = nix::sys::statvfs::statvfs(&self.store_place)?;
        let whole = disk.blocks() * disk.fragment_size();
        let free = disk.blocks_available() * disk.fragment_size();
        let low = free < (whole / LOW_PART).clamp(LOW_BYTES, LOW_MOST);
        Ok(low.then(|| {
            let text = format!(
                "the store's disk has only {} MiB left; {way_out}",
                free >> 20
            );
            (Happening::LowSpace, text)
        }))
    }

    /// Tells when space becomes scarce, once for each time, and when it is there again.
    pub(super) fn warn_of_low_space(&self) {
        let scarce = match self.scarce() {
            Ok(scarce) => scarce,
            Err(errno) => {
                tracing::debug!(%errno, "the disk does not say how much space is left");
                return;
            }
        };
        if self.warned.swap(scarce.is_some(), Relaxed) == scarce.is_some() {
            return;
        }
        let (what, text) = match scarce {
            Some((what, text)) => (what, Some(text)),
            None => (Happening::SpaceBack, None),
        };
        self.announce(Event {
            space: self.room(),
            text,
            ..Event::own(what)
        });
    }

    /// Tells once that the store is read-only, if it has become that.
    pub(super) fn warn_of_read_only(&self) {
        if let Some(why) = self.store.is_readonly()
            && !self.store.opened_read_only()
            && !self.told_read_only.swap(true, Relaxed)
        {
            self.announce(Event {
                text: Some(why),
                ..Event::own(Happening::ReadOnly)
            });
        }
    }

    fn room(&self) -> Option<Room> {
        let disk = nix::sys::statvfs::statvfs(&self.store_place).ok()?;
        let limit = self.store.limit();
        Some(Room {
            free: disk.blocks_available() * disk.fragment_size(),
            store: limit.map(|(_, taken)| taken),
            limit: limit.map(|(limit, _)| limit),
        })
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
