//! kill -9 of the worker, of the supervisor and of both, at random moments under programs, with checkpoints that take themselves: what was
//! acknowledged to any of them is there at the next mount.
//!
//! `LLFS_CASES` is how often all of the daemon is killed.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use llfs_tests::acked::{Bytes, Orders, Work};
use llfs_tests::command::{ended_within, until};
use llfs_tests::dice::Random;
use llfs_tests::killer::{kill_worker, worker_of};
use llfs_tests::mounted::Mounted;
use llfs_tests::seeded;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A checkpoint every other second: nothing rests that long.
const RULES: &str = "[checkpoints]\nquiet = \"1s\"\nevery = \"2s\"\nbulk = 20\n";
const PATIENCE: Duration = Duration::from_secs(60);

/// A snapshot that was reported, and what it must hold: the bytes of the one file, and so many transactions and commits.
struct Taken {
    name: String,
    bytes: Vec<u8>,
    transactions: usize,
    commits: usize,
}

/// Takes a snapshot, if the daemon lives so long.
fn snap(mounted: &Mounted, work: &Work, name: String, bytes: &Bytes) -> Option<Taken> {
    let count = |name: &str| work.acknowledged(name).len();
    let (transactions, commits) = (count("sqlite"), count("git"));
    let done = mounted.llctl(&["snap", &name]).finish();
    (done.code() == 0).then(|| Taken {
        name,
        bytes: bytes.0.clone(),
        transactions,
        commits,
    })
}

/// Kills the daemon with SIGKILL: the supervisor first, the worker first, or the supervisor alone, which takes the worker with it.
fn kill_all(supervisor: i32, how: usize) {
    let worker = worker_of(supervisor);
    let mut victims = vec![supervisor];
    match how {
        0 => {}
        1 => victims.extend(worker),
        _ => victims.splice(0..0, worker).for_each(drop),
    }
    for victim in victims {
        match kill(Pid::from_raw(victim), Signal::SIGKILL) {
            // A worker may have ended with its supervisor by now.
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => panic!("{victim}: {error}"),
        }
    }
    for victim in worker.into_iter().chain([supervisor]) {
        assert!(ended_within(victim, PATIENCE), "{victim} outlives a kill");
    }
}

#[test]
fn what_was_acknowledged_to_programs_outlives_all_of_the_daemon() {
    let seed = seeded::first_seed();
    let cases = seeded::number("LLFS_CASES").unwrap_or(4);
    println!("LLFS_SEED={seed}");
    let mut random = Random::new(seed);
    let mut mounted = Mounted::prepare("programs-killed");
    mounted.allow(Duration::from_secs(120 + 60 * cases));
    mounted.by_itself();
    let notes = mounted.scratch.dir("notes");
    let mut work = Work::begin(&mounted.dir, notes, false);
    mounted.mount();
    mounted.rules(RULES);
    let mut bytes = Bytes::default();
    let mut all: BTreeSet<String> = BTreeSet::new();
    let mut deaths = 0;
    for round in 0..cases {
        let mode = ["wal", "delete"][round as usize % 2];
        let before: Vec<usize> = ["sqlite", "git", "cargo"]
            .map(|name| work.acknowledged(name).len())
            .to_vec();
        let automatic = |mounted: &Mounted| {
            let all = mounted.names();
            all.iter().filter(|name| name.starts_with("auto")).count()
        };
        let marks = automatic(&mounted);
        let supervisor = mounted.pid();
        let mut programs = work.start(&["sqlite", "git", "cargo"], mode);
        let orders = Orders::default();
        let (left, taken) = std::thread::scope(|scope| {
            let mut dice = Random::new(random.next_u64());
            let (site, work, path) = (&mounted, &work, mounted.path("bytes"));
            let orders = &orders;
            let writer = scope.spawn(move || {
                let mut taken = Vec::new();
                let left = bytes.work(&path, &mut dice, orders, |now| {
                    let name = format!("k{round}-{}", taken.len());
                    taken.extend(snap(site, work, name, now));
                });
                (left, taken)
            });
            // Each has something to lose, and a checkpoint was taken by itself.
            until("work in all of them", PATIENCE, || {
                let more = ["sqlite", "git", "cargo"].iter().zip(&before);
                let more = more.fold(true, |all, (name, n)| {
                    all & (work.acknowledged(name).len() > *n)
                });
                (more && orders.done.load(Relaxed) > 60).then_some(())
            });
            until("a checkpoint", PATIENCE, || {
                (automatic(&mounted) > marks).then_some(())
            });
            for _ in 0..random.below(4) {
                std::thread::sleep(Duration::from_millis(random.below(400) as u64));
                kill_worker(supervisor);
                deaths += 1;
            }
            std::thread::sleep(Duration::from_millis(random.below(700) as u64));
            programs.assert_running();
            assert!(!writer.is_finished(), "a write failed when a worker died");
            kill_all(supervisor, round as usize % 3);
            writer.join().unwrap()
        });
        programs.end_with_the_mount();
        mounted.mount();
        bytes = left.settle(fs::read(mounted.path("bytes")).unwrap());
        let copy = mounted.scratch.path().join("copy");
        let count = |name: &str| work.acknowledged(name).len();
        let (transactions, commits) = (count("sqlite"), count("git"));
        work.check_sqlite(&mounted.dir, transactions, &copy);
        work.check_git(&mounted.dir, commits);
        let names = mounted.names();
        all.extend(taken.iter().map(|taken| taken.name.clone()));
        let gone: Vec<_> = all.iter().filter(|name| !names.contains(name)).collect();
        assert!(gone.is_empty(), "snapshots are gone: {gone:?}");
        for taken in taken.iter().rev().take(2) {
            let tree = mounted.path(&format!(".llfs/{}", taken.name));
            let found = fs::read(tree.join("bytes")).unwrap();
            assert!(found == taken.bytes, "{}: its bytes", taken.name);
            work.check_sqlite(&tree, taken.transactions, &copy);
            work.check_git(&tree, taken.commits);
        }
        if let Some(taken) = taken.last() {
            mounted.revert(&taken.name);
            assert!(fs::read(mounted.path("bytes")).unwrap() == taken.bytes);
            work.check_sqlite(&mounted.dir, taken.transactions, &copy);
            mounted.undo();
            assert!(fs::read(mounted.path("bytes")).unwrap() == bytes.0);
            work.check_sqlite(&mounted.dir, transactions, &copy);
        }
        work.tidy();
        work.check_cargo();
        println!(
            "round {round}: {transactions} transactions, {commits} commits, {} builds, {} writes, {} snapshots",
            work.acknowledged("cargo").len(),
            orders.done.load(Relaxed),
            names.len(),
        );
    }
    println!("{cases} deaths of all of the daemon, {deaths} of workers before");
    mounted.verify();
}
