//! The state as a stream of bytes, for the periodic image that bounds replay.
//!
//! The roots are written by age, each as what differs from the one before, so that an image costs what the
//! roots share only once, and reading it back shares the same parts again.

use std::io::{self, Read, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::extent::Extent;
use super::line::Line;
use super::staged::{self, Difference};
use super::state::{LAYER_MAX, NUMBER_MAX};
use super::{
    Apply, Dentry, Digest, Discarded, Fact, Ino, Inode, LayerId, Meta, Place, Root, Slot, Snapshot,
    State, StateId, Time, numbering,
};

/// One item of an image. The order is: `Start`, places, for each root its differences and then its `Snapshot`,
/// `Discarded` or `Head`, which is the last.
#[derive(Serialize, Deserialize)]
enum Item {
    Start {
        next_ino: Ino,
        next_state: StateId,
        next_layer: LayerId,
        applying: Option<Apply>,
        /// The head's; images of versions before 4 have none.
        #[serde(default)]
        line: Option<Line>,
    },
    Place(Ino, (Slot, Fact)),
    Inode(Ino, Option<Box<Inode>>),
    Dentry(Slot, Option<Dentry>),
    Extent(Ino, u64, Option<Extent>),
    Snapshot {
        id: StateId,
        name: String,
        message: String,
        at: Time,
        #[serde(default)]
        meta: Meta,
        #[serde(default)]
        digest: Option<Digest>,
        #[serde(default)]
        line: Option<Line>,
    },
    Discarded {
        id: StateId,
        became: StateId,
        at: Time,
        #[serde(default)]
        redo: bool,
        #[serde(default)]
        line: Option<Line>,
    },
    Head,
}

/// Writes a state.
///
/// # Errors
/// What the writer says.
pub fn write(state: &State, to: &mut dyn Write) -> io::Result<()> {
    let mut put = |item: &Item| rmp_serde::encode::write(to, item).map_err(io::Error::other);
    put(&Item::Start {
        // An llfs that knows no turns gives the numbers from here on one after the other.
        next_ino: numbering::block_from(state.next_turn),
        next_state: state.next_state,
        next_layer: state.next_layer,
        applying: state.applying.clone(),
        line: Some(state.line.clone()),
    })?;
    for (ino, place) in &state.places {
        put(&Item::Place(
            *ino,
            (Slot::new(place.parent, place.name.as_bytes()), place.fact),
        ))?;
    }
    let mut ids: Vec<StateId> = state
        .snapshots
        .keys()
        .chain(state.discarded.keys())
        .copied()
        .collect();
    ids.sort_unstable();
    let mut before = Root::default();
    for id in ids {
        let (root, item) = if let Some(s) = state.snapshots.get(&id) {
            let item = Item::Snapshot {
                id,
                name: s.name.clone(),
                message: s.message.clone(),
                at: s.at,
                meta: s.meta.clone(),
                digest: s.digest,
                line: Some(s.line.clone()),
            };
            (&s.root, item)
        } else if let Some(d) = state.discarded.get(&id) {
            let item = Item::Discarded {
                id,
                became: d.became,
                at: d.at,
                redo: d.redo,
                line: Some(d.line.clone()),
            };
            (&d.root, item)
        } else {
            continue;
        };
        differences(&before, root, &mut put)?;
        put(&item)?;
        before = root.clone();
    }
    differences(&before, &state.head, &mut put)?;
    put(&Item::Head)
}

fn differences(
    old: &Root,
    new: &Root,
    put: &mut dyn FnMut(&Item) -> io::Result<()>,
) -> io::Result<()> {
    staged::differences(old, new, &mut |difference| {
        put(&match difference {
            Difference::Inode(ino, inode) => Item::Inode(ino, inode),
            Difference::Dentry(slot, dentry) => Item::Dentry(slot, dentry),
            Difference::Extent(ino, block, extent) => Item::Extent(ino, block, extent),
        })
    })
}

/// Reads a state back.
///
/// # Errors
/// What the reader says, or `InvalidData` for bytes that are no image.
pub fn read(from: &mut dyn Read) -> io::Result<State> {
    let mut state = State::default();
    let mut root = Root::default();
    let mut started = false;
    let mut lines = true;
    loop {
        let item: Item = rmp_serde::from_read(&mut *from).map_err(io::Error::other)?;
        if !started && !matches!(item, Item::Start { .. }) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "an image does not begin with its start",
            ));
        }
        match item {
            Item::Start {
                next_ino,
                next_state,
                next_layer,
                applying,
                line,
            } => {
                if started
                    || next_ino > NUMBER_MAX
                    || next_state > NUMBER_MAX
                    || next_layer > LAYER_MAX
                {
                    return Err(invalid("numbers that were never given"));
                }
                started = true;
                // It wrote the number after the last one that it gave.
                state.next_turn = numbering::block_from(next_ino);
                state.next_state = next_state;
                state.next_layer = next_layer;
                state.applying = applying;
                lines = line.is_some();
                state.line = line.unwrap_or_default();
            }
            Item::Place(ino, (slot, fact)) => {
                state
                    .places
                    .insert(ino, Arc::new(Place::new(slot.at(), fact)));
            }
            Item::Inode(ino, inode) => take(&mut root, Difference::Inode(ino, inode))?,
            Item::Dentry(slot, dentry) => take(&mut root, Difference::Dentry(slot, dentry))?,
            Item::Extent(ino, block, extent) => {
                take(&mut root, Difference::Extent(ino, block, extent))?;
            }
            Item::Snapshot {
                id,
                name,
                message,
                at,
                meta,
                digest,
                line,
            } => {
                let snapshot = Snapshot {
                    name,
                    message,
                    at,
                    meta,
                    digest,
                    line: line.unwrap_or_default(),
                    root: root.clone(),
                };
                if !is_new(&state, id) {
                    return Err(invalid("two states of one number"));
                }
                state.insert(id, snapshot);
            }
            Item::Discarded {
                id,
                became,
                at,
                redo,
                line,
            } => {
                let discarded = Discarded {
                    at,
                    became,
                    redo,
                    line: line.unwrap_or_default(),
                    root: root.clone(),
                };
                if !is_new(&state, id) {
                    return Err(invalid("two states of one number"));
                }
                state.discarded.insert(id, discarded);
            }
            Item::Head => {
                state.head = root;
                if !lines {
                    state.derive_lines();
                }
                return Ok(state);
            }
        }
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("an image has {what}"))
}

