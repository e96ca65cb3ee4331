//! Snapshots, lists, reverts and refusals.

use llctl::client::Snapped;
use llctl::protocol::{ErrorKind, RevertInfo};

use super::*;

fn name(text: &str) -> SnapName {
    SnapName::new(text).unwrap()
}

fn bench() -> Bench {
    let place = Place::new();
    place.put("a", b"a\n");
    place.put("d/b", b"b\n");
    place.open()
}

#[test]
fn a_snapshot_without_a_name_gets_one_and_all_are_listed_by_age() {
    let b = bench();
    b.write("a", 0, b"1");
    let first = b
        .host
        .snap(None, Some("why"), &SnapMeta::default())
        .unwrap();
    assert_eq!(first.message.as_deref(), Some("why"));
    // Taking one costs the same whatever changed: that is counted when somebody asks.
    assert_eq!(first.changed, None);
    b.file("new", b"x");
    b.snap("second");
    let list = b.host.list(&ListQuery::default()).unwrap();
    let names: Vec<&str> = list.snapshots.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, [first.name.as_str(), "second"]);
    assert_eq!(list.snapshots[0].changed, Some(1));
    assert_eq!(list.snapshots[0].message, first.message);
    assert_eq!(list.snapshots[1].changed, Some(1));
    assert!(list.discarded.is_empty());
}

#[test]
fn a_revert_and_its_undo_are_told_and_kept() {
    let b = bench();
    b.snap("s");
    b.write("a", 0, b"1");
    b.file("new", b"");
    let done = b.host.revert(&"s".parse().unwrap(), false).unwrap();
    assert_eq!(done.to, "s");
    assert!(done.changed >= 2, "{done:?}");
    let list = b.host.list(&ListQuery::default()).unwrap();
    let [kept] = &list.discarded[..] else {
        panic!("{list:?}")
    };
    assert_eq!(Some(kept.id), done.discarded);
    assert_eq!((kept.reverted_to.as_str(), kept.undo), ("s", true));
    assert_eq!(kept.changed, Some(2));
    assert_eq!(b.lines("s", "@live"), [""; 0]);
    assert_eq!(b.host.undo(1).unwrap().to, "@undo");
    assert_eq!(b.lines("s", "@live"), ["M a", "A new"]);
    assert_eq!(
        b.host.list(&ListQuery::default()).unwrap().discarded[0].reverted_to,
        "@undo"
    );
    b.host.revert(&StateRef::Base, false).unwrap();
    assert_eq!(b.lines("@base", "@live"), [""; 0]);
    let list = b.host.list(&ListQuery::default()).unwrap();
    assert_eq!(list.discarded.last().unwrap().reverted_to, "@base");
    let again = b.host.revert(&StateRef::Base, false).unwrap();
    assert_eq!((again.changed, again.discarded), (0, None));
}

#[test]
fn a_renamed_base_directory_counts_once() {
    let b = bench();
    b.rename("d", "e", 0);
    b.snap("s");
    assert_eq!(
        b.host.list(&ListQuery::default()).unwrap().snapshots[0].changed,
        Some(1)
    );
    b.remove("a");
    assert_eq!(b.host.status().unwrap().changed, Some(1));
}

#[test]
fn show_counts_both_sides_and_what_the_snapshot_alone_holds() {
    let b = bench();
    b.snap("before");
    b.file("big", &[1; 40_960]);
    b.snap("s");
    b.remove("big");
    b.write("a", 0, b"1");
    let shown = b.host.show(&name("s")).unwrap();
    assert_eq!(shown.previous.as_deref(), Some("before"));
    let since = shown.since_previous.unwrap();
    assert_eq!((since.added, since.total()), (1, 1));
    let live = shown.to_live.unwrap();
    assert_eq!((live.removed, live.modified, live.total()), (1, 1, 2));
    assert_eq!(shown.snapshot.bytes, Some(40_960));
    assert_eq!(shown.snapshot.shared, Some(0));
    b.file("kept", &[2; 8192]);
    b.snap("t");
    b.snap("u");
    let shared = b.host.show(&name("t")).unwrap().snapshot;
    assert_eq!((shared.bytes, shared.shared), (Some(0), Some(8192 + 4096)));
    assert_eq!(
        b.host.show(&name("before")).unwrap().snapshot.bytes,
        Some(0)
    );
}

#[test]
fn names_are_changed_and_given_up_all_or_none() {
    let b = bench();
    for n in ["one", "two", "three"] {
        b.snap(n);
    }
    let renamed = b.host.rename(&name("two"), &name("zwei")).unwrap();
    assert_eq!(renamed.name, "zwei");
    let failed = b.host.rename(&name("zwei"), &name("one")).unwrap_err();
    assert_eq!(failed.kind, ErrorKind::Exists);
    let failed = b
        .host
        .delete(&[name("one"), name("nine")], None)
        .unwrap_err();
    assert_eq!(failed.kind, ErrorKind::NotFound);
    assert_eq!(
        b.host.list(&ListQuery::default()).unwrap().snapshots.len(),
        3
    );
    let gone = b.host.delete(&[name("one"), name("zwei")], None).unwrap();
    assert_eq!(gone, ["one", "zwei"]);
    assert_eq!(
        b.host.list(&ListQuery::default()).unwrap().snapshots.len(),
        1
    );
}

