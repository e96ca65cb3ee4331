//! `.llfs/NAME`: every checkpoint as a directory that can only be read, and that nobody meets who does not ask for it.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use llfs_tests::command::Run;
use llfs_tests::killer::{kill_worker, worker_of};
use llfs_tests::manifest::{Ignore, Manifest, walk};
use llfs_tests::mounted::Mounted;
use llfs_tests::{preload, seeded, sys, tree};
use nix::errno::Errno;

const OBJECTS: usize = 200;

fn errno<T: std::fmt::Debug>(answer: std::io::Result<T>) -> Errno {
    Errno::from_raw(answer.unwrap_err().raw_os_error().unwrap())
}

fn names(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).unwrap();
    entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn same(mounted: &Mounted, name: &str, expected: &Manifest) {
    let found = walk(&mounted.path(".llfs").join(name));
    expected.assert_same(&found, Ignore::another_tree(), name);
}

/// A mount with some checkpoints, and what each of them holds.
fn with_history(name: &str, seed: u64) -> (Mounted, Vec<(String, Manifest)>) {
    println!("LLFS_SEED={seed}");
    let mounted = Mounted::over(name, |base| tree::plant(base, seed, OBJECTS).unwrap());
    let mut kept = vec![("@base".to_owned(), mounted.manifest())];
    for round in 0..4 {
        tree::churn(&mounted.dir, seed + round, 150, true).unwrap();
        let name = format!("round {round}");
        mounted.snap(&name);
        kept.push((name, mounted.manifest()));
        if round == 2 {
            mounted.revert("round 0");
        }
    }
    tree::churn(&mounted.dir, seed + 9, 150, true).unwrap();
    (mounted, kept)
}

#[test]
fn every_checkpoint_shows_what_it_holds() {
    let (mounted, kept) = with_history("browse-all", seeded::first_seed());
    let live = mounted.manifest();
    for (name, expected) in &kept {
        same(&mounted, name, expected);
    }
    // Cached, by another worker, and by another mount.
    for (name, expected) in &kept {
        same(&mounted, name, expected);
    }
    kill_worker(mounted.pid());
    for (name, expected) in &kept {
        same(&mounted, name, expected);
    }
    mounted.remount();
    for (name, expected) in &kept {
        same(&mounted, name, expected);
    }
    live.assert_same(&mounted.manifest(), Ignore::default(), "the live tree");
    // What a revert discards can be looked at too.
    mounted.revert("round 1");
    same(&mounted, "@undo", &live);
    same(&mounted, "round 1", &kept[2].1);
    kept[2]
        .1
        .assert_same(&mounted.manifest(), Ignore::default(), "reverted");
    mounted.undo();
    live.assert_same(&mounted.manifest(), Ignore::default(), "undone");
    mounted.verify().ok();
}

#[test]
fn ordinary_tools_copy_and_compare_a_checkpoint() {
    let (mounted, kept) = with_history("browse-tools", seeded::first_seed() + 50);
    let copy = mounted.scratch.dir("copies").join("copy");
    let from = mounted.path(".llfs/round 1");
    Run::new("cp").arg("-a").arg(&from).arg(&copy).ok();
    let ignore = Ignore {
        dir_links: true,
        ..Ignore::another_tree()
    };
    kept[2].1.assert_same(&walk(&copy), ignore, "cp -a");
    let diff = Run::new("diff").args(["-r", "--no-dereference"]);
    let told = diff.arg(&from).arg(&copy).finish().out();
    // What is neither a file, a directory nor a link always differs for diff(1).
    let kinds = ["fifo", "socket", "special file"];
    let special = |line: &str| kinds.iter().any(|kind| line.ends_with(kind));
    assert!(told.lines().all(special), "{told}");
    // A hole stays one, and what a copy within the mount reads is the old state's.
    let sparse = mounted.path("sparse");
    let file = File::create(&sparse).unwrap();
    file.write_at(b"end", 8 << 20).unwrap();
    mounted.snap("with a hole");
    fs::write(&sparse, "other").unwrap();
    let old = File::open(mounted.path(".llfs/with a hole/sparse")).unwrap();
    assert_eq!(old.metadata().unwrap().len(), (8 << 20) + 3);
    let hole = nix::unistd::lseek(&old, 0, nix::unistd::Whence::SeekHole).unwrap();
    assert_eq!(hole, 0);
    let data = nix::unistd::lseek(&old, 0, nix::unistd::Whence::SeekData).unwrap();
    assert_eq!(data, 8 << 20);
    let out = File::create(mounted.path("restored")).unwrap();
    let copied = sys::copy_file_range(&old, 8 << 20, &out, 0, 100).unwrap();
    assert_eq!(copied, 3);
    assert_eq!(fs::read(mounted.path("restored")).unwrap(), b"end");
}

