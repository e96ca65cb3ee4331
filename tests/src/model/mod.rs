//! What a filesystem has to do, in memory.
//!
//! The model predicts the answer of every operation and every attribute. Two things it cannot
//! know beforehand, it learns from the real tree and holds it to them from then on: inode numbers
//! of new objects, and modification times, which must lie between the operation's begin and end.

mod answer;
mod learn;
mod rename;
mod state;

use nix::errno::Errno;

use crate::manifest::Manifest;
use crate::op::{Answer, Op, SLOTS};

pub use learn::Moment;
pub use state::{Body, Id, Node, State};

/// What an operation did to times, and which objects are new.
#[derive(Clone, Debug, Default)]
pub(crate) struct Touched {
    /// Their modification time is now.
    pub must: Vec<Id>,
    /// Their modification time is now or what it was.
    pub may: Vec<Id>,
    /// They are new: the inode number is to be learned.
    pub new: Vec<Id>,
}

#[derive(Clone, Debug)]
struct Handle {
    id: Id,
    append: bool,
}

/// The reference: the live state and what is held open in it.
#[derive(Clone, Debug, Default)]
pub struct Model {
    head: State,
    handles: [Option<Handle>; SLOTS],
    touched: Touched,
    /// Every inode number that was ever given, if a new one must not be among them.
    spent: Option<std::collections::BTreeSet<u64>>,
}

impl Model {
    /// Predicts the answer to `op` and changes the state by it.
    pub fn perform(&mut self, op: &Op) -> Answer {
        self.touched = Touched::default();
        let answer = answer::perform(self, op);
        if answer.is_err() {
            self.touched = Touched::default();
        }
        answer
    }

    /// The tree as the real one has to look.
    #[must_use]
    pub fn manifest(&self) -> Manifest {
        self.head.manifest()
    }

    /// A copy of the live state, without what is only held open.
    #[must_use]
    pub fn snapshot(&self) -> State {
        self.head.without_orphans()
    }

    /// Makes `state` the live one and gives back what it replaces. Open files whose object is not
    /// in it are forgotten: their slots are returned too.
    pub fn revert(&mut self, state: &State) -> (State, Vec<usize>) {
        let discarded = self.snapshot();
        self.head = state.clone();
        let mut lost = Vec::new();
        for (slot, handle) in self.handles.iter_mut().enumerate() {
            if handle
                .as_ref()
                .is_some_and(|handle| !self.head.nodes.contains_key(&handle.id))
            {
                *handle = None;
                lost.push(slot);
            }
        }
        (discarded, lost)
    }

    /// Forgets all open files.
    pub fn close_all(&mut self) {
        self.handles = Default::default();
        self.head = self.head.without_orphans();
    }

    /// From now on a new object's inode number must be one that was never used before.
    pub fn inodes_are_never_reused(&mut self) {
        self.spent = Some(self.head.nodes.values().map(|node| node.ino).collect());
    }

    fn handle(&self, slot: usize) -> Result<Handle, Errno> {
        self.handles[slot].clone().ok_or(Errno::EBADF)
    }

    fn close(&mut self, slot: usize) {
        self.handles[slot] = None;
        let held: Vec<Id> = self
            .handles
            .iter()
            .flatten()
            .map(|handle| handle.id)
            .collect();
        self.head
            .nodes
            .retain(|id, node| node.links > 0 || held.contains(id));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dice::Dice;
    use crate::manifest::{Ignore, walk};
    use crate::op::{Flavour, World, roll, sprout};
    use crate::scratch::Scratch;
    use crate::seeded;

    /// The model is right about the filesystem that the tests are run on, without llfs.
    #[test]
    fn the_model_agrees_with_a_plain_directory() {
        let op = any::<[u16; 10]>().prop_map(|row| roll(&mut Dice::new(&row), Flavour::Modelled));
        let ops = proptest::collection::vec(op, 1..150);
        seeded::run("model against a plain directory", 60, ops, |ops| {
            let scratch = Scratch::new("plain");
            let root = scratch.dir("tree");
            let (mut model, mut world) = (Model::default(), World::new(&root));
            model.learn_root(&root);
            for op in sprout().into_iter().chain(ops) {
                let begin = Model::begin();
                assert_eq!(model.perform(&op), world.perform(&op), "{op:?}");
                if let Err(why) = model.learn(&root, begin) {
                    panic!("{op:?}: {why}");
                }
            }
            let ignore = Ignore {
                dir_sizes: true,
                ..Ignore::default()
            };
            model
                .manifest()
                .assert_same(&walk(&root), ignore, "model and plain directory");
        });
    }
}
