//! Which thread did what to which inode since the last checkpoint.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::tree::Ino;

/// Pairs that are remembered, at most: 16 bytes each, and as much again for the table. What comes after them is not noted.
const PAIRS_MAX: usize = 1 << 17;

/// A table as large as this is let go rather than kept for the next time.
const KEPT_MAX: usize = 1 << 12;

struct Pair {
    ino: Ino,
    tid: u32,
    did: u8,
}

#[derive(Default)]
pub(super) struct Seen {
    pairs: HashTable<Pair>,
}

impl Seen {
    /// Whether that thread did that to that inode for the first time; from now on it has.
    pub fn is_new(&mut self, tid: u32, ino: Ino, did: u8) -> bool {
        let full = self.pairs.len() >= PAIRS_MAX;
        let entry = self.pairs.entry(
            hash(tid, ino),
            |pair| pair.tid == tid && pair.ino == ino,
            |pair| hash(pair.tid, pair.ino),
        );
        match entry {
            Entry::Occupied(mut pair) => {
                let before = pair.get().did;
                pair.get_mut().did |= did;
                before & did != did
            }
            Entry::Vacant(_) if full => false,
            Entry::Vacant(vacant) => {
                vacant.insert(Pair { ino, tid, did });
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

/// Spreads both, of which neighbours are common.
fn hash(tid: u32, ino: Ino) -> u64 {
    let mixed = (ino ^ (u64::from(tid) << 40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 32)
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