#[test]
fn nobody_meets_it_who_does_not_ask() {
    let mounted = Mounted::over("browse-hidden", |base| {
        fs::write(base.join("file"), "content").unwrap();
        fs::create_dir(base.join("dir")).unwrap();
    });
    let git = |args: &[&str]| {
        let author = ["-c", "user.name=a", "-c", "user.email=a@b"];
        let run = Run::new("git").args(author).args(args).dir(&mounted.dir);
        run.ok().out()
    };
    git(&["init", "-q"]);
    git(&["add", "-A"]);
    git(&["commit", "-qm", "all"]);
    mounted.snap("before");
    assert!(mounted.path(".llfs/before/file").exists());
    assert!(!names(&mounted.dir).contains(".llfs"));
    assert_eq!(git(&["status", "--short", "--ignored"]), "");
    git(&["clean", "-fdxq"]);
    let find = Run::new("find").arg(&mounted.dir).ok().out();
    assert!(!find.contains(".llfs"), "{find}");
    let diff = mounted.llctl(&["diff"]).ok().out();
    assert!(!diff.contains(".llfs"), "{diff}");
    Run::new("find")
        .arg(&mounted.dir)
        .args(["-mindepth", "1", "-delete"])
        .ok();
    assert_eq!(names(&mounted.dir), BTreeSet::new());
    assert_eq!(
        fs::read(mounted.path(".llfs/before/file")).unwrap(),
        b"content"
    );
    mounted.revert("before");
    assert_eq!(git(&["status", "--short"]), "");
}

#[test]
fn nothing_in_it_can_be_changed() {
    let mounted = Mounted::over("browse-erofs", |base| {
        fs::write(base.join("file"), "content").unwrap();
        fs::create_dir(base.join("dir")).unwrap();
        symlink("file", base.join("link")).unwrap();
    });
    fs::write(mounted.path("new"), "new").unwrap();
    mounted.snap("s");
    let old = |name: &str| mounted.path(".llfs/s").join(name);
    for name in ["file", "new"] {
        let mut file = OpenOptions::new().write(true).open(old(name)).unwrap();
        assert_eq!(errno(file.write(b"x")), Errno::EROFS);
        assert_eq!(errno(file.set_len(0)), Errno::EROFS);
        let truncating = OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(old(name));
        assert_eq!(errno(truncating), Errno::EROFS);
        assert_eq!(errno(fs::write(old(name), "x")), Errno::EROFS);
        let time = file.set_modified(std::time::SystemTime::now());
        assert_eq!(errno(time), Errno::EROFS);
        let mode = fs::Permissions::from_mode(0o600);
        assert_eq!(errno(fs::set_permissions(old(name), mode)), Errno::EROFS);
        assert_eq!(errno(fs::remove_file(old(name))), Errno::EROFS);
        assert_eq!(errno(fs::rename(old(name), old("moved"))), Errno::EROFS);
        assert_eq!(
            errno(fs::rename(old(name), mounted.path("out"))),
            Errno::EROFS
        );
        assert_eq!(
            errno(fs::rename(mounted.path(name), old("in"))),
            Errno::EROFS
        );
        assert_eq!(
            errno(fs::hard_link(old(name), mounted.path("out"))),
            Errno::EROFS
        );
        assert_eq!(
            errno(fs::hard_link(mounted.path(name), old("in"))),
            Errno::EROFS
        );
        let tag = sys::set_xattr(&old(name), b"user.tag", b"1", 0);
        assert_eq!(tag, Err(Errno::EROFS));
    }
    assert_eq!(errno(fs::write(old("made"), "x")), Errno::EROFS);
    assert_eq!(errno(fs::create_dir(old("made"))), Errno::EROFS);
    assert_eq!(errno(symlink("x", old("made"))), Errno::EROFS);
    assert_eq!(errno(fs::remove_dir(old("dir"))), Errno::EROFS);
    let views = mounted.path(".llfs");
    assert_eq!(errno(fs::create_dir(views.join("made"))), Errno::EROFS);
    assert_eq!(errno(fs::remove_dir(views.join("s"))), Errno::EROFS);
    assert_eq!(errno(fs::remove_dir(&views)), Errno::EROFS);
    assert_eq!(errno(fs::rename(&views, mounted.path("x"))), Errno::EROFS);
    let other = mounted.path("dir");
    assert_eq!(errno(fs::rename(other, &views)), Errno::EROFS);
    assert_eq!(errno(fs::create_dir(&views)), Errno::EEXIST);
    assert_eq!(fs::read(old("file")).unwrap(), b"content");
    assert_eq!(names(&mounted.dir).len(), 4);
}

