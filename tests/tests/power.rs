//! Power cuts of a real disk: the store is on an ext4 file system in an image file, of which copies are taken while the store is written,
//! without any sync. Each copy is what the disk of a machine holds that loses its power just then: ext4 replays its journal, llfs its
//! own, and the tree is compared with what was acknowledged.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use llfs_tests::command::Run;
use llfs_tests::dice::{Random, pattern};
use llfs_tests::loopback;
use llfs_tests::mounted::Mounted;
use llfs_tests::scratch::Scratch;

/// Copies that are taken, more with `LLFS_CASES`.
fn copies() -> u32 {
    let given = std::env::var("LLFS_CASES").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(6)
}

/// What step `n` of the history does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// A new file, and perhaps an fsync of it.
    Write {
        sync: bool,
    },
    /// The file of two steps before is another's name now.
    Rename,
    /// The file of three steps before is gone.
    Remove,
    Snap,
    /// Back to the snapshot of so many steps before, and what came between is kept.
    Revert(u32),
}

fn act(n: u32) -> Act {
    match n % 20 {
        2 | 12 => Act::Rename,
        7 => Act::Remove,
        4 | 14 => Act::Snap,
        18 => Act::Revert(4),
        m => Act::Write { sync: m % 3 == 0 },
    }
}

/// Lengths on both sides of what goes into the journal and what does not.
fn length(n: u32) -> usize {
    [700, 5000, 40_000, 200_000][n as usize % 4]
}

/// Name to the number whose pattern it holds.
type Tree = BTreeMap<String, u32>;

/// The trees after each number of steps, and that of each snapshot by its step.
struct History {
    trees: Vec<Tree>,
    snapshots: BTreeMap<u32, Tree>,
}

impl History {
    fn of(steps: u32) -> History {
        let mut now = Tree::new();
        let mut history = History {
            trees: vec![now.clone()],
            snapshots: BTreeMap::new(),
        };
        for n in 0..steps {
            match act(n) {
                Act::Write { .. } => drop(now.insert(format!("f{n}"), n)),
                Act::Rename => {
                    let held = now.remove(&format!("f{}", n - 2)).unwrap();
                    now.insert(format!("g{n}"), held);
                }
                Act::Remove => drop(now.remove(&format!("f{}", n - 2)).unwrap()),
                Act::Snap => drop(history.snapshots.insert(n, now.clone())),
                Act::Revert(back) => now = history.snapshots[&(n - back)].clone(),
            }
            history.trees.push(now.clone());
        }
        history
    }
}

/// Does a step; whether it acknowledged all before it.
fn step(mounted: &Mounted, n: u32) -> bool {
    let path = |letter: char, n: u32| mounted.path(&format!("{letter}{n}"));
    match act(n) {
        Act::Write { sync } => {
            let mut file = File::create(path('f', n)).unwrap();
            file.write_all(&pattern(n as u16, length(n))).unwrap();
            if sync {
                file.sync_all().unwrap();
            }
            sync
        }
        Act::Rename => {
            fs::rename(path('f', n - 2), path('g', n)).unwrap();
            false
        }
        Act::Remove => {
            fs::remove_file(path('f', n - 2)).unwrap();
            false
        }
        Act::Snap => {
            mounted.snap(&format!("s{n}"));
            true
        }
        Act::Revert(back) => {
            mounted.revert(&format!("s{}", n - back));
            true
        }
    }
}

/// A copy, and between which numbers of steps it was taken.
struct Copy {
    image: std::path::PathBuf,
    /// So many steps were acknowledged before.
    acknowledged: u32,
    /// So many had begun after.
    begun: u32,
}

