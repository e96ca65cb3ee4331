//! Reverts of parts through a real mount: exact, atomic for who looks, undone in one step; and what speaks against a revert.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use llfs_tests::command::{Run, until};
use llfs_tests::manifest::{Ignore, Manifest};
use llfs_tests::mounted::Mounted;
use llfs_tests::sys;

fn fill(base: &Path) {
    for dir in ["web/css", "api/v1", "docs"] {
        fs::create_dir_all(base.join(dir)).unwrap();
    }
    for file in [
        "web/index.html",
        "web/css/main.css",
        "api/v1/mod.rs",
        "docs/a.md",
        "Cargo.toml",
    ] {
        fs::write(base.join(file), format!("this is {file}\n")).unwrap();
    }
    symlink("index.html", base.join("web/home")).unwrap();
    fs::hard_link(base.join("web/index.html"), base.join("web/same.html")).unwrap();
    fs::set_permissions(base.join("web/css"), PermissionsExt::from_mode(0o750)).unwrap();
}

fn mounted(name: &str) -> Mounted {
    let mounted = Mounted::over(name, fill);
    sys::set_xattr(&mounted.path("web/css/main.css"), b"user.tag", b"1", 0).unwrap();
    mounted.snap("before");
    mounted
}

fn write(mounted: &Mounted, path: &str, text: &str) {
    fs::write(mounted.path(path), text).unwrap();
}

fn read(mounted: &Mounted, path: &str) -> String {
    fs::read_to_string(mounted.path(path)).unwrap()
}

/// Both trees below a directory, with everything that can be seen.
#[track_caller]
fn same_below(dir: &str, a: &Manifest, b: &Mounted) {
    let now = llfs_tests::manifest::walk(&b.path(dir));
    a.assert_same(&now, Ignore::default(), dir);
}

fn below(dir: &str, mounted: &Mounted) -> Manifest {
    llfs_tests::manifest::walk(&mounted.path(dir))
}

#[test]
fn a_component_is_exact_and_the_rest_stays() {
    let mounted = mounted("part-exact");
    let (web, all) = (below("web", &mounted), mounted.manifest());
    write(
        &mounted,
        "llfs.toml",
        "[components]\nfrontend = [\"web\"]\n",
    );
    // Someone has a file of each part open, and stands in a directory that goes.
    let mut open = File::open(mounted.path("web/index.html")).unwrap();
    let mut other = File::open(mounted.path("api/v1/mod.rs")).unwrap();
    write(&mounted, "web/index.html", "changed\n");
    fs::remove_dir_all(mounted.path("web/css")).unwrap();
    fs::create_dir_all(mounted.path("web/new/deep")).unwrap();
    write(&mounted, "web/new/deep/file", "new");
    fs::rename(mounted.path("web/home"), mounted.path("web/house")).unwrap();
    fs::remove_file(mounted.path("web/same.html")).unwrap();
    write(&mounted, "api/v1/mod.rs", "kept\n");
    fs::rename(mounted.path("docs"), mounted.path("doc")).unwrap();
    let changed = mounted.manifest();
    let out = mounted
        .llctl(&["revert", "before", "--component", "frontend"])
        .ok();
    assert!(out.out().contains("before in web"), "{}", out.out());
    same_below("web", &web, &mounted);
    assert_eq!(read(&mounted, "api/v1/mod.rs"), "kept\n");
    assert_eq!(read(&mounted, "doc/a.md"), "this is docs/a.md\n");
    assert!(!mounted.path("docs").exists());
    let mut text = String::new();
    open.read_to_string(&mut text).unwrap();
    assert_eq!(text, "this is web/index.html\n");
    text.clear();
    other.rewind().unwrap();
    other.read_to_string(&mut text).unwrap();
    assert_eq!(text, "kept\n");
    mounted.verify();
    mounted.undo();
    changed.assert_same(&mounted.manifest(), Ignore::default(), "undone");
    drop((open, other));
    mounted.remount();
    mounted.llctl(&["redo"]).ok();
    same_below("web", &web, &mounted);
    mounted.revert("before");
    all.assert_same(&mounted.manifest(), Ignore::default(), "reverted whole");
}

