//! What is looked at before a revert, each check through a real mount: it refuses, with its own message and exit code, leaves everything
//! as it is, and `--force` passes what may be passed.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use llfs_tests::command::Run;
use llfs_tests::manifest::Ignore;
use llfs_tests::mounted::Mounted;

/// Two branches that touch the same line, and a third commit on `main`.
const HISTORY: &str = "git init -q -b main .; echo 1 > f; git add f; git commit -qm one
    git checkout -qb other; echo 2 > f; git commit -qam two
    git checkout -q main; echo 3 > f; git commit -qam three; echo 4 > f; git commit -qam four";

fn git(dir: &Path, script: &str) {
    let identity = "set -e; export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
        export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 GIT_EDITOR=true";
    Run::shell(&format!("{identity}\n{script}")).dir(dir).ok();
}

/// A revert to it and the question for it are refused with this code and these words, and nothing is changed.
#[track_caller]
fn refused(mounted: &Mounted, to: &str, code: i32, words: &[&str]) {
    let before = mounted.manifest();
    for command in ["revert", "can-revert"] {
        let told = mounted.llctl(&[command, to]).finish().expect_code(code);
        let told = told.text();
        for word in words {
            assert!(told.contains(word), "{command}: {told}");
        }
        let json = mounted.llctl(&[command, to, "--json"]).finish();
        let json = json.expect_code(code).text();
        assert!(json.trim_start().starts_with('{'), "{json}");
    }
    before.assert_same(&mounted.manifest(), Ignore::default(), "refused");
    let list = mounted.json(&["list"]);
    assert_eq!(list["discarded"].as_array().unwrap().len(), 0, "{list}");
}

#[test]
fn whatever_git_is_in_the_middle_of_is_not_reverted_away() {
    for (word, begin) in [
        ("merge", "git merge other"),
        ("cherry-pick", "git cherry-pick other"),
        ("revert", "git revert --no-edit HEAD~1"),
        ("rebase", "git rebase other"),
        ("rebase", "git rebase --apply other"),
        ("bisect", "git bisect start HEAD HEAD~2; false"),
    ] {
        let mounted = Mounted::new("safety-git");
        git(&mounted.dir, HISTORY);
        mounted.snap("clean");
        git(&mounted.dir, &format!("if {begin}; then exit 1; fi"));
        refused(
            &mounted,
            "clean",
            9,
            &[&format!("a git {word} is in progress")],
        );
        // A part, and what a snapshot did, are refused too.
        mounted.snap("within");
        for args in [
            &["clean", "--path", ".git"][..],
            &["--checkpoint", "within"],
        ] {
            let all: Vec<&str> = ["revert"].iter().chain(args).copied().collect();
            mounted.llctl(&all).finish().expect_code(9);
        }
        mounted.llctl(&["revert", "clean", "--force"]).ok();
        git(
            &mounted.dir,
            "git status | grep -q 'nothing to commit'; git diff --quiet HEAD",
        );
        mounted.undo();
        git(
            &mounted.dir,
            &format!("git status | grep -qi '{}'", &word[..6.min(word.len())]),
        );
    }
}

/// A revert reaches the files of a linked work tree, and nothing of what git knows of them.
#[test]
fn a_linked_work_tree_has_its_repository_outside() {
    let mounted = Mounted::prepare("safety-worktree");
    let repository = mounted.scratch.dir("repository");
    git(&repository, HISTORY);
    let add = format!(
        "git worktree add -q -b side '{}' main",
        mounted.dir.display()
    );
    git(&repository, &add);
    mounted.mount();
    mounted.snap("clean");
    let head = mounted.json(&["show", "clean"])["snapshot"]["meta"]["git"].clone();
    assert_eq!(head["branch"], "side", "{head}");
    git(&mounted.dir, "if git merge other; then exit 1; fi");
    refused(
        &mounted,
        "clean",
        9,
        &["a git merge is in progress", "does not reach"],
    );
    mounted.llctl(&["revert", "clean", "--force"]).ok();
    assert_eq!(fs::read(mounted.path("f")).unwrap(), b"4\n");
    mounted.unmount();
}

