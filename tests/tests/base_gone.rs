//! A base that is changed, emptied, removed or unmounted under a live mount: what was changed in the mount stays whole, what was not is an
//! error or what the base says now, nothing is made up, and the mount can be left.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use llfs_tests::command::{Run, ended_within, until};
use llfs_tests::dice::pattern;
use llfs_tests::loopback;
use llfs_tests::mounted::Mounted;
use llfs_tests::scratch::Scratch;
use llfs_tests::sys;

const PATIENCE: Duration = Duration::from_secs(20);

/// In a mount namespace where the mount was taken away, and so below it.
fn below(mounted: &Mounted, script: &str) {
    let dir = mounted.dir.display();
    let script = format!("umount '{dir}' && cd / && {script}");
    Run::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-ec", &script])
        .env("DIR", &mounted.dir)
        .ok();
}

fn fill(base: &Path) {
    fs::create_dir(base.join("dir")).unwrap();
    for name in ["whole", "part", "untouched", "dir/in"] {
        fs::write(base.join(name), pattern(1, 100_000)).unwrap();
    }
}

/// Changes one file wholly and one in part.
fn change(mounted: &Mounted) {
    fs::write(mounted.path("whole"), pattern(2, 50_000)).unwrap();
    let part = fs::File::options()
        .write(true)
        .open(mounted.path("part"))
        .unwrap();
    part.write_all_at(&pattern(3, 4096), 8192).unwrap();
    fs::write(mounted.path("dir/new"), "new").unwrap();
    mounted.snap("changed");
}

/// What reading a file fails with, if it does: bytes that were never in this place are worse than none.
fn errno_of(path: &Path, expected: &[u8]) -> Option<i32> {
    match fs::read(path) {
        Ok(bytes) => {
            assert!(bytes == expected, "{} is made up", path.display());
            None
        }
        Err(error) => error.raw_os_error(),
    }
}

#[test]
fn a_base_that_was_emptied_takes_nothing_with_it_that_was_changed() {
    let mounted = Mounted::over("base-emptied", fill);
    change(&mounted);
    below(&mounted, "rm -rf \"$DIR\"/*");
    sys::drop_caches(&fs::File::open(&mounted.dir).unwrap()).unwrap();
    assert_eq!(fs::read(mounted.path("whole")).unwrap(), pattern(2, 50_000));
    assert_eq!(fs::read(mounted.path("dir/new")).unwrap(), b"new");
    let mut in_part = pattern(1, 100_000);
    in_part[8192..12_288].copy_from_slice(&pattern(3, 4096));
    let untouched = pattern(1, 100_000);
    for (gone, bytes) in [
        ("part", &in_part),
        ("untouched", &untouched),
        ("dir/in", &untouched),
    ] {
        let errno = errno_of(&mounted.path(gone), bytes);
        // What the daemon has open is there still.
        let right = matches!(errno, None | Some(libc::ESTALE | libc::ENOENT));
        assert!(right, "{gone}: {errno:?}");
    }
    assert_eq!(
        errno_of(&mounted.path("untouched"), &untouched),
        Some(libc::ENOENT)
    );
    // Of the file that was changed in part, what was written is there.
    let part = fs::File::open(mounted.path("part")).unwrap();
    let mut bytes = vec![0; 4096];
    part.read_exact_at(&mut bytes, 8192).unwrap();
    assert_eq!(bytes, pattern(3, 4096));
    drop(part);
    // It is said.
    let status = mounted.json(&["status"]);
    assert!(
        status["warnings"].to_string().contains("behind it"),
        "{status}"
    );
    let verify = mounted.llctl(&["verify"]).finish();
    assert_eq!(verify.code(), 7, "{}", verify.text());
    assert!(verify.text().contains("part"), "{}", verify.text());
    // Work goes on, and back; what would write it into the base is refused.
    fs::write(mounted.path("more"), "more").unwrap();
    mounted.snap("more");
    mounted.revert("changed");
    assert!(!mounted.path("more").exists());
    mounted.undo();
    assert_ne!(mounted.llctl(&["apply", "--yes"]).finish().code(), 0);
    assert_eq!(fs::read_dir(mounted.base()).unwrap().count(), 0);
    // The next mount says what is missing, and goes on when it is there again.
    mounted.unmount();
    let refused = mounted.mount_run().finish();
    assert_ne!(refused.code(), 0);
    assert!(refused.err().contains("part"), "{}", refused.err());
}

#[test]
fn what_was_cut_off_in_the_base_is_not_made_up() {
    let mounted = Mounted::over("base-cut", fill);
    change(&mounted);
    below(&mounted, "truncate -s 10 \"$DIR/part\" \"$DIR/untouched\"");
    sys::drop_caches(&fs::File::open(&mounted.dir).unwrap()).unwrap();
    let mut bytes = vec![0; 4096];
    let part = fs::File::open(mounted.path("part")).unwrap();
    part.read_exact_at(&mut bytes, 8192).unwrap();
    assert_eq!(bytes, pattern(3, 4096));
    let read = part.read_at(&mut bytes, 40_960);
    assert_eq!(read.unwrap_err().raw_os_error(), Some(libc::ESTALE));
    // What is written beside it does not make up the rest of its block.
    let write = fs::File::options()
        .write(true)
        .open(mounted.path("part"))
        .unwrap();
    let written = write.write_at(b"x", 50_000);
    assert_eq!(written.unwrap_err().raw_os_error(), Some(libc::ESTALE));
    drop((part, write));
    let verify = mounted.llctl(&["verify"]).finish();
    assert_eq!(verify.code(), 7, "{}", verify.text());
}

#[test]
fn a_base_that_was_removed_takes_the_mount_with_it_and_not_the_store() {
    let mounted = Mounted::over("base-removed", fill);
    change(&mounted);
    let pid = mounted.pid();
    below(&mounted, "rm -rf \"$DIR\"");
    until("the mount to go with its directory", PATIENCE, || {
        (!mounted.is_mounted()).then_some(())
    });
    assert!(ended_within(pid, PATIENCE), "the daemon outlives its mount");
    let log = fs::read_to_string(mounted.store.join("llfs.log")).unwrap();
    assert!(log.contains("unmounted"), "{log}");
    assert!(!mounted.dir.exists());
    let refused = mounted.mount_run().finish();
    assert_ne!(refused.code(), 0);
    // Another directory of that name is not it.
    fs::create_dir(&mounted.dir).unwrap();
    let refused = mounted.mount_run().finish();
    assert_ne!(refused.code(), 0);
    assert!(refused.err().contains("before"), "{}", refused.err());
}

#[test]
fn a_base_whose_file_system_is_taken_away_comes_back_with_it() {
    let scratch = Scratch::new("base-unmounted");
    let place = scratch.dir("place");
    let image = scratch.path().join("image");
    loopback::mount("ext4", 64, &image, &place);
    let base = place.join("base");
    fs::create_dir(&base).unwrap();
    fill(&base);
    let mounted = Mounted::prepare_in(scratch, Some(&base), None);
    mounted.mount();
    change(&mounted);
    let before = mounted.manifest();
    let pid = mounted.pid();
    Run::new("umount").arg("-l").arg(&place).ok();
    assert!(ended_within(pid, PATIENCE), "the daemon outlives its mount");
    // The base is nobody's any more but that of the descriptor of this test.
    Run::new("mount")
        .args(["-o", "loop"])
        .arg(&image)
        .arg(&place)
        .ok();
    mounted.mount();
    let ignore = llfs_tests::manifest::Ignore::default();
    before.assert_same(&mounted.manifest(), ignore, "mounted again");
    mounted.verify();
}
