//! `llfs mount --read-only`: everything can be looked at, nothing is written, and what lies before a damage is there.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs;
use std::path::Path;

use llfs_tests::command::{Finished, Run};
use llfs_tests::dice::pattern;
use llfs_tests::loopback;
use llfs_tests::manifest::{Ignore, Manifest, walk};
use llfs_tests::mounted::Mounted;
use llfs_tests::scratch::Scratch;

fn mount_read_only(mounted: &Mounted) -> Finished {
    mounted.mount_run().arg("--read-only").finish()
}

#[track_caller]
fn erofs(answer: std::io::Result<()>) {
    let error = answer.expect_err("a read-only mount was written to");
    assert_eq!(error.raw_os_error(), Some(libc::EROFS), "{error}");
}

#[test]
fn a_read_only_mount_shows_everything_and_writes_nothing() {
    let mounted = Mounted::over("ro", |base| {
        fs::write(base.join("base"), pattern(1, 9000)).unwrap();
    });
    fs::write(mounted.path("file"), pattern(2, 50_000)).unwrap();
    mounted.snap("s");
    fs::write(mounted.path("later"), pattern(3, 5000)).unwrap();
    let head = mounted.manifest();
    // Not closed cleanly: the last of it is in the journal only.
    mounted.kill9();
    let store = walk(&mounted.store);
    let said = mount_read_only(&mounted).expect_code(0);
    assert!(said.out().contains(" read-only "), "{}", said.out());
    head.assert_same(&mounted.manifest(), Ignore::default(), "mounted read-only");
    assert_eq!(fs::read(mounted.path("later")).unwrap(), pattern(3, 5000));
    erofs(fs::write(mounted.path("new"), "x"));
    erofs(fs::write(mounted.path("file"), "x"));
    erofs(fs::remove_file(mounted.path("base")));
    let status = mounted.json(&["status"]);
    assert!(status["read_only"].is_string(), "{status}");
    mounted.llctl(&["show", "s"]).ok();
    mounted.llctl(&["diff"]).ok();
    mounted.verify();
    for refused in [&["snap"][..], &["revert", "s"], &["delete", "-y", "s"]] {
        let answer = mounted.llctl(refused).finish().expect_code(8);
        assert!(
            answer.err().contains("the mount is read-only"),
            "{}",
            answer.err()
        );
    }
    // What dies is followed by another that writes nothing either.
    let worker = mounted.json(&["status"])["worker"].as_i64().unwrap();
    let worker = nix::unistd::Pid::from_raw(i32::try_from(worker).unwrap());
    nix::sys::signal::kill(worker, nix::sys::signal::Signal::SIGKILL).unwrap();
    head.assert_same(&mounted.manifest(), Ignore::default(), "after a worker");
    erofs(fs::write(mounted.path("new"), "x"));
    mounted.unmount();
    // All but the daemon's own: its process id, its log.
    let of_store = |mut manifest: Manifest| {
        (manifest.0).retain(|name, _| !name.starts_with(b"llfs.log") && name != b"lock");
        manifest
    };
    of_store(store).assert_same(
        &of_store(walk(&mounted.store)),
        Ignore::default(),
        "the store",
    );
    mounted.mount();
    head.assert_same(&mounted.manifest(), Ignore::default(), "writable again");
    fs::write(mounted.path("new"), "x").unwrap();
}

#[test]
fn there_must_be_a_store_to_look_at() {
    let mounted = Mounted::prepare("ro-none");
    let refused = mount_read_only(&mounted);
    assert_ne!(refused.code(), 0);
    assert!(
        !mounted.store.exists(),
        "a store was made, only to look at it"
    );
}

#[test]
fn a_store_on_a_medium_that_cannot_be_written_is_shown() {
    let scratch = Scratch::new("ro-medium");
    let disk = scratch.dir("disk");
    loopback::mount("tmpfs", 64, Path::new(""), &disk);
    let mounted = Mounted::prepare_in(scratch, None, Some(&disk.join("store")));
    mounted.mount();
    fs::write(mounted.path("file"), pattern(2, 50_000)).unwrap();
    mounted.snap("s");
    let head = mounted.manifest();
    mounted.unmount();
    let remount = |how: &str| Run::new("mount").args(["-o", how]).arg(&disk).ok();
    remount("remount,ro");
    assert_ne!(mounted.mount_run().finish().code(), 0);
    mount_read_only(&mounted).expect_code(0);
    head.assert_same(&mounted.manifest(), Ignore::default(), "from such a medium");
    mounted.unmount();
    remount("remount,rw");
    mounted.mount();
}
