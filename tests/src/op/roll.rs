//! Making up operations.

use super::{Allocation, Op, Renaming, SLOTS, Spot};
use crate::dice::Dice;

/// The names that operations use: few, so that they meet; one with bytes that are no UTF-8, a
/// newline and an escape, one of 255 bytes.
pub const NAMES: [&[u8]; 5] = [b"a", b"b", b"c", b"w \n\xff\x1b[1m", &[b'L'; 255]];

/// What kind of operations are made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// What the model predicts: symbolic links lead nowhere, no ACLs.
    Modelled,
    /// Everything, to be compared with another filesystem.
    Wild,
}

const OFFSETS: [u64; 9] = [0, 1, 100, 4095, 4096, 4097, 8192, 20_000, 70_000];
const LENGTHS: [usize; 8] = [1, 10, 100, 4096, 4097, 8192, 12_000, 0];
const MODES: [u32; 10] = [
    0o644, 0o755, 0o600, 0o700, 0, 0o4755, 0o2755, 0o2644, 0o1755, 0o6775,
];
const XATTRS: [&[u8]; 4] = [b"user.one", b"user.two", b"trusted.three", b"user.\xc3\xa4"];
const TIMES: [(i64, i64); 5] = [
    (1_000_000_000, 0),
    (1_700_000_000, 123_456_789),
    (-86_400, 1),
    (0, 0),
    (4_000_000_000, 999),
];

/// Operations that make a few objects under the names that [`roll`] uses most, so that what
/// follows meets something.
#[must_use]
pub fn sprout() -> Vec<Op> {
    let at = |path: &str| Spot(path.as_bytes().to_vec());
    let mut ops: Vec<Op> = ["a", "a/a"]
        .map(|path| Op::Mkdir {
            at: at(path),
            mode: 0o755,
        })
        .to_vec();
    for (fill, path) in (1..).zip(["b", "c", "a/b", "a/c", "a/a/b"]) {
        ops.push(Op::Create {
            at: at(path),
            mode: 0o644,
            exclusive: true,
        });
        ops.push(Op::Write {
            at: at(path),
            offset: 0,
            len: 3000 * usize::from(fill),
            fill,
        });
    }
    ops.push(Op::Link {
        from: at("b"),
        to: at("a/a/c"),
    });
    ops
}

/// One operation from a row of at least eight numbers.
pub fn roll(dice: &mut Dice<'_>, flavour: Flavour) -> Op {
    match dice.below(100) {
        0..6 => Op::Create {
            at: spot(dice),
            mode: dice.one_of(&MODES),
            exclusive: dice.chance(30),
        },
        6..15 => Op::Write {
            at: spot(dice),
            offset: offset(dice),
            len: len(dice),
            fill: dice.number(),
        },
        15..18 => Op::Append {
            at: spot(dice),
            len: len(dice),
            fill: dice.number(),
        },
        18..20 => Op::Empty { at: spot(dice) },
        20..24 => Op::Truncate {
            at: spot(dice),
            size: offset(dice),
        },
        24..28 => Op::Allocate {
            how: dice.one_of(&[Allocation::Punch, Allocation::Plain, Allocation::KeepSize]),
            at: spot(dice),
            offset: offset(dice),
            len: (len(dice) as u64).max(1),
        },
        28..31 => Op::MapWrite {
            at: spot(dice),
            offset: offset(dice),
            len: len(dice),
            fill: dice.number(),
        },
        31..34 => Op::CopyRange {
            from: spot(dice),
            to: spot(dice),
            from_offset: offset(dice),
            to_offset: offset(dice),
            len: len(dice),
        },
        34..37 => Op::Read {
            at: spot(dice),
            offset: offset(dice),
            len: len(dice),
        },
        37..39 => Op::Holes { at: spot(dice) },
        39..47 => Op::Mkdir {
            at: dir_spot(dice),
            mode: dice.one_of(&MODES),
        },
        47..50 => Op::Rmdir { at: dir_spot(dice) },
        50..54 => Op::Unlink { at: spot(dice) },
        54..64 => Op::Rename {
            from: spot(dice),
            to: spot(dice),
            how: dice.one_of(&[
                Renaming::Plain,
                Renaming::Plain,
                Renaming::NoReplace,
                Renaming::Exchange,
            ]),
        },
        64..68 => Op::Link {
            from: spot(dice),
            to: spot(dice),
        },
        68..70 => Op::Symlink {
            at: spot(dice),
            target: target(dice, flavour),
        },
        70..72 => Op::Mknod {
            at: spot(dice),
            socket: dice.chance(30),
            mode: dice.one_of(&MODES),
        },
        72..73 => Op::Readlink { at: spot(dice) },
        73..75 => Op::List { at: place(dice) },
        75..79 => Op::Chmod {
            at: place(dice),
            mode: dice.one_of(&MODES),
        },
        79..81 => Op::Chown {
            at: place(dice),
            uid: dice.one_of(&[0, 1000, 65_534]),
            gid: dice.one_of(&[0, 100, 65_534]),
        },
        81..83 => {
            let (seconds, nanoseconds) = dice.one_of(&TIMES);
            Op::Utimens {
                at: place(dice),
                seconds,
                nanoseconds,
            }
        }
        83..86 => set_xattr(dice),
        86..87 => Op::RemoveXattr {
            at: place(dice),
            name: dice.one_of(&XATTRS),
        },
        87..89 if flavour == Flavour::Wild => Op::SetAcl {
            at: place(dice),
            default: dice.chance(40),
            permissions: [7, 5, 6, 4, 1].map(|p: u16| p.wrapping_add(dice.number()) % 8),
        },
        87..91 => Op::Open {
            slot: dice.below(SLOTS),
            at: spot(dice),
            append: dice.chance(30),
        },
        91..94 => Op::HandleWrite {
            slot: dice.below(SLOTS),
            offset: offset(dice),
            len: len(dice),
            fill: dice.number(),
        },
        94..96 => Op::HandleRead {
            slot: dice.below(SLOTS),
            offset: offset(dice),
            len: len(dice),
        },
        96..97 => Op::HandleTruncate {
            slot: dice.below(SLOTS),
            size: offset(dice),
        },
        97..98 => Op::HandleStat {
            slot: dice.below(SLOTS),
        },
        98..99 => Op::HandleSync {
            slot: dice.below(SLOTS),
        },
        _ => Op::Close {
            slot: dice.below(SLOTS),
        },
    }
}

