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
use llfs_tests::{loopback, tree};
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
    // Stores know their age in seconds, and one must be younger than its directory.
    let born = fs::metadata(&mounted.dir).unwrap().created().unwrap();
    until("the next second", Duration::from_secs(10), || {
        let age = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap().as_secs();
        (age(SystemTime::now()) > age(born)).then_some(())
    });
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

/// What was begun can only be finished by the store that knows of it.
#[test]
fn a_fresh_store_is_refused_while_an_apply_is_half_done() {
    let mounted = Mounted::over("half", |base| tree::plant(base, 11, 200).unwrap());
    tree::churn(&mounted.dir, 12, 300, true).unwrap();
    for number in 0..20 {
        fs::write(mounted.path(&format!("big{number}")), vec![1; 1 << 20]).unwrap();
    }
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
    let (source, library) = (dir.join("clock.c"), dir.join("clock.so"));
    fs::write(&source, CLOCK).unwrap();
    let cc = Run::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library);
    cc.arg(&source).arg("-ldl").ok();
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
