//! Everything that the journal rebuilds.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;

use super::line::Line;
use super::piles::{self, Piles};
use super::record::{Apply, BASE_STATE, Delta, Digest, Fact, LayerId, Move, Record, Src, StateId};
use super::root::{Contradiction, Root};
use super::{At, Difference, FIRST_INO, Ino, Meta, ShortName, Time, numbering};

/// A snapshot: a root with a name.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Its name, unique among the snapshots.
    pub name: String,
    /// What the user said of it.
    pub message: String,
    /// When it was taken.
    pub at: Time,
    /// What else it says of itself.
    pub meta: Meta,
    /// The checksum of what it holds, once it is computed.
    pub digest: Option<Digest>,
    /// How it came about.
    pub line: Line,
    /// What it holds.
    pub root: Root,
}

/// A head that a revert, an undo or a redo discarded.
#[derive(Clone, Debug)]
pub struct Discarded {
    /// When it was discarded.
    pub at: Time,
    /// The state that the head became.
    pub became: StateId,
    /// It is on the pile of `redo`, not on that of `undo`.
    pub redo: bool,
    /// How it came about.
    pub line: Line,
    /// What it holds.
    pub root: Root,
}

/// An object of the base on which some state relies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The directory of the base that it is in.
    pub parent: Ino,
    /// Its name there, without an allocation of its own: each changed file of the base has a place.
    pub name: ShortName,
    /// What it was.
    pub fact: Fact,
}

impl Place {
    /// What is said of the object that is at `at`.
    pub fn new(at: At<'_>, fact: Fact) -> Place {
        Place {
            parent: at.0,
            name: at.1.into(),
            fact,
        }
    }

    /// Where it is in the base.
    pub fn at(&self) -> At<'_> {
        At(self.parent, self.name.as_bytes())
    }
}

/// Places by inode number. Behind pointers: an entry in the map takes twice its size, as nodes that are filled in order
/// stay half empty.
pub type Places = OrdMap<Ino, Arc<Place>>;

/// The overlay's whole state.
#[derive(Clone, Debug)]
pub struct State {
    /// What the mount shows.
    pub head: Root,
    /// How the head came about.
    pub line: Line,
    /// By number, that is, by age.
    pub snapshots: OrdMap<StateId, Arc<Snapshot>>,
    /// The snapshots' numbers by name.
    pub(crate) names: OrdMap<Arc<str>, StateId>,
    /// By number, that is, by age.
    pub discarded: Piles,
    /// Objects of the base on which a state relies, and the directories above them. Only grows: the base is
    /// immutable, so a place stays true whatever the head becomes.
    pub places: Places,
    /// States that come from elsewhere, as far as they were told. In no image.
    pub staged: Vec<Root>,
    /// How far an apply came.
    pub applying: Option<Apply>,
    /// The turn of the next new inode, by which it gets its number ([`numbering`]).
    pub next_turn: u64,
    /// The number of the next snapshot or discarded state.
    pub next_state: StateId,
    /// A number above those of all layers that any record named.
    pub next_layer: LayerId,
    /// Number of changes applied since the state was empty, a measure of when to write an image.
    pub changes: u64,
}

impl Default for State {
    fn default() -> Self {
        State {
            head: Root::default(),
            line: Line::default(),
            snapshots: OrdMap::new(),
            names: OrdMap::new(),
            discarded: Piles::new(),
            places: OrdMap::new(),
            staged: Vec::new(),
            applying: None,
            next_turn: FIRST_INO,
            next_state: 1,
            next_layer: 1,
            changes: 0,
        }
    }
}

impl State {
    /// The snapshot of that name.
    pub fn snapshot(&self, name: &str) -> Option<(StateId, &Snapshot)> {
        let id = self.names.get(name)?;
        self.snapshots.get(id).map(|s| (*id, &**s))
    }

