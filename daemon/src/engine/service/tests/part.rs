//! Reverting a part: what is chosen is as it was, everything else stays; where that cannot be, nothing is done.

use llctl::globs::Globs;
use llctl::protocol::{ErrorKind, Failure, OnConflict, Part, PartOf, RevertInfo};
use proptest::prelude::*;

use super::random::{Manifest, NAMES, Op, Seen, config, manifest, op, path, run, text, work};
use super::*;

fn since(state: &str, globs: &[&str]) -> Part {
    Part {
        of: PartOf::To(state.parse().unwrap()),
        globs: globs.iter().map(|g| (*g).to_owned()).collect(),
        there: Vec::new(),
    }
}

fn done_by(names: &[&str]) -> Part {
    let names = names.iter().map(|n| SnapName::new(*n).unwrap());
    Part {
        of: PartOf::Snapshots(names.collect()),
        globs: Vec::new(),
        there: Vec::new(),
    }
}

impl Bench {
    pub(super) fn revert_part(
        &self,
        part: &Part,
        on_conflict: OnConflict,
    ) -> Result<RevertInfo, Failure> {
        self.host.revert_part(part, on_conflict, false)
    }

    pub(super) fn live(&self) -> Manifest {
        manifest(self, &StateRef::Live)
    }

    pub(super) fn text(&self, path: &str) -> Option<String> {
        let seen = self.live().remove(path.as_bytes())?;
        Some(String::from_utf8(seen.content).unwrap())
    }

    pub(super) fn sound(&self) {
        let mut findings = Vec::new();
        let mut sink = |event| {
            if let llctl::client::VerifyEvent::Finding(finding) = event {
                findings.push(finding);
            }
            Ok(())
        };
        self.host.verify(&mut sink).unwrap();
        assert!(findings.is_empty(), "{findings:?}");
    }

    /// Each file has as many names as its link count says.
    pub(super) fn counted(&self) -> Result<(), TestCaseError> {
        let mut names: std::collections::BTreeMap<Ino, Vec<String>> = Default::default();
        for path in self.live().keys().filter(|path| !path.is_empty()) {
            let ino = self.find(path).unwrap();
            let name = String::from_utf8_lossy(path).into_owned();
            names.entry(ino).or_default().push(name);
        }
        for (ino, names) in names {
            let attr = self.engine.getattr(ino).unwrap();
            let right = attr.kind == Kind::Dir || attr.nlink as usize == names.len();
            prop_assert!(right, "{} links and the names {:?}", attr.nlink, names);
        }
        Ok(())
    }

    /// The paths in the way.
    fn conflicts(&self, part: &Part) -> Vec<String> {
        let before = self.live();
        let refused = self.revert_part(part, OnConflict::Stop).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Conflict, "{refused}");
        assert_eq!(self.live(), before, "something was done");
        let paths = refused.conflicts.iter();
        paths.map(|c| format!("{}: {}", c.path, c.why)).collect()
    }
}

fn bench() -> Bench {
    let place = Place::new();
    for path in ["src/a", "src/deep/b", "doc/c", "top"] {
        place.put(path, path.as_bytes());
    }
    let b = place.open();
    b.utime("src", Time::from((1000, 7)));
    b.snap("s");
    b
}

#[test]
fn chosen_paths_are_as_they_were_and_the_rest_stays() {
    let b = bench();
    b.write("src/a", 0, b"SRC");
    b.file("src/new", b"new");
    b.remove("src/deep/b");
    b.remove("src/deep");
    b.write("doc/c", 0, b"DOC");
    b.chmod("top", 0o600);
    let before = b.live();
    let done = b.revert_part(&since("s", &["src"]), OnConflict::Stop);
    assert!(done.unwrap().changed >= 3);
    assert_eq!(b.text("src/a").unwrap(), "src/a");
    assert_eq!(b.text("src/deep/b").unwrap(), "src/deep/b");
    assert_eq!(b.text("src/new"), None);
    assert_eq!(b.text("doc/c").unwrap(), "DOC/c");
    assert_eq!(b.live()[&b"top"[..]].perm, 0o600);
    // The directory was chosen with everything in it, so it is exact.
    let mtime = b.engine.getattr(b.ino("src")).unwrap().mtime;
    assert_eq!(mtime, Time::from((1000, 7)));
    b.sound();
    b.host.undo(1).unwrap();
    assert_eq!(b.live(), before);
    b.host.redo(1).unwrap();
    assert_eq!(b.text("src/a").unwrap(), "src/a");
    b.sound();
}

