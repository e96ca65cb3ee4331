//! A full disk: the caller gets ENOSPC, nothing that was there is hurt, what gives space back
//! works, and writing goes on when there is space.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use llfs_tests::dice::pattern;
use llfs_tests::loopback;
use llfs_tests::manifest::Ignore;
use llfs_tests::mounted::Mounted;
use llfs_tests::scratch::Scratch;

/// A mount whose store is on a disk of its own.
fn with_small_disk(name: &str, megabytes: u64) -> Mounted {
    let scratch = Scratch::new(name);
    let disk = scratch.dir("disk");
    loopback::mount("tmpfs", megabytes, Path::new(""), &disk);
    let mounted = Mounted::prepare_in(scratch, None, Some(&disk.join("store")));
    fs::write(mounted.dir.join("base-file"), pattern(1, 100_000)).unwrap();
    mounted.mount();
    mounted
}

/// Writes files until an error stops it: how many were written whole, and the error.
fn fill(mounted: &Mounted, dir: &str) -> (usize, io::Error) {
    fs::create_dir(mounted.path(dir)).unwrap();
    for number in 0..2000 {
        let write = || {
            let mut file = File::create(mounted.path(&format!("{dir}/{number}")))?;
            file.write_all(&pattern(number, 256 << 10))?;
            file.sync_all()
        };
        if let Err(error) = write() {
            return (usize::from(number), error);
        }
    }
    panic!("the disk never got full");
}

fn assert_no_space(error: &io::Error) {
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{error}");
}

#[test]
fn a_full_disk_hurts_nothing_and_can_be_left() {
    let mounted = with_small_disk("full", 48);
    fs::write(mounted.path("kept"), pattern(2, 50_000)).unwrap();
    let before = mounted.manifest();
    mounted.snap("before");
    let (written, error) = fill(&mounted, "flood");
    assert_no_space(&error);
    assert!(written > 10, "the disk was full after {written} files");
    // What was acknowledged is there, though nothing more fits.
    for number in 0..written {
        let number = u16::try_from(number).unwrap();
        let found = fs::read(mounted.path(&format!("flood/{number}"))).unwrap();
        assert!(found == pattern(number, 256 << 10), "file {number} is hurt");
    }
    assert_eq!(fs::read(mounted.path("kept")).unwrap(), pattern(2, 50_000));
    assert_eq!(
        fs::read(mounted.path("base-file")).unwrap(),
        pattern(1, 100_000)
    );
    mounted.json(&["list"]);
    // Reverting needs no byte, and gives none back: what it discards can be had again.
    mounted.revert("before");
    before.assert_same(
        &mounted.manifest(),
        Ignore::default(),
        "reverted on a full disk",
    );
    mounted.undo();
    let last = u16::try_from(written - 1).unwrap();
    assert_eq!(
        fs::read(mounted.path(&format!("flood/{last}"))).unwrap(),
        pattern(last, 256 << 10)
    );
    mounted.revert("before");
    mounted.verify();
    mounted.kill9();
    mounted.mount();
    before.assert_same(
        &mounted.manifest(),
        Ignore::default(),
        "mounted again on a full disk",
    );
}

#[test]
fn writing_goes_on_when_there_is_space() {
    let mounted = with_small_disk("again", 48);
    let disk = mounted.scratch.path().join("disk");
    let (written, error) = fill(&mounted, "flood");
    assert_no_space(&error);
    // The disk grows under the store, without anything being mounted anew.
    llfs_tests::command::Run::new("mount")
        .args(["-o", "remount,size=96m"])
        .arg(&disk)
        .ok();
    fs::create_dir(mounted.path("more")).unwrap();
    fs::write(mounted.path("more/file"), pattern(3, 1 << 20)).unwrap();
    mounted.snap("after");
    let full = mounted.manifest();
    assert!(full.len() >= written + 3);
    mounted.remount();
    full.assert_same(&mounted.manifest(), Ignore::default(), "mounted again");
    mounted.verify();
}

