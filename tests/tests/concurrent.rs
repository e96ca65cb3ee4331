//! Several processes change one tree while snapshots and reverts go on.
//!
//! `LLFS_BIG` is the number of objects of the big tree (2,000 unless set; 50,000 is what the
//! project promises). The seeds of the processes are in the failure messages.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use llfs_tests::command::{Run, Running};
use llfs_tests::manifest::{Ignore, Manifest};
use llfs_tests::mounted::Mounted;
use llfs_tests::sys::Mapping;
use llfs_tests::{invariants, seeded, tree};

const PROCESSES: u64 = 4;

/// Starts the processes that change the tree, each with a seed of its own.
fn start_churning(mounted: &Mounted, seed: u64, count: usize, mapping: bool) -> Vec<Running> {
    let program = env!("CARGO_BIN_EXE_llfs-churn");
    let numbers = |seed: u64| [seed.to_string(), count.to_string(), mapping.to_string()];
    let start = |seed| Run::new(program).arg(&mounted.dir).args(numbers(seed));
    (seed..seed + PROCESSES)
        .map(|seed| start(seed).patience(Duration::from_secs(400)).start())
        .collect()
}

fn finish(churners: Vec<Running>) -> usize {
    churners
        .into_iter()
        .map(|churner| {
            let out = churner.finish().ok().out();
            out.split(' ').nth(1).unwrap().parse::<usize>().unwrap()
        })
        .sum()
}

/// What must be true of every tree: link counts are the number of names, every listed name can be
/// looked up and is the listed object, the parents' counts fit.
fn check_invariants(mounted: &Mounted) -> Manifest {
    let manifest = mounted.manifest();
    let mut problems = invariants::problems(&manifest);
    problems.extend(invariants::listing_problems(&mounted.dir));
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    mounted.verify();
    manifest
}

/// The criterion of the project: a random tree, changed in every way by several processes,
/// reverts to an identical state every time.
#[test]
fn a_big_tree_reverts_to_the_identical_state_every_time() {
    let objects = usize::try_from(seeded::number("LLFS_BIG").unwrap_or(2000)).unwrap();
    let seed = seeded::first_seed();
    println!("{objects} objects, LLFS_SEED={seed}");
    let mut mounted = Mounted::prepare("big");
    mounted.allow(Duration::from_secs(120 + objects as u64 / 20));
    tree::plant(&mounted.dir, seed, objects / 2).unwrap();
    let base = mounted.base_manifest();
    mounted.mount();
    // Half of the tree is in the base, the other half in the first layer.
    fs::create_dir(mounted.path("second")).unwrap();
    tree::plant(&mounted.path("second"), seed + 1, objects / 2).unwrap();
    let before = mounted.manifest();
    mounted.snap("before");
    for round in 0..3 {
        let done = finish(start_churning(
            &mounted,
            seed + 10 + round * PROCESSES,
            objects / 4,
            true,
        ));
        assert!(
            done > objects / 8,
            "the processes changed next to nothing: {done}"
        );
        let changed = check_invariants(&mounted);
        assert!(!before.differences(&changed, Ignore::default()).is_empty());
        mounted.revert("before");
        before.assert_same(&mounted.manifest(), Ignore::default(), "reverted");
        mounted.undo();
        changed.assert_same(&mounted.manifest(), Ignore::default(), "the revert undone");
        if round == 1 {
            mounted.kill9();
            mounted.mount();
            changed.assert_same(&mounted.manifest(), Ignore::default(), "after a kill");
        }
        mounted.revert("before");
        before.assert_same(&mounted.manifest(), Ignore::default(), "reverted again");
    }
    base.assert_same(&mounted.base_manifest(), Ignore::default(), "the base");
}

