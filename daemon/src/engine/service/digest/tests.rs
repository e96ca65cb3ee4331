//! Checksums of states, against those of a walk over all of a state, and against trees that are equal or not.

use std::os::unix::fs::{MetadataExt, symlink};

use super::*;
use crate::engine::service::tests::{Bench, Place};
use crate::tree::Time;

impl Bench {
    fn kept(&self, name: &str) -> (StateId, View) {
        let state = self.engine.state.read();
        let (id, _) = state.snapshot(name).unwrap();
        (id, View::kept(&state, id))
    }

    /// From the base on.
    fn digest(&self, name: &str) -> Digest {
        let (id, view) = self.kept(name);
        let mut chain = Chain::new(Stop::default());
        chain.of(&self.engine, id, &view).unwrap()
    }

    /// From nothing on.
    fn walked(&self, name: &str) -> Digest {
        let (_, view) = self.kept(name);
        let mut contents = Contents::new(Stop::default());
        let sum = whole(&self.engine, &view, &mut contents, &Stop::default());
        sum.unwrap().digest()
    }
}

/// Computes and records the checksum of each snapshot, from that of the one before, and compares it with that of all of it.
pub(in crate::engine::service) fn check_all(b: &Bench) {
    let mut chain = Chain::new(Stop::default());
    for name in b.engine.snapshot_names() {
        let (id, view) = b.kept(&name);
        let digest = chain.of(&b.engine, id, &view).unwrap();
        assert_eq!(digest, b.walked(&name), "{name}");
        if b.engine.state.read().snapshots[&id].digest.is_some() {
            continue;
        }
        chain.note_base(&b.engine, id);
        b.engine.record_digest(id, digest);
    }
}

/// Computes and records what is missing, as the thread does, and now.
pub(in crate::engine::service) fn compute_all(engine: &Engine) {
    let mut chain = Chain::new(Stop::default());
    while let Some(view) = chain.next(engine) {
        let Which::Kept(id) = view.which else {
            return;
        };
        if let Ok(digest) = chain.of(engine, id, &view) {
            chain.note_base(engine, id);
            engine.record_digest(id, digest);
        }
        chain.tried.insert(id);
    }
}

/// Snapshots that come and go leave nothing behind, in memory or in the store.
#[test]
fn states_that_are_gone_are_forgotten() {
    let b = base().open();
    let mut chain = Chain::new(Stop::default());
    chain.most = 5;
    b.snap("stays");
    for n in 0..40 {
        b.write("a", 0, &[n]);
        b.snap("comes");
        for name in ["stays", "comes"] {
            let (id, view) = b.kept(name);
            if !chain.bases.contains_key(&id) {
                chain.of(&b.engine, id, &view).unwrap();
                chain.tried.insert(id);
                chain.note_base(&b.engine, id);
                chain.most = chain.most.min(5);
            }
        }
        b.engine.delete(&["comes".to_owned()]).unwrap();
        assert!(chain.bases.len() <= 6 && chain.tried.len() <= 6);
    }
    let known = known::read(&b.engine.store).unwrap();
    let (stays, _) = b.kept("stays");
    assert!(known.states.len() <= 6 && known.states.contains_key(&stays));
    // What is known of the base's files is known still.
    assert!(known.files.len() >= 4, "{}", known.files.len());
}

fn base() -> Place {
    let place = Place::new();
    place.put("a", b"aaaa");
    place.put("dir/b", &[7; 10_000]);
    place.put("dir/deep/c", b"c");
    place.put("linked", b"twice");
    std::fs::hard_link(place.base("linked"), place.base("dir/again")).unwrap();
    symlink("a", place.base("link")).unwrap();
    place
}