#[test]
fn a_replayed_journal_says_the_same() {
    let mut b = bench();
    b.write("src/a", 0, b"SRC");
    b.write("doc/c", 0, b"DOC");
    b.rename("top", "src/top", 0);
    b.revert_part(&since("s", &["src", "top"]), OnConflict::Stop)
        .unwrap();
    let before = b.live();
    assert_eq!(b.text("top").unwrap(), "top");
    b.engine.close().unwrap();
    let place = std::mem::replace(&mut b.place, Place::new());
    drop(b);
    let again = place.open();
    assert_eq!(again.live(), before);
    again.host.undo(1).unwrap();
    assert_eq!(again.text("doc/c").unwrap(), "DOC/c");
    assert_eq!(again.text("src/top").unwrap(), "top");
}

#[test]
fn a_rename_goes_with_both_its_names() {
    let b = bench();
    b.rename("src/a", "doc/moved", 0);
    let told = b.conflicts(&since("s", &["src"]));
    assert_eq!(
        told,
        ["doc/moved: goes together with src/a, and is not selected"]
    );
    let before = b.live();
    let kept = b.revert_part(&since("s", &["src"]), OnConflict::Keep);
    assert_eq!(kept.unwrap().changed, 0, "no more than a directory's time");
    assert_eq!(b.live(), before);
    b.revert_part(&since("s", &["src"]), OnConflict::Revert)
        .unwrap();
    assert_eq!(b.text("src/a").unwrap(), "src/a");
    assert_eq!(b.text("doc/moved"), None);
    b.sound();
}

#[test]
fn of_a_directory_that_was_made_some_may_go() {
    let b = bench();
    b.dir("made");
    b.dir("made/deep");
    b.file("made/deep/x", b"x");
    b.file("made/y", b"y");
    b.revert_part(&since("s", &["made/deep/x"]), OnConflict::Stop)
        .unwrap();
    assert_eq!(b.text("made/deep/x"), None);
    assert_eq!(b.text("made/y").unwrap(), "y");
    b.sound();
    b.host.undo(1).unwrap();
    // A file that is to stay was moved into it.
    b.rename("top", "made/deep/top", 0);
    let told = b.conflicts(&since("s", &["made"]));
    assert!(
        told.contains(&"top: goes together with made/deep/top, and is not selected".to_owned()),
        "{told:?}"
    );
    b.revert_part(&since("s", &["made"]), OnConflict::Keep)
        .unwrap();
    assert_eq!(b.text("made/deep/top").unwrap(), "top");
    assert_eq!(b.text("made/y"), None);
    b.sound();
}

/// `in` was in `out` when `nested` was taken.
fn beside() -> Bench {
    let b = bench();
    b.dir("out");
    b.dir("out/in");
    b.file("out/in/x", b"x");
    b.snap("nested");
    b.rename("out/in", "in", 0);
    b
}

/// A directory would go back into one that must stay where it is, and that lies in the first one now: nobody would find either.
#[test]
fn what_would_lie_within_itself_stays_where_it_is() {
    let b = beside();
    b.rename("out", "in/out", 0);
    b.dir("out");
    b.file("out/stays", b"stays");
    let part = since("nested", &["in"]);
    let told = b.conflicts(&part);
    let kept = "out/stays: is in a directory that would go".to_owned();
    assert!(told.contains(&kept), "{told:?}");
    let before = b.live();
    for on_conflict in [OnConflict::Keep, OnConflict::Revert] {
        b.revert_part(&part, on_conflict).unwrap();
        assert_eq!(b.text("out/stays").unwrap(), "stays");
        assert_eq!(b.text("in/x").unwrap(), "x");
        assert!(b.live().contains_key(&b"in/out"[..]));
        b.sound();
    }
    // Without what keeps it the one can go, and with it the other.
    b.remove("out/stays");
    b.revert_part(&part, OnConflict::Revert).unwrap();
    assert_eq!(b.text("out/in/x").unwrap(), "x");
    assert_eq!(b.text("in/x"), None);
    b.sound();
    b.host.undo(1).unwrap();
    assert!(
        before
            .keys()
            .all(|path| path == b"out/stays" || b.live().contains_key(path))
    );
}

#[test]
fn a_snapshot_that_nested_what_is_nested_the_other_way_now_is_not_taken_back() {
    let b = beside();
    b.snap("beside");
    b.rename("out", "in/out", 0);
    let part = done_by(&["beside"]);
    let told = b.conflicts(&part);
    assert!(
        told.iter().any(|c| c.ends_with("would lie within itself")),
        "{told:?}"
    );
    let before = b.live();
    for on_conflict in [OnConflict::Keep, OnConflict::Revert] {
        b.revert_part(&part, on_conflict).unwrap();
        assert_eq!(b.live(), before);
        assert_eq!(b.text("in/x").unwrap(), "x");
        b.sound();
    }
}