/// Whether a state may have this number, besides those that there are.
fn is_new(state: &State, id: StateId) -> bool {
    (1..state.next_state).contains(&id) && state.root(id).is_none()
}

fn take(root: &mut Root, difference: Difference) -> io::Result<()> {
    root.differ(difference).map_err(|wrong| invalid(&wrong.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{FIRST_INO, Src};

    fn start(next_ino: Ino, next_state: StateId, next_layer: LayerId) -> Item {
        Item::Start {
            next_ino,
            next_state,
            next_layer,
            applying: None,
            line: None,
        }
    }

    fn refused(items: Vec<Item>) -> bool {
        let mut bytes = Vec::new();
        for item in items.into_iter().chain([Item::Head]) {
            rmp_serde::encode::write(&mut bytes, &item).unwrap();
        }
        read(&mut &bytes[..]).is_err()
    }

    /// After an image of a version that gave numbers in order, all up to `next_ino`, whose turns lie anywhere in its block.
    #[test]
    fn numbers_go_on_behind_those_of_older_versions() {
        for count in 0..100 {
            let mut bytes = Vec::new();
            for item in [start(FIRST_INO + count, 5, 3), Item::Head] {
                rmp_serde::encode::write(&mut bytes, &item).unwrap();
            }
            let next = read(&mut &bytes[..]).unwrap().next_turn;
            let given = FIRST_INO..FIRST_INO + count;
            assert!(given.map(numbering::turn).all(|turn| turn < next));
        }
    }

    #[test]
    fn what_no_llfs_writes_is_refused() {
        assert!(!refused(vec![start(1 << 48, 5, 3)]));
        for wrong in [
            start(u64::MAX, 5, 3),
            start(1 << 48, u64::MAX, 3),
            start(1, 1, u32::MAX),
        ] {
            assert!(refused(vec![wrong]));
        }
        let discarded = |id| Item::Discarded {
            id,
            became: 0,
            at: Time::default(),
            redo: false,
            line: None,
        };
        assert!(!refused(vec![start(1, 5, 3), discarded(3), discarded(4)]));
        assert!(refused(vec![start(1, 5, 3), discarded(4), discarded(4)]));
        assert!(refused(vec![start(1, 5, 3), discarded(5)]));
        let extent = |from, len, block| {
            let src = Src::Layer { layer: 1, block };
            Item::Extent(1 << 48, from, Some(Extent::new(len, src)))
        };
        assert!(!refused(vec![start(1, 5, 3), extent(0, 8, 0)]));
        for wrong in [
            extent(0, 0, 0),
            extent(u64::MAX, 8, 0),
            extent(0, 8, u32::MAX),
        ] {
            assert!(refused(vec![start(1, 5, 3), wrong]));
        }
    }
}
