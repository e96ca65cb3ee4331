//! A real disk that gets full under programs, and workers and the supervisor killed on it: programs are told that there is no space,
//! nothing that was acknowledged is lost, what gives space back works, and writing goes on when there is space.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use llfs_tests::acked::{Bytes, Orders, Work};
use llfs_tests::command::until;
use llfs_tests::dice::Random;
use llfs_tests::killer::kill_worker;
use llfs_tests::mounted::Mounted;
use llfs_tests::scratch::Scratch;
use llfs_tests::{loopback, seeded};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

const PATIENCE: Duration = Duration::from_secs(90);
const NAMES: [&str; 2] = ["sqlite", "git"];

/// Takes what the disk has left, but for less than a block.
fn fill(ballast: &Path) {
    let file = File::options().append(true).create(true).open(ballast);
    let file = file.unwrap();
    let mut piece = 32 << 20;
    while piece >= 4096 {
        let end = file.metadata().unwrap().len() as i64;
        match fallocate(file.as_fd(), FallocateFlags::empty(), end, piece) {
            Ok(()) => {}
            Err(Errno::ENOSPC) => piece /= 2,
            Err(error) => panic!("{error}"),
        }
    }
}

/// What it finds it finds in one run of several.
#[test]
fn a_disk_that_gets_full_under_programs_loses_nothing() {
    let first = seeded::first_seed();
    (first..first + 6).for_each(history);
}

fn history(seed: u64) {
    println!("LLFS_SEED={seed}");
    let mut random = Random::new(seed);
    let scratch = Scratch::new("programs-full");
    let disk = scratch.dir("disk");
    loopback::mount("ext4", 160, &scratch.path().join("disk.img"), &disk);
    let mut mounted = Mounted::prepare_in(scratch, None, Some(&disk.join("store")));
    mounted.allow(Duration::from_secs(400));
    mounted.by_itself();
    let notes = mounted.scratch.dir("notes");
    let copy = mounted.scratch.path().join("copy");
    let mut work = Work::begin(&mounted.dir, notes, true);
    mounted.mount();
    mounted.rules("[checkpoints]\nquiet = \"1s\"\nevery = \"2s\"\n");
    let mut programs = work.start(&NAMES, ["wal", "delete"][random.below(2)]);
    let ballast = disk.join("ballast");
    let orders = Orders::default();
    let (path, counts) = (mounted.path("bytes"), |work: &Work| {
        NAMES.map(|name| work.acknowledged(name).len())
    });
    let mut dice = Random::new(random.next_u64());
    let mut taken = None;
    let left = std::thread::scope(|scope| {
        let (orders, path) = (&orders, &path);
        let writer = scope.spawn(move || Bytes::default().work(path, &mut dice, orders, |_| ()));
        until("work in all of them", PATIENCE, || {
            let worked = counts(&work).iter().all(|n| *n > 3);
            (worked && orders.done.load(Relaxed) > 100).then_some(())
        });
        taken = Some(counts(&work));
        mounted.snap("kept");
        mounted.snap("given-up");
        // Each meets the full disk, also with a worker that has never known another one.
        for _ in 0..3 {
            let seen = orders.refused.load(Relaxed);
            let before = NAMES.map(|name| work.failures(name));
            until("no space for any of them", PATIENCE, || {
                fill(&ballast);
                let refused = NAMES
                    .iter()
                    .zip(before)
                    .all(|(name, n)| work.failures(name) > n);
                (refused && orders.refused.load(Relaxed) > seen).then_some(())
            });
            std::thread::sleep(Duration::from_millis(random.below(200) as u64));
            let workers = mounted.json(&["status"])["workers"].as_u64().unwrap();
            kill_worker(mounted.pid());
            // What was left for it is its own.
            until("the next worker", PATIENCE, || {
                (mounted.json(&["status"])["workers"].as_u64() > Some(workers)).then_some(())
            });
        }
        programs.assert_running();
        assert!(
            !writer.is_finished(),
            "a write failed, and not for want of space"
        );
        mounted.kill9();
        writer.join().unwrap()
    });
    programs.kill();
    fill(&ballast);
    mounted.mount();
    // Everything that was acknowledged can be read with no byte free,
    let bytes = left.settle(fs::read(&path).unwrap());
    let [transactions, commits] = counts(&work);
    work.check_sqlite(&mounted.dir, transactions, &copy);
    work.check_git(&mounted.dir, commits);
    // and a revert, an undo, a deletion and a prune work.
    mounted.revert("kept");
    let [then, commits_then] = taken.unwrap();
    work.check_sqlite(&mounted.dir, then, &copy);
    work.check_git(&mounted.dir, commits_then);
    mounted.undo();
    assert!(fs::read(&path).unwrap() == bytes.0, "undone");
    mounted.delete("given-up");
    mounted.llctl(&["prune", "--keep-last", "1", "--yes"]).ok();
    let names = mounted.names();
    assert!(
        names.contains(&"kept".to_owned()) && !names.contains(&"given-up".to_owned()),
        "{names:?}"
    );
    work.check_sqlite(&mounted.dir, transactions, &copy);
    // Writing goes on under the same mount when there is space.
    fs::remove_file(&ballast).unwrap();
    until("space", PATIENCE, || {
        fs::write(mounted.path("space"), vec![7; 4 << 20]).ok()
    });
    work.tidy();
    let failures = NAMES.map(|name| work.failures(name));
    let mut programs = work.start(&NAMES, "wal");
    let before = counts(&work);
    until("more work in all of them", PATIENCE, || {
        let now = counts(&work);
        now.iter()
            .zip(before)
            .all(|(n, old)| *n > old + 2)
            .then_some(())
    });
    programs.assert_running();
    programs.kill();
    assert_eq!(
        NAMES.map(|name| work.failures(name)),
        failures,
        "no space, though there is"
    );
    assert!(fs::read(&path).unwrap() == bytes.0, "what was not touched");
    mounted.unmount();
    mounted.mount();
    let [transactions, commits] = counts(&work);
    work.check_sqlite(&mounted.dir, transactions, &copy);
    work.check_git(&mounted.dir, commits);
    assert!(fs::read(&path).unwrap() == bytes.0, "mounted again");
    mounted.verify();
    println!(
        "{transactions} transactions, {commits} commits, {} writes; refused {failures:?} and {}",
        orders.done.load(Relaxed),
        orders.refused.load(Relaxed),
    );
}
