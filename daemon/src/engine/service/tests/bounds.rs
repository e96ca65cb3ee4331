//! What must not grow however long a daemon lives.

use std::fs;

use super::*;

/// The first of so many reverts is forgotten, and what it discarded with it.
#[test]
fn of_what_reverts_discarded_the_newest_is_kept() {
    let b = Place::new().open();
    b.file("f", b"0");
    b.engine.snapshot(|_| "s".into(), "").unwrap();
    for n in 1..=80_u64 {
        b.write("f", 0, &n.to_le_bytes());
        b.engine.revert("s").unwrap();
    }
    let list = b.host.list(&ListQuery::default()).unwrap();
    assert_eq!(list.discarded.len(), 64);
    b.engine.undo(1).unwrap();
    let mut found = [0; 8];
    b.engine.read(b.ino("f"), 0, &mut found, true).unwrap();
    assert_eq!(found, 80_u64.to_le_bytes());
}

/// What the kernel let go of is let go of here.
#[test]
fn objects_of_the_base_are_known_for_as_long_as_the_kernel_knows_them() {
    let place = Place::new();
    for n in 0..300 {
        place.put(&format!("d{}/f{n}", n % 10), b"");
    }
    let b = place.open();
    let before = b.engine.base.known();
    let mut looked_up = Vec::new();
    for n in 0..300 {
        let dir = format!("d{}", n % 10);
        let dir = b.engine.lookup(ROOT, dir.as_bytes()).unwrap().unwrap();
        let file = format!("f{n}");
        let file = b.engine.lookup(dir.attr.ino, file.as_bytes());
        looked_up.push(dir.attr.ino);
        looked_up.push(file.unwrap().unwrap().attr.ino);
    }
    assert_eq!(b.engine.base.known(), before + 310);
    for ino in looked_up {
        b.engine.forget(ino, 1);
    }
    assert_eq!(b.engine.base.known(), before);
    assert!(b.engine.held.lock().all().is_empty());
}

/// Whoever gives up much does not wait for the round of the house: each of these would, for five seconds after the one before.
#[test]
fn much_that_was_given_up_is_taken_back_at_once() {
    let b = Place::new().open();
    let begun = std::time::Instant::now();
    for _ in 0..12 {
        b.engine.freed(64 << 20);
        while b.engine.garbage.load(Ordering::Relaxed) > 0 {
            assert!(
                begun.elapsed().as_secs() < 45,
                "only when it looks by itself"
            );
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}

/// Two images, and the journal since the older one.
#[test]
fn old_images_and_what_they_cover_go() {
    let b = Place::new().open();
    b.file("f", b"0");
    let count = |dir: &str, end: &str| files(&b, dir, end);
    for n in 0..6_u64 {
        b.write("f", 0, &n.to_le_bytes());
        b.engine.snapshot(|_| format!("s{n}"), "").unwrap();
        b.engine.checkpoint().unwrap();
        assert!(count("images", ".img") <= 2, "round {n}");
        assert!(count("journal", "") <= 3, "round {n}");
    }
    assert_eq!(count("images", ".img"), 2);
    let b = b.killed();
    assert_eq!(b.engine.snapshot_names().len(), 6);
}

/// Each start begins a journal segment, of which the next one opens all.
#[test]
fn starts_that_change_little_leave_little_to_read() {
    let mut b = Place::new().open();
    for n in 0..120_u64 {
        b.file(format!("f{n}"), b"0");
        b = b.killed();
        // As each worker does that follows another one.
        b.engine.image_if_many().unwrap();
    }
    assert!(files(&b, "journal", "") <= 70, "after kills");
    let segments = fs::read_dir(b.place.0.join("store/journal")).unwrap();
    let bytes: u64 = segments.map(|s| s.unwrap().metadata().unwrap().len()).sum();
    assert!(
        bytes < 4 << 20,
        "the zeros behind old segments stay: {bytes}"
    );
    // Those that are ended cleanly, and change nothing at all.
    for _ in 0..120 {
        b.engine.close().unwrap();
        b = b.killed();
    }
    assert!(files(&b, "journal", "") <= 70, "after clean ends");
    assert!(b.find(b"f0").is_some() && b.find(b"f119").is_some());
}

/// What a start has to read is bounded, whether or not anybody unmounts.
#[test]
fn an_image_is_written_when_the_journal_is_worth_it() {
    let b = Place::new().open();
    b.file("f", b"0");
    let ino = b.ino("f");
    let images = || files(&b, "images", ".img");
    let before = images();
    for n in 0..199_000_u64 {
        b.write_ino(ino, n % 4096, b"x");
    }
    b.engine.image_if_worth().unwrap();
    assert_eq!(images(), before, "too early");
    for n in 0..1_000 {
        b.write_ino(ino, n, b"y");
    }
    b.engine.image_if_worth().unwrap();
    assert_eq!(images(), before + 1);
}

/// How many files of the store's directory `dir` have this end.
fn files(b: &Bench, dir: &str, end: &str) -> usize {
    let all = fs::read_dir(b.place.0.join("store").join(dir)).unwrap();
    let names = all.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(end)).count()
}

/// Who counts what is behind the newest image may have looked at the state before another thread wrote one of a newer state.
#[test]
fn an_image_that_is_newer_than_what_one_looked_at_leaves_nothing_behind_it() {
    let b = Place::new().open();
    let before = b.engine.state.read().changes;
    b.file("f", b"0");
    b.engine.checkpoint().unwrap();
    assert_eq!(b.engine.since_image(before), 0);
}