#[test]
fn deleting_gives_space_back() {
    let mounted = with_small_disk("deleting", 48);
    let (written, error) = fill(&mounted, "flood");
    assert_no_space(&error);
    for number in 0..written + 1 {
        fs::remove_file(mounted.path(&format!("flood/{number}"))).ok();
    }
    assert_eq!(fs::read_dir(mounted.path("flood")).unwrap().count(), 0);
    // Space is given back in the background: half of the flood must fit in the end.
    llfs_tests::command::until(
        "space after deleting",
        std::time::Duration::from_secs(20),
        || {
            let mut file = File::create(mounted.path("again")).ok()?;
            (0..written / 2).try_for_each(|n| {
                file.write_all(&pattern(u16::try_from(n).ok()?, 256 << 10))
                    .ok()
            })
        },
    );
    mounted.verify();
}

#[test]
fn deleting_a_snapshot_works_on_a_full_disk() {
    let mounted = with_small_disk("delete-snap", 48);
    let (written, _) = fill(&mounted, "flood");
    mounted.snap("flooded");
    fs::remove_dir_all(mounted.path("flood")).unwrap();
    mounted.delete("flooded");
    llfs_tests::command::until(
        "space after delete",
        std::time::Duration::from_secs(20),
        || fs::write(mounted.path("again"), vec![7; (written / 2) << 18]).ok(),
    );
    mounted.verify();
}

/// Overwriting what a snapshot holds needs space; what cannot be written stays what it was.
#[test]
fn a_failed_overwrite_leaves_the_old_bytes() {
    use std::os::unix::fs::FileExt;
    let mounted = with_small_disk("overwrite", 48);
    let old = pattern(4, 4 << 20);
    fs::write(mounted.path("file"), &old).unwrap();
    mounted.snap("s");
    let (_, error) = fill(&mounted, "flood");
    assert_no_space(&error);
    let file = File::options()
        .write(true)
        .open(mounted.path("file"))
        .unwrap();
    let mut overwritten = 0;
    for block in 0..1024u64 {
        match file.write_all_at(&pattern(5, 4096), block * 4096) {
            Ok(()) => overwritten += 1,
            Err(error) => {
                assert_no_space(&error);
                break;
            }
        }
    }
    assert!(overwritten < 1024, "a full disk took 4 MiB");
    let found = fs::read(mounted.path("file")).unwrap();
    assert_eq!(found.len(), old.len());
    let split = overwritten * 4096;
    assert!(
        found[split..] == old[split..],
        "bytes that were not written have changed"
    );
    assert!(
        found[..split]
            .chunks(4096)
            .all(|block| block == pattern(5, 4096))
    );
    mounted.revert("s");
    assert!(
        fs::read(mounted.path("file")).unwrap() == old,
        "the snapshot's bytes have changed"
    );
}

