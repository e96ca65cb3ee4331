//! Checksums of states through a real mount: there after a while, kept, equal for equal trees, and proved by `verify`.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs;

use llfs_tests::command::Run;
use llfs_tests::mounted::Mounted;

fn fill(base: &std::path::Path) {
    fs::create_dir(base.join("dir")).unwrap();
    fs::write(base.join("dir/a"), "a").unwrap();
    fs::write(base.join("big"), vec![5; 3 << 20]).unwrap();
    fs::hard_link(base.join("dir/a"), base.join("other")).unwrap();
}

#[test]
fn equal_states_have_equal_checksums_that_survive_and_verify() {
    let mounted = Mounted::over("digest", fill);
    mounted.snap("first");
    fs::write(mounted.path("dir/a"), "b").unwrap();
    fs::write(mounted.path("new"), "new").unwrap();
    mounted.snap("second");
    mounted.revert("first");
    mounted.snap("third");
    let first = mounted.hash("first");
    let second = mounted.hash("second");
    assert_eq!((first.len(), second.len()), (64, 64));
    assert_ne!(first, second);
    assert_eq!(mounted.hash("third"), first);
    mounted.verify().ok();
    mounted.kill9();
    mounted.mount();
    let listed = mounted.json(&["list"]);
    let hashes: Vec<_> = (listed["snapshots"].as_array().unwrap().iter())
        .map(|s| s["hash"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(hashes, [Some(first.clone()), Some(second), Some(first)]);
    let shown = mounted.llctl(&["show", "first"]).ok().out();
    assert!(shown.contains("hash"), "{shown}");
    mounted.verify().ok();
}

/// A copy elsewhere, with its times, of what a mount shows: over another store, from the base on.
#[test]
fn a_copy_of_a_tree_has_its_checksum() {
    let mounted = Mounted::over("digest-one", fill);
    fs::write(mounted.path("big"), "shorter").unwrap();
    fs::rename(mounted.path("dir"), mounted.path("moved")).unwrap();
    mounted.snap("s");
    let copy = Mounted::over("digest-two", |base| {
        let from = mounted.path(".");
        Run::new("cp")
            .args(["-a".as_ref(), from.as_os_str(), base.as_os_str()])
            .ok();
    });
    copy.snap("t");
    assert_eq!(mounted.hash("s"), copy.hash("t"));
    fs::write(copy.path("moved/c"), "").unwrap();
    copy.snap("u");
    assert_ne!(copy.hash("u"), copy.hash("t"));
}
