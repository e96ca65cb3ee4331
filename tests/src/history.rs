//! A mount and the model of it, taken through one history together.

use std::path::{Path, PathBuf};

use crate::killer::kill_worker;
use crate::manifest::{Ignore, walk};
use crate::model::{Model, State};
use crate::mounted::Mounted;
use crate::op::{Op, SLOTS, World};

/// A step of a history.
#[derive(Clone, Debug)]
pub enum Step {
    /// One operation.
    Do(Op),
    /// A snapshot.
    Snap,
    /// A snapshot that nobody asked for, so that retention applies to it.
    Automatic,
    /// Retention, by hand: of those that nobody asked for the newest so many stay.
    Prune(u16),
    /// To one of the snapshots there are.
    Revert(u16),
    /// Back from the last reverts, one to three.
    Undo(u16),
    /// And forth again.
    Redo(u16),
    /// One of the snapshots there are.
    Delete(u16),
    /// Unmounting and mounting again.
    Remount,
    /// kill -9 of the daemon, with files open, and mounting again.
    Kill,
    /// kill -9 of its worker: what is open stays open, and nobody notices.
    KillWorker,
}

/// A mount, the model of it, and the states that can be reverted to.
#[derive(Debug)]
pub struct History {
    /// The mount.
    pub mounted: Mounted,
    /// The modelled tree: the mount, or a directory in it.
    root: PathBuf,
    world: World,
    model: Model,
    snapshots: Vec<Kept>,
    /// What was discarded, oldest first, and whether redo leads there and not undo.
    discarded: Vec<(bool, State)>,
    count: usize,
}

/// A snapshot, and what the tree was then.
#[derive(Clone, Debug)]
struct Kept {
    name: String,
    state: State,
    /// Nobody asked for it.
    automatic: bool,
}

/// Discarded states that are kept, the newest so many.
const DISCARDED_KEPT: usize = 64;