/// What a list and a status say that a snapshot holds alone is what deleting it frees.
#[test]
fn what_a_snapshot_holds_alone_is_told_and_freed() {
    let mounted = Mounted::new("alone");
    let taken = || {
        use std::os::unix::fs::MetadataExt;
        let files = fs::read_dir(mounted.store.join("layers")).unwrap();
        let blocks = files.map(|file| file.unwrap().metadata().unwrap().blocks());
        blocks.sum::<u64>() * 512
    };
    fs::write(mounted.path("all"), pattern(1, 1 << 20)).unwrap();
    fs::write(mounted.path("some"), pattern(2, 2 << 20)).unwrap();
    mounted.snap("first");
    fs::write(mounted.path("some"), pattern(3, 3 << 20)).unwrap();
    mounted.snap("middle");
    fs::write(mounted.path("some"), pattern(4, 4096)).unwrap();
    mounted.snap("last");
    mounted.revert("first");
    let bytes = |listed: &serde_json::Value, name: &str| -> Option<u64> {
        let all = listed["snapshots"].as_array().unwrap();
        let found = all.iter().find(|s| s["name"] == name).unwrap();
        found["bytes"].as_u64()
    };
    let listed = mounted.json(&["list"]);
    // The head is what the first is, and what was discarded is what the last is.
    assert_eq!(bytes(&listed, "first"), Some(0));
    assert_eq!(bytes(&listed, "middle"), Some(3 << 20));
    assert_eq!(bytes(&listed, "last"), Some(0));
    let shown = mounted.json(&["show", "middle"]);
    assert_eq!(shown["snapshot"]["bytes"], 3 << 20, "{shown}");
    let status = mounted.json(&["status"]);
    let held = serde_json::json!([{"name": "middle", "bytes": 3 << 20}]);
    assert_eq!(status["held"], held, "{status}");
    let before = taken();
    mounted.delete("middle");
    let patience = std::time::Duration::from_secs(20);
    llfs_tests::command::until("space after deleting", patience, || {
        (taken() + (3 << 20) <= before + 64 * 1024).then_some(())
    });
    assert_eq!(mounted.json(&["status"])["held"], serde_json::json!([]));
}

/// A store that may take 48 MiB and no more, on a disk with much more: as [`a_full_disk_hurts_nothing_and_can_be_left`].
#[test]
fn a_limited_store_is_like_a_full_disk() {
    let mounted = Mounted::prepare("limited");
    fs::write(mounted.dir.join("base-file"), pattern(1, 100_000)).unwrap();
    let limit = 48 << 20;
    let mount = || mounted.mount_run().args(["--max-store", "48M"]).ok();
    mount();
    let status = mounted.json(&["status"]);
    assert_eq!(status["store_limit"], limit, "{status}");
    let warned = |status: &serde_json::Value| status["warnings"].to_string().contains("max-store");
    assert!(!warned(&status), "{status}");
    let space = nix::sys::statvfs::statvfs(&mounted.dir).unwrap();
    assert!(space.blocks() * space.fragment_size() <= limit);
    fs::write(mounted.path("kept"), pattern(2, 50_000)).unwrap();
    let before = mounted.manifest();
    mounted.snap("before");
    let (written, error) = fill(&mounted, "flood");
    assert_no_space(&error);
    assert!(written > 100, "it was full after {written} files");
    let status = mounted.json(&["status"]);
    assert!(status["store_bytes"].as_u64().unwrap() <= limit, "{status}");
    assert!(warned(&status), "{status}");
    let patience = std::time::Duration::from_secs(20);
    llfs_tests::command::until("the early word in the log", patience, || {
        let log = fs::read_to_string(mounted.store.join("llfs.log")).unwrap();
        log.contains("that it may").then_some(())
    });
    let left = nix::sys::statvfs::statvfs(&mounted.dir).unwrap();
    assert!(left.blocks_available() * left.fragment_size() < 2 << 20);
    // A worker that follows keeps the limit.
    let worker = mounted.json(&["status"])["worker"].as_i64().unwrap();
    let worker = nix::unistd::Pid::from_raw(i32::try_from(worker).unwrap());
    nix::sys::signal::kill(worker, nix::sys::signal::Signal::SIGKILL).unwrap();
    let more = fs::write(mounted.path("more"), vec![1; 4 << 20]);
    assert_no_space(&more.expect_err("the next worker knows no limit"));
    for number in 0..written {
        let number = u16::try_from(number).unwrap();
        let found = fs::read(mounted.path(&format!("flood/{number}"))).unwrap();
        assert!(found == pattern(number, 256 << 10), "file {number} is hurt");
    }
    mounted.snap("flooded");
    mounted.revert("before");
    before.assert_same(&mounted.manifest(), Ignore::default(), "reverted when full");
    mounted.undo();
    mounted.revert("before");
    // Mounted with a lower limit than it takes, it can be looked at and made smaller.
    mounted.unmount();
    mounted.mount_run().args(["--max-store", "32M"]).ok();
    before.assert_same(&mounted.manifest(), Ignore::default(), "mounted when full");
    assert_no_space(&fs::write(mounted.path("more"), vec![1; 4 << 20]).unwrap_err());
    mounted.delete("flooded");
    // What was discarded holds the flood as well: it goes with the mount's base.
    mounted.verify();
    mounted.unmount();
    mounted.mount();
    fs::write(mounted.path("more"), vec![1; 4 << 20]).unwrap();
    let status = mounted.json(&["status"]);
    assert!(status["store_limit"].is_null(), "{status}");
}

