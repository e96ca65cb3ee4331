//! What speaks against a revert: each reason alone, and that it can be passed.

use llctl::protocol::ErrorKind;

use super::*;

fn to(name: &str) -> StateRef {
    name.parse().unwrap()
}

fn repository() -> Bench {
    let place = Place::new();
    place.put(".git/HEAD", b"ref: refs/heads/main\n");
    place.put("sub/.git/HEAD", b"ref: refs/heads/main\n");
    place.put("notes/a", b"a");
    place.open()
}

#[test]
fn what_git_is_in_the_middle_of_stops_a_revert() {
    for (mark, what) in [
        (".git/MERGE_HEAD", "merge"),
        (".git/CHERRY_PICK_HEAD", "cherry-pick"),
        (".git/REVERT_HEAD", "revert"),
        (".git/BISECT_LOG", "bisect"),
        ("sub/.git/MERGE_HEAD", "merge"),
    ] {
        let b = repository();
        b.snap("before");
        b.file(mark, b"1234\n");
        b.snap("within");
        b.write("notes/a", 0, b"b");
        // The same merge is in both: nothing of it is lost.
        b.host.revert(&to("within"), false).unwrap();
        let refused = b.host.revert(&to("before"), false).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Underway, "{refused}");
        assert!(refused.message.contains(what), "{refused}");
        assert!(b.find(mark.as_bytes()).is_some());
        let check = b.host.can_revert(&to("before")).unwrap();
        assert!(check.underway.is_some());
        assert!(b.host.can_revert(&to("within")).unwrap().underway.is_none());
        b.host.revert(&to("before"), true).unwrap();
        assert!(b.find(mark.as_bytes()).is_none());
        // Going into the middle of one loses nothing, nor does an undo.
        b.host.revert(&to("within"), false).unwrap();
        b.host.undo(1).unwrap();
    }
}

#[test]
fn a_rebase_is_a_directory() {
    let b = repository();
    b.snap("before");
    b.dir(".git/rebase-merge");
    b.file(".git/rebase-merge/done", b"");
    let refused = b.host.revert(&to("before"), false).unwrap_err();
    assert!(
        refused.message.contains("rebase") && refused.message.contains(".git"),
        "{refused}"
    );
}

#[test]
fn files_that_are_only_called_so_stop_nothing() {
    let b = repository();
    b.snap("before");
    b.file("notes/MERGE_HEAD", b"");
    b.file("MERGE_HEAD", b"");
    b.host.revert(&to("before"), false).unwrap();
}

#[test]
fn a_layer_that_is_gone_stops_a_revert_that_needs_it() {
    let b = repository();
    b.write("notes/a", 0, &[7; 9000]);
    b.snap("before");
    b.remove("notes/a");
    let layers = b.engine.store.layers().unwrap();
    b.engine.store.sync().unwrap();
    for layer in layers {
        let store = &b.engine.store;
        store.remove_layer(layer.id, store.last_seq()).unwrap();
    }
    let check = b.host.can_revert(&to("before")).unwrap();
    assert_eq!(check.damage.len(), 1, "{check:?}");
    let refused = b.host.revert(&to("before"), false).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Damaged, "{refused}");
    // What needs none of it goes on.
    b.host.revert(&StateRef::Base, false).unwrap();
    b.host.revert(&to("before"), true).unwrap();
}

#[test]
fn changes_that_no_snapshot_holds_are_counted() {
    let b = repository();
    b.write("notes/a", 0, b"1");
    b.snap("one");
    assert_eq!(b.host.can_revert(&to("one")).unwrap().unsaved, 0);
    b.write("notes/a", 0, b"2");
    b.snap("two");
    b.write("notes/a", 0, b"3");
    let check = b.host.can_revert(&to("one")).unwrap();
    assert_eq!((check.unsaved, check.changed), (1, 1));
    let done = b.host.revert(&to("one"), false).unwrap();
    assert_eq!(done.unsaved, Some(1));
    // It is `one` now, whatever the last snapshot is.
    assert_eq!(b.host.can_revert(&to("two")).unwrap().unsaved, 0);
    let done = b.host.revert(&to("two"), false).unwrap();
    assert_eq!(done.unsaved, Some(0));
}

/// What a revert says it changed is what a preview tells: paths, not inodes and not directories whose times changed.
#[test]
fn a_revert_counts_paths_as_a_diff_does() {
    let place = Place::new();
    place.put("d/a", b"a");
    fs::hard_link(place.base("d/a"), place.base("linked")).unwrap();
    place.put("gone/x/y", b"y");
    let b = place.open();
    b.snap("s");
    // One inode with two names, and a directory in which a name came.
    b.write("d/a", 0, b"A");
    b.file("d/new", b"");
    b.remove("gone/x/y");
    b.remove("gone/x");
    b.remove("gone");
    let told = b.lines("@live", "s");
    assert_eq!(told.len(), 6, "{told:?}");
    let check = b.host.can_revert(&to("s")).unwrap();
    assert_eq!((check.changed, check.unsaved), (6, 6));
    let done = b.host.revert(&to("s"), false).unwrap();
    assert_eq!((done.changed, done.unsaved), (6, Some(6)));
    assert_eq!(b.host.undo(1).unwrap().changed, 6);
}
