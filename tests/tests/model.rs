//! Random operations through a real mount, with snapshots, reverts, undos, remounts and kills (of the daemon or its worker),
//! against the model: every answer, and after every step that is not an operation every
//! attribute, link count and byte of the whole tree.

use llfs_tests::dice::Dice;
use llfs_tests::history::{History, Step};
use llfs_tests::killer::Killer;
use llfs_tests::manifest::Ignore;
use llfs_tests::op::{Flavour, Op, roll, sprout};
use llfs_tests::seeded;
use proptest::collection::vec;
use proptest::prelude::*;

fn step() -> impl Strategy<Value = Step> {
    any::<[u16; 11]>().prop_map(|row| {
        let mut dice = Dice::new(&row);
        match dice.below(200) {
            0..7 => Step::Snap,
            7..11 => Step::Revert(dice.number()),
            11..14 => Step::Undo(dice.number()),
            24..27 => Step::Redo(dice.number()),
            14..15 => Step::Delete(dice.number()),
            15..17 => Step::Remount,
            17..19 => Step::Kill,
            19..24 => Step::KillWorker,
            27..29 => Step::Automatic,
            29..30 => Step::Prune(dice.number() % 4),
            _ => Step::Do(roll(&mut dice, Flavour::Modelled)),
        }
    })
}

fn op() -> impl Strategy<Value = Op> {
    any::<[u16; 10]>().prop_map(|row| roll(&mut Dice::new(&row), Flavour::Modelled))
}

#[test]
fn random_histories_agree_with_the_model() {
    let histories = (any::<bool>(), vec(op(), 0..80), vec(step(), 1..160));
    seeded::run("model", 60, histories, |(sprouted, base, steps)| {
        let first = if sprouted { sprout() } else { Vec::new() };
        let mut run = History::over(first.iter().chain(&base));
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
        let mut run = History::over(sprout().iter().chain(&base));
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
