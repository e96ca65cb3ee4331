//! The order in which inodes get their numbers.
//!
//! A B-tree that is filled in the order of its keys splits each full leaf into two halves, of which only the upper one is ever
//! filled again. So numbers are given in blocks, and within a block by the reversed bits of their turn, which fills both halves.
//! `docs/PERFORMANCE.md` says what it gives.

use super::Ino;

/// Numbers in a block. All of one are given before any of the next. With more of them files take a little less memory, and snapshots more.
const BLOCK: u64 = 1 << BITS;
const BITS: u32 = 6;

/// The number that is given in this turn.
pub fn number(turn: u64) -> Ino {
    let within = (turn % BLOCK).reverse_bits() >> (u64::BITS - BITS);
    turn - turn % BLOCK + within
}

/// The turn in which this number is given.
pub fn turn(number: Ino) -> u64 {
    // Reversing twice is nothing.
    self::number(number)
}

/// The first turn of a block, from `turn` on: numbers from there on are those of turns from there on, in any order.
pub fn block_from(turn: u64) -> u64 {
    turn.next_multiple_of(BLOCK)
}

#[cfg(test)]
mod tests {
    use super::super::FIRST_INO;
    use super::*;

    #[test]
    fn each_number_has_its_turn() {
        let turns = FIRST_INO..FIRST_INO + 4 * BLOCK;
        let mut numbers: Vec<Ino> = turns.clone().map(number).collect();
        for (t, n) in turns.clone().zip(&numbers) {
            assert_eq!(turn(*n), t);
            assert_eq!(n / BLOCK, t / BLOCK);
        }
        assert_ne!(numbers[1], FIRST_INO + 1);
        numbers.sort_unstable();
        assert_eq!(numbers, turns.collect::<Vec<_>>());
    }
}
