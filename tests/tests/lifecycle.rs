//! Mounting, unmounting, dying and coming back; and everything that must be refused with a clear
//! error and without harm.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use llfs_tests::command::{Finished, Run, until};
use llfs_tests::dice::pattern;
use llfs_tests::manifest::Ignore;
use llfs_tests::mounted::Mounted;
use llfs_tests::{mountinfo, tree};
use nix::sys::signal::Signal;

/// It failed, and said all of `words` on its standard error.
#[track_caller]
fn refused(finished: Finished, words: &[&str]) {
    assert_ne!(
        finished.code(),
        0,
        "`{}` was not refused: {}",
        finished.line,
        finished.text()
    );
    let text = finished.err();
    for word in words {
        assert!(
            text.contains(word),
            "no {word:?} in the error of `{}`:\n{text}",
            finished.line
        );
    }
}

fn change_something(mounted: &Mounted) {
    fs::write(mounted.path("new"), pattern(1, 10_000)).unwrap();
    fs::create_dir(mounted.path("newdir")).unwrap();
    fs::write(mounted.path("newdir/inner"), "inner").unwrap();
    fs::remove_file(mounted.path("gone")).unwrap();
    fs::rename(mounted.path("dir"), mounted.path("renamed")).unwrap();
    let mut file = OpenOptions::new()
        .append(true)
        .open(mounted.path("kept"))
        .unwrap();
    file.write_all(b" and more").unwrap();
}

fn small_base(base: &Path) {
    fs::write(base.join("kept"), "kept").unwrap();
    fs::write(base.join("gone"), "gone").unwrap();
    fs::create_dir(base.join("dir")).unwrap();
    fs::write(base.join("dir/file"), "in the directory").unwrap();
}

#[test]
fn unmounting_shows_the_base_and_keeps_the_changes() {
    let mounted = Mounted::over("unmount", |base| tree::plant(base, 1, 400).unwrap());
    let base = mounted.base_manifest();
    base.assert_same(
        &mounted.manifest(),
        Ignore::another_tree(),
        "the base through the mount",
    );
    tree::churn(&mounted.dir, 2, 600, true).unwrap();
    mounted.snap("s");
    tree::churn(&mounted.dir, 3, 300, true).unwrap();
    let head = mounted.manifest();
    mounted.unmount();
    base.assert_same(
        &mounted.manifest(),
        Ignore::default(),
        "the base after unmounting",
    );
    mounted.mount();
    head.assert_same(
        &mounted.manifest(),
        Ignore::default(),
        "the changes after mounting again",
    );
    assert!(mounted.llctl(&["list"]).ok().out().contains('s'));
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let mounted = Mounted::over("kill", small_base);
    change_something(&mounted);
    mounted.snap("s");
    fs::write(mounted.path("late"), "late").unwrap();
    // Nothing was synced, and files are open.
    let open = File::create(mounted.path("open")).unwrap();
    (&open).write_all(b"written").unwrap();
    let head = mounted.manifest();
    for round in 0..3 {
        mounted.kill9();
        mounted.mount();
        assert_eq!(
            mountinfo::stacked(&mounted.dir),
            1,
            "the dead mount is still there"
        );
        head.assert_same(
            &mounted.manifest(),
            Ignore::default(),
            &format!("after kill {round}"),
        );
    }
    drop(open);
    mounted.revert("s");
    assert!(!mounted.path("late").exists());
    mounted.undo();
    head.assert_same(&mounted.manifest(), Ignore::default(), "undone");
}

#[test]
fn a_dead_mount_is_no_hindrance_elsewhere_on_the_machine() {
    let mounted = Mounted::new("dead");
    mounted.kill9();
    until("the mount is dead", Duration::from_secs(20), || {
        let error = fs::metadata(&mounted.dir).err()?;
        (error.raw_os_error() == Some(libc::ENOTCONN)).then_some(())
    });
    // mkfs.btrfs looks at what each mount says it was made of, and gives up where that cannot be looked at.
    let image = mounted.dir.with_file_name("image");
    File::create(&image).unwrap().set_len(256 << 20).unwrap();
    Run::new("mkfs.btrfs").arg("-q").arg(&image).ok();
}

#[test]
fn every_write_that_returned_survives_a_kill_under_load() {
    let mounted = Mounted::new("kill-load");
    let directory = mounted.dir.clone();
    let writer = std::thread::spawn(move || {
        for number in 0..u16::MAX {
            let path = directory.join(format!("f{number}"));
            if fs::write(path, pattern(number, 700)).is_err() {
                return number;
            }
        }
        u16::MAX
    });
    until("some files", Duration::from_secs(20), || {
        mounted.path("f200").exists().then_some(())
    });
    mounted.kill9();
    let written = writer.join().unwrap();
    assert!(written > 200);
    mounted.mount();
    for number in 0..written {
        let found = fs::read(mounted.path(&format!("f{number}"))).unwrap();
        assert!(found == pattern(number, 700), "file {number} of {written}");
    }
    mounted.verify();
}