#[test]
fn snapshots_and_reverts_while_processes_change_the_tree() {
    let seed = seeded::first_seed() + 1000;
    println!("LLFS_SEED={}", seed - 1000);
    let mounted = Mounted::over("storm", |base| tree::plant(base, 5, 300).unwrap());
    mounted.snap("start");
    let start = mounted.manifest();
    let mut churners = start_churning(&mounted, seed, 2500, false);
    for round in 0..1000 {
        let name = format!("s{round}");
        mounted.snap(&name);
        if round % 4 == 3 {
            mounted.revert(&format!("s{}", round - 2));
        }
        if round % 9 == 8 {
            mounted.undo();
        }
        if round > 5 && round % 2 == 0 {
            mounted.delete(&format!("s{}", round - 6));
        }
        if churners
            .iter_mut()
            .all(|churner| churner.wait(Duration::ZERO).is_some())
        {
            break;
        }
    }
    finish(churners);
    check_invariants(&mounted);
    mounted.revert("start");
    start.assert_same(
        &mounted.manifest(),
        Ignore::default(),
        "the state at the start",
    );
    check_invariants(&mounted);
    mounted.remount();
    start.assert_same(
        &mounted.manifest(),
        Ignore::default(),
        "the state at the start, remounted",
    );
}

/// A file is all one letter in every snapshot and at every read, though it is always rewritten:
/// a write of one block is whole or not there.
#[test]
fn a_snapshot_is_one_moment_of_all_files() {
    let mounted = Mounted::new("moment");
    let files: Vec<_> = (0..8).map(|n| mounted.path(&format!("f{n}"))).collect();
    for file in &files {
        fs::write(file, 0u64.to_le_bytes()).unwrap();
    }
    let stop = AtomicBool::new(false);
    let read = |n: usize| u64::from_le_bytes(fs::read(&files[n]).unwrap().try_into().unwrap());
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            use std::os::unix::fs::FileExt;
            let open: Vec<_> = files
                .iter()
                .map(|f| fs::File::options().write(true).open(f).unwrap())
                .collect();
            let mut number = 0u64;
            // One after the other: at each moment the numbers fall by at most one in their order.
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                for file in &open {
                    file.write_all_at(&number.to_le_bytes(), 0).unwrap();
                }
            }
        });
        for round in 0..20 {
            mounted.snap(&format!("m{round}"));
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap();
    });
    let mut last = 0;
    for round in 0..20 {
        mounted.revert(&format!("m{round}"));
        let numbers: Vec<u64> = (0..files.len()).map(read).collect();
        let falls = numbers.windows(2).filter(|pair| pair[0] != pair[1]).count();
        let ordered = numbers
            .windows(2)
            .all(|pair| pair[0] == pair[1] || pair[0] == pair[1] + 1);
        assert!(
            ordered && falls <= 1,
            "snapshot m{round} holds two moments: {numbers:?}"
        );
        assert!(
            numbers[0] >= last,
            "snapshot m{round} is older than the one before it"
        );
        last = numbers[0];
    }
    assert!(last > 0, "the writer never ran");
}