#[test]
fn a_part_survives_the_death_of_everything() {
    let mounted = mounted("part-kill");
    let web = below("web", &mounted);
    fs::remove_dir_all(mounted.path("web")).unwrap();
    write(&mounted, "docs/a.md", "kept\n");
    mounted
        .llctl(&["revert", "before", "--path", "web"])
        .dir(&mounted.dir)
        .ok();
    same_below("web", &web, &mounted);
    mounted.kill9();
    mounted.mount();
    same_below("web", &web, &mounted);
    assert_eq!(read(&mounted, "docs/a.md"), "kept\n");
    mounted.undo();
    assert!(!mounted.path("web").exists());
    mounted.verify();
}

#[test]
fn a_checkpoint_in_the_middle_is_undone_and_conflicts_are_named() {
    let mounted = mounted("part-middle");
    write(&mounted, "api/v1/mod.rs", "one\n");
    mounted.snap("one");
    write(&mounted, "web/index.html", "two\n");
    write(&mounted, "docs/b.md", "two\n");
    mounted.snap("two");
    write(&mounted, "Cargo.toml", "three\n");
    mounted.snap("three");
    mounted.llctl(&["revert", "--checkpoint", "two"]).ok();
    assert_eq!(read(&mounted, "web/same.html"), "this is web/index.html\n");
    assert!(!mounted.path("docs/b.md").exists());
    assert_eq!(read(&mounted, "api/v1/mod.rs"), "one\n");
    assert_eq!(read(&mounted, "Cargo.toml"), "three\n");
    mounted.undo();
    write(&mounted, "docs/b.md", "two and more\n");
    let before = mounted.manifest();
    let refused = mounted
        .llctl(&["revert", "--checkpoint", "two"])
        .finish()
        .expect_code(10);
    assert!(
        refused.err().contains("docs/b.md  was changed since"),
        "{}",
        refused.err()
    );
    before.assert_same(&mounted.manifest(), Ignore::default(), "nothing was done");
    let kept = ["revert", "--checkpoint", "two", "--on-conflict", "keep"];
    mounted.llctl(&kept).ok();
    assert_eq!(read(&mounted, "docs/b.md"), "two and more\n");
    assert_eq!(read(&mounted, "web/index.html"), "this is web/index.html\n");
    mounted.undo();
    let reverted = ["revert", "--checkpoint", "two", "--on-conflict", "revert"];
    mounted.llctl(&reverted).ok();
    assert!(!mounted.path("docs/b.md").exists());
    mounted.verify();
}

#[test]
fn a_preview_is_what_the_revert_then_does() {
    let mounted = mounted("part-preview");
    write(&mounted, "web/index.html", "changed\n");
    write(&mounted, "web/new", "new\n");
    write(&mounted, "docs/a.md", "changed\n");
    let before = mounted.manifest();
    let part = ["revert", "before", "--path", "/web"];
    let shown = mounted
        .llctl(&part)
        .args(["--dry-run", "--patch"])
        .ok()
        .out();
    assert!(
        shown.contains("-changed\n+this is web/index.html\n") && shown.contains("-new\n"),
        "{shown}"
    );
    assert!(!shown.contains("docs"), "{shown}");
    let listed = mounted.llctl(&part).arg("-n").ok().out();
    let whole = mounted.llctl(&["revert", "before", "-n"]).ok().out();
    assert!(whole.contains("docs/a.md"), "{whole}");
    before.assert_same(&mounted.manifest(), Ignore::default(), "previews");
    mounted.snap("now");
    mounted.llctl(&part).ok();
    let done = mounted.llctl(&["diff", "now"]).ok().out();
    assert_eq!(done, listed);
    let undo = mounted.llctl(&["undo", "--dry-run"]).ok().out();
    assert!(undo.contains("A  web/new"), "{undo}");
}

#[test]
fn a_pattern_for_nothing_is_told_and_leaves_nothing() {
    let mounted = mounted("part-nothing");
    mounted.snap("s");
    let before = mounted.manifest();
    let steps = || {
        mounted.json(&["list"])["discarded"]
            .as_array()
            .unwrap()
            .len()
    };
    for more in [&[][..], &["--dry-run"], &["--json"]] {
        let run = mounted.llctl(&["revert", "s", "--path", "absent/*.rs"]);
        let refused = more.iter().fold(run, |run, arg| run.arg(arg)).finish();
        let refused = refused.expect_code(4);
        assert!(refused.err().contains("absent/*.rs"), "{}", refused.err());
    }
    // What is there and as it was is no mistake.
    let done = mounted.llctl(&["revert", "s", "--path", "**"]).ok().out();
    assert!(done.contains("already"), "{done}");
    mounted.llctl(&["revert", "s"]).ok();
    assert_eq!(steps(), 0);
    mounted.llctl(&["undo"]).finish().expect_code(4);
    before.assert_same(&mounted.manifest(), Ignore::default(), "nothing was done");
}

