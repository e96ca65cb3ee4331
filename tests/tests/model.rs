//! Random operations through a real mount, with snapshots, reverts, undos, remounts and kills (of the daemon or its worker),
//! against the model: every answer, and after every step that is not an operation every
//! attribute, link count and byte of the whole tree.

use llfs_tests::dice::Dice;
use llfs_tests::killer::{Killer, kill_worker};
use llfs_tests::manifest::Ignore;
use llfs_tests::model::{Model, State};
use llfs_tests::mounted::Mounted;
use llfs_tests::op::{Flavour, Op, SLOTS, World, roll, sprout};
use llfs_tests::seeded;
use proptest::collection::vec;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Do(Op),
    Snap,
    /// To one of the snapshots there are.
    Revert(u16),
    Undo,
    /// One of the snapshots there are.
    Delete(u16),
    Remount,
    /// kill -9 of the daemon, with files open, and mounting again.
    Kill,
    /// kill -9 of its worker: what is open stays open, and nobody notices.
    KillWorker,
}

fn step() -> impl Strategy<Value = Step> {
    any::<[u16; 11]>().prop_map(|row| {
        let mut dice = Dice::new(&row);
        match dice.below(200) {
            0..7 => Step::Snap,
            7..11 => Step::Revert(dice.number()),
            11..14 => Step::Undo,
            14..15 => Step::Delete(dice.number()),
            15..17 => Step::Remount,
            17..19 => Step::Kill,
            19..24 => Step::KillWorker,
            _ => Step::Do(roll(&mut dice, Flavour::Modelled)),
        }
    })
}

fn op() -> impl Strategy<Value = Op> {
    any::<[u16; 10]>().prop_map(|row| roll(&mut Dice::new(&row), Flavour::Modelled))
}

/// A mount, the model of it, and the states that can be reverted to.
struct Run {
    mounted: Mounted,
    world: World,
    model: Model,
    snapshots: Vec<(String, State)>,
    discarded: Option<State>,
    count: usize,
}

impl Run {
    /// Makes the base by operations, before anything is mounted.
    fn over<'a>(base: impl Iterator<Item = &'a Op>) -> Run {
        let mounted = Mounted::prepare("model");
        let (mut model, mut world) = (Model::default(), World::new(&mounted.dir));
        model.learn_root(&mounted.dir);
        for op in base {
            operate(&mut model, &mut world, &mounted, op);
        }
        world.close_all();
        model.close_all();
        mounted.mount();
        model.learn_root_inode(&mounted.dir);
        model.inodes_are_never_reused();
        let run = Run {
            mounted,
            world,
            model,
            snapshots: Vec::new(),
            discarded: None,
            count: 0,
        };
        run.compare("the base through the mount");
        run
    }

    fn compare(&self, when: &str) {
        let ignore = Ignore {
            dir_sizes: true,
            ..Ignore::default()
        };
        self.model
            .manifest()
            .assert_same(&self.mounted.manifest(), ignore, when);
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Do(op) => {
                operate(&mut self.model, &mut self.world, &self.mounted, op);
                return;
            }
            Step::Snap => {
                let name = format!("s{}", self.count);
                self.count += 1;
                self.mounted.snap(&name);
                self.snapshots.push((name, self.model.snapshot()));
            }
            Step::Revert(which) => {
                if self.snapshots.is_empty() {
                    return;
                }
                let index = usize::from(*which) % self.snapshots.len();
                let (name, state) = self.snapshots[index].clone();
                self.mounted.revert(&name);
                self.switch(&state);
            }
            Step::Undo => match self.discarded.take() {
                Some(state) => {
                    self.mounted.undo();
                    self.switch(&state);
                }
                None => {
                    let refused = self.mounted.llctl(&["undo"]).finish();
                    assert_ne!(refused.code(), 0, "there was nothing to undo");
                }
            },
            Step::Delete(which) => {
                if self.snapshots.is_empty() {
                    return;
                }
                let index = usize::from(*which) % self.snapshots.len();
                self.mounted.delete(&self.snapshots.remove(index).0);
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

    fn switch(&mut self, state: &State) {
        let (discarded, lost) = self.model.revert(state);
        self.discarded = Some(discarded);
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
    }

    /// Every snapshot that is left still holds what it held.
    fn finish(mut self) {
        for (name, state) in std::mem::take(&mut self.snapshots) {
            self.mounted.revert(&name);
            self.switch(&state);
            self.compare(&format!("snapshot {name} at the end"));
        }
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
}

fn operate(model: &mut Model, world: &mut World, mounted: &Mounted, op: &Op) {
    let begin = Model::begin();
    let (expected, found) = (model.perform(op), world.perform(op));
    assert_eq!(expected, found, "{op:?}");
    if let Err(why) = model.learn(&mounted.dir, begin) {
        panic!("{op:?}: {why}");
    }
}

#[test]
fn random_histories_agree_with_the_model() {
    let histories = (any::<bool>(), vec(op(), 0..80), vec(step(), 1..160));
    seeded::run("model", 60, histories, |(sprouted, base, steps)| {
        let first = if sprouted { sprout() } else { Vec::new() };
        let mut run = Run::over(first.iter().chain(&base));
        let untouched = run.mounted.base_manifest();
        for step in &steps {
            run.take(step);
        }
        let now = run.mounted.base_manifest();
        untouched.assert_same(&now, Ignore::default(), "the base below the mount");
        run.finish();
    });
}

/// The same while workers are killed at any moment, in the middle of whatever goes on.
#[test]
fn random_histories_agree_with_the_model_while_workers_are_killed() {
    let histories = (vec(op(), 0..60), vec(step(), 60..200), any::<u64>());
    seeded::run("killed workers", 8, histories, |(base, steps, seed)| {
        let mut run = Run::over(sprout().iter().chain(&base));
        for steps in steps.chunks(40) {
            // A daemon that is killed itself, or unmounted, has no worker to be killed.
            let mounted = &run.mounted;
            let killer = Killer::start(&mounted.dir, mounted.pid(), seed, 100);
            for step in steps {
                match step {
                    Step::Kill | Step::Remount => {}
                    step => run.take(step),
                }
            }
            println!("{} kills", killer.stop());
        }
        run.finish();
    });
}
