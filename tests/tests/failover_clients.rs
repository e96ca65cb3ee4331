//! Clients whose worker is killed in the middle of a long answer: the next worker goes on with it.
//!
//! `LLFS_KILLS` is how many rounds each test makes (a small number without it).

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::collections::HashSet;
use std::fs;
use std::time::{Duration, Instant};

use llctl::client::VerifyEvent;
use llfs_tests::command::{Finished, Run, until};
use llfs_tests::dice::Random;
use llfs_tests::killer::{kill_worker, worker_of};
use llfs_tests::manifest::{Ignore, walk};
use llfs_tests::mounted::Mounted;
use llfs_tests::{seeded, tree};

/// Rounds of which one at least has to kill an apply half-way.
const TRIES: u64 = 12;

fn rounds() -> u64 {
    seeded::number("LLFS_KILLS").unwrap_or(4)
}

/// Runs a command and kills the worker once, at some moment within `within`, and again as often as it lasts. The command's
/// end, and how often its worker was killed.
fn killed_meanwhile(
    mounted: &Mounted,
    run: Run,
    random: &mut Random,
    within: Duration,
) -> (Finished, u32) {
    let supervisor = mounted.pid();
    let mut command = run.start();
    let mut kills = 0;
    let begun = Instant::now();
    loop {
        let wait = Duration::from_micros(random.below(within.as_micros() as usize) as u64);
        if command.wait(wait).is_some() {
            return (command.finish(), kills);
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "it never ends");
        // After some it may end in peace: each has to begin anew.
        if kills < 3 && worker_of(supervisor).is_some() {
            kill_worker(supervisor);
            kills += 1;
        }
    }
}

/// How long a command takes when nobody is killed.
fn undisturbed(run: Run) -> Duration {
    let begun = Instant::now();
    run.finish().ok();
    begun.elapsed()
}

#[test]
fn a_diff_and_a_verify_are_whole_whatever_dies_meanwhile() {
    let seed = seeded::first_seed();
    println!("LLFS_SEED={seed}");
    let mut random = Random::new(seed);
    let mut mounted = Mounted::over("clients", |base| tree::plant(base, seed, 600).unwrap());
    mounted.allow(Duration::from_secs(150 + 10 * rounds()));
    mounted.snap("first");
    tree::churn(&mounted.dir, seed, 900, true).unwrap();
    for number in 0..12 {
        fs::write(mounted.path(&format!("big{number}")), vec![7; 4 << 20]).unwrap();
    }
    mounted.snap("second");
    let commands: [&[&str]; 3] = [
        &["diff", "first", "second", "--patch"],
        &["diff", "first"],
        &["verify"],
    ];
    for args in commands {
        let expected = mounted.llctl(args).finish().ok();
        let took = undisturbed(mounted.llctl(args));
        let mut kills = 0;
        for round in 0..rounds() {
            let run = mounted.llctl(args);
            let (done, died) = killed_meanwhile(&mounted, run, &mut random, took);
            assert_eq!(done.code(), 0, "{args:?}: {}", done.text());
            kills += died;
            if args[0] == "diff" {
                assert!(done.out() == expected.out(), "{args:?}, round {round}");
            } else {
                assert!(done.out().contains("no damage"), "{}", done.text());
            }
        }
        println!("{args:?}: {kills} kills");
    }
}

/// More workers die than a request may kill, each as soon as it has told that it is further.
#[test]
fn a_verify_ends_however_many_workers_die_as_long_as_it_gets_further() {
    let mut mounted = Mounted::over("clients-verify", |base| {
        fs::write(base.join("base"), "base").unwrap();
    });
    mounted.allow(Duration::from_secs(300));
    let snapshots = 30;
    for number in 0..snapshots {
        fs::write(mounted.path(&format!("file{number}")), [number; 9000]).unwrap();
        mounted.snap(&format!("s{number}"));
    }
    // Each has its checksum then, and the comparison with it is a step.
    until("the checksums", Duration::from_secs(120), || {
        let listed = mounted.json(&["list"]);
        let all = listed["snapshots"].as_array().unwrap();
        let there = all.iter().filter(|s| !s["hash"].is_null()).count();
        (there == usize::from(snapshots)).then_some(())
    });
    let supervisor = mounted.pid();
    let mut kills = 0;
    let mut told = HashSet::new();
    let verified = mounted.client().verify(|event| {
        if let VerifyEvent::Progress(progress) = event
            && told.insert((progress.what, progress.done))
        {
            kill_worker(supervisor);
            kills += 1;
        }
        Ok(())
    });
    let verified = verified.unwrap();
    assert_eq!(verified.findings, 0);
    assert_eq!(verified.snapshots, u64::from(snapshots));
    assert!(kills > 25, "{kills}");
}