impl History {
    /// Makes the base by operations, before anything is mounted.
    pub fn over<'a>(base: impl Iterator<Item = &'a Op>) -> History {
        let mounted = Mounted::prepare("model");
        let root = mounted.dir.clone();
        Self::below(mounted, root, base)
    }

    /// The same for the directory `root` of what is about to be `mounted`.
    pub fn below<'a>(
        mounted: Mounted,
        root: PathBuf,
        base: impl Iterator<Item = &'a Op>,
    ) -> History {
        let (mut model, mut world) = (Model::default(), World::new(&root));
        model.learn_root(&root);
        for op in base {
            operate(&mut model, &mut world, &root, op);
        }
        world.close_all();
        model.close_all();
        mounted.mount();
        model.learn_root_inode(&root);
        model.inodes_are_never_reused();
        let run = History {
            mounted,
            root,
            world,
            model,
            snapshots: Vec::new(),
            discarded: Vec::new(),
            count: 0,
        };
        run.compare("the base through the mount");
        run
    }

    /// Every attribute and byte of the tree is the model's.
    ///
    /// # Panics
    /// If not.
    #[track_caller]
    pub fn compare(&self, when: &str) {
        let ignore = Ignore {
            dir_sizes: true,
            ..Ignore::default()
        };
        self.model
            .manifest()
            .assert_same(&walk(&self.root), ignore, when);
    }

    /// Takes a step, in the mount and in the model.
    ///
    /// # Panics
    /// When they differ.
    pub fn take(&mut self, step: &Step) {
        match step {
            Step::Do(op) => {
                operate(&mut self.model, &mut self.world, &self.root, op);
                return;
            }
            Step::Snap | Step::Automatic => {
                let name = format!("s{}", self.count);
                self.count += 1;
                let automatic = matches!(step, Step::Automatic);
                match automatic {
                    true => drop(
                        self.mounted
                            .llctl(&["snap", &name, "--reason", "automatic"])
                            .ok(),
                    ),
                    false => self.mounted.snap(&name),
                }
                let state = self.model.snapshot();
                self.snapshots.push(Kept {
                    name,
                    state,
                    automatic,
                });
            }
            Step::Prune(keep) => self.prune(usize::from(*keep)),
            Step::Revert(which) => {
                if self.snapshots.is_empty() {
                    return;
                }
                let index = usize::from(*which) % self.snapshots.len();
                let kept = self.snapshots[index].clone();
                let before = self.newest_discarded();
                self.mounted.revert(&kept.name);
                self.revert(&kept.state, before);
            }
            Step::Undo(steps) => self.walk("undo", *steps),
            Step::Redo(steps) => self.walk("redo", *steps),
            Step::Delete(which) => {
                if self.snapshots.is_empty() {
                    return;
                }
                let index = usize::from(*which) % self.snapshots.len();
                self.mounted.delete(&self.snapshots.remove(index).name);
            }
            Step::Remount => {
                self.world.close_all();
                self.mounted.remount();
                self.model.close_all();
            }
            Step::KillWorker => {
                kill_worker(self.mounted.pid());
                // What comes next may well come while there is none.
                return;
            }
            Step::Kill => {
                self.mounted.kill9();
                self.mounted.mount();
                // Descriptors of the dead mount are still open until here.
                self.world.close_all();
                self.model.close_all();
            }
        }
        self.compare(&format!("after {step:?}"));
    }

    /// Reverts some of what is not modelled to a snapshot, if it is there and that can be done, and nothing else. Whether it was done.
    ///
    /// # Panics
    /// When something else came of it.
    pub fn revert_beside(&mut self, name: &str, pattern: &str, on_conflict: &str) -> bool {
        let before = self.newest_discarded();
        let part = ["revert", name, "--path", pattern];
        let run = self.mounted.llctl(&part);
        let done = run.arg("--on-conflict").arg(on_conflict).finish();
        // No such snapshot any more, or nothing there that the pattern chooses; names that cannot be taken without others.
        assert!([0, 4, 10].contains(&done.code()), "{}", done.text());
        if done.code() == 0 {
            let same = self.model.snapshot();
            self.revert(&same, before);
        }
        self.compare("after the revert of what is beside it");
        done.code() == 0
    }

    /// Prunes. What it says it gave up, and nothing else, is gone: the oldest of those that nobody asked for. Others than those of this
    /// history may be among them.
    fn prune(&mut self, keep: usize) {
        let before = self.mounted.json(&["list"]);
        let keep = keep.to_string();
        let done = self.mounted.json(&["prune", "--keep-last", &keep, "--yes"]);
        let after = self.mounted.json(&["list"]);
        let names = |all: &serde_json::Value| -> Vec<String> {
            let all = all["snapshots"].as_array().expect("snapshots are listed");
            let names = all.iter().filter_map(|s| s["name"].as_str());
            names.map(str::to_owned).collect()
        };
        let (before, gone, after) = (names(&before), names(&done), names(&after));
        // Marks come and go by themselves.
        let ours = |name: &&String| self.snapshots.iter().any(|kept| &kept.name == *name);
        let mut ours = before.iter().filter(ours);
        let lost = ours.find(|n| !after.contains(n) && !gone.contains(n));
        assert_eq!(lost, None, "gone, and not by the prune");
        let left = gone.iter().find(|name| after.contains(name));
        assert_eq!(left, None, "given up, and still there");
        self.follow(&after);
    }

    /// Retention worked behind the scenes: of the snapshots that nobody asked for the oldest may be gone.
    ///
    /// # Panics
    /// When another one is gone.
    pub fn follow_retention(&mut self) {
        self.follow(&self.mounted.names());
    }

    fn follow(&mut self, there: &[String]) {
        let mut one_is_there = false;
        for kept in &self.snapshots {
            let is_there = there.contains(&kept.name);
            assert!(is_there || kept.automatic, "{} is gone", kept.name);
            assert!(
                is_there || !one_is_there,
                "{} is gone, and older ones are there",
                kept.name
            );
            one_is_there |= is_there && kept.automatic;
        }
        self.snapshots.retain(|kept| there.contains(&kept.name));
    }

    /// The number of the state that was discarded last.
    fn newest_discarded(&self) -> Option<u64> {
        let listed = self.mounted.json(&["list"]);
        let all = listed["discarded"].as_array();
        let ids = all.expect("discarded states are listed").iter();
        ids.filter_map(|state| state["id"].as_u64()).max()
    }

    /// A revert was done, before which this was what had been discarded last: what it discarded goes to the pile of undo, and all of the pile
    /// of redo with it. One that changed nothing may leave nothing to undo.
    fn revert(&mut self, state: &State, before: Option<u64>) {
        let discarded = self.switch(state);
        if self.newest_discarded() == before {
            return;
        }
        self.discarded.push((false, discarded));
        self.discarded.iter_mut().for_each(|d| d.0 = false);
        let excess = self.discarded.len().saturating_sub(DISCARDED_KEPT);
        self.discarded.drain(..excess);
    }

    /// One step, or two or three at once, of undo or redo.
    fn walk(&mut self, command: &str, steps: u16) {
        let steps = usize::from(steps % 4).max(1);
        let redo = command == "redo";
        let done = self.mounted.llctl(&[command, &steps.to_string()]).finish();
        let there = self.discarded.iter().filter(|d| d.0 == redo).count();
        assert_eq!(done.code() == 0, steps <= there, "{}", done.text());
        if steps > there {
            return;
        }
        // The states that are passed change piles as if each step had been taken for itself.
        let mut passed = Vec::new();
        for _ in 0..steps {
            let top = self.discarded.iter().rposition(|d| d.0 == redo);
            passed.push(self.discarded.remove(top.expect("counted")).1);
        }
        let to = passed.pop().expect("at least one step");
        let old = self.switch(&to);
        let all = std::iter::once(old).chain(passed);
        self.discarded.extend(all.map(|state| (!redo, state)));
    }

    /// The head is `state` now. Gives what it was.
    fn switch(&mut self, state: &State) -> State {
        let (discarded, lost) = self.model.revert(state);
        for slot in lost {
            self.world.close(slot);
        }
        // What stays open shows the state that was reverted to, before any path is used.
        for slot in 0..SLOTS {
            let whole = Op::HandleRead {
                slot,
                offset: 0,
                len: 200_000,
            };
            for op in [Op::HandleStat { slot }, whole] {
                let (expected, found) = (self.model.perform(&op), self.world.perform(&op));
                assert_eq!(expected, found, "an open file after a revert: {op:?}");
            }
        }
        discarded
    }

    /// What the last revert discarded was given up.
    pub fn forget_discarded(&mut self) {
        self.discarded.clear();
    }

    /// Whether there is a revert to undo.
    #[must_use]
    pub fn can_undo(&self) -> bool {
        self.discarded.iter().any(|d| !d.0)
    }

    /// How many snapshots there are.
    #[must_use]
    pub fn snapshots(&self) -> usize {
        self.snapshots.len()
    }

    /// Every snapshot that is left still holds what it held.
    ///
    /// # Panics
    /// If not.
    pub fn finish(mut self) {
        self.compare_all();
        self.mounted.verify();
        self.world.close_all();
        let base = self.mounted.base_manifest();
        self.mounted.unmount();
        let ignore = Ignore {
            inodes: false,
            ..Ignore::default()
        };
        base.assert_same(
            &self.mounted.base_manifest(),
            ignore,
            "the base after unmounting",
        );
    }

    /// Reverts to each snapshot and compares.
    ///
    /// # Panics
    /// When one is not what it was.
    pub fn compare_all(&mut self) {
        for Kept { name, state, .. } in self.snapshots.clone() {
            let before = self.newest_discarded();
            self.mounted.revert(&name);
            self.revert(&state, before);
            self.compare(&format!("snapshot {name}"));
        }
    }
}

fn operate(model: &mut Model, world: &mut World, root: &Path, op: &Op) {
    let begin = Model::begin();
    let (expected, found) = (model.perform(op), world.perform(op));
    assert_eq!(expected, found, "{op:?}");
    if let Err(why) = model.learn(root, begin) {
        panic!("{op:?}: {why}");
    }
}