#[test]
fn a_disk_that_lost_its_power_has_what_was_acknowledged() {
    let scratch = Scratch::new("power");
    // A file system that copies a file at one moment.
    let outer = scratch.dir("outer");
    loopback::mount("btrfs", 2048, &scratch.path().join("outer.img"), &outer);
    let disk = scratch.dir("disk");
    let image = outer.join("disk.img");
    loopback::mount("ext4", 400, &image, &disk);
    let mut mounted = Mounted::prepare_in(scratch, None, Some(&disk.join("store")));
    mounted.allow(Duration::from_secs(300 + 20 * u64::from(copies())));
    mounted.mount();
    let (acknowledged, begun, stop) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    let mut taken = Vec::new();
    let mut random = Random::new(11);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..3000 {
                if stop.load(Ordering::Acquire) != 0 {
                    break;
                }
                begun.store(n + 1, Ordering::Release);
                if step(&mounted, n) {
                    acknowledged.store(n + 1, Ordering::Release);
                }
            }
        });
        let patience = Duration::from_secs(60);
        llfs_tests::command::until("something acknowledged", patience, || {
            (acknowledged.load(Ordering::Acquire) > 0).then_some(())
        });
        for number in 0..copies() {
            // At any moment of what goes on.
            std::thread::sleep(Duration::from_micros(50_000 + random.next_u64() % 250_000));
            let before = acknowledged.load(Ordering::Acquire);
            let copy = outer.join(format!("copy{number}.img"));
            Run::new("cp")
                .arg("--reflink=always")
                .arg(&image)
                .arg(&copy)
                .ok();
            taken.push(Copy {
                image: copy,
                acknowledged: before,
                begun: begun.load(Ordering::Acquire),
            });
        }
        stop.store(1, Ordering::Release);
    });
    mounted.unmount();
    let history = History::of(begun.load(Ordering::Acquire));
    for copy in &taken {
        check(&mounted, &history, copy);
    }
    let last = taken.last().unwrap().begun;
    eprintln!("{} copies of the disk within {last} steps", taken.len());
}

fn check(mounted: &Mounted, history: &History, copy: &Copy) {
    let what = format!(
        "the copy within {}..={} steps",
        copy.acknowledged, copy.begun
    );
    let disk = mounted.scratch.dir("copy");
    Run::new("mount")
        .args(["-o", "loop"])
        .arg(&copy.image)
        .arg(&disk)
        .ok();
    let store = disk.join("store");
    if !store.join("superblock").exists() {
        assert_eq!(copy.acknowledged, 0, "{what}: the store is not there");
    } else {
        let mounting = mounted
            .llfs(&["mount"])
            .arg(&mounted.dir)
            .arg("--store")
            .arg(&store);
        mounting.ok();
        compare(mounted, history, copy, &what);
        mounted.llfs(&["unmount"]).arg(&mounted.dir).ok();
        let checked = mounted
            .llfs(&["check"])
            .arg(&mounted.dir)
            .arg("--store")
            .arg(&store);
        checked.ok();
    }
    Run::new("umount").arg(&disk).ok();
    fs::remove_dir(&disk).unwrap();
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn compare(mounted: &Mounted, history: &History, copy: &Copy, what: &str) {
    let found = names(&mounted.dir);
    let (first, last) = (copy.acknowledged as usize, copy.begun as usize);
    let same = |tree: &Tree| tree.keys().eq(found.iter());
    let at = (first..=last).rev().find(|n| same(&history.trees[*n]));
    let at = at.unwrap_or_else(|| panic!("{what}: {found:?} is no moment of the history"));
    // What was there when everything was acknowledged for the last time is whole; the rest may lack what was not synced.
    let sure = &history.trees[first];
    for (name, number) in &history.trees[at] {
        let bytes = fs::read(mounted.path(name)).unwrap();
        let right = pattern(*number as u16, length(*number));
        if sure.values().any(|held| held == number) {
            assert!(
                bytes == right,
                "{what}: {name} was acknowledged and is another"
            );
        }
        let of_it = bytes
            .iter()
            .zip(&right)
            .all(|(found, right)| found == right || *found == 0);
        assert!(
            bytes.len() <= right.len() && of_it,
            "{what}: {name} has bytes of others"
        );
    }
    mounted.verify();
    let listed = mounted.json(&["list"]);
    let listed: Vec<u32> = listed["snapshots"]
        .as_array()
        .unwrap()
        .iter()
        .map(|snapshot| snapshot["name"].as_str().unwrap()[1..].parse().unwrap())
        .collect();
    let due = history.snapshots.range(..copy.acknowledged).map(|(n, _)| n);
    for n in due {
        assert!(
            listed.contains(n),
            "{what}: the snapshot of step {n} is gone"
        );
    }
    for n in listed.iter().rev().take(4) {
        mounted.revert(&format!("s{n}"));
        let tree = &history.snapshots[n];
        assert!(
            tree.keys().eq(names(&mounted.dir).iter()),
            "{what}: snapshot {n}"
        );
        for (name, number) in tree {
            let right = pattern(*number as u16, length(*number));
            let same = fs::read(mounted.path(name)).unwrap() == right;
            assert!(same, "{what}: {name} of snapshot {n} is another");
        }
    }
}