/// Names in one directory, fought over by threads.
#[test]
fn one_directory_under_many_threads() {
    let mounted = Mounted::new("names");
    let stop = AtomicBool::new(false);
    let path = |n: usize| mounted.path(&format!("n{}", n % 7));
    std::thread::scope(|scope| {
        for thread in 0..6usize {
            let stop = &stop;
            let path = &path;
            scope.spawn(move || {
                let mut n = thread;
                while !stop.load(Ordering::Relaxed) {
                    n = n.wrapping_mul(31).wrapping_add(7);
                    let (one, two) = (path(n), path(n / 7));
                    // Whoever loses gets an error, nobody gets a broken directory.
                    let lost = match n % 5 {
                        0 => fs::write(&one, "text").is_err(),
                        1 => fs::rename(&one, &two).is_err(),
                        2 => fs::hard_link(&one, &two).is_err(),
                        3 => fs::remove_file(&one).is_err(),
                        _ => fs::read(&one).is_err(),
                    };
                    std::hint::black_box(lost);
                }
            });
        }
        for round in 0..15 {
            mounted.snap(&format!("r{round}"));
            if round % 3 == 2 {
                mounted.revert(&format!("r{}", round - 1));
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    check_invariants(&mounted);
    mounted.kill9();
    mounted.mount();
    check_invariants(&mounted);
}

/// The concurrency suite met ENODEV here, which is for what is no file and which no program expects of one.
#[test]
fn fallocate_of_a_file_that_a_revert_took_away_is_stale() {
    use nix::errno::Errno;
    use nix::fcntl::{FallocateFlags, fallocate};
    let mounted = Mounted::new("gone");
    mounted.snap("before");
    let file = fs::File::create_new(mounted.path("file")).unwrap();
    file.set_len(10_000).unwrap();
    mounted.revert("before");
    assert_eq!(
        fallocate(&file, FallocateFlags::empty(), 0, 100),
        Err(Errno::ESTALE)
    );
}

/// Names are exchanged while a revert makes the kernel forget what it knows of them: it must not go on
/// with what it knew, under another name that the revert did not change.
#[test]
fn names_that_are_exchanged_during_a_revert_mean_what_they_should() {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    let mounted = Mounted::new("exchanged");
    // Forgotten first, which takes a while.
    fs::create_dir(mounted.path("many")).unwrap();
    fs::create_dir(mounted.path("three")).unwrap();
    let names = ["p", "q", "r"].map(|name| mounted.path("three").join(name));
    for (name, text) in names.iter().zip(["P", "Q", "R"]) {
        fs::write(name, text).unwrap();
    }
    let exchange = |one: usize, two: usize| {
        let flags = RenameFlags::RENAME_EXCHANGE;
        renameat2(AT_FDCWD, &names[one], AT_FDCWD, &names[two], flags).unwrap();
    };
    mounted.snap("before");
    for round in 0..20 {
        for n in 0..1000 {
            fs::write(mounted.path("many").join(n.to_string()), "text").unwrap();
        }
        exchange(0, 1);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let exchanger = scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    exchange(0, 2);
                }
            });
            mounted.revert("before");
            stop.store(true, Ordering::Relaxed);
            exchanger.join().unwrap();
        });
        let mut found = names.clone().map(|name| fs::read_to_string(name).unwrap());
        found.sort();
        assert_eq!(found, ["P", "Q", "R"], "round {round}");
        mounted.revert("before");
    }
}

/// What is stored through a mapping while a revert goes on is stored, or undone with the rest: what the kernel shows of
/// it is what is there.
#[test]
fn a_store_during_a_revert_is_kept_or_undone() {
    const PAGES: usize = 8192;
    let mounted = Mounted::new("stores");
    fs::write(mounted.path("mapped"), vec![1; PAGES * 4096]).unwrap();
    for n in 0..1000 {
        fs::write(mounted.path(&format!("f{n}")), "text").unwrap();
    }
    mounted.snap("before");
    for round in 0..8u8 {
        let path = mounted.path("mapped");
        let file = fs::File::options()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        let mapping = Mapping::new(&file, PAGES * 4096, true).unwrap();
        // Forgotten after the mapped file, which takes a while.
        for n in 0..1000 {
            fs::write(mounted.path(&format!("f{n}")), "other text").unwrap();
        }
        mapping.write(0, &[9]);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // Each page once, so that nothing stored later covers what got lost.
                for page in (1..PAGES).take_while(|_| !stop.load(Ordering::Relaxed)) {
                    mapping.write(page * 4096, &[round + 2]);
                    file.sync_data().unwrap();
                }
            });
            mounted.revert("before");
            stop.store(true, Ordering::Relaxed);
        });
        let shown = fs::read(&path).unwrap();
        drop((mapping, file));
        mounted.kill9();
        mounted.mount();
        let there = fs::read(&path).unwrap();
        let wrong: Vec<_> = (0..PAGES)
            .filter(|page| shown[page * 4096] != there[page * 4096])
            .collect();
        assert!(wrong.is_empty(), "round {round}: pages {wrong:?}");
    }
}
