//! A directory of the base that a revert takes away while a program stands in it: the kernel does not know that it is dead,
//! and nothing can be done in it.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;

use llfs::base::Base;
use llfs::engine::{Caller, Engine, Make, OpenOptions, Terms};
use llfs::relay::Relay;
use llfs::tree::{Ino, Kind, ROOT};
use nix::errno::Errno;

struct Site {
    place: PathBuf,
    engine: Arc<Engine>,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.engine.close().unwrap();
        fs::remove_dir_all(&self.place).unwrap();
    }
}

/// A base with `dir/inner/name`, which is the same file as `other`.
fn site(name: &str) -> Site {
    let name = format!("llfs-dead-{name}-{}", std::process::id());
    let place = std::env::temp_dir().join(name);
    let path = place.join("base");
    fs::create_dir_all(path.join("dir/inner")).unwrap();
    fs::write(path.join("other"), "text").unwrap();
    fs::hard_link(path.join("other"), path.join("dir/inner/name")).unwrap();
    let options = OpenOptions {
        base: path.clone(),
        store: place.join("store"),
        fresh: false,
    };
    let base = Base::from_fd(File::open(&path).unwrap().into(), &path).unwrap();
    let relay = Relay::new().unwrap();
    let (engine, _) = Engine::open_as(&options, &Terms::default(), base, relay, None).unwrap();
    Site { place, engine }
}

fn look(e: &Engine, parent: Ino, name: &str) -> Ino {
    let found = e.lookup(parent, name.as_bytes()).unwrap();
    found.unwrap_or_else(|| panic!("no {name}")).attr.ino
}

/// Whatever a program tries in the dead directory `inner`; the file has one name left.
fn nothing_can_be_done_in(e: &Engine, inner: Ino) {
    let who = Caller {
        uid: 0,
        gid: 0,
        pid: 0,
    };
    let make = Make {
        kind: Kind::File,
        perm: 0o644,
        umask: 0,
        rdev: 0,
        target: b"",
    };
    let other = look(e, ROOT, "other");
    assert_eq!(e.unlink(inner, b"name"), Err(Errno::ENOENT));
    assert_eq!(e.rmdir(inner, b"name"), Err(Errno::ENOENT));
    let out = e.rename(inner, b"name", ROOT, b"out", 0);
    assert_eq!(out, Err(Errno::ENOENT));
    let into = e.rename(ROOT, b"other", inner, b"into", 0);
    assert_eq!(into, Err(Errno::ENOENT));
    let linked = e.link(other, inner, b"link").map(|_| ());
    assert_eq!(linked, Err(Errno::ENOENT));
    let made = e.make(inner, b"made", &make, &who).map(|_| ());
    assert_eq!(made, Err(Errno::ENOENT));
    assert!(e.lookup(ROOT, b"out").unwrap().is_none());
    assert_eq!(e.getattr(other).unwrap().nlink, 1);
}

/// Removes `dir` and what is in it.
fn remove(e: &Engine) {
    let dir = look(e, ROOT, "dir");
    let inner = look(e, dir, "inner");
    e.unlink(inner, b"name").unwrap();
    e.rmdir(dir, b"inner").unwrap();
    e.rmdir(ROOT, b"dir").unwrap();
}

#[test]
fn nothing_can_be_done_in_a_directory_that_a_revert_took_away() {
    let site = site("held");
    let e = &site.engine;
    remove(e);
    e.snapshot(|_| "removed".to_owned(), "").unwrap();
    e.revert_base().unwrap();
    let inner = look(e, look(e, ROOT, "dir"), "inner");
    e.revert("removed").unwrap();
    nothing_can_be_done_in(e, inner);
}

/// The same when the state does not even know the directory any more: the kernel had forgotten it when it was snapped.
#[test]
fn nothing_can_be_done_in_a_directory_that_was_forgotten_before() {
    let site = site("forgotten");
    let e = &site.engine;
    remove(e);
    let all: Vec<Ino> = {
        let meta = |path: &str| {
            use std::os::unix::fs::MetadataExt;
            fs::metadata(site.place.join("base").join(path))
                .unwrap()
                .ino()
        };
        ["dir", "dir/inner", "other"].map(meta).to_vec()
    };
    for ino in &all {
        e.forget(*ino, 100);
    }
    e.snapshot(|_| "removed".to_owned(), "").unwrap();
    e.revert_base().unwrap();
    let inner = look(e, look(e, ROOT, "dir"), "inner");
    e.revert("removed").unwrap();
    nothing_can_be_done_in(e, inner);
}