    /// Takes a snapshot in, of a record or of an image.
    pub(crate) fn insert(&mut self, id: StateId, snapshot: Snapshot) {
        self.names.insert(snapshot.name.as_str().into(), id);
        self.snapshots.insert(id, Arc::new(snapshot));
    }

    /// Gives a snapshot up.
    fn remove(&mut self, id: StateId) -> Option<Arc<Snapshot>> {
        let gone = self.snapshots.remove(&id)?;
        self.unname(&gone.name, id);
        Some(gone)
    }

    /// No llfs gives two snapshots one name; where a journal does, the name is the newer one's.
    fn unname(&mut self, name: &str, id: StateId) {
        if self.names.get(name) == Some(&id) {
            self.names.remove(name);
        }
    }

    fn snapshot_mut(&mut self, id: StateId) -> Result<&mut Snapshot, Contradiction> {
        let found = self.snapshots.get_mut(&id).map(Arc::make_mut);
        found.ok_or_else(|| Contradiction(format!("there is no snapshot {id}")))
    }

    /// The newest snapshot that was taken here at this time or before.
    pub fn snapshot_at(&self, at: Time) -> Option<(StateId, &Snapshot)> {
        let mut newest_first = self.snapshots.iter().rev();
        newest_first
            .find(|(_, s)| s.at <= at && s.meta.imported.is_none())
            .map(|(id, s)| (*id, &**s))
    }

    /// The newest snapshot of those before this number that was taken here, not imported.
    pub fn snapshot_before(&self, id: StateId) -> Option<(StateId, &Snapshot)> {
        let mut newest_first = self.snapshots.range(..id).rev();
        newest_first
            .find(|(_, s)| s.meta.imported.is_none())
            .map(|(id, s)| (*id, &**s))
    }

    /// The root of a snapshot or of a discarded state.
    pub fn root(&self, id: StateId) -> Option<&Root> {
        match self.snapshots.get(&id) {
            Some(s) => Some(&s.root),
            None => self.discarded.get(&id).map(|d| &d.root),
        }
    }

    /// All roots by age, the head last.
    pub fn roots(&self) -> Vec<&Root> {
        let mut all: Vec<(StateId, &Root)> = (self.snapshots.iter().map(|(id, s)| (*id, &s.root)))
            .chain(self.discarded.iter().map(|(id, d)| (*id, &d.root)))
            .collect();
        all.sort_by_key(|(id, _)| *id);
        let mut roots: Vec<&Root> = all.into_iter().map(|(_, r)| r).collect();
        roots.push(&self.head);
        roots
    }