#[test]
fn term_and_int_unmount_cleanly() {
    let mounted = Mounted::over("signals", small_base);
    change_something(&mounted);
    let head = mounted.manifest();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        mounted.signal(signal);
        assert!(!mounted.is_mounted(), "{signal} left the mount there");
        assert_eq!(fs::read(mounted.path("gone")).unwrap(), b"gone");
        mounted.mount();
        head.assert_same(&mounted.manifest(), Ignore::default(), signal.as_str());
    }
}

#[test]
fn the_foreground_daemon_ends_with_sigint() {
    let mounted = Mounted::prepare("foreground");
    let daemon = mounted.mount_run().arg("--foreground").start();
    until("the mount", Duration::from_secs(20), || {
        mounted.is_mounted().then_some(())
    });
    fs::write(mounted.path("file"), "text").unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(daemon.pid()), Signal::SIGINT).unwrap();
    daemon.finish().ok();
    assert!(!mounted.is_mounted());
    mounted.mount();
    assert_eq!(fs::read(mounted.path("file")).unwrap(), b"text");
}

#[test]
fn a_second_mount_is_refused() {
    let mounted = Mounted::over("double", small_base);
    refused(mounted.mount_run().finish(), &["already mounted"]);
    assert_eq!(mountinfo::stacked(&mounted.dir), 1);
    assert_eq!(fs::read(mounted.path("kept")).unwrap(), b"kept");
    // Its store is taken, for other directories too.
    let other = mounted.scratch.dir("other");
    let taken = mounted
        .llfs(&["mount"])
        .arg(&other)
        .arg("--store")
        .arg(&mounted.store)
        .finish();
    refused(taken, &["store"]);
    assert!(mountinfo::at(&other).is_none());
}

/// Where one cannot see the other's mount, it is the lock of the store that keeps them apart.
#[test]
fn a_second_mount_from_another_namespace_is_refused() {
    let mounted = Mounted::prepare("double-namespace");
    small_base(&mounted.dir);
    let go = mounted.scratch.path().join("go");
    let script = "mount --make-rprivate /; touch \"$0-there\"; until [ -e \"$0\" ]; do sleep 0.01; done; exec \"$@\"";
    let run = mounted
        .program("unshare")
        .args(["-m", "bash", "-ec", script])
        .arg(&go)
        .arg(llfs_tests::binaries::llfs())
        .arg("mount")
        .arg(&mounted.dir)
        .arg("--store")
        .arg(&mounted.store);
    // A socket of its own: it would find the other's.
    let runtime = mounted.scratch.dir("run2");
    let second = run.env("XDG_RUNTIME_DIR", runtime).start();
    let there = mounted.scratch.path().join("go-there");
    until("the namespace", Duration::from_secs(20), || {
        there.exists().then_some(())
    });
    mounted.mount();
    change_something(&mounted);
    let head = mounted.manifest();
    fs::write(&go, "").unwrap();
    refused(second.finish(), &["in use"]);
    head.assert_same(&mounted.manifest(), Ignore::default(), "the first");
}

#[test]
fn a_mount_inside_a_mount_is_refused() {
    let mounted = Mounted::over("nested", small_base);
    let store = mounted.scratch.path().join("store2");
    let inner = mounted
        .llfs(&["mount"])
        .arg(mounted.path("dir"))
        .arg("--store")
        .arg(&store);
    refused(inner.finish(), &["inside"]);
    // And one around a mount.
    let outer = mounted
        .llfs(&["mount"])
        .arg(mounted.scratch.path())
        .arg("--store")
        .arg("/nowhere/s");
    refused(outer.finish(), &["below"]);
    assert_eq!(fs::read(mounted.path("kept")).unwrap(), b"kept");
}

#[test]
fn another_mount_below_the_base_is_refused() {
    let mounted = Mounted::prepare("below");
    small_base(&mounted.dir);
    let below = mounted.path("dir");
    Run::new("mount")
        .args(["-t", "tmpfs", "none"])
        .arg(&below)
        .ok();
    refused(mounted.mount_run().finish(), &["mount below", "dir"]);
    Run::new("umount").arg(&below).ok();
    mounted.mount();
}

