//! The inodes that the kernel holds: how often it looked each up, and where the base has it.
//!
//! An open-addressed table without pointers. An entry is dead when nothing is left in it but its number; it stays in
//! the way of others until the table is built anew, at another place in the memory. One store makes the new one valid.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Release};

use nix::fcntl::{FallocateFlags, fallocate};

use super::Relay;
use super::memory::Mapping;

/// Entries of the first table.
const FIRST: u64 = 1 << 10;
/// Areas begin at multiples of this.
const PAGE: u64 = 4096;
/// The golden ratio in 64 bits: the high bits of a product with it depend on all bits of the number.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// Where the table is: two places, of which one word says which is the right one.
#[repr(C)]
pub(super) struct Areas {
    current: AtomicU32,
    places: [Area; 2],
    /// Where the next area goes; only grows. The memory before is given back.
    end: AtomicU64,
}

#[repr(C)]
struct Area {
    offset: AtomicU64,
    entries: AtomicU64,
}

impl Areas {
    pub fn begin(&self, end: u64) {
        self.end.store(end, Release);
    }
}

#[repr(C)]
struct Slot {
    /// 0: never used.
    ino: AtomicU64,
    /// Inode number of the directory of the base in which it was found; 0 if that is known elsewhere.
    parent: AtomicU64,
    lookups: AtomicU32,
    generation: AtomicU32,
}

/// One inode of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub ino: u64,
    /// The directory of the base in which it was found; 0 if unknown.
    pub parent: u64,
    /// Lookups that the kernel has not forgotten yet.
    pub lookups: u32,
    /// Its generation.
    pub generation: u32,
}

/// The table. Whoever has it is the only one to change it.
#[derive(Debug)]
pub struct Table {
    relay: Arc<Relay>,
    map: Mapping,
    entries: u64,
    /// Slots that are not free, dead entries included.
    used: u64,
    /// Entries that are not dead.
    live: u64,
}

impl Table {
    /// Takes over the table that is in `relay`, or makes one.
    ///
    /// # Errors
    /// The system's.
    pub fn attach(relay: Arc<Relay>) -> io::Result<Table> {
        let areas = &relay.head().tables;
        let area = &areas.places[areas.current.load(Acquire) as usize % 2];
        let (offset, entries) = (area.offset.load(Acquire), area.entries.load(Acquire));
        if entries == 0 {
            let (map, at) = make_area(&relay, FIRST)?;
            make_current(&relay, at, FIRST);
            return Ok(Table {
                relay,
                map,
                entries: FIRST,
                used: 0,
                live: 0,
            });
        }
        let map = Mapping::new(relay.as_fd(), offset, length(entries) as usize)?;
        let mut table = Table {
            relay,
            map,
            entries,
            used: 0,
            live: 0,
        };
        let slots = table.slots().iter();
        let used = slots.filter(|s| s.ino.load(Acquire) != 0).count();
        table.used = used as u64;
        table.live = table.iter().count() as u64;
        Ok(table)
    }

    /// Counts a lookup; the generation, and whether it is the first.
    pub fn hold(&mut self, ino: u64) -> (u32, bool) {
        let slot = self.slot_of(ino);
        let before = slot.lookups.load(Acquire);
        slot.lookups.store(before.saturating_add(1), Release);
        (slot.generation.load(Acquire), before == 0)
    }

    /// Says in which directory of the base a held inode was found.
    pub fn place(&mut self, ino: u64, parent: u64) {
        if let Some(slot) = self.find(ino) {
            slot.parent.store(parent, Release);
        }
    }

    /// Takes `n` lookups back; `true` when the kernel holds the inode no longer.
    pub fn forget(&mut self, ino: u64, n: u64) -> bool {
        let Some(slot) = self.find(ino) else {
            return false;
        };
        let held = slot.lookups.load(Acquire);
        if held == 0 {
            return false;
        }
        let left = u64::from(held).saturating_sub(n) as u32;
        slot.lookups.store(left, Release);
        let dead = left == 0 && slot.generation.load(Acquire) == 0;
        if dead {
            self.live -= 1;
        }
        left == 0
    }

    /// Whether the kernel holds the inode.
    pub fn holds(&self, ino: u64) -> bool {
        self.find(ino)
            .is_some_and(|slot| slot.lookups.load(Acquire) > 0)
    }

    /// The inode's generation.
    pub fn generation(&self, ino: u64) -> u32 {
        self.find(ino)
            .map_or(0, |slot| slot.generation.load(Acquire))
    }

    /// Gives the inode the next generation.
    pub fn retire(&mut self, ino: u64) {
        let slot = self.slot_of(ino);
        let next = slot.generation.load(Acquire).wrapping_add(1).max(1);
        slot.generation.store(next, Release);
    }

