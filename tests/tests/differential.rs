//! The same random operations through a mount and in a plain directory: every answer and both
//! trees must be the same.

use llfs_tests::command::Run;
use llfs_tests::dice::Dice;
use llfs_tests::manifest::{Ignore, walk};
use llfs_tests::model::Model;
use llfs_tests::mounted::Mounted;
use llfs_tests::op::{Flavour, Op, World, roll, sprout};
use llfs_tests::{seeded, tree};
use proptest::collection::vec;
use proptest::prelude::*;

fn op() -> impl Strategy<Value = Op> {
    any::<[u16; 14]>().prop_map(|row| roll(&mut Dice::new(&row), Flavour::Wild))
}

fn compare(mounted: &Mounted, plain: &std::path::Path, since: (i64, i64), what: &str) {
    let ignore = Ignore {
        times_since: Some(since),
        ..Ignore::another_tree()
    };
    walk(plain).assert_same(&mounted.manifest(), ignore, what);
}

/// Operations that no model is needed for: links that lead somewhere, ACLs and their inheritance.
#[test]
fn a_mount_answers_like_a_plain_directory() {
    let histories = (vec(op(), 0..60), vec(op(), 1..250), any::<bool>());
    seeded::run("differential", 50, histories, |(base, ops, snapshots)| {
        let mounted = Mounted::prepare("differential");
        let plain = mounted.scratch.path().join("plain");
        let mut before = World::new(&mounted.dir);
        for op in sprout().iter().chain(&base) {
            // Whatever they answer: both trees start from what they made.
            drop(before.perform(op));
        }
        before.close_all();
        Run::new("cp").arg("-a").arg(&mounted.dir).arg(&plain).ok();
        mounted.mount();
        let since = Model::begin();
        compare(&mounted, &plain, since, "the copy of the base");
        let (mut through, mut beside) = (World::new(&mounted.dir), World::new(&plain));
        for (number, op) in ops.iter().enumerate() {
            let (expected, found) = (beside.perform(op), through.perform(op));
            assert_eq!(expected, found, "operation {number}, {op:?}");
            if let Op::Allocate { at, .. } = op {
                // Whether an allocation that changes no byte is a modification, filesystems
                // see differently.
                let same = Op::Utimens {
                    at: at.clone(),
                    seconds: 1_600_000_000,
                    nanoseconds: 7,
                };
                assert_eq!(
                    beside.perform(&same),
                    through.perform(&same),
                    "{number}, {same:?}"
                );
            }
            if snapshots && number % 40 == 20 {
                mounted.snap(&format!("at-{number}"));
            }
        }
        compare(&mounted, &plain, since, "both trees at the end");
    });
}

/// Everything that a copy of a big tree meets.
#[test]
fn a_copied_tree_is_the_same_through_a_mount() {
    let mounted = Mounted::over("copied", |base| {
        tree::plant(base, 11, 800).expect("it can be made")
    });
    let plain = mounted.scratch.path().join("plain");
    Run::new("cp").arg("-a").arg(&mounted.dir).arg(&plain).ok();
    let ignore = Ignore::another_tree();
    mounted
        .base_manifest()
        .assert_same(&mounted.manifest(), ignore, "base and mount");
    walk(&plain).assert_same(&mounted.manifest(), ignore, "copied out");
    Run::new("cp")
        .arg("-a")
        .arg(&plain)
        .arg(mounted.path("inside"))
        .ok();
    walk(&plain).assert_same(&walk(&mounted.path("inside")), ignore, "copied in");
}