    /// Applies one record, whole: the only way in which a state changes.
    ///
    /// # Errors
    /// The record contradicts the state; the state is then not to be used any more.
    pub fn apply(&mut self, record: &Record) -> Result<(), Contradiction> {
        self.changes += 1;
        match record {
            Record::Change(deltas) => {
                for delta in deltas {
                    self.note(delta)?;
                    self.head.apply(delta)?;
                }
            }
            Record::Snap {
                id,
                name,
                message,
                at,
                meta,
            } => {
                self.number(*id)?;
                let snapshot = Snapshot {
                    name: name.clone(),
                    message: message.clone(),
                    at: *at,
                    meta: meta.clone(),
                    digest: None,
                    line: std::mem::replace(&mut self.line, Line::since(*id)).and(*id),
                    root: self.head.clone(),
                };
                self.insert(*id, snapshot);
            }
            Record::Switch { to, kept, at, how } => {
                let root = self.root_or_base(*to)?;
                self.number(*kept)?;
                // What is gone back to goes on as what it was.
                let line = match self.discarded.get(to) {
                    Some(state) => state.line.clone(),
                    None => Line::since(*to),
                };
                let discarded = Discarded {
                    at: *at,
                    became: *to,
                    redo: false,
                    line: std::mem::replace(&mut self.line, line).and(*kept),
                    root: std::mem::replace(&mut self.head, root),
                };
                let last = piles::switch(&mut self.discarded, *to, *kept, *how, discarded);
                self.next_state = self.next_state.max(last + 1);
            }
            Record::Merge {
                kept,
                at,
                takes,
                set,
                hidden,
            } => {
                let mut head = self.head.clone();
                for take in takes {
                    let from = self.root_or_base(take.from)?;
                    take.inodes
                        .iter()
                        .for_each(|ino| head.take_inode(&from, *ino));
                    take.slots
                        .iter()
                        .for_each(|slot| head.take_slot(&from, slot));
                }
                for (ino, inode) in set {
                    head.set(*ino, inode)?;
                }
                hidden.iter().for_each(|slot| head.hide(slot));
                self.number(*kept)?;
                let line = self.line.and(*kept);
                self.line.clone_from(&line);
                let discarded = Discarded {
                    at: *at,
                    became: *kept,
                    redo: false,
                    line,
                    root: std::mem::replace(&mut self.head, head),
                };
                piles::switch(&mut self.discarded, *kept, *kept, Move::Revert, discarded);
            }
            Record::Drop(ids) => {
                let mut given_up = BTreeMap::new();
                for id in ids {
                    if let Some(snapshot) = self.remove(*id) {
                        given_up.insert(*id, snapshot.line.clone());
                    } else if self.discarded.remove(id).is_none() {
                        return Err(Contradiction(format!("there is no state {id}")));
                    }
                }
                self.hand_on(&given_up);
            }
            Record::Rename { id, name } => {
                let snapshot = self.snapshot_mut(*id)?;
                let old = std::mem::replace(&mut snapshot.name, name.clone());
                self.unname(&old, *id);
                self.names.insert(name.as_str().into(), *id);
            }
            Record::Describe { id, message, meta } => {
                let snapshot = self.snapshot_mut(*id)?;
                snapshot.message.clone_from(message);
                snapshot.meta = meta.clone();
            }
            Record::Digest { id, digest } => self.snapshot_mut(*id)?.digest = Some(*digest),
            Record::Forget(inos) => self.head.forget(inos)?,
            Record::Stage(step) => self.stage(step)?,
            Record::Import(all) => self.import(all)?,
            Record::Apply(Apply::Done) => {
                self.head = Root::default();
                self.line = Line::default();
                self.snapshots = OrdMap::new();
                self.names = OrdMap::new();
                self.discarded = Piles::new();
                self.places = OrdMap::new();
                self.staged.clear();
                self.applying = None;
            }
            Record::Apply(step) => self.applying = Some(step.clone()),
        }
        Ok(())
    }

    /// The root of a snapshot, of a discarded state, or of the base.
    pub(super) fn root_or_base(&self, id: StateId) -> Result<Root, Contradiction> {
        match id {
            BASE_STATE => Ok(Root::default()),
            id => (self.root(id).cloned())
                .ok_or_else(|| Contradiction(format!("there is no state {id}"))),
        }
    }

    pub(super) fn number(&mut self, id: StateId) -> Result<(), Contradiction> {
        if id < self.next_state {
            return Err(Contradiction(format!("the number {id} was given before")));
        }
        self.next_state = after(id)?;
        Ok(())
    }

    /// This number is taken.
    fn note_ino(&mut self, ino: Ino) -> Result<(), Contradiction> {
        self.next_turn = self.next_turn.max(after(numbering::turn(ino))?);
        Ok(())
    }

    /// Notes what a change says besides the namespace: numbers that are taken, places in the base.
    fn note(&mut self, delta: &Delta) -> Result<(), Contradiction> {
        match delta {
            Delta::Inode(ino, _) => self.note_ino(*ino)?,
            Delta::Map {
                to: Some(Src::Layer { layer, .. }),
                ..
            } => self.next_layer = self.next_layer.max(next_layer(*layer)?),
            Delta::Place { ino, slot, fact } => {
                self.places
                    .insert(*ino, Arc::new(Place::new(slot.at(), *fact)));
            }
            _ => {}
        }
        Ok(())
    }

