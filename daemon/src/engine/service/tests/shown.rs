//! What somebody said yes to is what is done, whatever came in between.

use llctl::config::Retention;
use llctl::protocol::{ErrorKind, Failure, MetaEdit, OnConflict, Part, PartOf, RevertInfo};

use super::*;
use crate::tree::StateId;

fn name(text: &str) -> SnapName {
    SnapName::new(text).unwrap()
}

fn id(b: &Bench, name: &str) -> StateId {
    b.engine.state.read().snapshot(name).unwrap().0
}

fn names(b: &Bench) -> Vec<String> {
    b.engine.snapshot_names()
}

fn changed(failure: &Failure) -> bool {
    failure.kind == ErrorKind::Conflict && failure.message.contains("since you were asked")
}

#[test]
fn another_snapshot_of_the_name_is_not_deleted() {
    let b = Place::new().open();
    for text in ["a", "b"] {
        b.snap(text);
    }
    let shown = [id(&b, "a"), id(&b, "b")];
    b.host.delete(&[name("a")], Some(&shown)).unwrap();
    b.snap("a");
    let both = [name("b"), name("a")];
    let failed = b.host.delete(&both, Some(&shown)).unwrap_err();
    assert!(changed(&failed), "{failed:?}");
    assert_eq!(names(&b), ["b", "a"]);
    b.host.delete(&both, None).unwrap();
    assert_eq!(names(&b), [""; 0]);
}

#[test]
fn nothing_is_pruned_that_was_not_shown() {
    let b = Place::new().open();
    for number in 0..4 {
        b.snap_automatic(&format!("s{number}"));
    }
    let rules = Retention {
        keep_last: 1,
        ..Retention::nothing()
    };
    let plan = |b: &Bench| -> Vec<u64> {
        let plan = b.host.prune(Some(&rules), false, None).unwrap();
        plan.snapshots.iter().map(|gone| gone.id.unwrap()).collect()
    };
    let prune = |shown: &[u64]| b.host.prune(Some(&rules), true, Some(shown));
    let shown = plan(&b);
    assert_eq!(shown.len(), 3);
    // Another one comes, and now `s3` would go as well.
    b.snap_automatic("s4");
    let done = prune(&shown).unwrap();
    let gone: Vec<u64> = done.snapshots.iter().map(|gone| gone.id.unwrap()).collect();
    assert_eq!((gone, done.kept), (shown, 2));
    assert_eq!(names(&b), ["s3", "s4"]);
    // One that was to go is pinned, or is gone.
    b.snap_automatic("s5");
    let shown = plan(&b);
    assert_eq!(shown, [id(&b, "s3"), id(&b, "s4")]);
    let pin = MetaEdit {
        pinned: Some(true),
        ..MetaEdit::default()
    };
    b.host.describe(&name("s3"), &pin).unwrap();
    let failed = prune(&shown).unwrap_err();
    assert!(changed(&failed), "{failed:?}");
    assert_eq!(names(&b), ["s3", "s4", "s5"]);
    b.host.delete(&[name("s3")], None).unwrap();
    assert!(changed(&prune(&shown).unwrap_err()));
    assert_eq!(names(&b), ["s4", "s5"]);
    prune(&plan(&b)).unwrap();
    assert_eq!(names(&b), ["s5"]);
}

#[test]
fn nothing_is_applied_that_was_not_shown() {
    let place = Place::new();
    place.put("a", b"a\n");
    let b = place.open();
    let programs = b.programs();
    b.write("a", 0, b"X");
    let plan = |b: &Bench| b.host.plan_apply().unwrap().shown;
    let apply = |shown| b.host.apply(shown, &mut |_| Ok(()));
    let refused = |shown| {
        let failed = apply(shown).unwrap_err();
        assert!(changed(&failed), "{failed:?}");
        assert_eq!(fs::read(b.place.base("a")).unwrap(), b"a\n");
    };
    // The same counts.
    let shown = plan(&b);
    b.write("a", 0, b"Y");
    refused(shown);
    // Between the look and the moment from which on nothing changes.
    let shown = plan(&b);
    programs.before([|engine: &Engine| {
        let ino = engine.lookup(ROOT, b"a").unwrap().unwrap().attr.ino;
        engine.write(ino, 0, b"Z", WriteHow::default()).unwrap();
    }]);
    refused(shown);
    // One more that would be lost.
    let shown = plan(&b);
    b.snap("wanted");
    refused(shown);
    // After a refusal everything goes on, and what comes by itself is no reason.
    let shown = plan(&b);
    b.snap_automatic("by itself");
    assert_eq!(plan(&b), shown);
    apply(shown).unwrap();
    assert_eq!(fs::read(b.place.base("a")).unwrap(), b"Z\n");
}

/// The same number after a start: a worker that dies in between is nothing that the user did.
#[test]
fn what_was_shown_is_known_again() {
    let place = Place::new();
    place.put("d/a", b"a\n");
    let b = place.open();
    b.write("d/a", 0, b"X");
    b.file("new", &[1; 9000]);
    b.rename("d", "e", 0);
    b.snap("one");
    let shown = b.host.plan_apply().unwrap().shown;
    assert!(shown.is_some());
    let b = b.killed();
    assert_eq!(b.host.plan_apply().unwrap().shown, shown);
    b.host.apply(shown, &mut |_| Ok(())).unwrap();
    assert_eq!(fs::read(b.place.base("e/a")).unwrap(), b"X\n");
}

/// `llctl restore @undo a`, which looks for `a` first; then somebody reverts.
#[test]
fn what_is_restored_is_there_in_the_state_that_is_gone_back_to() {
    let b = Place::new().open();
    b.snap("empty");
    b.file("a", b"old");
    b.host_revert("empty");
    let restore = || -> Result<RevertInfo, Failure> {
        let part = Part {
            of: PartOf::To(StateRef::Undo),
            globs: vec!["a".to_owned()],
            there: vec!["a".into()],
        };
        b.host.revert_part(&part, OnConflict::Stop, false)
    };
    let path = BytePath::from("a");
    b.host.stat(&StateRef::Undo, &path).unwrap();
    b.file("b", b"b");
    b.host_revert("empty");
    b.file("a", b"new");
    let failed = restore().unwrap_err();
    assert_eq!(
        (failed.kind, failed.message.as_str()),
        (ErrorKind::NotFound, "there is no a of @undo")
    );
    assert_eq!(b.lines("empty", "@live"), ["A a"]);
}
