//! `llctl restore`: single files and directories as they were, everything else as it is.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use llfs_tests::command::{Finished, Run};
use llfs_tests::manifest::{Ignore, Manifest};
use llfs_tests::mounted::Mounted;
use llfs_tests::{seeded, sys, tree};

fn site(name: &str) -> Mounted {
    Mounted::over(name, |base| {
        fs::create_dir_all(base.join("src/deep")).unwrap();
        fs::write(base.join("src/main.rs"), "main").unwrap();
        fs::write(base.join("src/deep/er.rs"), "deeper").unwrap();
        fs::write(base.join("other"), "other").unwrap();
        fs::write(base.join("a*b"), "starred").unwrap();
        fs::write(base.join("aXb"), "not starred").unwrap();
    })
}

fn restore(mounted: &Mounted, args: &[&str]) -> Finished {
    let mut run = mounted.llctl(&["restore"]);
    for (number, arg) in args.iter().enumerate() {
        // The first is the state; options stay as they are.
        run = match number == 0 || arg.starts_with('-') {
            true => run.arg(arg),
            false => run.arg(mounted.path(arg)),
        };
    }
    run.finish()
}

fn shell(mounted: &Mounted, script: &str) {
    Run::shell(script).dir(&mounted.dir).ok();
}

/// The part of a manifest at and below a path.
fn below(all: &Manifest, path: &str) -> Manifest {
    let inside = |found: &[u8]| {
        let rest = found.strip_prefix(path.as_bytes());
        rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    };
    let entries = all.0.iter().filter(|(found, _)| inside(found));
    Manifest(entries.map(|(p, e)| (p.clone(), e.clone())).collect())
}

fn without(all: &Manifest, path: &str) -> Manifest {
    let gone = below(all, path);
    let entries = all.0.iter().filter(|(p, _)| !gone.0.contains_key(*p));
    Manifest(entries.map(|(p, e)| (p.clone(), e.clone())).collect())
}

#[test]
fn what_is_named_is_as_it_was_and_the_rest_as_it_is() {
    let mounted = site("restore");
    mounted.snap("s");
    let before = mounted.manifest();
    shell(
        &mounted,
        "echo x >> src/main.rs; chmod 600 src/main.rs; rm -r src/deep; echo y > src/new",
    );
    shell(&mounted, "rm 'a*b'; echo z > aXb; echo changed > other");
    let changed = mounted.manifest();
    // A file, of which content, mode and times come back.
    restore(&mounted, &["s", "src/main.rs"]).ok();
    let now = mounted.manifest();
    below(&before, "src/main.rs").assert_same(
        &below(&now, "src/main.rs"),
        Ignore::default(),
        "file",
    );
    without(&changed, "src/main.rs").assert_same(
        &without(&now, "src/main.rs"),
        Ignore::default(),
        "rest",
    );
    mounted.undo();
    changed.assert_same(&mounted.manifest(), Ignore::default(), "undone");
    // A name is no pattern.
    restore(&mounted, &["s", "a*b"]).ok();
    assert_eq!(fs::read(mounted.path("a*b")).unwrap(), b"starred");
    assert_eq!(fs::read(mounted.path("aXb")).unwrap(), b"z\n");
    // A whole directory, with what was removed from it and without what was added.
    restore(&mounted, &["@base", "src"]).ok();
    let now = mounted.manifest();
    below(&before, "src").assert_same(&below(&now, "src"), Ignore::default(), "directory");
    assert_eq!(fs::read(mounted.path("other")).unwrap(), b"changed\n");
    // Several at once, and again what is there already.
    let text = restore(&mounted, &["s", "other", "aXb"]).ok().out();
    assert!(text.starts_with("Restored 2 files"), "{text}");
    let text = restore(&mounted, &["s", "other", "aXb"]).ok().out();
    assert_eq!(text, "All of it is as it was already.\n");
    before.assert_same(
        &mounted.manifest(),
        Ignore {
            root: true,
            ..Ignore::default()
        },
        "all of it",
    );
    mounted.remount();
    before.assert_same(
        &mounted.manifest(),
        Ignore {
            root: true,
            ..Ignore::default()
        },
        "mounted again",
    );
    mounted.verify().ok();
}