#[test]
fn refusals_have_kinds_and_hints() {
    let b = bench();
    b.snap("before-agent");
    let failed = b
        .host
        .snap(Some(&name("before-agent")), None, &SnapMeta::default())
        .unwrap_err();
    assert_eq!(failed.kind, ErrorKind::Exists);
    let failed = b
        .host
        .revert(&"before-agnet".parse().unwrap(), false)
        .unwrap_err();
    assert_eq!(failed.kind, ErrorKind::NotFound);
    assert_eq!(failed.hint.as_deref(), Some("did you mean before-agent?"));
    let failed = b.host.show(&name("zebra")).unwrap_err();
    assert!(failed.hint.unwrap().contains("llctl list"));
    assert_eq!(b.host.undo(1).unwrap_err().kind, ErrorKind::NotFound);
    let live = b.host.revert(&StateRef::Live, false).unwrap_err();
    assert_eq!(live.kind, ErrorKind::Invalid);
    b.engine.store.latch_readonly("a test says so");
    let failed = b
        .host
        .snap(Some(&name("late")), None, &SnapMeta::default())
        .unwrap_err();
    assert_eq!(failed.kind, ErrorKind::ReadOnly);
    assert!(failed.message.contains("a test says so"), "{failed}");
}

#[test]
fn status_tells_counts_sizes_and_the_latch() {
    let b = bench();
    b.snap("s");
    b.write("a", 0, b"1");
    let status = b.host.status().unwrap();
    assert_eq!((status.snapshots, status.discarded), (1, 0));
    assert_eq!(status.last_snapshot.unwrap().name, "s");
    assert_eq!(status.changed, Some(1));
    assert!(status.store_bytes > 0 && status.store_free.is_some());
    assert_eq!(status.read_only, None);
    assert_eq!(status.pid, b.host.welcome().pid);
    b.engine.store.latch_readonly("a test says so");
    let status = b.host.status().unwrap();
    assert_eq!(status.read_only.as_deref(), Some("a test says so"));
}

#[test]
fn the_stop_is_asked_for_once_the_shutdown_begins() {
    let place = Place::new();
    let b = place.open();
    let (asked, asks) = crossbeam_channel::bounded(1);
    let stop = move || asked.send(()).unwrap();
    let host = Host::new(b.engine.clone(), b.place.base(""), Box::new(stop));
    host.prepare_shutdown(false, &mut |_| Ok(())).unwrap();
    assert!(asks.is_empty());
    host.begin_shutdown();
    assert_eq!(asks.len(), 1);
}

#[test]
fn a_snapshot_of_nothing_new_is_not_taken() {
    let b = bench();
    let snap = || {
        let meta = SnapMeta::default();
        match b.host.snap_if_changed(None, None, &meta).unwrap() {
            Snapped::Taken(info) => (true, info.name),
            Snapped::Unchanged(info) => (false, info.name),
        }
    };
    // The first one is there to come back to.
    let (taken, first) = snap();
    assert!(taken);
    assert_eq!(snap(), (false, first.clone()));
    b.write("a", 0, b"1");
    let (taken, second) = snap();
    assert!(taken);
    // The same bytes again are a change: the times say so.
    b.write("a", 0, b"1");
    let (taken, third) = snap();
    assert!(taken && third != second);
    assert_eq!(snap(), (false, third));
    b.host.revert(&first.parse().unwrap(), false).unwrap();
    assert_eq!(snap(), (false, first));
    b.host.undo(1).unwrap();
    assert!(!snap().0);
    b.file("new", b"");
    assert!(snap().0);
    assert_eq!(
        b.host.list(&ListQuery::default()).unwrap().snapshots.len(),
        4
    );
}

#[test]
fn nobody_waits_for_a_count_of_what_was_reverted() {
    let place = Place::new();
    for i in 0..1_200 {
        place.put(&format!("many/{i}"), b"");
    }
    for i in 0..40 {
        place.put(&format!("few/{i}"), b"");
    }
    place.put("linked/one", b"1");
    fs::hard_link(place.base("linked/one"), place.base("linked/two")).unwrap();
    let b = place.open();
    b.snap("all");
    let revert = || b.host.revert(&"all".parse().unwrap(), false).unwrap();
    let remove = |dir: &str, files: u32| {
        (0..files).for_each(|i| b.remove(format!("{dir}/{i}")));
        b.remove(dir);
    };
    let counts = |info: RevertInfo| (info.changed, info.unsaved, info.at_least);

    remove("few", 40);
    assert_eq!(counts(revert()), (41, Some(41), false));
    remove("many", 1_200);
    assert_eq!(counts(revert()), (500, Some(500), true));
    // Only a walk over the base knows the file's other name.
    b.write("linked/one", 0, b"2");
    assert_eq!(counts(revert()), (1, Some(1), true));
    b.write("linked/one", 0, b"2");
    assert_eq!(b.changes("all", "@live", false).len(), 2);
    assert_eq!(counts(revert()), (2, Some(2), false));
}