    /// All entries that are not dead.
    pub fn iter(&self) -> impl Iterator<Item = Entry> {
        self.slots().iter().filter_map(|slot| {
            let entry = Entry {
                ino: slot.ino.load(Acquire),
                parent: slot.parent.load(Acquire),
                lookups: slot.lookups.load(Acquire),
                generation: slot.generation.load(Acquire),
            };
            (entry.ino != 0 && !entry.is_dead()).then_some(entry)
        })
    }

    fn slots(&self) -> &[Slot] {
        // SAFETY: Slot consists of atomics, for which all bytes are valid.
        unsafe { self.map.as_slice(self.entries as usize) }
    }

    fn find(&self, ino: u64) -> Option<&Slot> {
        match search(self.slots(), ino) {
            Found::Here(slot) => Some(slot),
            _ => None,
        }
    }

    /// The inode's entry, a new one if there is none.
    fn slot_of(&mut self, ino: u64) -> &Slot {
        if self.used * 4 >= self.entries * 3 {
            // As for any other memory there is no going on without.
            self.rebuild().expect("memory for what the kernel holds");
        }
        let entries = self.entries as usize;
        // SAFETY: as in `slots`; borrowed from the mapping alone, so that the counters can be changed.
        let slots: &[Slot] = unsafe { self.map.as_slice(entries) };
        match search(slots, ino) {
            Found::Here(slot) => {
                if slot.lookups.load(Acquire) == 0 && slot.generation.load(Acquire) == 0 {
                    self.live += 1;
                }
                slot
            }
            Found::Free(slot) => {
                self.live += 1;
                self.used += 1;
                slot.ino.store(ino, Release);
                slot
            }
        }
    }

    /// Leaves the dead behind, in a table with room for as many again.
    fn rebuild(&mut self) -> io::Result<()> {
        let entries = (self.live * 2).max(FIRST);
        let (map, offset) = make_area(&self.relay, entries)?;
        // SAFETY: as in `slots`.
        let to: &[Slot] = unsafe { map.as_slice(entries as usize) };
        for entry in self.iter() {
            let (Found::Free(slot) | Found::Here(slot)) = search(to, entry.ino);
            slot.ino.store(entry.ino, Release);
            slot.parent.store(entry.parent, Release);
            slot.lookups.store(entry.lookups, Release);
            slot.generation.store(entry.generation, Release);
        }
        let (old, length) = make_current(&self.relay, offset, entries);
        self.map = map;
        (self.entries, self.used) = (entries, self.live);
        let how = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        Ok(fallocate(
            self.relay.as_fd(),
            how,
            old as i64,
            length as i64,
        )?)
    }
}

impl Entry {
    fn is_dead(&self) -> bool {
        self.lookups == 0 && self.generation == 0
    }
}

enum Found<'a> {
    Here(&'a Slot),
    /// Not there, and this is where it would be.
    Free(&'a Slot),
}

/// There is always a free slot, at which each search ends.
fn search(slots: &[Slot], ino: u64) -> Found<'_> {
    let spread = u128::from(ino.wrapping_mul(SPREAD));
    let start = ((spread * slots.len() as u128) >> 64) as usize;
    for slot in slots[start..].iter().chain(&slots[..start]) {
        match slot.ino.load(Acquire) {
            0 => return Found::Free(slot),
            there if there == ino => return Found::Here(slot),
            _ => {}
        }
    }
    unreachable!("the table is never full")
}

fn length(entries: u64) -> u64 {
    (entries * size_of::<Slot>() as u64).next_multiple_of(PAGE)
}

/// Memory for so many entries, all free: the mapping, and where it is.
fn make_area(relay: &Relay, entries: u64) -> io::Result<(Mapping, u64)> {
    let areas = &relay.head().tables;
    let offset = areas.end.load(Acquire);
    let end = offset + length(entries);
    areas.end.store(end, Release);
    let long = i64::try_from(end).map_err(io::Error::other)?;
    nix::unistd::ftruncate(relay.as_fd(), long)?;
    let map = Mapping::new(relay.as_fd(), offset, length(entries) as usize)?;
    Ok((map, offset))
}

/// Makes an area the table; where the one before was, and how long.
fn make_current(relay: &Relay, offset: u64, entries: u64) -> (u64, u64) {
    let areas = &relay.head().tables;
    let now = areas.current.load(Acquire) as usize % 2;
    let next = &areas.places[1 - now];
    next.offset.store(offset, Release);
    next.entries.store(entries, Release);
    areas.current.store(1 - now as u32, Release);
    let old = &areas.places[now];
    (old.offset.load(Acquire), length(old.entries.load(Acquire)))
}
