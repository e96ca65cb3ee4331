//! Applying as a client asks for it.

use llctl::protocol::ProgressUnit;

use super::*;

#[test]
fn a_plan_says_what_an_apply_then_does() {
    let place = Place::new();
    place.put("a", b"a\n");
    place.put("d/b", b"b\n");
    let b = place.open();
    b.snap("one");
    b.snap("two");
    b.write("a", 0, b"X");
    b.file("new", &[1; 5000]);
    b.remove("d/b");
    b.rename("d", "e", 0);
    let plan = b.host.plan_apply().unwrap();
    let counts = |c: &ChangeCounts| (c.added, c.removed, c.modified, c.renamed);
    assert_eq!(counts(&plan.changes), (1, 1, 1, 1));
    assert_eq!((plan.snapshots_kept, plan.snapshots_lost), (0, 2));
    assert!(plan.bytes >= 5001 && plan.bytes_free > 0, "{plan:?}");
    let mut sink = |progress: llctl::protocol::Progress| {
        assert_eq!(progress.unit, ProgressUnit::Bytes);
        Err(std::io::ErrorKind::BrokenPipe.into())
    };
    let done = b.host.apply(None, &mut sink).unwrap();
    assert_eq!(counts(&done.changes), (1, 1, 1, 1));
    assert_eq!(fs::read(b.place.base("a")).unwrap(), b"X\n");
    assert_eq!(fs::read(b.place.base("new")).unwrap(), [1; 5000]);
    assert!(b.place.base("e").is_dir() && !b.place.base("d").exists());
    assert!(
        b.host
            .list(&ListQuery::default())
            .unwrap()
            .snapshots
            .is_empty()
    );
    assert_eq!(b.lines("@base", "@live"), [""; 0]);
}

#[test]
fn a_shutdown_may_apply_before() {
    let b = Place::new().open();
    b.file("new", b"new");
    b.host.prepare_shutdown(true, &mut |_| Ok(())).unwrap();
    assert_eq!(fs::read(b.place.base("new")).unwrap(), b"new");
}