#[test]
fn the_base_and_the_store_must_be_apart() {
    let mounted = Mounted::prepare("apart");
    let run = |dir: &Path, store: &Path| {
        mounted
            .llfs(&["mount"])
            .arg(dir)
            .arg("--store")
            .arg(store)
            .finish()
    };
    refused(run(&mounted.dir, &mounted.path("store")), &["inside"]);
    let inner = mounted.scratch.dir("store/base");
    refused(run(&inner, &mounted.store), &["inside"]);
    refused(run(&mounted.dir, &mounted.dir), &["inside"]);
    assert!(!mounted.is_mounted());
    assert_eq!(
        fs::read_dir(&mounted.dir).unwrap().count(),
        0,
        "something was made in the base"
    );
}

#[test]
fn what_is_no_directory_is_refused() {
    let mounted = Mounted::prepare("missing");
    fs::write(mounted.path("file"), "").unwrap();
    let store = mounted.scratch.path().join("s");
    for (name, word) in [("absent", "No such file"), ("file", "not a directory")] {
        let run = mounted
            .llfs(&["mount"])
            .arg(mounted.path(name))
            .arg("--store")
            .arg(&store);
        let finished = run.finish();
        let text = finished.err();
        assert!(
            text.to_lowercase().contains(&word.to_lowercase()),
            "{name}: {text}"
        );
        refused(finished, &[name]);
    }
    refused(mounted.llfs(&["unmount"]).arg(&mounted.dir).finish(), &[]);
    assert!(!store.exists(), "a refused mount left a store");
}

#[test]
fn a_store_of_another_directory_is_refused() {
    let mounted = Mounted::over("foreign", small_base);
    change_something(&mounted);
    let head = mounted.manifest();
    mounted.unmount();
    let other = mounted.scratch.dir("other");
    let run = mounted
        .llfs(&["mount"])
        .arg(&other)
        .arg("--store")
        .arg(&mounted.store);
    refused(run.finish(), &[mounted.dir.to_str().unwrap()]);
    mounted.mount();
    head.assert_same(
        &mounted.manifest(),
        Ignore::default(),
        "the store's own directory",
    );
}

/// Every way to have a broken superblock is refused; put back, it all works again.
#[test]
fn a_broken_store_is_refused_and_not_touched() {
    let mounted = Mounted::over("broken", small_base);
    change_something(&mounted);
    let head = mounted.manifest();
    mounted.unmount();
    let path = mounted.store.join("superblock");
    let good = fs::read(&path).unwrap();
    let mut newer = good.clone();
    newer[8..12].copy_from_slice(&77u32.to_le_bytes());
    let sum = xxhash_rust::xxh3::xxh3_64(&newer[..16]);
    newer[16..24].copy_from_slice(&sum.to_le_bytes());
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let cases: [(&str, &[u8], &[&str]); 5] = [
        ("newer", &newer, &["version 77", "up to version"]),
        ("flipped", &flipped, &["superblock"]),
        ("truncated", &good[..20], &[]),
        ("empty", &[], &[]),
        (
            "foreign",
            b"this is somebody else's file, and long enough to be one",
            &[],
        ),
    ];
    for (what, bytes, words) in cases {
        fs::write(&path, bytes).unwrap();
        let finished = mounted.mount_run().finish();
        assert!(!finished.err().is_empty(), "{what}: no word about it");
        refused(finished, words);
        assert!(!mounted.is_mounted(), "{what}");
        assert_eq!(
            fs::read(&path).unwrap(),
            bytes,
            "{what}: the store was changed"
        );
    }
    fs::remove_file(&path).unwrap();
    refused(mounted.mount_run().finish(), &["superblock"]);
    fs::write(&path, &good).unwrap();
    mounted.mount();
    head.assert_same(
        &mounted.manifest(),
        Ignore::default(),
        "the store as it was",
    );
}

#[test]
fn a_directory_that_is_no_store_is_refused() {
    let mounted = Mounted::prepare("no-store");
    fs::create_dir(&mounted.store).unwrap();
    fs::write(mounted.store.join("thesis.txt"), "precious").unwrap();
    refused(
        mounted.mount_run().finish(),
        &[mounted.store.to_str().unwrap()],
    );
    let names: Vec<_> = fs::read_dir(&mounted.store)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(
        names,
        ["thesis.txt"],
        "something was made in a directory that is no store"
    );
}