#[test]
fn a_limited_store_takes_writes_again_when_space_is_given_back() {
    let mounted = Mounted::prepare("limited-again");
    mounted.mount_run().args(["--max-store", "48M"]).ok();
    let (written, error) = fill(&mounted, "flood");
    assert_no_space(&error);
    mounted.snap("flooded");
    fs::remove_dir_all(mounted.path("flood")).unwrap();
    assert_no_space(&fs::write(mounted.path("again"), vec![7; 4 << 20]).unwrap_err());
    mounted.delete("flooded");
    let patience = std::time::Duration::from_secs(30);
    llfs_tests::command::until("space after delete", patience, || {
        fs::write(mounted.path("again"), vec![7; (written / 2) << 18]).ok()
    });
    mounted.verify();
}

/// Who asks again and again for what fails makes the history and the log no longer than they may be.
#[test]
fn who_asks_in_a_loop_fills_nothing() {
    let mounted = Mounted::prepare("limited-loop");
    mounted.mount_run().args(["--max-store", "32M"]).ok();
    let run = mounted.scratch.path().join("run/llfs");
    let socket = fs::read_dir(run).unwrap().next().unwrap().unwrap().path();
    let mut client = llctl::Client::connect_socket(&socket).unwrap();
    client.because(Some("x".repeat(200))).unwrap();
    for _ in 0..6000 {
        let unknown = "there-is-none".parse().unwrap();
        client.revert(unknown).expect_err("there is none");
    }
    // What one line, or one act, may have more.
    let more = 4096;
    let size = |name: &str| fs::metadata(mounted.store.join(name)).map_or(0, |m| m.len());
    let logs = [size("llfs.log"), size("llfs.log.1")];
    assert!(logs.iter().all(|log| *log <= (1 << 20) + more), "{logs:?}");
    assert!(logs[1] >= 1 << 20, "nothing was said: {logs:?}");
    let history = fs::read_dir(mounted.store.join("history")).unwrap();
    let history = history.map(|file| file.unwrap().metadata().unwrap().len());
    let history: u64 = history.sum();
    assert!(history <= (640 << 10) + more, "{history}");
    // They count.
    let parts = &mounted.json(&["status"])["store_parts"];
    assert!(parts["notes"].as_u64().unwrap() >= history, "{parts}");
    // The newest is what is kept, and another worker goes on in the new log.
    mounted.snap("last");
    let acts = mounted.json(&["history", "-n", "2"]);
    let what = |n: usize| acts["acts"][n]["what"].as_str();
    assert_eq!((what(0), what(1)), (Some("revert"), Some("snap")));
    llfs_tests::killer::kill_worker(mounted.pid());
    mounted.json(&["status"]);
    let patience = std::time::Duration::from_secs(20);
    llfs_tests::command::until("the next worker in the log", patience, || {
        let log = fs::read_to_string(mounted.store.join("llfs.log")).unwrap();
        log.contains("another worker goes on").then_some(())
    });
}

#[test]
fn a_limit_that_makes_no_sense_is_refused() {
    let mounted = Mounted::prepare("limited-wrong");
    for wrong in ["10M", "lots", "-5G"] {
        let refused = mounted
            .mount_run()
            .arg(format!("--max-store={wrong}"))
            .finish();
        assert_eq!(refused.code(), 2, "{wrong}: {}", refused.text());
    }
    assert!(!mounted.store.exists());
}
