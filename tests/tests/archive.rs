//! `llctl archive` through a real mount: less space, and everything else as it was, whoever dies meanwhile.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use llfs_tests::dice::Random;
use llfs_tests::killer::{kill_worker, worker_of};
use llfs_tests::manifest::{Ignore, Manifest};
use llfs_tests::mounted::Mounted;
use llfs_tests::seeded;

fn text(number: usize, lines: usize) -> String {
    (0..lines)
        .map(|line| format!("line {line} of file {number}, which says nothing new\n"))
        .collect()
}

/// Three snapshots of text, with something else in the tree now.
fn written(name: &str, lines: usize) -> (Mounted, Vec<Manifest>) {
    let mounted = Mounted::over(name, |base| {
        fs::write(base.join("base"), text(99, lines)).unwrap();
    });
    let mut all = Vec::new();
    for round in 0..3 {
        for file in 0..4 {
            let path = mounted.path(&format!("{file}"));
            fs::write(path, text(round * 10 + file, lines)).unwrap();
        }
        let base = fs::File::options().append(true).open(mounted.path("base"));
        std::io::Write::write_all(&mut base.unwrap(), b"one more line\n").unwrap();
        mounted.snap(&format!("s{round}"));
        all.push(mounted.manifest());
    }
    fs::write(mounted.path("live"), text(50, lines)).unwrap();
    (mounted, all)
}

fn layers(mounted: &Mounted) -> u64 {
    let status = mounted.json(&["status"]);
    status["store_parts"]["layers"].as_u64().unwrap()
}

fn packs(store: &Path) -> usize {
    let names = fs::read_dir(store.join("layers")).unwrap();
    let names = names.map(|entry| entry.unwrap().path());
    names
        .filter(|path| path.extension().is_some_and(|e| e == "pack"))
        .count()
}

fn check(mounted: &Mounted, all: &[Manifest]) {
    for (round, manifest) in all.iter().enumerate() {
        mounted.revert(&format!("s{round}"));
        manifest.assert_same(&mounted.manifest(), Ignore::default(), &format!("s{round}"));
    }
    mounted.verify().ok();
}

#[test]
fn what_is_archived_is_smaller_and_the_same() {
    let (mounted, all) = written("archive", 20_000);
    let before = layers(&mounted);
    let would = mounted.json(&["archive", "s0", "--dry-run"]);
    assert_eq!(would["snapshots"][0], "s0");
    assert!(would["before"].as_u64() > Some(1 << 20) && would["after"].is_null());
    assert_eq!(packs(&mounted.store), 0);
    let done = mounted.json(&["archive", "s0", "s1"]);
    assert!(done["files"].as_u64() > Some(0), "{done}");
    assert!(
        done["after"].as_u64() < done["before"].as_u64().map(|n| n / 3),
        "{done}"
    );
    let after = layers(&mounted);
    assert!(after < before / 2, "{before} bytes became {after}");
    assert!(packs(&mounted.store) > 0);
    let shown = mounted.llctl(&["show", "s0"]).ok().out();
    assert!(shown.contains("archived   "), "{shown}");
    let status = mounted.llctl(&["status"]).ok().out();
    assert!(status.contains("less by `llctl archive`"), "{status}");
    let acts = mounted.json(&["history", "--what", "archive"])["acts"].clone();
    assert_eq!(acts[0]["targets"], serde_json::json!(["s0", "s1"]));
    assert!(acts[0]["bytes"].as_u64() > Some(1 << 20));
    assert_eq!(acts.as_array().unwrap().len(), 1);
    // Nothing is left to be done, and it says so.
    let again = mounted.llctl(&["archive", "s0"]).ok().out();
    let nothing =
        "Nothing became smaller: what is in 1 snapshot is compressed already, or cannot be.\n";
    assert_eq!(again, nothing);
    let again = mounted.llctl(&["archive", "s0", "-n"]).ok().out();
    assert_eq!(again, "Nothing to compress in 1 snapshot.\n");
    assert_eq!(
        fs::read_to_string(mounted.path("live")).unwrap(),
        text(50, 20_000)
    );
    // Looked at, reverted to, undone, told who did it; also by a daemon that was killed, and after a remount.
    let seen = fs::read_to_string(mounted.path(".llfs/s0/2")).unwrap();
    assert_eq!(seen, text(2, 20_000));
    check(&mounted, &all);
    mounted.undo();
    all[1].assert_same(&mounted.manifest(), Ignore::default(), "undone");
    mounted.kill9();
    mounted.mount();
    check(&mounted, &all);
    mounted.remount();
    check(&mounted, &all);
    // What is written over it is not written into it.
    fs::write(mounted.path("2"), "scribble").unwrap();
    mounted.snap("scribbled");
    check(&mounted, &all);
    // Exported, applied.
    let file = mounted.scratch.path().join("export");
    let path = file.to_str().unwrap();
    mounted.llctl(&["export", "s1", "-o", path]).ok();
    let other = Mounted::new("archive-other");
    other.llctl(&["import", path]).ok();
    other.revert("s1");
    all[1].assert_same(&other.manifest(), Ignore::another_tree(), "imported");
    mounted.revert("s2");
    mounted.llctl(&["apply", "--yes"]).ok();
    all[2].assert_same(&mounted.base_manifest(), Ignore::another_tree(), "applied");
}

#[test]
fn what_is_deleted_is_given_back() {
    let (mounted, all) = written("archive-delete", 20_000);
    mounted.llctl(&["archive", "--older-than", "1s"]).ok();
    let done = mounted.llctl(&["archive", "s0", "s1", "s2"]).ok();
    drop(done);
    let before = layers(&mounted);
    mounted.delete("s0");
    mounted.revert("s2");
    mounted.delete("s1");
    mounted
        .llctl(&["prune", "--all", "--keep-last", "1", "--yes"])
        .ok();
    mounted.remount();
    let less = llfs_tests::command::until("the space", Duration::from_secs(60), || {
        Some(layers(&mounted)).filter(|bytes| *bytes < before)
    });
    assert!(less < before);
    all[2].assert_same(&mounted.manifest(), Ignore::default(), "s2");
    mounted.verify().ok();
}

#[test]
fn nothing_is_lost_whenever_the_daemon_is_killed() {
    let seed = seeded::first_seed();
    println!("LLFS_SEED={seed}");
    let mut random = Random::new(seed);
    let (mut mounted, mut all) = written("archive-killed", 30_000);
    mounted.allow(Duration::from_secs(400));
    for round in 3..9 {
        for file in 0..3 {
            let path = mounted.path(&format!("{file}"));
            fs::write(path, text(round * 10 + file, 30_000)).unwrap();
        }
        let name = format!("s{round}");
        mounted.snap(&name);
        all.push(mounted.manifest());
        let supervisor = mounted.pid();
        let mut running = mounted.llctl(&["archive", &name]).start();
        let wait = Duration::from_millis(random.below(250) as u64);
        let whole = round % 3 == 2;
        let over = running.wait(wait).is_some();
        if whole {
            mounted.kill9();
            mounted.mount();
        } else if !over && worker_of(supervisor).is_some() {
            kill_worker(supervisor);
        }
        let done = running.finish();
        // The next worker goes on with it.
        assert!(whole || done.code() == 0, "{}", done.text());
        all[round].assert_same(&mounted.manifest(), Ignore::default(), &name);
        mounted.verify().ok();
    }
    assert!(packs(&mounted.store) > 0);
    check(&mounted, &all);
}