#[test]
fn what_differs_leads_to_the_same_as_all_of_it() {
    let b = base().open();
    let mut chain = Chain::new(Stop::default());
    let mut seen = Vec::new();
    let mut check = |b: &Bench, name: &str| {
        b.snap(name);
        let (id, view) = b.kept(name);
        let found = chain.of(&b.engine, id, &view).unwrap();
        assert_eq!(found, b.walked(name), "{name}, from the one before");
        assert_eq!(found, b.digest(name), "{name}, from the base");
        assert!(!seen.contains(&found), "{name} is like another one");
        seen.push(found);
    };
    check(&b, "base");
    b.write("a", 2, b"x");
    check(&b, "written");
    b.write("linked", 0, b"T");
    check(&b, "written, and another name of it that nobody looked at");
    b.remove("dir/again");
    check(&b, "a name less");
    b.rename("dir", "moved", 0);
    check(&b, "moved");
    b.write("moved/deep/c", 1, b"more");
    check(&b, "written where it was moved");
    b.file("new", &[1; 3_000_000]);
    b.write("new", 5_000_000, b"behind a hole");
    check(&b, "new");
    b.link("new", "moved/other");
    check(&b, "linked");
    b.write("moved/other", 1_500_000, b"in the middle");
    check(&b, "written by another name");
    b.rename("a", "link", 2);
    check(&b, "exchanged");
    b.rename("new", "a", 0);
    check(&b, "over another");
    b.dir("dir");
    b.file("dir/b", b"not that one");
    check(&b, "a directory where one was");
    b.remove("moved/deep/c");
    b.remove("moved/deep");
    check(&b, "removed");
    b.rename("moved", "dir/in", 0);
    b.rename("dir", "top", 0);
    check(&b, "moved into what moved");
    b.chmod("top", 0o700);
    check(&b, "a directory's mode");
}

#[test]
fn a_revert_leads_to_the_same_checksum_and_times_of_directories_do_not_count() {
    let b = base().open();
    b.write("a", 0, b"1");
    b.snap("one");
    b.remove("dir/b");
    b.file("dir/x", b"x");
    b.snap("two");
    b.host_revert("one");
    b.file("gone", b"");
    b.remove("gone");
    b.snap("three");
    assert_eq!(b.digest("one"), b.digest("three"));
    assert_ne!(b.digest("one"), b.digest("two"));
    b.utime("a", Time { sec: 5, nsec: 0 });
    b.snap("four");
    assert_ne!(b.digest("one"), b.digest("four"));
}

/// What was written through one overlay and lies in the base of another one is the same state.
#[test]
fn equal_trees_of_two_stores_have_equal_checksums() {
    let (one, two) = (base(), base());
    let time = |path: std::path::PathBuf| {
        let meta = path.symlink_metadata().unwrap();
        let nsec = meta.mtime_nsec() as u32;
        Time {
            sec: meta.mtime(),
            nsec,
        }
    };
    let (here, there) = (one.base(""), two.base(""));
    for path in ["a", "dir/b", "dir/deep/c", "linked", "link"] {
        let at = time(here.join(path));
        let times = [libc::timespec {
            tv_sec: at.sec,
            tv_nsec: at.nsec.into(),
        }; 2];
        let path = std::ffi::CString::new(there.join(path).as_os_str().as_encoded_bytes()).unwrap();
        // SAFETY: both are read for the length of the call, and terminated.
        let set = unsafe {
            libc::utimensat(
                libc::AT_FDCWD,
                path.as_ptr(),
                times.as_ptr(),
                libc::AT_SYMLINK_NOFOLLOW,
            )
        };
        assert_eq!(set, 0);
    }
    two.put("extra", &[9; 5000]);
    let extra = time(there.join("extra"));
    let (one, two) = (one.open(), two.open());
    two.snap("s");
    one.snap("s");
    assert_ne!(one.digest("s"), two.digest("s"));
    one.file("extra", &[9; 5000]);
    one.utime("extra", extra);
    one.snap("t");
    assert_eq!(one.digest("t"), two.digest("s"));
}

/// Of a file that is written a little at a time, a little is read again; of the base nothing.
#[test]
fn contents_are_read_once() {
    let place = base();
    place.put("big", &vec![3; 9_000_000]);
    let b = place.open();
    let mut chain = Chain::new(Stop::default());
    b.snap("base");
    let (id, view) = b.kept("base");
    chain.of(&b.engine, id, &view).unwrap();
    assert!(chain.take_read() > 9_000_000);
    b.write("big", 4_000_000, b"x");
    b.snap("s");
    let (id, view) = b.kept("s");
    chain.of(&b.engine, id, &view).unwrap();
    // A chunk before and a chunk after; and what a new worker finds written down is not read.
    assert!(chain.take_read() <= 2 << 20);
    let mut next = Chain::new(Stop::default());
    next.of(&b.engine, id, &view).unwrap();
    assert!(
        next.take_read() <= 12 << 20,
        "the old content of what changed, and the new one"
    );
    b.set_len("big", 1 << 40);
    b.snap("sparse");
    let (id, view) = b.kept("sparse");
    chain.of(&b.engine, id, &view).unwrap();
    assert!(chain.take_read() <= 2 << 20);
    assert_eq!(b.walked("sparse"), b.digest("sparse"));
}

