//! Which thread did what to which inode since the last checkpoint.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::tree::Ino;

/// Pairs that are remembered, at most: 8 bytes each, and as much again for the table. What comes after them is not noted.
const PAIRS_MAX: usize = 1 << 17;

/// A table as large as this is let go rather than kept for the next time.
const KEPT_MAX: usize = 1 << 12;

/// Bits of [`super::Did`].
const DID: u64 = 0x1f;

/// A thread and an inode, mixed, and in the lowest bits what the one did to the other. Two pairs that are the same in the other 59
/// bits are taken for one: once in 2^26 full tables.
struct Pair(u64);

#[derive(Default)]
pub(super) struct Seen {
    pairs: HashTable<Pair>,
}

impl Seen {
    /// Whether that thread did that to that inode for the first time; from now on it has.
    pub fn is_new(&mut self, tid: u32, ino: Ino, did: u8) -> bool {
        let full = self.pairs.len() >= PAIRS_MAX;
        let (mixed, did) = (mix(tid, ino), u64::from(did));
        let same = |pair: &Pair| pair.0 & !DID == mixed;
        match (self.pairs).entry(hash(mixed), same, |pair| hash(pair.0 & !DID)) {
            Entry::Occupied(mut pair) => {
                let before = pair.get().0;
                pair.get_mut().0 |= did;
                before & did != did
            }
            Entry::Vacant(_) if full => false,
            Entry::Vacant(vacant) => {
                vacant.insert(Pair(mixed | did));
                true
            }
        }
    }

    pub fn clear(&mut self) {
        if self.pairs.capacity() > KEPT_MAX {
            self.pairs = HashTable::new();
        } else {
            self.pairs.clear();
        }
    }
}

/// The table's buckets go by the lowest bits, which are not of the mixture.
fn hash(mixed: u64) -> u64 {
    mixed ^ (mixed >> 32)
}

/// Spreads both, of which neighbours are common, and leaves room for what was done.
fn mix(tid: u32, ino: Ino) -> u64 {
    xxh3_64_with_seed(&ino.to_ne_bytes(), u64::from(tid)) & !DID
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_is_new_once_and_the_table_is_bounded() {
        let mut seen = Seen::default();
        assert!(seen.is_new(1, 7, 1));
        assert!(!seen.is_new(1, 7, 1));
        assert!(seen.is_new(1, 7, 2));
        assert!(seen.is_new(2, 7, 1));
        assert!(seen.is_new(1, 8, 1));
        assert!(!seen.is_new(1, 7, 3));
        for ino in 100..100 + 2 * PAIRS_MAX as u64 {
            seen.is_new(1, ino, 1);
        }
        assert_eq!(seen.pairs.len(), PAIRS_MAX);
        assert!(!seen.is_new(1, 7, 2), "what is known stays known");
        seen.clear();
        assert!(seen.is_new(1, 7, 1));
    }
}