/// A store through a mapping finds nobody to refuse it before it is written back. It must not be shown afterwards, and must
/// not keep the stores of others from a snapshot.
#[test]
fn a_store_through_a_mapping_is_not_kept() {
    let mounted = Mounted::over("browse-mapped", |base| {
        fs::write(base.join("file"), vec![b'a'; 8192]).unwrap();
    });
    mounted.snap("s");
    let open = |path| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .unwrap()
    };
    let old = open(mounted.path(".llfs/s/file"));
    let mapped = sys::Mapping::new(&old, 8192, true).unwrap();
    let own = open(mounted.path("file"));
    let stored = sys::Mapping::new(&own, 8192, true).unwrap();
    mapped.write(10, b"stored");
    stored.write(10, b"stored");
    mounted.snap("after");
    assert_eq!(
        fs::read(mounted.path(".llfs/after/file")).unwrap()[10..16],
        *b"stored"
    );
    let shown = || fs::read(mounted.path(".llfs/s/file")).unwrap();
    llfs_tests::command::until("what was stored is gone", Duration::from_secs(20), || {
        (shown() == vec![b'a'; 8192]).then_some(())
    });
}

/// A library in which writing all files back has failed for one of them, as it may be told of any.
const FAILS: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
int syncfs(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "syncfs");
    if (real(fd)) return -1;
    errno = EIO;
    return -1;
}
"#;

/// Kernels that only begin to write back tell what went wrong so far, too: the request for the free space, which comes behind the
/// writes of all others, is sent all the same.
#[test]
fn a_snapshot_waits_for_the_stores_of_others_although_one_file_could_not_be_written_back() {
    let mounted = Mounted::prepare("browse-failed");
    let library = preload::library(mounted.scratch.path(), "fails", FAILS);
    mounted.mount_run().env("LD_PRELOAD", library).ok();
    let asked = || {
        let metrics = mounted.json(&["metrics"]);
        let operations = metrics["operations"].as_array().unwrap().iter();
        let mut counts = operations.filter(|op| op["operation"] == "statfs");
        counts.next().unwrap()["count"].as_u64().unwrap()
    };
    let before = asked();
    mounted.snap("s");
    assert!(asked() > before);
}

#[test]
fn a_name_means_what_it_means_now() {
    let mounted = Mounted::new("browse-names");
    let file = mounted.path("file");
    let write = |text: &str| fs::write(&file, text).unwrap();
    let read = |name: &str| fs::read_to_string(mounted.path(".llfs").join(name).join("file"));
    assert_eq!(errno(fs::read_dir(mounted.path(".llfs/a"))), Errno::ENOENT);
    assert_eq!(names(&mounted.path(".llfs")), BTreeSet::new());
    write("one");
    mounted.snap("a");
    assert_eq!(read("a").unwrap(), "one");
    assert_eq!(
        names(&mounted.path(".llfs")),
        BTreeSet::from(["a".to_owned()])
    );
    write("two");
    mounted.snap("b");
    let mut open = File::open(mounted.path(".llfs/a/file")).unwrap();
    let dir = File::open(mounted.path(".llfs/a")).unwrap();
    mounted.llctl(&["rename", "a", "c"]).ok();
    assert_eq!(errno(read("a")), Errno::ENOENT);
    assert_eq!(read("c").unwrap(), "one");
    let both = BTreeSet::from(["b".to_owned(), "c".to_owned()]);
    assert_eq!(names(&mounted.path(".llfs")), both);
    mounted.llctl(&["rename", "b", "a"]).ok();
    assert_eq!(read("a").unwrap(), "two");
    mounted.delete("c");
    assert_eq!(errno(read("c")), Errno::ENOENT);
    // Who has something of it open is not shown what was kept.
    assert_eq!(errno(open.read_to_end(&mut Vec::new())), Errno::ESTALE);
    let inside = nix::sys::stat::fstat(&dir);
    assert_eq!(inside.map(drop), Err(Errno::ESTALE));
    write("three");
    mounted.snap("c");
    assert_eq!(read("c").unwrap(), "three");
    // The same state under another name is the same directory.
    assert_eq!(read("a").unwrap(), "two");
    write("four");
    mounted.revert("c");
    assert_eq!(read("@undo").unwrap(), "four");
    assert_eq!(read("c").unwrap(), "three");
    assert_eq!(errno(read("@base")), Errno::ENOENT);
    mounted.undo();
    assert_eq!(read("@redo").unwrap(), "three");
    assert_eq!(errno(read("@undo")), Errno::ENOENT);
    for nonsense in ["@live", "@x", "@", "-x", "..data", "@10y ago"] {
        assert_eq!(errno(read(nonsense)), Errno::ENOENT, "{nonsense}");
    }
}