#[test]
fn of_a_directory_that_was_removed_a_part_comes_back() {
    let mut b = bench();
    b.chmod("src", 0o2750);
    b.file("src/made", b"made");
    b.dir("src/deep/own");
    b.file("src/deep/own/x", b"x");
    b.remove("src/a");
    b.link("src/deep/b", "src/linked");
    b.snap("full");
    for path in ["deep/own/x", "deep/own", "deep/b", "deep", "linked", "made"] {
        b.remove(format!("src/{path}"));
    }
    b.remove("src");
    let gone = b.live();
    b.revert_part(&since("full", &["src/deep/b"]), OnConflict::Stop)
        .unwrap();
    assert_eq!(b.text("src/deep/b").unwrap(), "src/deep/b");
    assert_eq!(b.live().len(), gone.len() + 3, "{:?}", b.live().keys());
    // `a` is in the base, and was not in the directory.
    assert_eq!(b.text("src/a"), None);
    let attr = |path: &str| b.engine.getattr(b.ino(path)).unwrap();
    assert_eq!(attr("src").perm, 0o2750);
    assert_eq!(attr("src/deep/b").nlink, 1);
    assert_eq!(attr("src").nlink, attr("doc").nlink + 1);
    assert_eq!(attr("src/deep").nlink, attr("doc").nlink);
    b.sound();
    let after = b.live();
    b.engine.close().unwrap();
    let place = std::mem::replace(&mut b.place, Place::new());
    drop(b);
    let b = place.open();
    assert_eq!(b.live(), after, "replayed");
    b.host.undo(1).unwrap();
    assert_eq!(b.live(), gone);
    // Of what only the base has, too; and what has a file at its place is a conflict.
    b.revert_part(&since("@base", &["src/a", "src/deep"]), OnConflict::Stop)
        .unwrap();
    assert_eq!(b.text("src/a").unwrap(), "src/a");
    assert_eq!(b.text("src/deep/b").unwrap(), "src/deep/b");
    b.sound();
    b.host.undo(1).unwrap();
    b.revert_part(&since("@base", &["src/a"]), OnConflict::Stop)
        .unwrap();
    assert_eq!(b.text("src/deep/b"), None);
    b.host.undo(1).unwrap();
    b.file("src", b"in the way");
    let told = b.conflicts(&since("full", &["src/deep/b"]));
    assert_eq!(
        told[0],
        "src: goes together with src/deep/b, and is not selected"
    );
    b.sound();
}

/// A directory was renamed, and the renaming stays undone: what was in it has no path that was chosen.
#[test]
fn what_was_in_a_directory_that_moved_does_not_come_back_elsewhere() {
    let b = bench();
    b.dir("src/made");
    b.rename("src", "moved", 0);
    b.file("src", b"in its place");
    b.snap("s2");
    b.host.revert(&StateRef::Base, false).unwrap();
    let before = b.live();
    let told = b.conflicts(&since("s2", &["moved"]));
    assert!(
        told.contains(&"src/made: goes together with moved/made, and is not selected".to_owned()),
        "{told:?}"
    );
    b.revert_part(&since("s2", &["moved"]), OnConflict::Keep)
        .unwrap();
    assert_eq!(b.live(), before);
    b.sound();
}

#[test]
fn a_pattern_for_nothing_is_told_and_what_is_so_already_leaves_no_step() {
    let b = bench();
    b.write("doc/c", 0, b"1");
    let steps = || b.engine.state.read().discarded.len();
    let nothing = since("s", &["absent", "src/*.x"]);
    let failure = b.revert_part(&nothing, OnConflict::Stop).unwrap_err();
    assert_eq!(failure.kind, ErrorKind::NotFound, "{failure}");
    assert!(failure.message.contains("absent or src/*.x"), "{failure}");
    assert_eq!(steps(), 0);
    let done = b.revert_part(&since("s", &["doc"]), OnConflict::Stop);
    assert!(done.unwrap().discarded.is_some());
    assert_eq!(steps(), 1);
    for part in [since("s", &["doc"]), since("s", &["src", "absent"])] {
        let info = b.revert_part(&part, OnConflict::Stop).unwrap();
        assert_eq!((info.changed, info.discarded), (0, None));
    }
    // What a snapshot did in which nothing was done; and a revert of everything to what is there.
    b.snap("nothing");
    let info = b.revert_part(&done_by(&["nothing"]), OnConflict::Stop);
    assert_eq!(info.unwrap().discarded, None);
    let info = b.host.revert(&"nothing".parse().unwrap(), false).unwrap();
    assert_eq!(info.discarded, None);
    assert_eq!(steps(), 1);
    // The step that there is leads back.
    b.host.undo(1).unwrap();
    assert_eq!(b.text("doc/c").unwrap(), "1oc/c");
}

