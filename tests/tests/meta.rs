//! What snapshots say of themselves, and going back and forth over reverts, through a real mount.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs;

use llfs_tests::command::Run;
use llfs_tests::mounted::Mounted;
use serde_json::{Value, json};

fn git(mounted: &Mounted, dir: &str, args: &[&str]) -> String {
    let run = Run::new("git")
        .args(["-C".as_ref(), mounted.path(dir).as_os_str()])
        .args([
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@b",
            "-c",
            "init.defaultBranch=main",
        ])
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null");
    run.finish().ok().out().trim().to_owned()
}

fn show(mounted: &Mounted, name: &str) -> Value {
    mounted.json(&["show", name])["snapshot"].clone()
}

#[test]
fn what_is_said_of_a_snapshot_is_kept_and_changed_and_survives_everything() {
    let mounted = Mounted::over("meta", |_| {});
    let told = [
        "snap",
        "a",
        "-m",
        "why",
        "--session",
        "s",
        "--task",
        "t",
        "--parent-task",
        "p",
        "--tag",
        "x",
        "--metric",
        "n=1",
        "--metric",
        "v=1.2.3",
        "--metric",
        "r=-0.5",
        "--entity",
        "ticket:7",
        "--reason",
        "pre-change",
        "--pin",
    ];
    mounted.llctl(&told).finish().ok();
    let expected = json!({
        "reason": "pre-change", "session": "s", "task": "t", "parent_task": "p",
        "entity": {"type": "ticket", "id": "7"}, "tags": ["x"],
        "metrics": {"n": 1, "r": -0.5, "v": "1.2.3"}, "pinned": true,
        "format": 4,
    });
    assert_eq!(show(&mounted, "a")["meta"], expected);
    mounted.snap("b");
    assert_eq!(show(&mounted, "b")["meta"], json!({"format": 4}));
    mounted.kill9();
    mounted.mount();
    assert_eq!(show(&mounted, "a")["meta"], expected, "from the journal");
    let edit = [
        "annotate", "a", "-m", "because", "--metric", "n=2", "--unset", "v", "--phase", "end",
    ];
    mounted.llctl(&edit).finish().ok();
    mounted.llctl(&["tag", "a", "y", "z"]).finish().ok();
    mounted.llctl(&["tag", "a", "x", "-d"]).finish().ok();
    mounted.llctl(&["unpin", "a"]).finish().ok();
    mounted.llctl(&["rename", "a", "c"]).finish().ok();
    let expected = json!({
        "reason": "pre-change", "session": "s", "phase": "end", "task": "t", "parent_task": "p",
        "entity": {"type": "ticket", "id": "7"}, "tags": ["y", "z"],
        "metrics": {"n": 2, "r": -0.5}, "format": 4,
    });
    for how in ["changed", "from an image"] {
        let shown = show(&mounted, "c");
        assert_eq!(shown["meta"], expected, "{how}");
        assert_eq!(shown["message"], "because", "{how}");
        mounted.remount();
    }
    let gone = mounted.llctl(&["annotate", "a", "-m", "x"]).finish();
    assert_eq!(gone.code(), 4, "{}", gone.text());
    let long = "x".repeat(300);
    let refused = mounted.llctl(&["snap", "d", "--session", &long]).finish();
    assert_ne!(refused.code(), 0);
    assert!(refused.text().contains("a session has at most 256 bytes"));
    let list = mounted.json(&["list"]);
    assert_eq!(list["snapshots"].as_array().unwrap().len(), 2);
}

#[test]
fn the_repository_in_the_tree_is_noted() {
    let mounted = Mounted::over("meta-git", |_| {});
    fs::create_dir(mounted.path("repo")).unwrap();
    git(&mounted, "repo", &["init", "-q"]);
    fs::write(mounted.path("repo/file"), "one").unwrap();
    git(&mounted, "repo", &["add", "."]);
    git(&mounted, "repo", &["commit", "-qm", "one"]);
    git(
        &mounted,
        "repo",
        &["worktree", "add", "-q", "-b", "side", "../side"],
    );
    git(&mounted, "side", &["commit", "-qm", "two", "--allow-empty"]);
    let snap = |dir: &str, args: &[&str]| {
        let mut all = vec!["snap"];
        all.extend(args);
        let run = mounted.llctl(&all).dir(mounted.path(dir));
        run.finish().ok();
        let name = args[0];
        show(&mounted, name)["meta"]["git"].clone()
    };
    let head = |dir: &str| git(&mounted, dir, &["rev-parse", "HEAD"]);
    assert_eq!(
        snap("repo", &["plain"]),
        json!({"head": head("repo"), "branch": "main", "dirty": null})
    );
    assert_eq!(
        snap("side", &["linked", "--git-status"]),
        json!({"head": head("side"), "branch": "side", "dirty": false})
    );
    fs::write(mounted.path("repo/file"), "two").unwrap();
    assert_eq!(snap("repo", &["dirty", "--git-status"])["dirty"], true);
    assert_eq!(snap("", &["root"]), Value::Null, "no repository there");
}