/// The kernel keeps listings; each of these is taken twice, with nothing in between that it would look up.
#[test]
fn the_listing_follows() {
    let mounted = Mounted::new("browse-listing");
    let views = mounted.path(".llfs");
    let list = |expected: &[&str]| {
        let expected: BTreeSet<String> = expected.iter().map(|n| (*n).to_owned()).collect();
        assert_eq!(names(&views), expected);
        assert_eq!(names(&views), expected, "kept");
    };
    list(&[]);
    mounted.snap("a");
    list(&["a"]);
    mounted.snap("b");
    list(&["a", "b"]);
    mounted.llctl(&["rename", "a", "c"]).ok();
    list(&["b", "c"]);
    mounted.delete("b");
    list(&["c"]);
    kill_worker(mounted.pid());
    mounted.snap("d");
    list(&["c", "d"]);
}

#[test]
fn a_time_means_the_newest_checkpoint_before_it() {
    let mounted = Mounted::new("browse-times");
    let write = |text: &str| fs::write(mounted.path("file"), text).unwrap();
    let read = |name: &str| fs::read_to_string(mounted.path(".llfs").join(name).join("file"));
    write("one");
    mounted.snap("a");
    // As the store has it, so that this test's clock does not matter.
    let time = |name: &str| {
        let shown = mounted.json(&["show", name]);
        shown["snapshot"]["created"].as_str().unwrap().to_owned()
    };
    let first = time("a");
    std::thread::sleep(Duration::from_millis(1100));
    write("two");
    mounted.snap("b");
    assert_eq!(read("@0s").unwrap(), "two");
    assert_eq!(read(&format!("@{first}")).unwrap(), "one");
    assert_eq!(read(&format!("@{}", time("b"))).unwrap(), "two");
    assert_eq!(errno(read("@10m")), Errno::ENOENT);
    assert_eq!(errno(read("@2001-01-01T10:00")), Errno::ENOENT);
    assert_eq!(read("@2200-01-01").unwrap(), "two");
    // The same in commands.
    let shown = mounted.llctl(&["diff", &format!("@{first}")]).ok().out();
    assert!(shown.contains("file"), "{shown}");
    let refused = mounted.llctl(&["diff", "@10m"]).finish().expect_code(4);
    assert!(
        refused.err().contains("no snapshot as old as"),
        "{}",
        refused.err()
    );
    mounted.llctl(&["revert", &format!("@{first}")]).ok();
    assert_eq!(fs::read_to_string(mounted.path("file")).unwrap(), "one");
}

/// Inode numbers mean the same to the worker that follows a killed one: programs in an old state go on.
#[test]
fn a_killed_worker_is_not_noticed_in_an_old_state() {
    let seed = seeded::first_seed() + 100;
    let (mounted, kept) = with_history("browse-killed", seed);
    fs::create_dir_all(mounted.path("deep/er")).unwrap();
    fs::write(mounted.path("deep/er/file"), vec![b'x'; 3 << 20]).unwrap();
    mounted.snap("deep");
    fs::remove_dir_all(mounted.path("deep")).unwrap();
    let old = mounted.path(".llfs/deep");
    let file = File::open(old.join("deep/er/file")).unwrap();
    let inode = |path: &str| fs::metadata(old.join(path)).unwrap().ino();
    let before = ["deep", "deep/er", "deep/er/file"].map(inode);
    let supervisor = mounted.pid();
    let go = mounted.scratch.path().join("go");
    let script = format!(
        "echo ready; until [ -e {} ]; do sleep 0.05; done; cat file | wc -c; ls -a | wc -l; wc -c < ../../deep/er/file",
        go.display()
    );
    let mut standing = Run::shell(&script).dir(old.join("deep/er")).start();
    llfs_tests::command::until("the shell stands there", Duration::from_secs(20), || {
        standing.output_so_far().contains("ready").then_some(())
    });
    for round in 0..6 {
        let killed = kill_worker(supervisor);
        let mut bytes = vec![0; 1 << 20];
        let at = (round % 3) << 20;
        sys::drop_caches(&file).unwrap();
        file.read_exact_at(&mut bytes, at).unwrap();
        assert!(bytes.iter().all(|b| *b == b'x'));
        assert_eq!(["deep", "deep/er", "deep/er/file"].map(inode), before);
        let (name, expected) = &kept[round as usize % kept.len()];
        same(&mounted, name, expected);
        assert_ne!(worker_of(supervisor), Some(killed));
    }
    fs::write(&go, "").unwrap();
    let said = standing.finish().ok().out();
    assert!(said.contains("3145728\n3\n3145728\n"), "{said}");
    mounted.verify().ok();
}