#[test]
fn what_cannot_be_restored_alone_is_named() {
    let mounted = site("restore-conflicts");
    mounted.snap("s");
    shell(&mounted, "mv src/main.rs src/new.rs; rm -r src/deep");
    let changed = mounted.manifest();
    // The file has another name now, and the directory is gone with all that was in it.
    let renamed = restore(&mounted, &["s", "src/main.rs"]).expect_code(10);
    assert!(renamed.err().contains("src/new.rs"), "{}", renamed.err());
    changed.assert_same(&mounted.manifest(), Ignore::default(), "nothing was done");
    restore(&mounted, &["s", "src/main.rs", "--on-conflict=revert"]).ok();
    assert!(mounted.path("src/main.rs").exists() && !mounted.path("src/new.rs").exists());
    // Something else is where the directory was.
    shell(&mounted, "echo file > src/deep");
    let part = restore(&mounted, &["s", "src/deep/er.rs"]).expect_code(10);
    assert!(part.err().contains("src/deep"), "{}", part.err());
    restore(&mounted, &["s", "src/deep"]).ok();
    assert_eq!(fs::read(mounted.path("src/deep/er.rs")).unwrap(), b"deeper");
}

/// Directories above what is restored come back as they were, with nothing else in them.
#[test]
fn a_part_of_a_directory_that_was_removed_comes_back() {
    let mounted = Mounted::over("restore-parents", |base| {
        fs::create_dir_all(base.join("a/b/c")).unwrap();
        for path in ["a/x", "a/b/y", "a/b/c/z", "a/b/c/other"] {
            fs::write(base.join(path), path).unwrap();
        }
    });
    shell(
        &mounted,
        "mkdir a/b/new; echo n > a/b/new/n; echo m > a/b/new/m",
    );
    shell(
        &mounted,
        "chmod 2750 a; chmod 711 a/b; chown 12:34 a/b || true",
    );
    sys::set_xattr(&mounted.path("a/b"), b"user.colour", b"green", 0).unwrap();
    mounted.snap("s");
    let before = mounted.manifest();
    for (chosen, expected) in [
        ("a/b/c/z", &["a", "a/b", "a/b/c", "a/b/c/z"][..]),
        ("a/b/new/n", &["a", "a/b", "a/b/new", "a/b/new/n"]),
        (
            "a/b/new",
            &["a", "a/b", "a/b/new", "a/b/new/m", "a/b/new/n"],
        ),
    ] {
        shell(&mounted, "rm -r a");
        restore(&mounted, &["s", chosen]).ok();
        let now = mounted.manifest();
        let paths: Vec<&str> = (now.0.keys().filter(|path| !path.is_empty()))
            .map(|path| std::str::from_utf8(path).unwrap())
            .collect();
        assert_eq!(paths, expected);
        for path in expected {
            let of = |all: &Manifest| {
                Manifest([(path.as_bytes().to_vec(), all.0[path.as_bytes()].clone())].into())
            };
            let ignore = Ignore {
                dir_links: true,
                times: before.0[path.as_bytes()].is_dir(),
                ..Ignore::default()
            };
            of(&before).assert_same(&of(&now), ignore, path);
        }
        let links = |path: &str| fs::metadata(mounted.path(path)).unwrap().nlink();
        assert_eq!((links("a"), links("a/b")), (3, 3), "one directory in each");
        mounted.verify().ok();
        mounted.remount();
        now.assert_same(&mounted.manifest(), Ignore::default(), "mounted again");
        shell(&mounted, "test ! -e a/x && rm -r a");
        mounted.llctl(&["revert", "s"]).ok();
        before.assert_same(&mounted.manifest(), Ignore::default(), "all of it");
    }
}