/// A hole of the base is not read, and counts as the zeros that it is, whatever of it the overlay has cut off or written.
#[test]
fn holes_of_the_base_are_not_read() {
    let (holes, zeros) = (Place::new(), Place::new());
    let long = 9 << 20;
    for place in [&holes, &zeros] {
        place.put("f", b"");
        place.put("end", b"");
        place.put("all", b"");
    }
    for (name, offset) in [("f", Some(5 << 20)), ("end", Some(long - 1)), ("all", None)] {
        for place in [&holes, &zeros] {
            let file = std::fs::File::options()
                .write(true)
                .open(place.base(name))
                .unwrap();
            if std::ptr::eq(place, &holes) {
                file.set_len(long).unwrap();
            } else {
                std::os::unix::fs::FileExt::write_all_at(&file, &vec![0; long as usize], 0)
                    .unwrap();
            }
            if let Some(offset) = offset {
                std::os::unix::fs::FileExt::write_all_at(&file, b"!", offset).unwrap();
            }
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000);
            file.set_modified(time).unwrap();
        }
    }
    let mut digests = Vec::new();
    for place in [holes, zeros] {
        let sparse = std::fs::metadata(place.base("all")).unwrap().blocks() == 0;
        let b = place.open();
        b.snap("one");
        b.write("f", (2 << 20) + 5, b"x");
        b.set_len("end", (3 << 20) + 7);
        b.set_len("all", 1 << 30);
        for name in ["f", "end", "all"] {
            b.utime(name, Time::from((1000, 0)));
        }
        b.snap("two");
        let mut chain = Chain::new(Stop::default());
        for name in ["one", "two"] {
            let (id, view) = b.kept(name);
            digests.push(chain.of(&b.engine, id, &view).unwrap());
        }
        if sparse {
            assert!(
                chain.take_read() <= 6 << 20,
                "two pieces, and those that changed"
            );
        } else {
            assert!(chain.take_read() >= 27 << 20);
        }
    }
    assert_eq!(digests[..2], digests[2..]);
}

/// States whose neighbour is deleted, and an apply below them.
#[test]
fn a_chain_goes_on_when_a_link_is_gone() {
    let b = base().open();
    let mut chain = Chain::new(Stop::default());
    b.write("a", 0, b"1");
    b.snap("one");
    let (id, view) = b.kept("one");
    chain.of(&b.engine, id, &view).unwrap();
    b.write("a", 0, b"2");
    b.snap("two");
    b.engine.delete(&["one".to_owned()]).unwrap();
    let (id, view) = b.kept("two");
    assert_eq!(chain.of(&b.engine, id, &view).unwrap(), b.walked("two"));
    b.engine.apply(&mut |_, _| ()).unwrap();
    b.snap("three");
    let (id, view) = b.kept("three");
    assert_eq!(chain.of(&b.engine, id, &view).unwrap(), b.walked("three"));
}

/// At each piece of work, as long as programs asked for something a moment ago.
#[test]
fn the_thread_makes_way_for_programs() {
    let b = base().open();
    b.snap("s");
    let (id, view) = b.kept("s");
    let mut chain = Chain::new(Stop::default());
    for requests in [0, 1] {
        chain.contents = Contents::new(Stop::default());
        chain.contents.pace = Some(Pace::new());
        chain.base = None;
        for _ in 0..requests {
            b.engine.metrics().count(crate::relay::Op::Read);
        }
        assert_eq!(chain.of(&b.engine, id, &view).unwrap(), b.walked("s"));
        let rests = chain.contents.pace.as_ref().map_or(0, |pace| pace.rests);
        match requests {
            0 => assert_eq!(rests, 0),
            _ => assert!(rests > 1, "{rests}"),
        }
    }
}