#[test]
fn a_read_only_base_can_be_mounted_and_not_applied_to() {
    let mounted = Mounted::prepare("read-only");
    small_base(&mounted.dir);
    Run::new("mount")
        .arg("--bind")
        .args([&mounted.dir, &mounted.dir])
        .ok();
    Run::new("mount")
        .args(["-o", "remount,bind,ro"])
        .arg(&mounted.dir)
        .ok();
    mounted.mount();
    change_something(&mounted);
    let head = mounted.manifest();
    mounted.snap("s");
    let applied = mounted.llctl(&["apply", "--yes"]).finish();
    assert_ne!(
        applied.code(),
        0,
        "a read-only base was applied to: {}",
        applied.text()
    );
    head.assert_same(
        &mounted.manifest(),
        Ignore::default(),
        "after the failed apply",
    );
    mounted.remount();
    head.assert_same(&mounted.manifest(), Ignore::default(), "mounted again");
}

/// What layers rely on has changed in the base: the mount names it and mixes nothing.
#[test]
fn a_base_that_changed_while_unmounted_is_named() {
    let mounted = Mounted::over("drift", small_base);
    fs::write(mounted.path("other"), "not relied on").unwrap();
    change_something(&mounted);
    mounted.unmount();
    let file = OpenOptions::new()
        .append(true)
        .open(mounted.path("kept"))
        .unwrap();
    (&file).write_all(b"from below").unwrap();
    drop(file);
    let finished = mounted.mount_run().finish();
    refused(finished, &["kept"]);
    assert!(!mounted.is_mounted());
    assert_eq!(fs::read(mounted.path("kept")).unwrap(), b"keptfrom below");
}

/// What no layer relies on may change below.
#[test]
fn a_base_may_change_where_nothing_relies_on_it() {
    let mounted = Mounted::over("free-drift", |base| {
        small_base(base);
        fs::create_dir(base.join("elsewhere")).unwrap();
        fs::write(base.join("elsewhere/file"), "old").unwrap();
    });
    fs::write(mounted.path("dir/file"), "changed above").unwrap();
    mounted.unmount();
    fs::write(mounted.path("elsewhere/file"), "changed below").unwrap();
    mounted.mount();
    assert_eq!(
        fs::read(mounted.path("elsewhere/file")).unwrap(),
        b"changed below"
    );
    assert_eq!(
        fs::read(mounted.path("dir/file")).unwrap(),
        b"changed above"
    );
}

#[test]
fn a_busy_mount_names_who_keeps_it() {
    let mounted = Mounted::over("busy", small_base);
    let sleeper = Run::new("sleep")
        .arg("600")
        .dir(mounted.path("dir"))
        .start();
    let finished = mounted.llfs(&["unmount"]).arg(&mounted.dir).finish();
    assert_eq!(finished.code(), 6, "{}", finished.text());
    refused(finished, &["sleep", &sleeper.pid().to_string()]);
    assert_eq!(fs::read(mounted.path("kept")).unwrap(), b"kept");
    mounted.snap("still-there");
    drop(sleeper);
    mounted.unmount();
}

/// A shell that stands in the directory from before the mount sees the base: it is told.
#[test]
fn who_stands_below_the_mount_is_told_how_to_enter() {
    let mounted = Mounted::prepare("stands");
    let finished = mounted.mount_run().dir(&mounted.dir).finish().ok();
    assert!(
        finished.text().contains("cd "),
        "no word about the shell: {}",
        finished.text()
    );
}

#[test]
fn without_the_fuse_device_the_error_says_so() {
    let mounted = Mounted::prepare("no-device");
    let script = "mount -t tmpfs none /dev && mknod /dev/null c 1 3 && mknod /dev/urandom c 1 9 \
        && exec \"$@\"";
    let run = mounted
        .program("unshare")
        .args(["-m", "bash", "-c", script, "bash"]);
    let llfs = llfs_tests::binaries::llfs();
    let run = run
        .arg(llfs)
        .arg("mount")
        .arg(&mounted.dir)
        .arg("--store")
        .arg(&mounted.store);
    refused(run.finish(), &["/dev/fuse"]);
    assert!(!mounted.is_mounted());
    mounted.mount();
}

#[test]
fn many_remounts_keep_everything() {
    let mounted = Mounted::over("remounts", small_base);
    for round in 0..8 {
        fs::write(mounted.path(&format!("r{round}")), pattern(round, 5000)).unwrap();
        mounted.snap(&format!("s{round}"));
        match round % 2 {
            0 => mounted.remount(),
            _ => {
                mounted.kill9();
                mounted.mount();
            }
        }
        for earlier in 0..=round {
            let found = fs::read(mounted.path(&format!("r{earlier}"))).unwrap();
            assert_eq!(found, pattern(earlier, 5000));
        }
    }
    mounted.revert("s3");
    assert!(mounted.path("r3").exists() && !mounted.path("r4").exists());
}