#[test]
fn a_hard_link_across_the_boundary_is_a_conflict() {
    let b = bench();
    b.link("src/a", "doc/link");
    b.snap("linked");
    b.write("src/a", 0, b"SRC");
    let told = b.conflicts(&since("linked", &["src"]));
    assert_eq!(
        told,
        ["doc/link: goes together with src/a, and is not selected"]
    );
    let both = b.revert_part(&since("linked", &["src", "doc"]), OnConflict::Stop);
    both.unwrap();
    assert_eq!(b.text("doc/link").unwrap(), "src/a");
    assert_eq!(b.engine.getattr(b.ino("src/a")).unwrap().nlink, 2);
    b.sound();
}

#[test]
fn a_file_whose_last_name_went_is_found_under_the_one_that_stayed() {
    let b = bench();
    b.file("new", b"n");
    b.link("new", "other");
    b.remove("other");
    b.snap("before");
    b.write("new", 0, b"Z");
    b.snap("wrote");
    b.file("kept", b"k");
    b.revert_part(&done_by(&["wrote"]), OnConflict::Stop)
        .unwrap();
    assert_eq!(b.text("new").unwrap(), "n");
    b.write("new", 0, b"Y");
    b.revert_part(&since("before", &["new"]), OnConflict::Stop)
        .unwrap();
    assert_eq!(b.text("new").unwrap(), "n");
    assert_eq!(b.text("kept").unwrap(), "k");
    b.sound();
}

#[test]
fn one_snapshot_in_the_middle_is_undone() {
    let b = bench();
    b.write("src/a", 0, b"1");
    b.snap("one");
    b.write("doc/c", 0, b"2");
    b.dir("made");
    b.file("made/in", b"2");
    b.remove("src/deep/b");
    b.snap("two");
    b.write("top", 0, b"3");
    b.snap("three");
    b.write("src/a", 1, b"4");
    b.revert_part(&done_by(&["two"]), OnConflict::Stop).unwrap();
    assert_eq!(b.text("doc/c").unwrap(), "doc/c");
    assert_eq!(b.text("made"), None);
    assert_eq!(b.text("src/deep/b").unwrap(), "src/deep/b");
    assert_eq!(b.text("top").unwrap(), "3op");
    assert_eq!(b.text("src/a").unwrap(), "14c/a");
    b.sound();
}

#[test]
fn what_others_did_since_is_named() {
    let b = bench();
    b.write("doc/c", 0, b"1");
    b.dir("made");
    b.file("made/in", b"1");
    b.snap("one");
    b.write("doc/c", 0, b"2");
    b.file("made/theirs", b"2");
    b.rename("top", "renamed", 0);
    b.snap("two");
    let told = b.conflicts(&done_by(&["one"]));
    assert_eq!(
        told,
        [
            "doc/c: was changed since",
            "made/theirs: is in a directory that would go"
        ]
    );
    b.revert_part(&done_by(&["one"]), OnConflict::Keep).unwrap();
    assert_eq!(b.text("doc/c").unwrap(), "2oc/c");
    assert_eq!(b.text("made/in"), None);
    assert_eq!(b.text("made/theirs").unwrap(), "2");
    b.host.undo(1).unwrap();
    b.revert_part(&done_by(&["one"]), OnConflict::Revert)
        .unwrap();
    assert_eq!(b.text("doc/c").unwrap(), "doc/c");
    assert_eq!(b.text("made/in"), None);
    // A directory with something of others in it stays.
    assert_eq!(b.text("made/theirs").unwrap(), "2");
    assert_eq!(b.text("renamed").unwrap(), "top");
    b.sound();
}

#[test]
fn a_file_that_was_renamed_since_keeps_its_new_name() {
    let b = bench();
    b.write("doc/c", 0, b"1");
    b.snap("one");
    b.rename("doc/c", "src/elsewhere", 0);
    b.snap("two");
    b.revert_part(&done_by(&["one"]), OnConflict::Stop).unwrap();
    assert_eq!(b.text("src/elsewhere").unwrap(), "doc/c");
    assert_eq!(b.text("doc/c"), None);
    b.sound();
}

#[test]
fn a_snapshot_after_a_revert_did_what_came_after_the_revert() {
    let b = bench();
    b.write("doc/c", 0, b"1");
    b.snap("one");
    b.host.revert(&"s".parse().unwrap(), false).unwrap();
    b.write("top", 0, b"2");
    b.snap("two");
    // Its change is that of `top`; the revert is none of it.
    b.revert_part(&done_by(&["two"]), OnConflict::Stop).unwrap();
    assert_eq!(b.text("top").unwrap(), "top");
    assert_eq!(b.text("doc/c").unwrap(), "doc/c");
}