fn set_xattr(dice: &mut Dice<'_>) -> Op {
    let len = dice.one_of(&[3, 0, 40, 300]);
    Op::SetXattr {
        at: place(dice),
        name: dice.one_of(&XATTRS),
        value: crate::dice::pattern(dice.number(), len),
        flags: dice.one_of(&[0, 0, libc::XATTR_CREATE, libc::XATTR_REPLACE]),
    }
}

fn offset(dice: &mut Dice<'_>) -> u64 {
    dice.one_of(&OFFSETS)
}

fn len(dice: &mut Dice<'_>) -> usize {
    dice.one_of(&LENGTHS)
}

fn target(dice: &mut Dice<'_>, flavour: Flavour) -> Vec<u8> {
    match flavour {
        Flavour::Modelled => dice
            .one_of(&[b"nowhere".as_slice(), b"../no/where", b"x"])
            .to_vec(),
        Flavour::Wild => match dice.below(4) {
            0 => b"nowhere".to_vec(),
            1 => [b"../", spot(dice).0.as_slice()].concat(),
            2 => b".".to_vec(),
            _ => spot(dice).0,
        },
    }
}

/// A path of one to three names. The inner names are mostly those that [`dir_spot`] makes
/// directories of, the last one mostly is not: operations shall often meet what they are for.
fn spot(dice: &mut Dice<'_>) -> Spot {
    path(dice, [1, 2, 1, 2, 1, 2, 0, 0, 1, 3, 4])
}

/// A path whose last name is mostly a directory's.
fn dir_spot(dice: &mut Dice<'_>) -> Spot {
    path(dice, [0, 0, 0, 0, 0, 0, 0, 3, 1, 2, 0])
}

fn path(dice: &mut Dice<'_>, last: [usize; 11]) -> Spot {
    let number = usize::from(dice.number());
    let inner = [1, 0, 1, 0, 1, 0, 1, 0, 2][number % 9];
    let mut rest = number / 9;
    let mut parts = Vec::new();
    for _ in 0..inner {
        parts.push(NAMES[[0, 0, 0, 0, 0, 3, 1][rest % 7]]);
        rest /= 7;
    }
    parts.push(NAMES[last[rest % 11]]);
    Spot(parts.join(&b'/'))
}

/// A path that may be the root.
fn place(dice: &mut Dice<'_>) -> Spot {
    if dice.chance(10) {
        Spot(Vec::new())
    } else {
        spot(dice)
    }
}