#[test]
fn a_preview_changes_nothing_and_mistakes_are_told() {
    let mounted = site("restore-told");
    mounted.snap("s");
    shell(&mounted, "echo x > other; echo y > src/new");
    let changed = mounted.manifest();
    let shown = restore(&mounted, &["s", "other", "--dry-run", "-p"])
        .ok()
        .out();
    assert!(shown.contains("-x") && shown.contains("+other"), "{shown}");
    assert!(!shown.contains("src/new"), "{shown}");
    // What was not there would be removed: that is no restoring.
    let absent = restore(&mounted, &["s", "other", "src/new"]).expect_code(4);
    assert!(
        absent.err().contains("there is no src/new of s"),
        "{}",
        absent.err()
    );
    restore(&mounted, &["absent", "other"]).expect_code(4);
    restore(&mounted, &["@10m", "other"]).expect_code(4);
    restore(&mounted, &["s", "."]).expect_code(2);
    mounted.llctl(&["restore", "s"]).finish().expect_code(2);
    mounted
        .llctl(&["restore", "s", "/etc/passwd"])
        .finish()
        .expect_code(2);
    let raw = std::ffi::OsStr::from_bytes(b"bad\xff");
    let refused = mounted.llctl(&["restore", "s"]).arg(mounted.dir.join(raw));
    assert!(refused.finish().expect_code(2).err().contains("cp -a"));
    changed.assert_same(&mounted.manifest(), Ignore::default(), "nothing was done");
    let json = mounted
        .llctl(&["restore", "s", "--json"])
        .arg(mounted.path("other"));
    let json: serde_json::Value = serde_json::from_str(&json.ok().out()).unwrap();
    assert!(json["discarded"].is_number(), "{json}");
}

/// Directories of a random history, each restored from a random state.
#[test]
fn whole_subtrees_are_exact() {
    let seed = seeded::first_seed();
    println!("LLFS_SEED={seed}");
    let mounted = Mounted::over("restore-random", |base| {
        tree::plant(base, seed, 150).unwrap()
    });
    let mut kept = vec![("@base".to_owned(), mounted.manifest())];
    for round in 0..3 {
        tree::churn(&mounted.dir, seed + round, 120, true).unwrap();
        mounted.snap(&format!("r{round}"));
        kept.push((format!("r{round}"), mounted.manifest()));
    }
    let mut restored = 0;
    for (name, old) in &kept {
        let live = mounted.manifest();
        let tops = old.0.iter().filter(|(path, entry)| {
            let top = !path.is_empty() && !path.contains(&b'/');
            top && entry.is_dir() && live.0.get(*path).is_some_and(|now| now.ino == entry.ino)
        });
        for (path, _) in tops.take(3) {
            let Ok(path) = std::str::from_utf8(path) else {
                continue;
            };
            let shown: &Path = Path::new(path);
            let run = restore(
                &mounted,
                &[name, shown.to_str().unwrap(), "--on-conflict=revert"],
            );
            // A hard link or a rename across its border may make it impossible, which changes nothing.
            if run.code() == 10 {
                continue;
            }
            run.ok();
            let now = mounted.manifest();
            let what = format!("{path} of {name}");
            let ignore = Ignore {
                dir_links: true,
                ..Ignore::default()
            };
            // A file may have been changed through a name elsewhere that only the base knows.
            let alone = |all: &Manifest| {
                let below = below(all, path).0.into_iter();
                Manifest(below.filter(|(_, e)| e.is_dir() || e.nlink == 1).collect())
            };
            alone(old).assert_same(&alone(&now), ignore, &what);
            restored += 1;
        }
    }
    assert!(
        restored >= 3,
        "only {restored} directories could be restored"
    );
    mounted.verify().ok();
}
