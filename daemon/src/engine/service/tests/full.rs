//! A disk that is full, or fails, at each write and each sync of a history that has all that a service does.

use llctl::protocol::{Failure, OnConflict, Part, PartOf};

use super::sim::simdisk::SimDisk;
use super::sim::simdisk::history::BOOT;
use super::sim::{Alive, STEPS, Tree, base, open, tree};
use super::*;
use std::sync::atomic::Ordering::Relaxed;

/// What a user sees: the tree, and the snapshots but for those that nobody asked for by name.
fn seen(b: &Alive) -> (Tree, Vec<String>) {
    let names = b.engine.snapshot_names();
    let asked = names.into_iter().filter(|n| !n.starts_with("auto-20"));
    (tree(&b.engine), asked.collect())
}

/// Opens, when the engine before has let go of the store.
fn open_again(place: &Place, disk: &SimDisk) -> Alive {
    let begun = std::time::Instant::now();
    loop {
        match open(place, disk, BOOT) {
            Err(crate::engine::OpenError::Store {
                error: crate::store::OpenError::Locked { .. },
                ..
            }) if begun.elapsed().as_secs() < 60 => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

#[test]
fn a_write_that_fails_anywhere_changes_nothing() {
    let mut failures = 0;
    for failing in 0.. {
        let (place, disk) = (base(), SimDisk::new());
        let b = open(&place, &disk, BOOT).unwrap();
        let mut before = seen(&b);
        disk.fail_write_after(Some(failing));
        for (what, _, step) in STEPS {
            if let Err(why) = step(&b) {
                failures += 1;
                let eio = why.contains("I/O error") || why.contains("Input/output error");
                assert!(eio, "write {failing}, {what}: {why}");
                // A switch that could not be made durable is done all the same, and says so.
                if why.contains("is done") {
                    before = seen(&b);
                    continue;
                }
                assert!(seen(&b) == before, "write {failing}, {what}: {why}");
                step(&b).unwrap_or_else(|why| panic!("write {failing}, {what} again: {why}"));
            }
            before = seen(&b);
        }
        let met = !disk.is_failing();
        disk.fail_write_after(None);
        disk.fail_sync_after(None);
        drop(b);
        assert!(
            seen(&open_again(&place, &disk)) == before,
            "write {failing}"
        );
        if !met {
            println!("{failing} writes, {failures} steps failed");
            assert!(failures > 20, "only {failures} steps failed");
            return;
        }
    }
}

#[test]
fn a_sync_that_fails_anywhere_stops_all_writing() {
    let mut latched = 0;
    for failing in 0.. {
        let (place, disk) = (base(), SimDisk::new());
        let b = open(&place, &disk, BOOT).unwrap();
        disk.fail_sync_after(Some(failing));
        for (what, _, step) in STEPS {
            let done = step(&b);
            let is_read_only = b.engine.store.is_readonly().is_some();
            if !is_read_only {
                // The rules' own file, or an image's: nobody relies on it.
                if done.is_err() {
                    assert!(matches!(*what, "rules" | "image"), "sync {failing}, {what}");
                    step(&b).unwrap();
                }
                continue;
            }
            latched += 1;
            // What was not acknowledged may be done or not; nothing more is.
            let after = tree(&b.engine);
            let name = SnapName::new("more").unwrap();
            assert!(
                b.host
                    .snap(Some(&name), None, &SnapMeta::default())
                    .is_err()
            );
            assert!(b.host.revert(&StateRef::Base, true).is_err());
            assert!(b.host.trust("").is_err());
            for (what, _, step) in STEPS {
                // Some of them have nothing to do any more.
                step(&b).unwrap_or_default();
                assert!(tree(&b.engine) == after, "sync {failing}: {what} goes on");
            }
            assert!(tree(&b.engine) == after, "sync {failing}, {what}");
            break;
        }
        let met = !disk.is_failing();
        disk.fail_write_after(None);
        disk.fail_sync_after(None);
        drop(b);
        let b = open_again(&place, &disk);
        assert!(b.engine.store.is_readonly().is_none());
        b.snap_after(failing);
        if !met {
            println!("{failing} syncs, {latched} latched");
            assert!(latched > 10, "only {latched} latched");
            return;
        }
    }
}

/// What the disk refuses to take back (a layer's file, or a part of one; or the promise before that) costs nobody anything, and
/// goes when there is another try.
#[test]
fn what_the_disk_did_not_take_back_goes_later() {
    use nix::errno::Errno;
    let ways = [
        Fails::Giving(Errno::EIO),
        Fails::Giving(Errno::ENOSPC),
        Fails::Writing,
    ];
    for way in ways {
        let mut failures = 0;
        for failing in 0.. {
            let what = format!("{way:?} {failing}");
            let (place, disk) = (base(), SimDisk::new());
            let b = open(&place, &disk, BOOT).unwrap();
            // Nobody else may meet what fails.
            b.engine.house.stop();
            b.fill_layers(20);
            let now = seen(&b);
            match way {
                Fails::Giving(errno) => disk.fail_giving_after(Some((failing, errno as i32))),
                Fails::Writing => disk.refuse_writes(true),
            }
            let answer = b.engine.reclaim();
            let last = disk.is_failing() || matches!(way, Fails::Writing);
            disk.fail_giving_after(None);
            disk.refuse_writes(false);
            assert!(seen(&b) == now, "{what}");
            let garbage = b.engine.garbage.load(Relaxed);
            if let Err(error) = answer {
                failures += 1;
                let expected = match way {
                    Fails::Giving(errno) => errno,
                    Fails::Writing => Errno::EIO,
                };
                assert_eq!(error.raw_os_error(), Some(expected as i32), "{what}");
                assert!(garbage > 0, "{what}: it is forgotten");
                assert!(b.engine.reclaim_if_due().is_ok(), "{what}: at once");
                assert_eq!(b.engine.garbage.load(Relaxed), garbage, "{what}: at once");
                b.engine.reclaim().unwrap();
            }
            assert_eq!(b.engine.garbage.load(Relaxed), 0, "{what}");
            assert!(seen(&b) == now, "{what}");
            let left = filled(&disk);
            assert!(left < 16 * 4096, "{what}: {left} bytes are left");
            drop(b);
            let b = open_again(&place, &disk);
            assert!(seen(&b) == now, "{what}");
            if last {
                println!("{way:?}: {failing} in all, {failures} failed");
                assert!(failures > 0, "{way:?}");
                break;
            }
        }
    }
}

/// A disk that does not answer has no more space than it had.
#[test]
fn space_is_not_back_because_the_disk_does_not_say() {
    let (place, disk) = (base(), SimDisk::new());
    let b = open(&place, &disk, BOOT).unwrap();
    b.engine.house.stop();
    let told = || b.engine.relay.last_event().0;
    let before = told();
    b.engine.warned.store(true, Relaxed);
    // No file system knows where this disk is.
    assert!(b.engine.statfs().is_err());
    b.engine.warn_of_low_space();
    assert!(b.engine.warned.load(Relaxed));
    assert_eq!(told(), before);
}

#[derive(Clone, Copy, Debug)]
enum Fails {
    Giving(nix::errno::Errno),
    Writing,
}

const GONE: u8 = b'G';

/// Bytes of what [`Alive::fill_layers`] gave up that the disk has.
fn filled(disk: &SimDisk) -> usize {
    let layers = disk.image().names.into_keys();
    let layers = layers.filter(|path| path.extension().is_some_and(|end| end == "data"));
    let bytes = layers.map(|path| disk.bytes(path.to_str().unwrap()).unwrap());
    bytes
        .map(|bytes| bytes.iter().filter(|byte| **byte == GONE).count())
        .sum()
}

impl Alive {
    /// Files, of which every other one is given up: some layers have nothing else, others something.
    fn fill_layers(&self, blocks: usize) {
        for n in 0..6 {
            let kept = usize::from(n % 2 == 0);
            for (kind, byte, blocks) in [("kept", b'k', kept), ("gone", GONE, blocks)] {
                let ino = self.file(&format!("{kind}{n}")).unwrap();
                let bytes = vec![byte; blocks * 4096];
                self.engine
                    .write(ino, 0, &bytes, WriteHow::default())
                    .unwrap();
            }
            // Enough for a layer.
            self.snap_after(n);
            self.engine.delete(&["after".to_owned()]).unwrap();
        }
        self.engine.reclaim().unwrap();
        self.engine.sync().unwrap();
        for n in 0..6 {
            let name = format!("gone{n}");
            let ino = self.engine.lookup(ROOT, name.as_bytes()).unwrap().unwrap();
            self.engine.unlink(ROOT, name.as_bytes()).unwrap();
            self.engine.forget(ino.attr.ino, 1000);
        }
    }

    fn add(&self, name: &str, kind: Kind, target: &[u8]) -> Result<Ino, nix::errno::Errno> {
        let make = Make {
            kind,
            perm: 0o640,
            umask: 0,
            rdev: 0,
            target,
        };
        let made = self.engine.make(ROOT, name.as_bytes(), &make, &me())?;
        Ok(made.attr.ino)
    }

    fn file(&self, name: &str) -> Result<Ino, nix::errno::Errno> {
        self.add(name, Kind::File, b"")
    }

    /// Makes the journal longer.
    fn lengthen(&self, target: &[u8]) {
        self.add("long", Kind::Symlink, target).unwrap();
    }

    /// There is something to revert.
    fn write_a(&self) {
        let (_, _, write) = STEPS.iter().find(|(what, ..)| *what == "write").unwrap();
        write(self).unwrap();
    }

    /// The next mount can write.
    fn snap_after(&self, failing: u64) {
        let name = SnapName::new("after").unwrap();
        let taken = self.host.snap(Some(&name), None, &SnapMeta::default());
        taken.unwrap_or_else(|failure| panic!("sync {failing}: {failure}"));
    }
}

/// Whoever takes and describes snapshots on a full disk, again and again, leaves what reverts and deletions need.
#[test]
fn snapshots_on_a_full_disk_leave_room_for_reverts() {
    let (place, disk) = (base(), SimDisk::new());
    let b = open(&place, &disk, BOOT).unwrap();
    let name = |n: usize| SnapName::new(format!("s{n}")).unwrap();
    let snap = |n: usize| b.host.snap(Some(&name(n)), None, &SnapMeta::default());
    snap(0).unwrap();
    b.write_a();
    b.engine.sync().unwrap();
    disk.set_capacity(Some(disk.used()));
    let taken = (1..10_000).take_while(|n| snap(*n).is_ok()).count();
    assert!(taken > 0, "a few snapshots are possible");
    let edit = llctl::protocol::MetaEdit {
        message: Some("said later".to_owned()),
        ..Default::default()
    };
    let described = (0..10_000).take_while(|_| b.host.describe(&name(0), &edit).is_ok());
    let described = described.count();
    assert!(taken + described < 10_000, "there is no end");
    for round in 0..8 {
        let done = b.host.revert(&"s0".parse().unwrap(), false);
        done.unwrap_or_else(|failure| panic!("round {round}: {failure}"));
        let done = b.host.undo(1);
        done.unwrap_or_else(|failure| panic!("round {round}: {failure}"));
    }
    b.host.delete(&[name(0)], None).unwrap();
}

/// Where no record of a program fits any more, a snapshot does: it takes what the journal has ready.
#[test]
fn a_snapshot_fits_where_nothing_else_does() {
    for length in (1..400).step_by(40) {
        let (place, disk) = (base(), SimDisk::new());
        let b = open(&place, &disk, BOOT).unwrap();
        b.lengthen(&vec![b'x'; length]);
        b.engine.sync().unwrap();
        disk.set_capacity(Some(disk.used()));
        let full = (0..10_000).find(|n| b.file(&n.to_string()).is_err());
        assert!(full.is_some(), "there is no end");
        let name = SnapName::new("full").unwrap();
        let taken = b.host.snap(Some(&name), None, &SnapMeta::default());
        taken.unwrap_or_else(|failure| panic!("{length}: {failure}"));
    }
}

/// What was removed where the record did not fit that gives its blocks up is given up all the same, also if nobody needs the space.
#[test]
fn what_was_removed_on_a_full_disk_is_given_up_behind_the_scenes() {
    for length in (1..1200).step_by(8) {
        let (place, disk) = (base(), SimDisk::new());
        let b = open(&place, &disk, BOOT).unwrap();
        let ino = b.file("gone").unwrap();
        b.lengthen(&vec![b'x'; length]);
        disk.set_capacity(Some(disk.used()));
        if b.engine.unlink(ROOT, b"gone").is_err() {
            continue;
        }
        b.engine.forget(ino, u64::from(u32::MAX));
        let orphans = || b.engine.state.read().head.orphans.len();
        if orphans() == 0 {
            continue;
        }
        let begun = std::time::Instant::now();
        while orphans() > 0 {
            assert!(begun.elapsed().as_secs() < 60, "{length}: it stays");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        return;
    }
    panic!("it always fitted");
}

#[test]
fn with_no_byte_free_all_that_gives_space_back_works() {
    let (mut full, mut parts) = (0, 0);
    for room in (0..80).map(|n| n * 911) {
        let (place, disk) = (base(), SimDisk::new());
        let b = open(&place, &disk, BOOT).unwrap();
        let snap = |name: &str, automatic: bool| {
            let meta = SnapMeta {
                reason: automatic.then(|| "automatic".to_owned()),
                ..SnapMeta::default()
            };
            let name = SnapName::new(name).unwrap();
            b.host.snap(Some(&name), None, &meta).unwrap();
        };
        snap("first", false);
        snap("one", false);
        snap("auto-first", true);
        let first = tree(&b.engine);
        b.write_a();
        disk.set_capacity(Some(disk.used() + room));
        let mut before = tree(&b.engine);
        let mut failed = false;
        for (what, _, step) in &STEPS[1..] {
            if let Err(why) = step(&b) {
                assert!(why.contains("No space"), "room {room}, {what}: {why}");
                assert!(tree(&b.engine) == before, "room {room}, {what}");
                failed = true;
                break;
            }
            before = tree(&b.engine);
        }
        if !failed {
            continue;
        }
        full += 1;
        disk.set_capacity(Some(disk.used()));
        let must = |what: &str, done: Result<(), Failure>| {
            done.unwrap_or_else(|failure| panic!("room {room}, {what}: {failure}"));
        };
        let to: StateRef = "first".parse().unwrap();
        must("revert", b.host.revert(&to, false).map(drop));
        assert!(tree(&b.engine) == first, "room {room}");
        must("undo", b.host.undo(1).map(drop));
        must("redo", b.host.redo(1).map(drop));
        must("undo", b.host.undo(1).map(drop));
        assert!(tree(&b.engine) == before, "room {room}");
        let part = Part {
            of: PartOf::To(to),
            globs: vec!["a".to_owned(), "dir".to_owned()],
            there: Vec::new(),
        };
        let done = b.host.revert_part(&part, OnConflict::Revert, false);
        let done = done.unwrap_or_else(|failure| panic!("room {room}, a part: {failure}"));
        // What changed nothing left nothing to undo.
        if done.discarded.is_some() {
            parts += 1;
            must("undo", b.host.undo(1).map(drop));
        }
        assert!(tree(&b.engine) == before, "room {room}");
        let rules = llctl::config::Retention::nothing();
        must("prune", b.host.prune(Some(&rules), true, None).map(drop));
        assert!(!b.engine.snapshot_names().contains(&"auto-first".to_owned()));
        for name in b.engine.snapshot_names() {
            let name = SnapName::new(name).unwrap();
            must("delete", b.host.delete(&[name], None).map(drop));
        }
        assert!(tree(&b.engine) == before, "room {room}");
        disk.set_capacity(None);
        snap("again", false);
        drop(b);
        let again = open_again(&place, &disk);
        assert!(tree(&again.engine) == before, "room {room}");
    }
    assert!(full > 30, "the disk was full {full} times only");
    assert!(parts > 15, "a part was reverted {parts} times only");
}
