//! Apply: the base becomes exactly the head, whatever happens in between.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use llfs_tests::dice::Random;
use llfs_tests::manifest::{Ignore, Manifest, walk};
use llfs_tests::mounted::Mounted;
use llfs_tests::{scratch, seeded, tree};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A base, and a head that differs from it in every way.
fn changed(name: &str, seed: u64) -> Mounted {
    let mounted = Mounted::over(name, |base| {
        tree::plant(base, seed, 300).unwrap();
        fs::write(base.join("in the base"), "as it was").unwrap();
    });
    tree::churn(&mounted.dir, seed, 500, true).unwrap();
    // A renamed base directory with something in it, and hard links between old and new names.
    let dirs = fs::read_dir(&mounted.dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let full = dirs
        .filter(|path| path.is_dir() && !path.is_symlink())
        .find(|path| fs::read_dir(path).is_ok_and(|entries| entries.count() > 1));
    if let Some(dir) = full {
        fs::rename(dir, mounted.path("renamed from the base")).unwrap();
    }
    fs::write(mounted.path("in the base"), "changed above").unwrap();
    fs::write(mounted.path("linked"), "one of two").unwrap();
    fs::hard_link(mounted.path("linked"), mounted.path("linked too")).unwrap();
    mounted
}

fn assert_applied(head: &Manifest, base: &Manifest, what: &str) {
    head.assert_same(base, Ignore::another_tree(), what);
}

#[test]
fn unmounting_with_apply_makes_the_base_the_head() {
    let mounted = changed("apply", 21);
    let head = mounted.manifest();
    let pid = mounted.pid();
    mounted
        .llfs(&["unmount", "--apply", "--yes"])
        .arg(&mounted.dir)
        .ok();
    assert!(!mounted.is_mounted());
    assert!(llfs_tests::command::ended_within(
        pid,
        Duration::from_secs(10)
    ));
    assert_applied(&head, &walk(&mounted.dir), "the base after unmount --apply");
    mounted.mount();
    assert_applied(&head, &mounted.manifest(), "mounted after apply");
}

#[test]
fn a_live_apply_makes_the_base_the_head_and_goes_on() {
    let mounted = changed("live", 22);
    let open = |name: &str| fs::File::open(mounted.path(name)).unwrap();
    let (kept, new) = (open("in the base"), open("linked"));
    let head = mounted.manifest();
    mounted.llctl(&["apply", "--yes"]).ok();
    assert_applied(
        &head,
        &mounted.base_manifest(),
        "the base after a live apply",
    );
    head.assert_same(
        &mounted.manifest(),
        Ignore::another_tree(),
        "the mount after it",
    );
    let read = |mut file: fs::File| std::io::read_to_string(&mut file);
    assert_eq!(
        read(kept).unwrap(),
        "changed above",
        "a base file that was open"
    );
    // A new file has another inode number in the base: its descriptors are lost, not wrong.
    if let Err(error) = read(new) {
        assert_eq!(error.raw_os_error(), Some(libc::ESTALE));
    }
    // The mount is a working one, with nothing changed.
    fs::write(mounted.path("after"), "after").unwrap();
    mounted.snap("after");
    fs::remove_file(mounted.path("after")).unwrap();
    mounted.revert("after");
    assert_eq!(fs::read(mounted.path("after")).unwrap(), b"after");
    assert!(!mounted.base().join("after").exists());
    mounted
        .llfs(&["unmount", "--apply", "--yes"])
        .arg(&mounted.dir)
        .ok();
    assert_eq!(fs::read(mounted.path("after")).unwrap(), b"after");
}

#[test]
fn applying_needs_a_yes() {
    let mounted = changed("yes", 23);
    let base = mounted.base_manifest();
    let head = mounted.manifest();
    mounted.llctl(&["apply"]).finish().expect_code(6);
    mounted
        .llfs(&["unmount", "--apply"])
        .arg(&mounted.dir)
        .finish()
        .expect_code(6);
    assert!(
        mounted.is_mounted(),
        "an unmount that was refused has unmounted"
    );
    base.assert_same(&mounted.base_manifest(), Ignore::default(), "the base");
    head.assert_same(&mounted.manifest(), Ignore::default(), "the mount");
}

#[test]
fn applying_nothing_changes_nothing() {
    let mounted = Mounted::over("nothing", |base| tree::plant(base, 24, 100).unwrap());
    let base = mounted.base_manifest();
    mounted.llctl(&["apply", "--yes"]).ok();
    base.assert_same(&mounted.base_manifest(), Ignore::default(), "the base");
}

/// The daemon is killed at random moments of an apply; the next mount finishes what was begun, or
/// nothing was begun and the head is still the head.
#[test]
fn an_apply_that_was_killed_is_finished() {
    let seed = seeded::first_seed();
    let mut random = Random::new(seed);
    for round in 0..6u64 {
        let mounted = changed("killed", 30 + round);
        let head = mounted.manifest();
        let mut kills = 0;
        // The first attempt is killed, what mounts after it as well; then it may go on.
        let pid = mounted.pid();
        let mut applying = mounted.llctl(&["apply", "--yes"]).start();
        let wait = Duration::from_micros(random.below(60_000) as u64);
        if applying.wait(wait).is_none() {
            kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
            kills += 1;
        }
        applying
            .wait(Duration::from_secs(20))
            .expect("llctl ends when its daemon does");
        if kills > 0 && random.below(2) == 0 {
            let mut mounting = mounted.mount_run().start();
            if mounting
                .wait(Duration::from_micros(random.below(60_000) as u64))
                .is_none()
            {
                scratch::kill_daemons_of(mounted.scratch.path());
                kills += 1;
            }
            mounting
                .wait(Duration::from_secs(20))
                .expect("llfs mount ends when its daemon does");
        }
        let alive = mounted.is_mounted() && fs::metadata(&mounted.dir).is_ok();
        if !alive || kills > 0 {
            scratch::kill_daemons_of(mounted.scratch.path());
            mounted.mount();
        }
        let what = format!("LLFS_SEED={seed}, round {round}, after {kills} kills");
        let ignore = Ignore::another_tree();
        head.assert_same(&mounted.manifest(), ignore, &what);
        mounted
            .llfs(&["unmount", "--apply", "--yes"])
            .arg(&mounted.dir)
            .ok();
        assert_applied(&head, &walk(&mounted.dir), &what);
    }
}

/// Small things that copies lose.
#[test]
fn an_apply_keeps_what_is_easily_lost() {
    let mounted = Mounted::over("details", |base| {
        fs::create_dir_all(base.join("old/deep")).unwrap();
        fs::write(base.join("old/deep/file"), "text").unwrap();
        fs::write(base.join("swap-a"), "a").unwrap();
        fs::write(base.join("swap-b"), "b").unwrap();
        let sparse = fs::File::create(base.join("sparse")).unwrap();
        sparse.set_len(1 << 30).unwrap();
    });
    let inode = |path: &std::path::Path| fs::symlink_metadata(path).unwrap().ino();
    let deep = inode(&mounted.base().join("old/deep/file"));
    fs::rename(mounted.path("old"), mounted.path("new")).unwrap();
    fs::rename(mounted.path("swap-a"), mounted.path("tmp")).unwrap();
    fs::rename(mounted.path("swap-b"), mounted.path("swap-a")).unwrap();
    fs::rename(mounted.path("tmp"), mounted.path("swap-b")).unwrap();
    let sparse = fs::File::options()
        .write(true)
        .open(mounted.path("sparse"))
        .unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"x", 500 << 20).unwrap();
    drop(sparse);
    let head = mounted.manifest();
    mounted.llctl(&["apply", "--yes"]).ok();
    assert_applied(&head, &mounted.base_manifest(), "the base");
    let base = mounted.base();
    assert_eq!(
        inode(&base.join("new/deep/file")),
        deep,
        "a renamed directory was copied"
    );
    let blocks = fs::metadata(base.join("sparse")).unwrap().blocks();
    assert!(
        blocks < 1000,
        "a sparse file takes {blocks} blocks in the base"
    );
}