/// What a task did is all that came before its snapshot, whatever took itself meanwhile.
#[test]
fn a_snapshot_that_takes_itself_divides_no_work() {
    let b = bench();
    b.write("doc/c", 0, b"1");
    let automatic = SnapMeta {
        reason: Some(llctl::config::AUTOMATIC.to_owned()),
        ..SnapMeta::default()
    };
    for name in ["auto-1", "auto-2"] {
        let name = SnapName::new(name).unwrap();
        b.host.snap(Some(&name), None, &automatic).unwrap();
        b.write("top", 0, b"2");
    }
    b.write("src/a", 0, b"3");
    b.snap("work");
    b.write("src/deep/b", 0, b"4");
    b.revert_part(&done_by(&["work"]), OnConflict::Stop)
        .unwrap();
    for path in ["doc/c", "top", "src/a"] {
        assert_eq!(b.text(path).unwrap(), path);
    }
    assert_eq!(b.text("src/deep/b").unwrap(), "4rc/deep/b");
    b.host.undo(1).unwrap();
    // Named itself, it stands for its own part.
    b.revert_part(&done_by(&["auto-1"]), OnConflict::Stop)
        .unwrap();
    assert_eq!(b.text("doc/c").unwrap(), "doc/c");
    assert_eq!(b.text("top").unwrap(), "2op");
}

fn choose(globs: &[String], state: &Manifest) -> (Manifest, Manifest) {
    let globs = Globs::new(globs).unwrap();
    let all = state.clone().into_iter();
    all.partition(|(path, _)| globs.matches(path))
}

/// Whether everything is as something is in one of the states: where the renaming of a directory is kept and what is in it is
/// reverted, or the other way round, a file of one state is at a path of the other. The first path that is not.
fn of_either(now: &Manifest, a: &Manifest, b: &Manifest) -> Result<(), Vec<u8>> {
    let known = |seen: &Seen| a.values().chain(b.values()).any(|it| it == seen);
    let strange = now.iter().find(|(_, seen)| !known(seen));
    strange.map_or(Ok(()), |(path, _)| Err(path.clone()))
}

/// Whether of what is not chosen all that was kept is there as it was, and besides only directories above what came back, as they
/// were in `target`.
fn back_above(
    outside: Manifest,
    kept: &Manifest,
    inside: &Manifest,
    target: &Manifest,
) -> Result<(), String> {
    let (back, stayed): (Manifest, Manifest) =
        (outside.into_iter()).partition(|(path, _)| !kept.contains_key(path));
    if &stayed != kept {
        return Err(format!("not chosen: {stayed:?}, and {kept:?} before"));
    }
    for (path, seen) in &back {
        let below = [path, &b"/"[..]].concat();
        if target.get(path) != Some(seen) || !inside.keys().any(|path| path.starts_with(&below)) {
            return Err(format!("above: {path:?}, {seen:?}"));
        }
    }
    Ok(())
}

fn base() -> Bench {
    let place = Place::new();
    for path in ["a/a/a", "a/a/b", "a/b/c", "a/c", "b/a/a", "b/b", "d"] {
        place.put(path, path.as_bytes());
    }
    place.open()
}

/// The same with files that have several names in the base, in one directory and in others.
pub(super) fn linked_base() -> Bench {
    linked_with(&|place, path| place.put(path, path.as_bytes()))
}

/// The same with other contents, which `put` puts there.
pub(super) fn linked_with(put: &dyn Fn(&Place, &str)) -> Bench {
    let place = Place::new();
    for path in ["a/a/a", "a/b/c", "a/c", "b/a/a", "d"] {
        put(&place, path);
    }
    for (from, to) in [
        ("a/a/a", "a/a/b"),
        ("a/a/a", "b/b"),
        ("a/c", "b/a/b"),
        ("d", "a/b/d"),
    ] {
        std::fs::hard_link(place.base(from), place.base(to)).unwrap();
    }
    place.open()
}

/// A change of one file or directory at its place, with content that no other has.
fn plain() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (path(), any::<u8>()).prop_map(|(p, b)| Op::File(p, b)),
        2 => path().prop_map(Op::Dir),
        4 => (path(), 0u64..9000, any::<u8>()).prop_map(|(p, o, b)| Op::Write(p, o, b)),
        2 => (path(), 0u16..0o1000).prop_map(|(p, m)| Op::Chmod(p, m)),
        3 => path().prop_map(Op::Remove),
        2 => path().prop_map(Op::RemoveAll),
    ]
}

