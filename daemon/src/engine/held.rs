//! What the kernel holds: lookups to be forgotten, generations of directories that went and came back.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::tree::Ino;

/// Inode numbers are spread well enough by a multiplication.
#[derive(Default)]
pub(super) struct InoHasher(u64);

impl Hasher for InoHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.write_u64(u64::from(*b));
        }
    }
    fn write_u64(&mut self, n: u64) {
        // The golden ratio in 64 bits: high bits of the product depend on all bits of the number.
        self.0 = (self.0 ^ n)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_left(32);
    }
}

type Map<V> = HashMap<Ino, V, BuildHasherDefault<InoHasher>>;

/// Lookup counts and generations.
#[derive(Default)]
pub(super) struct Held {
    lookups: Map<u32>,
    generations: Map<u32>,
}

impl Held {
    /// Counts a lookup that the kernel is about to learn of, and tells the inode's generation.
    pub fn hold(&mut self, ino: Ino) -> u64 {
        *self.lookups.entry(ino).or_default() += 1;
        self.generation(ino)
    }

    /// The inode's generation.
    pub fn generation(&self, ino: Ino) -> u64 {
        self.generations.get(&ino).map_or(0, |g| u64::from(*g))
    }

    /// Takes `n` lookups back; `true` when the kernel holds the inode no longer.
    pub fn forget(&mut self, ino: Ino, n: u64) -> bool {
        match self.lookups.get_mut(&ino) {
            Some(held) if u64::from(*held) > n => {
                *held -= n as u32;
                false
            }
            Some(_) => {
                self.lookups.remove(&ino);
                true
            }
            None => false,
        }
    }

    /// Whether the kernel holds the inode.
    pub fn holds(&self, ino: Ino) -> bool {
        self.lookups.contains_key(&ino)
    }

    /// A directory was removed: the kernel marks what it has of it as dead for ever, and must be told another
    /// generation should a revert bring the directory back.
    pub fn retire(&mut self, ino: Ino) {
        *self.generations.entry(ino).or_default() += 1;
    }
}