#[test]
fn reverts_are_undone_and_redone_several_steps() {
    let mounted = Mounted::over("steps", |base| fs::write(base.join("f"), "0").unwrap());
    let read = || fs::read_to_string(mounted.path("f")).unwrap();
    for n in ["1", "2", "3"] {
        fs::write(mounted.path("f"), n).unwrap();
        mounted.snap(n);
        fs::write(mounted.path("f"), format!("{n} and more")).unwrap();
    }
    for n in ["1", "2"] {
        mounted.revert(n);
    }
    fs::write(mounted.path("f"), "2 changed").unwrap();
    mounted.llctl(&["undo", "2"]).finish().ok();
    assert_eq!(read(), "3 and more");
    assert_eq!(mounted.llctl(&["undo"]).finish().code(), 4);
    mounted.redo();
    assert_eq!(read(), "1");
    mounted.remount();
    assert_eq!(
        mounted.llctl(&["redo", "2"]).finish().code(),
        4,
        "all or none"
    );
    assert_eq!(read(), "1");
    mounted.redo();
    assert_eq!(read(), "2 changed");
    mounted.llctl(&["undo", "2"]).finish().ok();
    mounted.revert("2");
    assert_eq!(
        mounted.llctl(&["redo"]).finish().code(),
        4,
        "a revert came after"
    );
    let mut seen = Vec::new();
    while mounted.llctl(&["undo"]).finish().code() == 0 {
        seen.push(read());
    }
    assert_eq!(
        seen,
        ["3 and more", "1", "2 changed"],
        "nothing that was kept is out of reach"
    );
    mounted.verify();
}

#[test]
fn lists_are_filtered_sorted_and_paged() {
    let mounted = Mounted::over("meta-list", |_| {});
    let snap = |name: &str, bytes: usize, more: &[&str]| {
        fs::write(mounted.path(name), vec![1; bytes]).unwrap();
        let all: Vec<&str> = ["snap", name].iter().chain(more).copied().collect();
        mounted.llctl(&all).finish().ok();
        fs::remove_file(mounted.path(name)).unwrap();
    };
    snap(
        "d",
        10_000,
        &["--session", "1", "--task", "x", "--metric", "n=1"],
    );
    snap("a", 90_000, &["--session", "2", "--tag", "t", "--tag", "u"]);
    snap(
        "c",
        50_000,
        &["--session", "1", "--phase", "p", "--metric", "n=2"],
    );
    snap("b", 0, &["--reason", "error", "--tag", "t"]);
    let list = |args: &[&str]| -> Vec<String> {
        let all: Vec<&str> = ["list"].iter().chain(args).copied().collect();
        let listing = mounted.json(&all);
        let names = listing["snapshots"].as_array().unwrap().iter();
        names
            .map(|s| s["name"].as_str().unwrap().to_owned())
            .collect()
    };
    for (args, expected) in [
        (&["--session", "1"][..], &["d", "c"][..]),
        (&["--session", "1", "--phase", "p"], &["c"]),
        (&["--task", "x"], &["d"]),
        (&["--reason", "error"], &["b"]),
        (&["--tag", "t"], &["a", "b"]),
        (&["--tag", "t", "--tag", "u"], &["a"]),
        (&["--until", "1h"], &[]),
        (&["--since", "1h"], &["d", "a", "c", "b"]),
        (&["--since", "2100-01-01T00:00"], &[]),
        (&["--sort", "name"], &["a", "b", "c", "d"]),
        (&["--sort", "alone"], &["b", "d", "c", "a"]),
        (&["--sort", "alone", "--reverse", "-n", "2"], &["d", "b"]),
        (&["-n", "2"], &["c", "b"]),
        (&["-n", "2", "--skip", "1"], &["a", "c"]),
        (&["-n", "2", "--skip", "3"], &["d"]),
        (&["--skip", "9"], &[]),
    ] {
        assert_eq!(list(args), expected, "{args:?}");
    }
    let last = mounted.json(&["resume", "1"]);
    assert_eq!(
        (&last["name"], &last["meta"]["metrics"]["n"]),
        (&json!("c"), &json!(2))
    );
    assert_eq!(mounted.json(&["resume"])["name"], "b");
    assert_eq!(mounted.llctl(&["resume", "3"]).finish().code(), 4);
    mounted.revert("a");
    assert_eq!(
        mounted.json(&["list"])["discarded"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(mounted.json(&["list", "-n", "9"])["discarded"], json!([]));
}