proptest! {
    #![proptest_config(config())]

    /// Random histories: of the paths that are chosen, all are as in the snapshot, of the others none has changed. Where
    /// that is not possible, nothing is done, and with a winner each path is as in one of the two.
    #[test]
    fn chosen_paths_of_random_histories(
        before in prop::collection::vec(op(), 0..20),
        after in prop::collection::vec(op(), 1..15),
        globs in prop::collection::vec(path(), 1..3),
        deeper in any::<bool>(),
        meanwhile in prop::collection::vec(work(), 0..6),
    ) {
        let b = base();
        let mut snaps = 0;
        before.iter().for_each(|op| run(&b, op, &mut snaps));
        b.snap("target");
        after.iter().for_each(|op| run(&b, op, &mut snaps));
        let mut globs: Vec<String> = globs.iter().map(text).collect();
        if deeper {
            globs.push(format!("*/{}", NAMES[0]));
        }
        let part = Part { of: PartOf::To("target".parse().unwrap()), globs: globs.clone(), there: Vec::new() };
        let target = manifest(&b, &"target".parse().unwrap());
        let programs = b.programs();
        programs.work(meanwhile);
        let done = b.revert_part(&part, OnConflict::Stop);
        let head = programs.saw();
        let (wanted, _) = choose(&globs, &target);
        let (_, kept) = choose(&globs, &head);
        match done {
            Ok(done) => {
                let (inside, outside) = choose(&globs, &b.live());
                prop_assert_eq!(&inside, &wanted, "chosen, by {:?}", globs);
                prop_assert_eq!(back_above(outside, &kept, &inside, &target), Ok(()), "by {:?}", globs);
                b.sound();
                // What changed nothing left nothing to undo.
                if done.discarded.is_some() {
                    b.host.undo(1).unwrap();
                }
                prop_assert_eq!(b.live(), head);
            }
            // Neither state has such a path.
            Err(refused) if refused.kind == ErrorKind::NotFound => {
                prop_assert!(wanted.is_empty() && kept.len() == head.len(), "{}", refused);
                prop_assert_eq!(&b.live(), &head);
            }
            Err(refused) => {
                prop_assert_eq!(refused.kind, ErrorKind::Conflict, "{}", refused);
                prop_assert!(!refused.conflicts.is_empty());
                prop_assert_eq!(&b.live(), &head);
                let done = b.revert_part(&part, OnConflict::Keep).unwrap();
                let (inside, outside) = choose(&globs, &b.live());
                prop_assert_eq!(back_above(outside, &kept, &inside, &target), Ok(()), "by {:?}", globs);
                prop_assert_eq!(of_either(&b.live(), &head, &target), Ok(()));
                b.sound();
                if done.discarded.is_some() {
                    b.host.undo(1).unwrap();
                }
                prop_assert_eq!(&b.live(), &head);
                b.revert_part(&part, OnConflict::Revert).unwrap();
                // What is not chosen may come along with a directory that moves back.
                let (inside, _) = choose(&globs, &b.live());
                let lost = wanted.iter().find(|(path, seen)| inside.get(*path) != Some(seen));
                // A directory in which something stays keeps its place, whoever wins.
                let stays = refused.conflicts.iter().any(|c| c.why == "is in a directory that would go");
                prop_assert!(lost.is_none() || stays, "{:?} not reverted, by {:?}", lost, globs);
                prop_assert_eq!(of_either(&b.live(), &head, &target), Ok(()));
                b.sound();
            }
        }
    }

    /// Over files that have several names in the base: whoever wins, link counts are those of the names.
    #[test]
    fn links_are_counted_whatever_is_reverted(
        before in prop::collection::vec(op(), 0..15),
        after in prop::collection::vec(op(), 1..15),
        globs in prop::collection::vec(path(), 1..3),
        keep in any::<bool>(),
        meanwhile in prop::collection::vec(prop::collection::vec(work(), 0..5), 0..3),
        more in prop::collection::vec(op(), 0..5),
    ) {
        let b = linked_base();
        let mut snaps = 0;
        before.iter().for_each(|op| run(&b, op, &mut snaps));
        b.snap("target");
        after.iter().for_each(|op| run(&b, op, &mut snaps));
        let globs: Vec<String> = globs.iter().map(text).collect();
        let part = Part { of: PartOf::To("target".parse().unwrap()), globs: globs.clone(), there: Vec::new() };
        let programs = b.programs();
        for ops in meanwhile {
            programs.work(ops);
        }
        let winner = if keep { OnConflict::Keep } else { OnConflict::Revert };
        let done = b.revert_part(&part, winner);
        let states = [manifest(&b, &"target".parse().unwrap()), programs.saw()];
        let any = states.iter().any(|state| !choose(&globs, state).0.is_empty());
        if let Err(refused) = done {
            let kind = if any { ErrorKind::Conflict } else { ErrorKind::NotFound };
            prop_assert_eq!(refused.kind, kind, "{}", refused);
        }
        b.counted()?;
        more.iter().for_each(|op| run(&b, op, &mut snaps));
        b.counted()?;
        b.sound();
    }

    /// Whatever was renamed: when what some snapshots did is taken back, whoever wins, each directory has one name, and each file as many as
    /// it says.
    #[test]
    fn steps_with_renames_leave_a_tree(
        steps in prop::collection::vec((prop::collection::vec(op(), 1..6), any::<bool>()), 1..5),
        last in prop::collection::vec(work(), 0..6),
        globs in prop::option::of(prop::collection::vec(path(), 1..3)),
        keep in any::<bool>(),
    ) {
        let b = linked_base();
        let mut snaps = 0;
        for (n, (ops, _)) in steps.iter().enumerate() {
            ops.iter().for_each(|op| run(&b, op, &mut snaps));
            b.snap(&format!("step{n}"));
        }
        last.iter().for_each(|op| run(&b, op, &mut snaps));
        let gone = steps.iter().enumerate().filter(|(_, step)| step.1);
        let names: Vec<String> = gone.map(|(n, _)| format!("step{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut part = done_by(&names);
        part.globs = globs.iter().flatten().map(text).collect();
        let winner = if keep { OnConflict::Keep } else { OnConflict::Revert };
        if let Err(refused) = b.revert_part(&part, winner) {
            let kind = refused.kind;
            let right = matches!(kind, ErrorKind::Conflict | ErrorKind::NotFound | ErrorKind::Invalid);
            prop_assert!(right, "{}", refused);
        }
        b.counted()?;
        b.sound();
    }

    /// Everything chosen is a revert of everything.
    #[test]
    fn all_paths_are_everything(
        before in prop::collection::vec(op(), 0..20),
        after in prop::collection::vec(op(), 1..20),
        meanwhile in prop::collection::vec(work(), 0..6),
    ) {
        let b = base();
        let mut snaps = 0;
        before.iter().for_each(|op| run(&b, op, &mut snaps));
        b.snap("target");
        after.iter().for_each(|op| run(&b, op, &mut snaps));
        let target = manifest(&b, &"target".parse().unwrap());
        b.programs().work(meanwhile);
        b.revert_part(&since("target", &["**"]), OnConflict::Stop).unwrap();
        prop_assert_eq!(b.live(), target);
        b.sound();
    }

    /// Steps that change files where they are, some of them undone: each path has what the steps that stay made of it. Where a
    /// step that stays has changed what one that goes made, that is a conflict.
    #[test]
    fn undone_steps_of_random_histories(
        steps in prop::collection::vec((prop::collection::vec(plain(), 1..5), any::<bool>()), 2..5),
        last in prop::collection::vec(plain(), 0..4),
        meanwhile in prop::collection::vec(plain(), 0..4),
    ) {
        let b = base();
        let mut snaps = 0;
        b.snap("first");
        let mut states = vec![b.live()];
        for (ops, _) in &steps {
            ops.iter().for_each(|op| run(&b, op, &mut snaps));
            b.snap(&format!("step{}", states.len()));
            states.push(b.live());
        }
        last.iter().for_each(|op| run(&b, op, &mut snaps));
        let gone: Vec<usize> = (1..states.len()).filter(|n| steps[n - 1].1).collect();
        let names: Vec<String> = gone.iter().map(|n| format!("step{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let programs = b.programs();
        programs.work(meanwhile);
        let done = b.revert_part(&done_by(&names), OnConflict::Stop);
        let head = programs.saw();
        let mut expected = head.clone();
        let mut clash = false;
        let all: std::collections::BTreeSet<Vec<u8>> = states.iter().chain([&head]).flat_map(|s| s.keys().cloned()).collect();
        for path in &all {
            let mut now: Option<&Seen> = head.get(path);
            for n in gone.iter().rev() {
                let (was, became) = (states[n - 1].get(path), states[*n].get(path));
                if was == became || now == was {
                    continue;
                }
                clash |= now != became;
                now = was;
            }
            match now {
                Some(seen) => drop(expected.insert(path.clone(), seen.clone())),
                None => drop(expected.remove(path)),
            }
        }
        match done {
            Ok(done) => {
                prop_assert!(!clash, "a conflict was not seen");
                prop_assert_eq!(b.live(), expected);
                b.sound();
                // What changed nothing left nothing to undo.
                if done.discarded.is_some() {
                    b.host.undo(1).unwrap();
                }
                prop_assert_eq!(b.live(), head);
            }
            Err(refused) => {
                prop_assert_eq!(refused.kind, ErrorKind::Conflict, "{}", refused);
                prop_assert_eq!(b.live(), head);
                b.revert_part(&done_by(&names), OnConflict::Keep).unwrap();
                b.sound();
            }
        }
    }
}

/// What was moved since to where a snapshot had made something would be lost with it.
#[test]
fn what_was_moved_onto_what_goes_is_not_lost() {
    let b = linked_base();
    for path in ["b/a/a", "b/a/b", "b/a", "b/b", "b"] {
        b.remove(path);
    }
    b.snap("one");
    b.dir("b");
    b.snap("two");
    b.rename("a", "b", 0);
    b.snap("three");
    let before = b.live();
    assert_eq!(b.conflicts(&done_by(&["two"])), ["b: was replaced since"]);
    let refused = b.revert_part(&done_by(&["two"]), OnConflict::Revert);
    let refused = refused.unwrap_err();
    let told: Vec<String> = (refused.conflicts.iter())
        .map(|c| format!("{}: {}", c.path, c.why))
        .collect();
    let lost = ["b", "b/a/a", "b/c"].map(|path| format!("{path}: would be lost"));
    assert_eq!(told, lost);
    assert_eq!(b.live(), before);
    b.revert_part(&done_by(&["two"]), OnConflict::Keep).unwrap();
    assert_eq!(b.live(), before);
    b.sound();
}

/// A directory that was made and then moved is not taken from under its new name.
#[test]
fn what_was_made_and_moved_since_is_not_lost() {
    let b = linked_base();
    b.dir("new");
    b.snap("one");
    b.rename("new", "a/new", 0);
    let before = b.live();
    let refused = b.revert_part(&done_by(&["one"]), OnConflict::Revert);
    assert_eq!(refused.unwrap_err().kind, ErrorKind::Conflict);
    assert_eq!(b.live(), before);
    b.sound();
}

/// What was taken back leaves alone what it has nothing to do with: not all names of a file of the base need be below it.
#[test]
fn links_that_nobody_touched_are_not_counted_anew() {
    let place = Place::new();
    place.put("a", b"a");
    std::fs::hard_link(place.base("a"), place.base("../outside")).unwrap();
    let b = place.open();
    b.write("a", 0, b"A");
    b.snap("one");
    b.dir("d");
    b.snap("two");
    let links = || b.engine.getattr(b.ino("a")).unwrap().nlink;
    assert_eq!(links(), 2);
    b.revert_part(&done_by(&["two"]), OnConflict::Stop).unwrap();
    assert_eq!(links(), 2);
}

/// Which names those are only a walk over the base tells, and no walk ends while the tree stands still.
#[test]
fn a_part_with_hard_links_of_the_base_is_reverted() {
    let place = Place::new();
    place.put("d/a", b"a");
    std::fs::hard_link(place.base("d/a"), place.base("d/b")).unwrap();
    place.put("x", b"x");
    let b = place.open();
    b.write("d/b", 0, b"B");
    b.snap("s");
    b.write("d/a", 0, b"Z");
    b.remove("d/b");
    b.write("x", 0, b"X");
    b.revert_part(&since("s", &["d"]), OnConflict::Stop)
        .unwrap();
    assert_eq!(b.text("d/a").unwrap(), "B");
    assert_eq!(b.text("d/b").unwrap(), "B");
    assert_eq!(b.text("x").unwrap(), "X");
    b.sound();
}

/// The base is walked for the names of what differs. What differs only since then has its names all the same.
#[test]
fn a_hard_link_of_the_base_that_is_changed_while_the_revert_begins_counts() {
    let b = linked_base();
    b.snap("s");
    let dirs = [b.ino("a"), b.ino("b/a")];
    b.programs().before([move |engine: &Engine| {
        engine.rename(dirs[1], b"b", dirs[0], b"f", 0).unwrap();
        engine.unlink(dirs[0], b"c").unwrap();
    }]);
    b.revert_part(&since("s", &["a/c"]), OnConflict::Revert)
        .unwrap();
    b.counted().unwrap();
    b.sound();
    assert_eq!(b.text("a/c").unwrap(), "a/c");
    assert_eq!(b.text("b/a/b"), Some("a/c".to_owned()));
}

/// A name that only the base has comes back with its directory, and counts.
#[test]
fn a_name_of_the_base_that_comes_back_with_its_directory_counts() {
    let place = Place::new();
    place.put("d/a", b"a");
    place.put("x", b"x");
    let b = place.open();
    b.link("d/a", "out");
    b.snap("s");
    b.remove("d/a");
    b.remove("d");
    b.revert_part(&since("s", &["d"]), OnConflict::Revert)
        .unwrap();
    b.counted().unwrap();
    b.remove("d/a");
    assert_eq!(b.text("out").unwrap(), "a");
    b.counted().unwrap();
    b.sound();
}
