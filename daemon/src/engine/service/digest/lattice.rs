//! A checksum of a set that can be added to and taken from: what differs between two states costs what differs, and the order
//! in which their entries are met does not matter.
//!
//! Each entry stands for 1024 numbers of 16 bits, which are the beginning of its extended BLAKE3 hash; the set is their sum, number by
//! number. Finding two sets with one sum is a lattice problem (LtHash: Bellare and Micciancio 1997, Lewi and others 2019),
//! which a sum of plain hashes would not be.

use crate::tree::Digest;

/// Numbers in a sum.
const NUMBERS: usize = 1024;

/// The sum of a set of entries.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Sum(Box<[u16; NUMBERS]>);

impl Sum {
    /// The sum of no entries.
    pub fn new() -> Sum {
        Sum(Box::new([0; NUMBERS]))
    }

    /// Adds an entry.
    pub fn add(&mut self, entry: &[u8]) {
        self.each(entry, u16::wrapping_add);
    }

    /// Takes an entry back that was added.
    pub fn take(&mut self, entry: &[u8]) {
        self.each(entry, u16::wrapping_sub);
    }

    fn each(&mut self, entry: &[u8], change: fn(u16, u16) -> u16) {
        let mut bytes = [0; NUMBERS * 2];
        let mut hasher = blake3::Hasher::new();
        hasher.update(entry).finalize_xof().fill(&mut bytes);
        for (number, two) in self.0.iter_mut().zip(bytes.chunks_exact(2)) {
            *number = change(*number, u16::from_le_bytes([two[0], two[1]]));
        }
    }

    /// The checksum of the set.
    pub fn digest(&self) -> Digest {
        let bytes: Vec<u8> = self.0.iter().flat_map(|n| n.to_le_bytes()).collect();
        Digest(*blake3::hash(&bytes).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_one_sum_whatever_the_way_to_it() {
        let (mut a, mut b) = (Sum::new(), Sum::new());
        [b"x", b"y", b"z"].iter().for_each(|e| a.add(*e));
        [b"z", b"q", b"y", b"x"].iter().for_each(|e| b.add(*e));
        assert_ne!(a.digest().0, b.digest().0);
        b.take(b"q");
        assert_eq!(a.digest().0, b.digest().0);
        // Twice is not once, and not never.
        a.add(b"x");
        assert_ne!(a.digest().0, b.digest().0);
    }
}
