//! What the check at mount finds.

use std::os::unix::fs::PermissionsExt;

use nix::errno::Errno;

use super::super::{Fact, What};
use super::*;

fn fact(base: &Base, ino: u64) -> Fact {
    Fact::from(&base.stat(ino).unwrap())
}

/// A base of two directories and four files, and what a journal would have recorded of all of it.
fn recorded() -> (Scratch, Base, Vec<(u64, Fact)>) {
    let dir = Scratch::new();
    for path in ["a/one", "a/two", "b/three", "b/four"] {
        dir.write(path, path.as_bytes());
    }
    let base = dir.base();
    let paths = ["a", "a/one", "a/two", "b", "b/three", "b/four"];
    let facts = paths.map(|path| {
        let ino = walk(&base, path);
        (ino, fact(&base, ino))
    });
    base.evict();
    (dir, base, facts.into())
}

fn found(base: &Base, facts: &[(u64, Fact)]) -> Vec<(String, What)> {
    let drifts = base.check_all(facts.iter().copied()).into_iter();
    drifts
        .map(|d| (d.path.to_str().unwrap().to_owned(), d.what))
        .collect()
}

#[test]
fn an_untouched_base_has_none() {
    let (_dir, base, facts) = recorded();
    assert_eq!(found(&base, &facts), []);
}

#[test]
fn new_entries_in_a_directory_are_none() {
    let (dir, base, facts) = recorded();
    dir.write("a/new", b"");
    fs::create_dir(dir.0.join("b/sub")).unwrap();
    assert_eq!(found(&base, &facts), []);
}

#[test]
fn each_sort_of_change_is_told_apart() {
    let (dir, base, facts) = recorded();
    fs::remove_file(dir.0.join("a/one")).unwrap();
    fs::rename(dir.0.join("b/three"), dir.0.join("b/kept")).unwrap();
    dir.write("b/three", b"b/three");
    dir.write("b/four", b"longer than before");
    let found = found(&base, &facts);
    let paths: Vec<_> = found.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["a/one", "b/four", "b/three"]);
    assert_eq!(found[0].1, What::Missing);
    let What::Changed {
        recorded,
        found: now,
    } = found[1].1
    else {
        panic!("{:?}", found[1]);
    };
    assert_eq!((recorded.size, now.size), (6, 18));
    assert_eq!(found[2].1, What::Replaced);
}

#[test]
fn a_change_that_keeps_length_and_mtime_shows_in_the_ctime() {
    let (dir, base, facts) = recorded();
    let path = dir.0.join("a/two");
    let mtime = fs::metadata(&path).unwrap().modified().unwrap();
    let before = fact(&base, ino_of(&path)).ctime;
    // The clock of a filesystem may tick at every few milliseconds only.
    while fact(&base, ino_of(&path)).ctime == before {
        fs::write(&path, b"A/TWO").unwrap();
        fs::File::open(&path).unwrap().set_modified(mtime).unwrap();
    }
    let found = found(&base, &facts);
    assert!(
        matches!(&found[..], [(path, What::Changed { .. })] if path == "a/two"),
        "{found:?}"
    );
}

#[test]
fn a_directory_moved_away_takes_everything_in_it() {
    let (dir, base, facts) = recorded();
    fs::rename(dir.0.join("a"), dir.0.join("elsewhere")).unwrap();
    let missing = |path: &str| (path.to_owned(), What::Missing);
    assert_eq!(found(&base, &facts), ["a", "a/one", "a/two"].map(missing));
    // With another directory in its place: the files are missing, the directory is not the same.
    base.evict();
    fs::create_dir(dir.0.join("a")).unwrap();
    let replaced = |path: &str| (path.to_owned(), What::Replaced);
    assert_eq!(found(&base, &facts), ["a", "a/one", "a/two"].map(replaced));
}

#[test]
fn another_kind_is_another_object() {
    let (_dir, base, facts) = recorded();
    let (ino, mut fact) = facts[1];
    fact.kind = crate::tree::Kind::Symlink;
    assert_eq!(base.check(ino, &fact).unwrap().what, What::Replaced);
}

#[test]
fn what_was_never_learned_is_not_the_same_object() {
    let (_dir, base, facts) = recorded();
    let drift = base.check(424_242_424_242, &facts[0].1).unwrap();
    assert_eq!((drift.what, drift.path), (What::Replaced, PathBuf::new()));
}

#[test]
fn what_may_not_be_looked_at_is_named() {
    if is_root() {
        // Root may look at everything.
        return;
    }
    let (dir, base, facts) = recorded();
    let allow =
        |mode| fs::set_permissions(dir.0.join("a"), fs::Permissions::from_mode(mode)).unwrap();
    allow(0);
    let found = found(&base, &facts);
    allow(0o755);
    let denied = What::Unreadable(Errno::EACCES);
    assert!(found.contains(&("a/one".to_owned(), denied)), "{found:?}");
}
