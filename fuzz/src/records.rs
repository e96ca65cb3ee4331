//! Records made from bytes: most of what they say fits together, some of it does not.

use std::collections::BTreeMap;
use std::sync::Arc;

use llctl::protocol::SnapMeta;
use llfs::tree::{
    Apply, Delta, Digest, FIRST_INO, Fact, Ino, Inode, Kind, Meta, Move, Record, Slot, Src, Take,
    Time,
};

use crate::input::Input;

/// One of a few inodes, of the base or new, or any number.
fn ino(input: &mut Input<'_>) -> Ino {
    match input.u8() {
        n @ 0..=120 => (1 << 48) + u64::from(n % 8),
        n @ 121..=240 => 1 + u64::from(n % 8),
        _ => input.number(),
    }
}

fn time(input: &mut Input<'_>) -> Time {
    Time {
        sec: input.number() as i64,
        nsec: input.u32(),
    }
}

fn slot(input: &mut Input<'_>) -> Slot {
    let parent = ino(input);
    let name: &[u8] = match input.u8() {
        250.. => input.string(),
        n => [b"a", b"b", b"c", b"d"][usize::from(n % 4)],
    };
    Slot::new(parent, name)
}

fn src(input: &mut Input<'_>) -> Src {
    match input.u8() % 3 {
        0 => Src::Zero,
        _ => Src::Layer {
            layer: input.number() as u32,
            block: input.number() as u32,
        },
    }
}

fn inode(input: &mut Input<'_>) -> Inode {
    let sparse = input.u8();
    Inode {
        kind: input.one(&Kind::ALL),
        perm: input.u16(),
        uid: input.u32(),
        gid: 0,
        nlink: u32::from(input.u8() % 3),
        rdev: input.u32(),
        size: input.number(),
        atime: Time::default(),
        mtime: time(input),
        ctime: Time::default(),
        base_len: (sparse & 1 == 1).then(|| input.number()).into(),
        layered: 0,
        covered: 0,
        home: (sparse & 2 == 2).then(|| slot(input)),
        xattrs: (sparse & 4 == 4).then(|| {
            let mut all = BTreeMap::new();
            all.insert(input.string().to_vec(), input.string().to_vec().into());
            Arc::new(all)
        }),
        target: (sparse & 8 == 8).then(|| Arc::new(input.string().into())),
    }
}

fn delta(input: &mut Input<'_>) -> Delta {
    match input.u8() % 10 {
        0 | 1 => Delta::Inode(ino(input), Box::new(inode(input))),
        2 => Delta::Touch {
            ino: ino(input),
            size: Some(input.number()),
            mtime: None,
            ctime: time(input),
            nlink: (input.u8() % 2 == 0).then_some(1),
        },
        3 => Delta::Link {
            slot: slot(input),
            ino: ino(input),
            kind: input.one(&Kind::ALL),
        },
        4 => Delta::Hide(slot(input)),
        5 => Delta::Clear(slot(input)),
        6 => Delta::Place {
            ino: ino(input),
            slot: slot(input),
            fact: Fact {
                kind: input.one(&Kind::ALL),
                size: input.number(),
                mtime: time(input),
                ctime: time(input),
            },
        },
        _ => {
            // Most maps meet others of the same file.
            let near = input.u8() < 200;
            Delta::Map {
                ino: if near { FIRST_INO } else { ino(input) },
                from: if near {
                    u64::from(input.u8() % 16)
                } else {
                    input.number()
                },
                len: if near {
                    u64::from(input.u8() % 8)
                } else {
                    input.number()
                },
                to: (!input.u8().is_multiple_of(4)).then(|| src(input)),
            }
        }
    }
}

/// The record that makes the file of which most maps are.
pub fn file() -> Record {
    let inode = inode(&mut Input(&[0, 0, 0, 0, 0, 0, 0, 1]));
    Record::Change(vec![Delta::Inode(FIRST_INO, Box::new(inode))])
}

fn meta(input: &mut Input<'_>) -> Meta {
    let text = String::from_utf8_lossy(input.string()).into_owned();
    let meta = SnapMeta {
        session: (!text.is_empty()).then_some(text),
        pinned: input.u8() % 2 == 0,
        ..SnapMeta::default()
    };
    meta.into()
}

/// One record.
pub fn record(input: &mut Input<'_>) -> Record {
    let state = |input: &mut Input<'_>| {
        if input.u8() > 240 {
            input.number()
        } else {
            u64::from(input.u8() % 12)
        }
    };
    let text = |input: &mut Input<'_>| String::from_utf8_lossy(input.string()).into_owned();
    match input.u8() % 16 {
        0 | 1 => Record::Snap {
            id: state(input),
            name: text(input),
            message: text(input),
            at: time(input),
            meta: meta(input),
        },
        2 => Record::Switch {
            to: state(input),
            kept: state(input),
            at: time(input),
            how: input.one(&[Move::Revert, Move::Undo, Move::Redo]),
        },
        3 => Record::Drop(vec![state(input)]),
        4 => Record::Rename {
            id: state(input),
            name: text(input),
        },
        7 => Record::Describe {
            id: state(input),
            message: text(input),
            meta: meta(input),
        },
        8 => Record::Digest {
            id: state(input),
            digest: Digest([input.u8(); 32]),
        },
        5 => Record::Forget(vec![ino(input)]),
        6 => Record::Apply(match input.u8() % 3 {
            0 => Apply::Begin,
            1 => Apply::Staged,
            _ => Apply::Done,
        }),
        9 => Record::Merge {
            kept: state(input),
            at: time(input),
            takes: vec![Take {
                from: state(input),
                inodes: vec![ino(input)],
                slots: vec![slot(input)],
            }],
            set: (0..input.u8() % 2)
                .map(|_| (ino(input), Box::new(inode(input))))
                .collect(),
            hidden: (0..input.u8() % 2).map(|_| slot(input)).collect(),
        },
        _ => Record::Change(
            (0..input.one(&[1, 1, 1, 2, 5]))
                .map(|_| delta(input))
                .collect(),
        ),
    }
}