#[test]
fn a_tree_that_has_the_name_itself_keeps_it() {
    let mounted = Mounted::over("browse-shadowed", |base| {
        fs::create_dir(base.join(".llfs")).unwrap();
        fs::write(base.join(".llfs/own"), "mine").unwrap();
    });
    mounted.snap("s");
    assert_eq!(fs::read(mounted.path(".llfs/own")).unwrap(), b"mine");
    assert!(names(&mounted.dir).contains(".llfs"));
    assert_eq!(errno(fs::metadata(mounted.path(".llfs/s"))), Errno::ENOENT);
    fs::write(mounted.path(".llfs/new"), "too").unwrap();
    fs::remove_dir_all(mounted.path(".llfs")).unwrap();
    // Its own is gone: now there is the other one.
    assert_eq!(
        fs::read(mounted.path(".llfs/s/.llfs/own")).unwrap(),
        b"mine"
    );
    assert!(names(&mounted.dir).is_empty());
    mounted.revert("s");
    assert_eq!(fs::read(mounted.path(".llfs/own")).unwrap(), b"mine");
    assert_eq!(
        names(&mounted.path(".llfs")),
        BTreeSet::from(["own".to_owned()])
    );
    mounted.undo();
    assert_eq!(
        names(&mounted.path(".llfs")),
        BTreeSet::from(["s".to_owned()])
    );
}

#[test]
fn an_apply_leaves_nothing_old() {
    let mounted = Mounted::over("browse-apply", |base| {
        fs::write(base.join("stays"), "one").unwrap();
        fs::write(base.join("goes"), "gone").unwrap();
    });
    mounted.snap("s");
    fs::write(mounted.path("stays"), "two").unwrap();
    fs::remove_file(mounted.path("goes")).unwrap();
    fs::write(mounted.path("comes"), "new").unwrap();
    let base = |name: &str| fs::read_to_string(mounted.path(".llfs/@base").join(name));
    assert_eq!(base("stays").unwrap(), "one");
    assert_eq!(base("goes").unwrap(), "gone");
    assert_eq!(errno(base("comes")), Errno::ENOENT);
    assert_eq!(
        names(&mounted.path(".llfs/s")),
        names(&mounted.path(".llfs/@base"))
    );
    mounted.llctl(&["apply", "--yes"]).ok();
    assert_eq!(errno(fs::metadata(mounted.path(".llfs/s"))), Errno::ENOENT);
    assert_eq!(names(&mounted.path(".llfs")), BTreeSet::new());
    assert_eq!(base("stays").unwrap(), "two");
    assert_eq!(errno(base("goes")), Errno::ENOENT);
    assert_eq!(base("comes").unwrap(), "new");
    assert!(!mounted.base().join(".llfs").exists());
}

/// Modes of an old state may allow what those of now do not.
#[test]
fn only_the_owner_of_the_mount_may_look() {
    let mounted = Mounted::over("browse-owner", |base| {
        fs::write(base.join("secret"), "s").unwrap();
        fs::set_permissions(base.join("secret"), PermissionsExt::from_mode(0o644)).unwrap();
    });
    mounted.snap("s");
    let meta = fs::metadata(mounted.path(".llfs")).unwrap();
    assert_eq!(meta.permissions().mode() & 0o7777, 0o500);
    assert_eq!(meta.uid(), nix::unistd::geteuid().as_raw());
    if nix::unistd::geteuid().is_root() {
        for dir in [mounted.scratch.path(), &mounted.dir] {
            fs::set_permissions(dir, PermissionsExt::from_mode(0o755)).unwrap();
        }
        let read = |path: &str| {
            let command = [
                "--reuid",
                "1234",
                "--regid",
                "1234",
                "--clear-groups",
                "cat",
            ];
            let run = Run::new("setpriv").args(command);
            run.arg(mounted.path(path)).finish()
        };
        read("secret").ok();
        let refused = read(".llfs/s/secret").expect_code(1);
        assert!(
            refused.err().contains("Permission denied"),
            "{}",
            refused.err()
        );
    }
}
