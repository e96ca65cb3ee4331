//! A worker that comes after one that was killed: what the kernel holds means the same as before.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod told;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use llfs::base::Base;
use llfs::engine::{Attr, Caller, Engine, Make, OpenOptions, Terms, WriteHow};
use llfs::relay::{Asked, Op, Relay};
use llfs::tree::{Ino, Kind, ROOT};
use nix::errno::Errno;
use told::Told;

const WHO: Caller = Caller {
    uid: 0,
    gid: 0,
    pid: 0,
};

/// A base, a store, and what workers leave to each other.
struct Site {
    place: PathBuf,
    relay: Arc<Relay>,
    lock: Option<OwnedFd>,
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir_all(&self.place) {
            eprintln!("{}: {e}", self.place.display());
        }
    }
}

impl Site {
    fn new(name: &str, fill: impl FnOnce(&Path)) -> Site {
        let name = format!("llfs-recall-{name}-{}", std::process::id());
        let place = std::env::temp_dir().join(name);
        fs::create_dir_all(place.join("base")).unwrap();
        fill(&place.join("base"));
        Site {
            place,
            relay: Relay::new().unwrap(),
            lock: None,
        }
    }

    /// The next worker.
    fn worker(&mut self) -> Arc<Engine> {
        let relay = self.relay.as_fd().try_clone_to_owned().unwrap();
        self.relay = Relay::inherit(relay).unwrap();
        let base = self.place.join("base");
        let options = OpenOptions {
            base: base.clone(),
            store: self.place.join("store"),
            fresh: false,
        };
        let base = Base::from_fd(File::open(&base).unwrap().into(), &base).unwrap();
        let lock = self.lock.take();
        let (engine, lock) =
            Engine::open_as(&options, &Terms::default(), base, self.relay.clone(), lock).unwrap();
        self.lock = Some(lock);
        engine
    }
}

/// Looks everything up, as `find` would; attributes and contents by inode number.
fn walk(e: &Engine) -> BTreeMap<Ino, (Attr, Vec<u8>)> {
    let mut all = BTreeMap::new();
    let mut dirs = vec![ROOT];
    while let Some(dir) = dirs.pop() {
        let mut names = Vec::new();
        e.readdir(dir, 0, false, &mut |listed| {
            names.push(listed.name.to_vec());
            false
        })
        .unwrap();
        for name in names.iter().filter(|n| **n != b"." && **n != b"..") {
            let entry = e.lookup(dir, name).unwrap().unwrap();
            if entry.attr.kind == Kind::Dir {
                dirs.push(entry.attr.ino);
            }
            all.insert(entry.attr.ino, now(e, entry.attr.ino));
        }
    }
    all
}

/// What the kernel would get to know of an inode that it holds.
fn now(e: &Engine, ino: Ino) -> (Attr, Vec<u8>) {
    let attr = e.getattr(ino).unwrap();
    let content = match attr.kind {
        Kind::File => {
            let mut bytes = vec![0; attr.size as usize];
            let length = e.read(ino, 0, &mut bytes, true).unwrap();
            assert_eq!(length, bytes.len());
            bytes
        }
        Kind::Symlink => e.readlink(ino).unwrap(),
        _ => Vec::new(),
    };
    (attr, content)
}

fn make(e: &Engine, parent: Ino, name: &str, kind: Kind) -> Ino {
    let make = Make {
        kind,
        perm: 0o755,
        umask: 0,
        rdev: 0,
        target: b"",
    };
    e.make(parent, name.as_bytes(), &make, &WHO)
        .unwrap()
        .attr
        .ino
}

fn plant(base: &Path) {
    for dir in ["a/b/c", "a/d", "e"] {
        fs::create_dir_all(base.join(dir)).unwrap();
        for file in 0..20 {
            fs::write(base.join(dir).join(format!("f{file}")), [file; 100]).unwrap();
        }
    }
    symlink("a/b", base.join("link")).unwrap();
    fs::hard_link(base.join("e/f1"), base.join("a/hard")).unwrap();
}

fn ino_of(e: &Engine, path: &str) -> Ino {
    path.split('/').fold(ROOT, |dir, name| {
        e.lookup(dir, name.as_bytes()).unwrap().unwrap().attr.ino
    })
}