#[test]
fn an_apply_whose_worker_dies_is_finished_and_says_so() {
    let seed = seeded::first_seed();
    println!("LLFS_SEED={seed}");
    let mut random = Random::new(seed);
    let mut mounted = Mounted::over("clients-apply", |base| {
        tree::plant(base, seed, 200).unwrap()
    });
    mounted.allow(Duration::from_secs(150 + 15 * rounds().max(TRIES)));
    let log = mounted.store.join("llfs.log");
    let finished = || {
        let log = fs::read_to_string(&log).unwrap();
        log.matches("finishing an apply").count()
    };
    let mut took = Duration::from_millis(200);
    let mut kills = 0;
    // A kill may come when an apply has just ended: the rounds go on until one came within.
    for round in (0..).take_while(|&n| n < rounds() || n < TRIES && finished() == 0) {
        tree::churn(&mounted.dir, seed + round, 200, true).unwrap();
        for number in 0..4 {
            let path = mounted.path(&format!("big{round}-{number}"));
            fs::write(path, vec![round as u8; 4 << 20]).unwrap();
        }
        // Between the first new name in the base and the last one there is time: each is a step of its own.
        let many = |round: u64, number: u32| format!("a-many{round}-{number:03}");
        for number in 0..500 {
            fs::write(mounted.path(&many(round, number)), []).unwrap();
            if round > 0 {
                // The churn may have had it.
                fs::remove_file(mounted.path(&many(round - 1, number))).ok();
            }
        }
        let head = mounted.manifest();
        let plan = mounted.json(&["apply", "--dry-run"]);
        let run = mounted.llctl(&["apply", "--yes"]).arg("--json");
        let begun = Instant::now();
        let (done, died) = match round {
            0 => (run.finish(), 0),
            // From when new names are in the base on it only goes forward.
            odd if odd % 2 == 1 => {
                let command = run.start();
                let first = mounted.base().join(many(round, 0));
                let worker = nix::unistd::Pid::from_raw(worker_of(mounted.pid()).unwrap());
                let begun = Instant::now();
                while !first.exists() {
                    assert!(begun.elapsed() < Duration::from_secs(60), "no new name");
                }
                nix::sys::signal::kill(worker, nix::sys::signal::Signal::SIGKILL).unwrap();
                (command.finish(), 1)
            }
            _ => killed_meanwhile(&mounted, run, &mut random, took / 3),
        };
        if round == 0 {
            took = begun.elapsed();
        }
        kills += died;
        assert_eq!(done.code(), 0, "round {round}: {}", done.text());
        let last = done.out().lines().last().unwrap().to_owned();
        let applied: serde_json::Value = serde_json::from_str(&last).unwrap();
        assert_eq!(
            applied["applied"]["changes"], plan["plan"]["changes"],
            "round {round}: {last}"
        );
        let what = format!("the base, round {round}");
        head.assert_same(&walk(&mounted.base()), Ignore::another_tree(), &what);
        head.assert_same(&mounted.manifest(), Ignore::another_tree(), "the mount");
        let left = mounted.json(&["apply", "--dry-run"]);
        assert_eq!(left["plan"]["bytes"], 0, "{left}");
    }
    let finished = finished();
    println!("{kills} kills, {finished} finished by the next worker");
    assert!(finished > 0, "no apply was killed half-way");
    mounted.verify();
}