    /// The same for what a staged state differs in.
    pub(super) fn note_difference(&mut self, difference: &Difference) -> Result<(), Contradiction> {
        match difference {
            Difference::Inode(ino, Some(_)) => self.note_ino(*ino)?,
            Difference::Extent(_, _, Some(extent)) => {
                if let Src::Layer { layer, .. } = extent.src() {
                    self.next_layer = self.next_layer.max(next_layer(layer)?);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Numbers of states and inodes above this were never given; there is always a next one.
pub(super) const NUMBER_MAX: u64 = 1 << 62;
/// The same for layers.
pub(super) const LAYER_MAX: LayerId = 1 << 31;

/// The number after one that is taken.
fn after(number: u64) -> Result<u64, Contradiction> {
    match number {
        0..NUMBER_MAX => Ok(number + 1),
        _ => Err(Contradiction(format!(
            "the number {number} is none that was given"
        ))),
    }
}

fn next_layer(layer: LayerId) -> Result<LayerId, Contradiction> {
    match layer {
        0..LAYER_MAX => Ok(layer + 1),
        _ => Err(Contradiction(format!("there is no layer {layer}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{BaseLen, Inode, Kind, Move, image};

    fn file() -> Inode {
        Inode {
            kind: Kind::File,
            perm: 0o644,
            uid: 0,
            gid: 0,
            nlink: 1,
            rdev: 0,
            size: 0,
            atime: Time::default(),
            mtime: Time::default(),
            ctime: Time::default(),
            base_len: BaseLen::NONE,
            layered: 0,
            covered: 0,
            home: None,
            xattrs: None,
            target: None,
        }
    }

    /// Whatever was given before, in order as by older versions or by turns, is not given again: not after a replay, not after an image.
    #[test]
    fn no_number_is_given_twice() {
        let numbers = |from: u64| (from..from + 200).map(numbering::number);
        for count in 1..150 {
            let in_order = FIRST_INO..FIRST_INO + count;
            for given in [
                in_order.clone().collect(),
                in_order.map(numbering::number).collect::<Vec<_>>(),
            ] {
                let mut state = State::default();
                for ino in &given {
                    let made = Delta::Inode(*ino, Box::new(file()));
                    state.apply(&Record::Change(vec![made])).unwrap();
                }
                assert!(numbers(state.next_turn).all(|ino| !given.contains(&ino)));
                let mut image = Vec::new();
                image::write(&state, &mut image).unwrap();
                let read = image::read(&mut &image[..]).unwrap();
                assert!(numbers(read.next_turn).all(|ino| !given.contains(&ino)));
                // An older version goes on in order.
                assert!(given.iter().all(|ino| *ino < read.next_turn));
            }
        }
    }

    /// A record of numbers at the end of their range is a contradiction, at once: no llfs writes one.
    #[test]
    fn numbers_without_a_next_one_are_contradictions() {
        let inode = |ino| Delta::Inode(ino, Box::new(file()));
        let map = |from, len, block| Delta::Map {
            ino: FIRST_INO,
            from,
            len,
            to: Some(Src::Layer { layer: 1, block }),
        };
        let layer = Delta::Map {
            ino: FIRST_INO,
            from: 0,
            len: 1,
            to: Some(Src::Layer {
                layer: u32::MAX,
                block: 0,
            }),
        };
        let kept = Record::Switch {
            to: BASE_STATE,
            kept: u64::MAX,
            at: Time::default(),
            how: Move::Undo,
        };
        let wrong = [
            inode(u64::MAX),
            map(0, u64::MAX, 0),
            map(1 << 32, 1, 0),
            map(0, 2, u32::MAX),
            layer,
        ];
        let wrong = wrong.map(|delta| Record::Change(vec![delta]));
        for record in wrong.into_iter().chain([kept]) {
            let mut state = State::default();
            let file = Record::Change(vec![inode(FIRST_INO), map(0, 1, 0)]);
            state.apply(&file).unwrap();
            assert!(state.apply(&record).is_err(), "{record:?}");
        }
    }
}