#[test]
fn what_is_held_means_the_same_to_the_next_worker() {
    let mut site = Site::new("same", plant);
    let e = site.worker();
    walk(&e);
    // Some of it changes, and an object of the base moves with what is below it.
    e.write(ino_of(&e, "a/d/f3"), 50, b"changed", WriteHow::default())
        .unwrap();
    e.rename(ino_of(&e, "a"), b"b", ROOT, b"moved", 0).unwrap();
    make(&e, ROOT, "new", Kind::Dir);
    e.unlink(ino_of(&e, "e"), b"f5").unwrap();
    let orphan = make(&e, ROOT, "orphan", Kind::File);
    e.write(orphan, 0, b"text", WriteHow::default()).unwrap();
    e.unlink(ROOT, b"orphan").unwrap();
    let mut held = walk(&e);
    held.insert(orphan, now(&e, orphan));
    for _ in 0..3 {
        drop(site.worker());
    }
    let next = site.worker();
    for (ino, before) in &held {
        assert_eq!(&now(&next, *ino), before, "inode {ino}");
    }
    // Forgotten at last, an inode without a name is gone.
    next.forget(orphan, 1000);
    drop(next);
    assert!(site.worker().getattr(orphan).is_err());
}

#[test]
fn what_an_apply_moved_is_found_wherever_it_is() {
    let mut site = Site::new("applied", plant);
    let e = site.worker();
    let (file, dir) = (ino_of(&e, "a/b/c/f7"), ino_of(&e, "e"));
    let to = make(&e, ROOT, "to", Kind::Dir);
    e.rename(ino_of(&e, "a/b/c"), b"f7", dir, b"elsewhere", 0)
        .unwrap();
    e.rename(ino_of(&e, "a"), b"d", to, b"moved", 0).unwrap();
    let below = ino_of(&e, "to/moved/f1");
    e.apply(&mut |_, _| ()).unwrap();
    let before = [file, dir, below].map(|ino| now(&e, ino));
    drop(e);
    let next = site.worker();
    assert_eq!([file, dir, below].map(|ino| now(&next, ino)), before);
}

#[test]
fn a_directory_that_was_removed_unanswered_comes_back_as_another() {
    let mut site = Site::new("removed", plant);
    let e = site.worker();
    let dir = make(&e, ROOT, "dir", Kind::Dir);
    e.snapshot(|_| "s".to_owned(), "").unwrap();
    let asked = Asked {
        unique: 2,
        op: Op::Rmdir,
        ino: ROOT,
        pid: 1,
        pooled: false,
    };
    assert!(!e.relay().begin_change(&asked));
    e.rmdir(ROOT, b"dir").unwrap();
    // As if it had been killed between the record and what follows from it.
    let relay = e.relay().clone();
    let generation = |e: &Engine| {
        let found = e.lookup(ROOT, b"dir").unwrap().unwrap();
        assert_eq!(found.attr.ino, dir);
        found.generation
    };
    relay.set_dying(dir);
    drop(e);
    let next = site.worker();
    assert!(next.relay().begin_change(&asked), "it is not known as done");
    next.revert("s").unwrap();
    assert_eq!(generation(&next), 3);
}

#[test]
fn a_revert_of_which_the_kernel_was_not_told_is_told_by_the_next_worker() {
    let mut site = Site::new("revert", plant);
    let e = site.worker();
    e.snapshot(|_| "s".to_owned(), "").unwrap();
    let file = ino_of(&e, "a/d/f3");
    e.write(file, 0, b"later", WriteHow::default()).unwrap();
    let kept = e.revert("s").unwrap().kept.unwrap();
    let relay = e.relay().clone();
    drop(e);
    relay.begin_revert(kept);
    let next = site.worker();
    let cached = WriteHow {
        cached: true,
        ..WriteHow::default()
    };
    // A page from before the revert, that the kernel still writes back.
    next.write(file, 0, b"old page", cached).unwrap();
    assert_eq!(now(&next, file).1, [3; 100]);
    next.catch_up();
    assert!(next.relay().reverting().is_none());
    next.write(file, 0, b"new page", cached).unwrap();
    assert_eq!(&now(&next, file).1[..8], b"new page");
    // One whose record was never written is none.
    next.relay().begin_revert(kept + 1);
    drop(next);
    let last = site.worker();
    last.write(file, 0, b"newer one", cached).unwrap();
    assert_eq!(&now(&last, file).1[..9], b"newer one");
    last.catch_up();
}

