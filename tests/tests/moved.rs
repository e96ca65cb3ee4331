//! Directories and stores that are moved, renamed, copied or made anew, and clocks that jump.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use llfs_tests::command::{Finished, Run, until};
use llfs_tests::manifest::{Ignore, walk};
use llfs_tests::mounted::Mounted;
use llfs_tests::scratch::Scratch;
use llfs_tests::{loopback, preload, tree};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const NOBODY: u32 = 65534;

/// An unmounted directory with changes, whose store is where stores are by themselves.
fn changed(name: &str) -> Mounted {
    let mut mounted = Mounted::prepare(name);
    tree::plant(&mounted.dir, 3, 40).unwrap();
    fs::write(mounted.dir.join("kept"), "kept").unwrap();
    // Stores of root's would be in /var/lib/llfs.
    own_all(&mounted.dir);
    next_second(&mounted.dir);
    mounted.become_user(NOBODY);
    mounted.llfs(&["mount"]).arg(&mounted.dir).ok();
    // Not even root may enter it.
    let script = "cd $0; echo more >> kept; echo new > new; mkdir made; echo x > made/x";
    let run = mounted.program("bash").args(["-ec", script]);
    run.arg(&mounted.dir).ok();
    mounted.snap("first");
    let script = "cd $0; rm new; echo second > kept";
    let run = mounted.program("bash").args(["-ec", script]);
    run.arg(&mounted.dir).ok();
    mounted.unmount();
    mounted
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Stores know their age in seconds, and one must be younger than its directory.
fn next_second(dir: &Path) {
    let born = fs::metadata(dir).unwrap().created().unwrap();
    until("the next second", Duration::from_secs(10), || {
        (seconds(SystemTime::now()) > seconds(born)).then_some(())
    });
}

/// Where stores are by themselves, all of them.
fn stores(mounted: &Mounted) -> Vec<PathBuf> {
    let place = mounted.scratch.path().join("state/llfs");
    let mut all: Vec<PathBuf> = fs::read_dir(place)
        .unwrap()
        .map(|found| found.unwrap().path())
        .collect();
    all.sort();
    all
}

fn own_all(dir: &Path) {
    for path in tree::paths(dir) {
        std::os::unix::fs::lchown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

fn refused(run: Run, words: &[&str]) -> Finished {
    let finished = run.finish();
    assert_ne!(finished.code(), 0, "{}", finished.text());
    for word in words {
        let text = finished.err();
        assert!(text.contains(word), "no {word:?} in {text}");
    }
    finished
}

/// The changes, seen by the user who made them.
fn has_changes(mounted: &Mounted, dir: &Path) {
    let cat = |name: &str| mounted.program("cat").arg(dir.join(name)).ok().out();
    assert_eq!(cat("kept"), "second\n");
    let llctl = |args: &[&str]| {
        let run = mounted.program(mounted.scratch.path().join("programs/llctl"));
        run.arg("-C").arg(dir).args(args).ok();
    };
    llctl(&["revert", "first"]);
    assert_eq!(cat("kept"), "keptmore\n");
    assert_eq!(cat("made/x"), "x\n");
    llctl(&["undo"]);
    assert_eq!(cat("kept"), "second\n");
}

#[test]
fn a_renamed_directory_gets_its_store_back() {
    let mounted = changed("moved");
    let dir = mounted.scratch.path().join("base renamed");
    fs::rename(&mounted.dir, &dir).unwrap();
    let was = mounted.dir.to_str().unwrap();
    let mount = || mounted.llfs(&["mount"]).arg(&dir);
    refused(mount(), &[was, "llfs relink '", "--fresh"]);
    let relinked = mounted.llfs(&["relink", "--json"]).arg(&dir).ok().out();
    let told: serde_json::Value = serde_json::from_str(&relinked).unwrap();
    assert_eq!(told["was"], was);
    mount().ok();
    has_changes(&mounted, &dir);
    // While it is mounted, and again: there is nothing left to relink.
    refused(mounted.llfs(&["relink"]).arg(&dir), &["already mounted"]);
    mounted.llfs(&["unmount"]).arg(&dir).ok();
    refused(mounted.llfs(&["relink"]).arg(&dir), &["no store"]);
    // Back at its old place, by another way: the store was named.
    fs::rename(&dir, &mounted.dir).unwrap();
    let store = told["store"].as_str().unwrap();
    let run = mounted
        .llfs(&["relink", "--store", store])
        .arg(&mounted.dir);
    let line = run.ok().out();
    assert!(
        line.contains("relinked") && line.contains("base renamed"),
        "{line}"
    );
    let run = mounted.llfs(&["mount", "--store", store]).arg(&mounted.dir);
    run.ok();
    has_changes(&mounted, &mounted.dir);
}

/// What was mounted under its new name has snapshots of its own, perhaps.
#[test]
fn a_store_that_is_there_already_is_not_replaced() {
    let mounted = changed("moved-twice");
    let dir = mounted.scratch.path().join("renamed");
    fs::rename(&mounted.dir, &dir).unwrap();
    mounted.llfs(&["mount", "--fresh"]).arg(&dir).ok();
    mounted.llfs(&["unmount"]).arg(&dir).ok();
    let was = mounted.dir.to_str().unwrap();
    refused(
        mounted.llfs(&["relink"]).arg(&dir),
        &["a store of its own already", "--store"],
    );
    // Nothing was written: the first store is still that of the old place.
    fs::rename(&dir, was).unwrap();
    mounted.llfs(&["mount"]).arg(was).ok();
    has_changes(&mounted, &mounted.dir);
}

#[test]
fn a_directory_that_changed_on_its_way_is_not_relinked() {
    let mounted = changed("moved-changed");
    let dir = mounted.scratch.path().join("other");
    fs::rename(&mounted.dir, &dir).unwrap();
    fs::write(dir.join("kept"), "from below").unwrap();
    refused(mounted.llfs(&["relink"]).arg(&dir), &["kept", "changed"]);
    // Nothing was written: at the old place it would still be refused for the same reason.
    fs::rename(&dir, &mounted.dir).unwrap();
    refused(
        mounted.llfs(&["mount"]).arg(&mounted.dir),
        &["kept", "changed"],
    );
}

#[test]
fn another_directory_at_the_same_path_or_a_copy_is_told_from_the_first() {
    let mounted = changed("moved-other");
    let aside = mounted.scratch.path().join("aside");
    fs::rename(&mounted.dir, &aside).unwrap();
    let copied = Run::new("cp").arg("-a").args([&aside, &mounted.dir]);
    copied.ok();
    let mount = |dir: &Path| mounted.llfs(&["mount"]).arg(dir);
    refused(
        mount(&mounted.dir),
        &["that was at", "before the one", "--fresh"],
    );
    refused(
        mounted.llfs(&["relink"]).arg(&mounted.dir),
        &["no store", "a copy"],
    );
    // The first one is not taken for another directory either.
    refused(mount(&aside), &["llfs relink"]);
    mounted.llfs(&["mount", "--fresh"]).arg(&mounted.dir).ok();
    let list = mounted.json(&["list"]);
    assert_eq!(list["snapshots"].as_array().unwrap().len(), 0);
}

/// The changes and snapshots of either may be what the user wants.
#[test]
fn of_several_stores_none_is_chosen() {
    let mounted = changed("moved-several");
    let at = |name: &str| mounted.scratch.path().join(name);
    let (second, third) = (at("second"), at("third"));
    let stores = || stores(&mounted);
    let first = stores();
    fs::rename(&mounted.dir, &second).unwrap();
    mounted.llfs(&["mount", "--fresh"]).arg(&second).ok();
    mounted.llfs(&["unmount"]).arg(&second).ok();
    fs::rename(&second, &third).unwrap();
    let both = stores();
    assert_eq!((first.len(), both.len()), (1, 2));
    let mut words = vec!["several stores", "--store"];
    words.extend(both.iter().map(|store| store.to_str().unwrap()));
    refused(mounted.llfs(&["relink"]).arg(&third), &words);
    assert_eq!(stores(), both);
    let of_first = |command: &str| {
        let run = mounted.llfs(&[command]).arg("--store").arg(&first[0]);
        run.arg(&third).ok();
    };
    of_first("relink");
    of_first("mount");
    has_changes(&mounted, &third);
}

/// Who began anew wants what came after that.
#[test]
fn a_store_that_was_set_aside_is_no_choice() {
    let mounted = changed("moved-aside");
    mounted.llfs(&["mount", "--fresh"]).arg(&mounted.dir).ok();
    mounted.snap("second");
    mounted.unmount();
    assert_eq!(stores(&mounted).len(), 2);
    // That one is not moved from somewhere else.
    let run = mounted.llfs(&["relink"]).arg(&mounted.dir);
    refused(run, &["no store"]);
    let dir = mounted.scratch.path().join("renamed");
    fs::rename(&mounted.dir, &dir).unwrap();
    mounted.llfs(&["relink"]).arg(&dir).ok();
    mounted.llfs(&["mount"]).arg(&dir).ok();
    let llctl = mounted.scratch.path().join("programs/llctl");
    let list = mounted.program(llctl).arg("-C").arg(&dir).arg("list");
    let list = list.ok().out();
    assert!(list.contains("second") && !list.contains("first"), "{list}");
}

/// A library with which a program dies where it renames something by its path.
const DIES: &str = "#include <unistd.h>\nint rename(const char *a, const char *b) { _exit(99); }\n";

#[test]
fn a_relink_that_was_killed_is_done_by_the_next() {
    let mounted = changed("moved-killed");
    let dir = mounted.scratch.path().join("renamed");
    fs::rename(&mounted.dir, &dir).unwrap();
    let before = stores(&mounted);
    let library = preload::library(mounted.scratch.path(), "dies", DIES);
    let relink = || mounted.llfs(&["relink"]).arg(&dir);
    relink().env("LD_PRELOAD", library).finish().expect_code(99);
    assert_eq!(stores(&mounted), before, "it has not been moved yet");
    let mount = || mounted.llfs(&["mount"]).arg(&dir);
    // Not as if there had never been anything.
    refused(mount(), &["has snapshots", "llfs relink"]);
    relink().ok();
    mount().ok();
    has_changes(&mounted, &dir);
}

/// Another directory may get the inode number of one that was removed, and on another disk has it anyway.
#[test]
fn another_directory_with_the_same_inode_number_has_nothing_to_do_with_the_first() {
    let scratch = Scratch::new("moved-number");
    let disks = [scratch.dir("one"), scratch.dir("two")];
    for disk in &disks {
        let image = scratch
            .path()
            .join(format!("{}.img", disk.file_name().unwrap().display()));
        loopback::mount("ext4", 40, &image, disk);
        fs::remove_dir(disk.join("lost+found")).unwrap();
        std::os::unix::fs::lchown(disk, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let mut mounted = Mounted::prepare_in(scratch, Some(&disks[0]), None);
    mounted.become_user(NOBODY);
    let ino = |dir: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(dir).unwrap());
    let store = |dir: &Path| {
        next_second(dir);
        mounted.llfs(&["mount"]).arg(dir).ok();
        mounted.llfs(&["unmount"]).arg(dir).ok();
        stores(&mounted).len()
    };
    assert_eq!(ino(&disks[0]), ino(&disks[1]));
    assert_eq!(store(&disks[0]), 1);
    assert_eq!(store(&disks[1]), 2);
    // The first one of these is removed, and the next one has its number.
    let (first, second) = (disks[0].join("first"), disks[0].join("second"));
    let run = mounted.program("mkdir").arg(&first);
    run.ok();
    assert_eq!(store(&first), 3);
    let number = ino(&first);
    fs::remove_dir(&first).unwrap();
    // No store is younger than now, and the directory is to be.
    let newest = seconds(SystemTime::now());
    until("the next second", Duration::from_secs(10), || {
        let run = mounted.program("mkdir").arg(&second);
        run.ok();
        assert_eq!(ino(&second), number, "ext4 gives the number again");
        let made = fs::metadata(&second).unwrap().created().unwrap();
        let younger = seconds(made) > newest;
        if !younger {
            fs::remove_dir(&second).unwrap();
        }
        younger.then_some(())
    });
    assert_eq!(store(&second), 4);
}

/// The store can be carried elsewhere and be used from there; one directory still has one daemon.
#[test]
fn a_copied_store_is_as_good_and_a_directory_has_one_daemon() {
    let mounted = Mounted::over("copied", |base| tree::plant(base, 5, 60).unwrap());
    tree::churn(&mounted.dir, 6, 80, true).unwrap();
    mounted.snap("first");
    tree::churn(&mounted.dir, 7, 80, true).unwrap();
    let head = mounted.manifest();
    mounted.unmount();
    let copy = mounted.scratch.path().join("elsewhere");
    Run::new("cp").arg("-a").args([&mounted.store, &copy]).ok();
    mounted.mount();
    let second = |dir: &Path| mounted.llfs(&["mount"]).arg(dir).arg("--store").arg(&copy);
    refused(second(&mounted.dir), &["already mounted"]);
    mounted.unmount();
    second(&mounted.dir).ok();
    head.assert_same(&mounted.manifest(), Ignore::default(), "from the copy");
    mounted.revert("first");
    mounted.undo();
    head.assert_same(&mounted.manifest(), Ignore::default(), "undone");
    mounted.verify();
}

#[test]
fn directory_and_store_may_be_on_different_filesystems() {
    let pairs = [
        ("ext4", "tmpfs"),
        ("tmpfs", "xfs"),
        ("btrfs", "ext4"),
        ("xfs", "btrfs"),
    ];
    for (base, store) in pairs {
        let scratch = Scratch::new(&format!("{base}-{store}"));
        let (below, disk) = (scratch.dir("below"), scratch.dir("disk"));
        for (kind, at, size) in [(base, &below, 330), (store, &disk, 340)] {
            let image = scratch.path().join(format!("{kind}.img"));
            loopback::mount(kind, size, &image, at);
        }
        let dir = below.join("base");
        fs::create_dir(&dir).unwrap();
        tree::plant(&dir, 8, 80).unwrap();
        let mounted = Mounted::prepare_in(scratch, Some(&dir), Some(&disk.join("store")));
        mounted.mount();
        tree::churn(&mounted.dir, 9, 150, true).unwrap();
        mounted.snap("first");
        let first = mounted.manifest();
        tree::churn(&mounted.dir, 10, 150, true).unwrap();
        mounted.revert("first");
        first.assert_same(&mounted.manifest(), Ignore::default(), base);
        mounted.llctl(&["apply", "--yes"]).ok();
        // btrfs counts no subdirectories.
        if base != "btrfs" {
            first.assert_same(&walk(&mounted.base()), Ignore::another_tree(), base);
        }
        mounted.unmount();
    }
}

/// A library with which a program that gives a file the name `big0` in a directory sleeps for ever once that is done.
const SLEEPS: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int renameat2(int from_dir, const char *from, int dir, const char *name, unsigned flags) {
    static int (*real)(int, const char *, int, const char *, unsigned);
    if (!real) real = dlsym(RTLD_NEXT, "renameat2");
    int done = real(from_dir, from, dir, name, flags);
    while (!done && !strcmp(name, "big0")) pause();
    return done;
}
"#;

/// What was begun can only be finished by the store that knows of it.
#[test]
fn a_fresh_store_is_refused_while_an_apply_is_half_done() {
    let mounted = Mounted::prepare("half");
    tree::plant(&mounted.dir, 11, 200).unwrap();
    let library = preload::library(mounted.scratch.path(), "sleeps", SLEEPS);
    mounted.mount_run().env("LD_PRELOAD", library).ok();
    tree::churn(&mounted.dir, 12, 300, true).unwrap();
    fs::write(mounted.path("big0"), vec![1; 1 << 20]).unwrap();
    let head = mounted.manifest();
    let supervisor = mounted.pid();
    let mut apply = mounted.llctl(&["apply", "--yes"]).start();
    let placed = mounted.base().join("big0");
    until("the base changes", Duration::from_secs(60), || {
        placed.exists().then_some(())
    });
    kill(Pid::from_raw(supervisor), Signal::SIGKILL).unwrap();
    apply.wait(Duration::from_secs(30)).expect("llctl ends");
    let fresh = mounted.mount_run().arg("--fresh");
    refused(fresh, &["interrupted", "without --fresh"]);
    mounted.mount();
    head.assert_same(&mounted.manifest(), Ignore::another_tree(), "finished");
    mounted.unmount();
    mounted.mount_run().arg("--fresh").ok();
    head.assert_same(&mounted.manifest(), Ignore::another_tree(), "fresh");
}

/// A library that adds what a file says, in seconds, to the time of day.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
static volatile long *offset;
__attribute__((constructor)) static void begin(void) {
    int fd = open(getenv("CLOCK_OFFSET"), O_RDONLY);
    offset = mmap(0, 8, PROT_READ, MAP_SHARED, fd, 0);
}
int clock_gettime(clockid_t which, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int done = real(which, now);
    if (which == CLOCK_REALTIME && offset && offset != MAP_FAILED) now->tv_sec += *offset;
    return done;
}
"#;

fn clock(dir: &Path) -> (PathBuf, PathBuf) {
    let library = preload::library(dir, "clock", CLOCK);
    let offset = dir.join("offset");
    fs::write(&offset, 0_i64.to_le_bytes()).unwrap();
    (library, offset)
}

/// The order of snapshots, their names and what they hold do not depend on a clock that goes forward only.
#[test]
fn a_clock_that_jumps_back_confuses_nothing() {
    use std::io::{Seek, Write};
    let mounted = Mounted::prepare("clock");
    fs::write(mounted.dir.join("file"), "base").unwrap();
    let (library, offset) = clock(mounted.scratch.path());
    let mount = || {
        let run = mounted.mount_run();
        run.env("LD_PRELOAD", &library)
            .env("CLOCK_OFFSET", &offset)
            .ok();
    };
    mount();
    // In place: it is mapped.
    let mut file = fs::File::options().write(true).open(&offset).unwrap();
    let mut set = |seconds: i64| {
        file.rewind().unwrap();
        file.write_all(&seconds.to_le_bytes()).unwrap();
    };
    let mtime = || {
        let meta = fs::metadata(mounted.path("file")).unwrap();
        std::os::unix::fs::MetadataExt::mtime(&meta)
    };
    let mut taken = Vec::new();
    let mut mtimes = Vec::new();
    // A day back, a day on, the same second again and again, and before 1970.
    for (number, at) in [0, -86_400, 86_400, -86_400, 0, -3_000_000_000]
        .iter()
        .enumerate()
    {
        set(*at);
        fs::write(mounted.path("file"), format!("{number}")).unwrap();
        mtimes.push(mtime());
        for _ in 0..2 {
            let snap = mounted.json(&["snap"]);
            taken.push(snap["name"].as_str().unwrap().to_owned());
        }
    }
    assert!(mtimes[1] < mtimes[0] && mtimes[2] > mtimes[0], "{mtimes:?}");
    assert!(mtimes[5] < 0, "{mtimes:?}");
    let mut distinct = taken.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), taken.len(), "{taken:?}");
    let listed = || -> Vec<String> {
        let list = mounted.json(&["list"]);
        let all = list["snapshots"].as_array().unwrap();
        let name = |s: &serde_json::Value| s["name"].as_str().unwrap().to_owned();
        all.iter().map(name).collect()
    };
    assert_eq!(listed(), taken, "oldest first");
    mounted.kill9();
    mount();
    assert_eq!(listed(), taken, "after a kill");
    for (number, name) in taken.iter().enumerate().rev() {
        mounted.revert(name);
        let text = fs::read_to_string(mounted.path("file")).unwrap();
        assert_eq!(text, format!("{}", number / 2));
        assert_eq!(mtime(), mtimes[number / 2], "{name}");
    }
    // The last revert led to what was there, so this takes back the one before it.
    mounted.undo();
    assert_eq!(fs::read_to_string(mounted.path("file")).unwrap(), "1");
    mounted.verify();
}