/// Heads that are no branch, or of no commit yet, hinder nothing.
#[test]
fn any_head_is_noted_and_hinders_nothing() {
    let mounted = Mounted::new("safety-heads");
    git(&mounted.dir, "git init -q -b main .");
    mounted.snap("unborn");
    git(&mounted.dir, HISTORY);
    git(&mounted.dir, "git checkout -q --detach HEAD~1");
    mounted.snap("detached");
    let of = |name: &str| mounted.json(&["show", name])["snapshot"]["meta"]["git"].clone();
    let unborn = of("unborn");
    assert_eq!(
        (&unborn["branch"], unborn["head"].is_null()),
        (&"main".into(), true),
        "{unborn}"
    );
    let detached = of("detached");
    assert_eq!(detached["head"].as_str().unwrap().len(), 40);
    assert!(detached["branch"].is_null(), "{detached}");
    mounted.revert("unborn");
    git(&mounted.dir, "test -z \"$(git for-each-ref)\"");
    mounted.revert("detached");
    git(
        &mounted.dir,
        "git diff --quiet HEAD; test \"$(git log --format=%s -1)\" = three",
    );
}

#[test]
fn a_checkpoint_that_is_not_there_is_told() {
    let mounted = Mounted::new("safety-absent");
    mounted.snap("there");
    fs::write(mounted.path("a"), "a").unwrap();
    refused(
        &mounted,
        "their",
        4,
        &["there is no snapshot named", "there"],
    );
    refused(&mounted, "@10m", 4, &["old"]);
    mounted
        .llctl(&["revert", "their", "--force"])
        .finish()
        .expect_code(4);
}

/// What a checkpoint needs of the store is gone.
#[test]
fn a_damaged_checkpoint_is_not_gone_back_to_unasked() {
    let mounted = Mounted::new("safety-damaged");
    fs::write(mounted.path("a"), vec![7; 9000]).unwrap();
    mounted.snap("whole");
    fs::remove_file(mounted.path("a")).unwrap();
    mounted.unmount();
    for layer in fs::read_dir(mounted.store.join("layers")).unwrap() {
        let path = layer.unwrap().path();
        if path.extension().is_some_and(|e| e == "data") {
            fs::remove_file(path).unwrap();
        }
    }
    mounted.mount();
    refused(&mounted, "whole", 7, &["layer"]);
    mounted.llctl(&["revert", "whole", "--force"]).ok();
    let read = fs::read(mounted.path("a")).map_err(|e| e.raw_os_error());
    assert_eq!(read, Err(Some(libc::EIO)));
    mounted.undo();
    assert!(!mounted.path("a").exists());
}

/// A store of a version that this daemon does not know is not mounted, and nothing in it is touched.
#[test]
fn a_store_of_another_version_is_refused() {
    let mounted = Mounted::new("safety-version");
    mounted.snap("s");
    mounted.unmount();
    let path = mounted.store.join("superblock");
    let whole = fs::read(&path).unwrap();
    let mut other = whole.clone();
    other[8..12].copy_from_slice(&99u32.to_le_bytes());
    let sum = xxhash_rust::xxh3::xxh3_64(&other[..16]);
    other[16..24].copy_from_slice(&sum.to_le_bytes());
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(&other, 0).unwrap();
    let told = mounted.mount_run().finish();
    assert_ne!(told.code(), 0);
    let told = told.text();
    assert!(told.contains("99") && told.contains("version"), "{told}");
    assert_eq!(fs::read(&path).unwrap(), other);
    file.write_all_at(&whole, 0).unwrap();
    mounted.mount();
    assert_eq!(mounted.json(&["list"])["snapshots"][0]["name"], "s");
}