#[test]
fn git_in_the_middle_of_a_merge_is_not_reverted_away() {
    let mounted = Mounted::new("part-git");
    let git = |script: &str| {
        let identity = "export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b GIT_CONFIG_GLOBAL=/dev/null";
        Run::shell(&format!("{identity}; {script}"))
            .dir(&mounted.dir)
            .ok()
    };
    git(
        "git init -q -b main .; echo 1 > f; git add f; git commit -qm one
         git checkout -qb other; echo 2 > f; git commit -qam two
         git checkout -q main; echo 3 > f; git commit -qam three",
    );
    mounted.snap("clean");
    git("git merge other || true; test -e .git/MERGE_HEAD");
    let before = mounted.manifest();
    let refused = mounted.llctl(&["revert", "clean"]).finish().expect_code(9);
    assert!(
        refused
            .err()
            .contains("a git merge is in progress in \".git\""),
        "{}",
        refused.err()
    );
    mounted
        .llctl(&["can-revert", "clean"])
        .finish()
        .expect_code(9);
    before.assert_same(&mounted.manifest(), Ignore::default(), "refused");
    // One that the snapshot has as well is no reason.
    mounted.snap("merging");
    git("echo resolved > f");
    mounted.revert("merging");
    mounted.llctl(&["revert", "clean", "--force"]).ok();
    git("test ! -e .git/MERGE_HEAD; git diff --quiet");
    mounted.undo();
    git("test -e .git/MERGE_HEAD");
}

#[test]
fn who_writes_is_named_and_nobody_is_refused() {
    let mounted = mounted("part-writers");
    let script =
        "exec 3>>web/index.html; echo there > there; while [ -e there ]; do sleep 0.05; done";
    let writer = Run::shell(script).dir(&mounted.dir).start();
    until("the writer runs", Duration::from_secs(60), || {
        mounted.path("there").exists().then_some(())
    });
    let said = format!(
        "bash ({}) has web/index.html open for writing",
        writer.pid()
    );
    let check = mounted.llctl(&["can-revert", "before"]).ok().out();
    assert!(check.contains(&said), "{check}");
    // The revert looks for a few milliseconds only, and a busy machine may need more.
    until("the writer is named", Duration::from_secs(60), || {
        write(&mounted, "docs/a.md", "changed\n");
        let done = mounted.llctl(&["revert", "before", "--path", "/docs"]).ok();
        done.err().contains(&said).then_some(())
    });
    fs::remove_file(mounted.path("there")).unwrap();
    writer.finish().ok();
}

#[test]
fn changes_that_no_snapshot_holds_are_said() {
    let mounted = mounted("part-unsaved");
    write(&mounted, "docs/a.md", "1\n");
    let said = mounted.llctl(&["revert", "before"]).ok().out();
    assert!(
        said.contains("No snapshot holds what was changed last, in 1 file"),
        "{said}"
    );
    write(&mounted, "docs/a.md", "2\n");
    mounted.snap("two");
    let said = mounted.llctl(&["revert", "before"]).ok().out();
    assert!(!said.contains("No snapshot"), "{said}");
}

#[test]
fn a_descriptor_of_a_file_that_a_part_takes_away_does_no_harm() {
    let mounted = mounted("part-descriptor");
    let mut open = OpenOptions::new()
        .create(true)
        .append(true)
        .open(mounted.path("web/log"))
        .unwrap();
    open.write_all(b"one").unwrap();
    mounted.llctl(&["revert", "before", "--path", "/web"]).ok();
    assert!(!mounted.path("web/log").exists());
    // It may fail or go nowhere; what is in the tree is not touched.
    drop(open.write_all(b"two"));
    assert!(!mounted.path("web/log").exists());
    assert_eq!(
        fs::metadata(mounted.path("web/index.html"))
            .unwrap()
            .nlink(),
        2
    );
    drop(open);
    mounted.verify();
}

