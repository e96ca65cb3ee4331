//! Inode numbers of what is below `.llfs`.
//!
//! They are computed, so that they mean the same to the next worker: bits 49 to 62 are a slot, the bits below an inode
//! number in the state that the slot stands for. Slot 0 is the live tree, whose numbers are all below. Slot 1 is `.llfs`
//! itself (number 1) and the root directories of all states (2 and the state's number), so that listing ten thousand
//! checkpoints takes no slots. The others are given to a state when something below its root is looked up, and taken back
//! when the kernel holds nothing of it any more ([`super::slots`]).

use crate::tree::{Ino, ROOT, StateId};

/// Bits of the numbers that the live tree uses.
const BITS: u32 = 49;

/// The first number that is none of the live tree's.
pub(in crate::engine) const FIRST_VIEW: Ino = 1 << BITS;

/// `.llfs` itself.
pub(in crate::engine) const VIEWS_DIR: Ino = FIRST_VIEW | 1;

/// The first slot that stands for a state.
pub(super) const FIRST_SLOT: usize = 2;

/// What a number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    /// `.llfs`.
    Views,
    /// The root directory of a state.
    Root(StateId),
    /// Something below: the slot, and the inode number in its state.
    Below(usize, Ino),
}

impl Node {
    /// What a number means that is none of the live tree's.
    pub fn of(number: Ino) -> Node {
        let (slot, ino) = ((number >> BITS) as usize, number & (FIRST_VIEW - 1));
        match (slot, ino) {
            (1, 0 | 1) => Node::Views,
            (1, above) => Node::Root(above - 2),
            _ => Node::Below(slot, ino),
        }
    }

    /// The number that it has in its state.
    pub fn ino(self) -> Ino {
        match self {
            Node::Views | Node::Root(_) => ROOT,
            Node::Below(_, ino) => ino,
        }
    }

    /// The number.
    pub fn number(self) -> Ino {
        match self {
            Node::Views => VIEWS_DIR,
            Node::Root(id) => FIRST_VIEW | (id + 2),
            Node::Below(slot, ino) => (slot as u64) << BITS | ino,
        }
    }
}

/// The number of an object of the base of which the place must be known for as long as the kernel holds `number`.
pub(in crate::engine) fn of_base(number: Ino) -> Option<Ino> {
    match Node::of(number) {
        Node::Below(_, ino) if ino < crate::tree::FIRST_INO && ino != ROOT => Some(ino),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::FIRST_INO;

    #[test]
    fn numbers_and_meanings_are_one_to_one() {
        let all = [
            Node::Views,
            Node::Root(0),
            Node::Root(1),
            Node::Root(1 << 40),
            Node::Below(FIRST_SLOT, ROOT),
            Node::Below(FIRST_SLOT, FIRST_INO),
            Node::Below(crate::relay::VIEWS - 1, FIRST_VIEW - 1),
        ];
        for node in all {
            assert_eq!(Node::of(node.number()), node);
            assert!(node.number() >= FIRST_VIEW);
            // Programs that take inode numbers for signed are not surprised.
            assert!(node.number() <= i64::MAX as u64);
        }
    }
}