/// An apply moves things in the base: what the kernel knew before it is old.
#[test]
fn an_apply_of_which_the_kernel_was_not_told_is_told_by_the_next_worker() {
    let mut site = Site::new("applying", plant);
    let e = site.worker();
    let file = ino_of(&e, "a/d/f3");
    e.relay().set_applying(true);
    drop(e);
    let next = site.worker();
    let told = Told::default();
    next.attach(Box::new(told.clone()));
    next.catch_up();
    let told = told.0.lock().unwrap();
    assert!(told.0, "names");
    assert!(told.1.contains(&file) && told.1.contains(&ROOT));
    assert!(!next.relay().applying());
}

/// What a failed sync left is known to nobody, and not to the next worker either.
#[test]
fn after_a_failed_sync_the_next_worker_writes_nothing_either() {
    let mut site = Site::new("latched", plant);
    let e = site.worker();
    let file = ino_of(&e, "a/d/f3");
    e.write(file, 0, b"later", WriteHow::default()).unwrap();
    drop(e);
    site.relay.latch();
    let next = site.worker();
    let refused = next.write(file, 0, b"never", WriteHow::default());
    assert_eq!(refused.unwrap_err(), Errno::EROFS);
    assert_eq!(&now(&next, file).1[..5], b"later");
}

/// Looks a path below `.llfs` up, one name after the other.
fn old(e: &Engine, path: &str) -> Ino {
    let mut at = e.lookup(ROOT, b".llfs").unwrap().unwrap().attr.ino;
    for name in path.split('/') {
        at = e.lookup(at, name.as_bytes()).unwrap().unwrap().attr.ino;
    }
    at
}

/// What the kernel knows of an old state only is found again in the base, and its number means the same.
#[test]
fn what_is_held_of_an_old_state_is_found_again() {
    let mut site = Site::new("old", |base| {
        fs::create_dir_all(base.join("deep/er")).unwrap();
        fs::write(base.join("deep/er/file"), "content").unwrap();
        fs::write(base.join("changed"), "old").unwrap();
    });
    let e = site.worker();
    let snap = |e: &Engine, name: &str| e.snapshot(|_| name.to_owned(), "").unwrap();
    for n in 0..5 {
        snap(&e, &format!("other {n}"));
        old(&e, &format!("other {n}/changed"));
    }
    let file = e.lookup(ROOT, b"changed").unwrap().unwrap().attr.ino;
    e.write(file, 0, b"new", WriteHow::default()).unwrap();
    snap(&e, "s");
    let paths = [
        "s/deep",
        "s/deep/er",
        "s/deep/er/file",
        "s/changed",
        "other 3/changed",
    ];
    let before = paths.map(|path| {
        let ino = old(&e, path);
        (ino, now(&e, ino))
    });
    assert_eq!(before[3].1.1, b"new");
    assert_eq!(before[4].1.1, b"old");
    e.close().unwrap();
    drop(e);
    for _ in 0..2 {
        let e = site.worker();
        for (ino, seen) in &before {
            assert_eq!(&now(&e, *ino), seen);
        }
        assert_eq!(
            paths.map(|path| old(&e, path)),
            before.clone().map(|(ino, _)| ino)
        );
    }
}

/// The live tree and an old state show the same object of the base: each keeps it, whatever becomes of the other.
#[test]
fn an_object_of_the_base_is_kept_for_each_that_shows_it() {
    let mut site = Site::new("shown", |base| {
        fs::create_dir_all(base.join("dir")).unwrap();
        fs::write(base.join("dir/file"), "content").unwrap();
    });
    let e = site.worker();
    e.snapshot(|_| "s".to_owned(), "").unwrap();
    let live = |e: &Engine| {
        let dir = e.lookup(ROOT, b"dir").unwrap().unwrap().attr.ino;
        (dir, e.lookup(dir, b"file").unwrap().unwrap().attr.ino)
    };
    let (dir, file) = live(&e);
    let (old_dir, old_file) = (old(&e, "s/dir"), old(&e, "s/dir/file"));
    let most = u64::from(u32::MAX);
    e.forget(file, 1);
    e.forget(dir, 1);
    assert_eq!(now(&e, old_file).1, b"content");
    // Listed, not looked up.
    let mut listed = Vec::new();
    e.readdir(old_dir, 0, true, &mut |entry| {
        listed.extend(entry.entry.map(|found| found.attr.ino));
        false
    })
    .unwrap();
    assert_eq!(listed, [old_file]);
    let (dir, file) = live(&e);
    e.forget(old_file, most);
    e.forget(old_dir, most);
    assert_eq!(now(&e, file).1, b"content");
    e.forget(file, 1);
    e.forget(dir, 1);
    // Nobody holds any of it, and it can be found again.
    assert_eq!(now(&e, old(&e, "s/dir/file")).1, b"content");
}