/// Directories that are gone, and held, may each have been in the next one when they went: where they are has no answer, and
/// who asks must not go round and round.
#[test]
fn directories_that_went_from_within_each_other_end_no_revert() {
    let mounted = Mounted::over("part-round", |base| {
        fs::create_dir_all(base.join("d/a/e")).unwrap();
        fs::create_dir(base.join("b")).unwrap();
    });
    mounted.snap("start");
    fs::remove_dir(mounted.path("d/a/e")).unwrap();
    fs::remove_dir(mounted.path("d/a")).unwrap();
    fs::remove_dir(mounted.path("d")).unwrap();
    mounted.snap("without");
    mounted.revert("start");
    let held = ["d/a/e", "d", "b"].map(|dir| File::open(mounted.path(dir)).unwrap());
    for (from, to) in [("d/a", "a"), ("b", "a/b"), ("d", "a/b/d")] {
        fs::rename(mounted.path(from), mounted.path(to)).unwrap();
    }
    for gone in ["a/e", "a/b/d", "a/b"] {
        fs::remove_dir(mounted.path(gone)).unwrap();
    }
    let revert = mounted.llctl(&["revert", "without", "--path", "a/**"]);
    revert.args(["--on-conflict", "revert"]).ok();
    assert!(!mounted.path("a").exists());
    drop(held);
    mounted.verify();
    mounted.revert("start");
    assert!(mounted.path("d/a/e").is_dir());
}

#[test]
fn a_task_is_undone_with_what_came_of_it_and_another_is_kept() {
    let mounted = mounted("part-task");
    let before = below("web", &mounted);
    let step = |name: &str, args: &[&str], path: &str| {
        write(&mounted, path, &format!("{name}\n"));
        mounted.llctl(&["snap", name]).args(args).ok();
    };
    let session = ["--session", "feature-auth-001"];
    step(
        "a",
        &[&session[..], &["--task", "A"]].concat(),
        "web/index.html",
    );
    step("b", &["--task", "B"], "api/v1/mod.rs");
    let child = ["--task", "A2", "--parent-task", "A"];
    step("a2", &[&session[..], &child].concat(), "docs/a.md");
    write(&mounted, "Cargo.toml", "since\n");
    let all = ["revert", "--task", "A", "--cascade", "--preserve", "B"];
    let shown = mounted.llctl(&all).arg("--dry-run").ok().out();
    assert!(shown.contains("web/") && !shown.contains("api"), "{shown}");
    mounted.llctl(&all).ok();
    same_content(&before, &mounted);
    assert_eq!(read(&mounted, "docs/a.md"), "this is docs/a.md\n");
    assert_eq!(read(&mounted, "api/v1/mod.rs"), "b\n");
    assert_eq!(read(&mounted, "Cargo.toml"), "since\n");
    mounted.undo();
    // Of what came of it, some is kept.
    let kept = ["revert", "--task", "A", "--cascade", "--preserve", "A2"];
    mounted.llctl(&kept).ok();
    same_content(&before, &mounted);
    assert_eq!(read(&mounted, "docs/a.md"), "a2\n");
    mounted.undo();
    mounted.llctl(&["revert", "--task", "A"]).ok();
    assert_eq!(read(&mounted, "docs/a.md"), "a2\n");
    mounted.undo();
    mounted
        .llctl(&["do", "rollback session feature-auth-001"])
        .ok();
    assert_eq!(read(&mounted, "docs/a.md"), "this is docs/a.md\n");
    mounted.undo();
    // In words, to one snapshot, which must be of the session that is named.
    let wrong = ["do", "rollback to checkpoint b session feature-auth-001"];
    mounted.llctl(&wrong).ok();
    assert_eq!(read(&mounted, "docs/a.md"), "this is docs/a.md\n");
    mounted
        .llctl(&["do", "rollback to checkpoint a session another"])
        .finish()
        .expect_code(4);
    mounted.verify();
}

#[track_caller]
fn same_content(web: &Manifest, mounted: &Mounted) {
    let now = below("web", mounted);
    let ignore = Ignore {
        times: true,
        ..Ignore::default()
    };
    web.assert_same(&now, ignore, "web");
}
