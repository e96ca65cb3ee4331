//! A history of all that a service does, on a simulated disk.

#[path = "../../../../tests/simdisk/mod.rs"]
pub(super) mod simdisk;

use std::collections::BTreeMap;

use llctl::protocol::{Act, Deal, OnConflict, Part, PartOf, UnixNanos};

use super::*;
use crate::base::Base;
use crate::engine::OpenError;
use crate::engine::bulk::Said;
use crate::engine::service::digest;
use crate::store::{BootToken, StoreOptions};
use simdisk::SimDisk;
use simdisk::history::options;

/// Name to inode number, links, permissions and content (a directory: nothing).
pub(super) type Tree = BTreeMap<String, (Ino, u32, u16, Vec<u8>)>;

/// All of the tree.
pub(super) fn tree(engine: &Engine) -> Tree {
    let mut all = Tree::new();
    below(engine, ROOT, "", &mut all);
    all
}

fn below(engine: &Engine, dir: Ino, path: &str, all: &mut Tree) {
    let mut found = Vec::new();
    engine
        .readdir(dir, 0, true, &mut |l| {
            if let Some(entry) = l.entry {
                found.push((String::from_utf8_lossy(l.name).into_owned(), entry.attr));
            }
            false
        })
        .unwrap();
    for (name, attr) in found {
        let path = format!("{path}{name}");
        let is_dir = attr.kind == Kind::Dir;
        let mut bytes = vec![0; if is_dir { 0 } else { attr.size as usize }];
        if is_dir {
            below(engine, attr.ino, &format!("{path}/"), all);
        } else {
            let read = engine.read(attr.ino, 0, &mut bytes, true).unwrap();
            assert_eq!(read, bytes.len(), "{path}");
        }
        let links = if is_dir { 0 } else { attr.nlink };
        all.insert(path, (attr.ino, links, attr.perm, bytes));
    }
}

/// A base for [`STEPS`].
pub(super) fn base() -> Place {
    let place = Place::new();
    place.put("a", &[b'A'; 9000]);
    place.put("dir/b", b"base");
    for name in ["old/1", "old/2", "old/3"] {
        place.put(name, name.as_bytes());
    }
    place
}

/// An engine and its service.
pub(super) struct Alive {
    pub(super) engine: Arc<Engine>,
    pub(super) host: Host,
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.engine.house.stop();
    }
}

/// Brings up what is on the disk.
pub(super) fn open(place: &Place, disk: &SimDisk, boot: BootToken) -> Result<Alive, OpenError> {
    let base = Base::open(&place.root())?;
    let path = std::path::Path::new("simulated");
    let options = StoreOptions {
        kept_bytes: 1 << 10,
        reserve_bytes: 8 << 10,
        ..options(boot)
    };
    let engine = Engine::open_on(base, Arc::new(disk.clone()), path, &options)?;
    let host = Host::new(engine.clone(), place.root(), Box::new(|| ()));
    Ok(Alive { engine, host })
}

/// What went wrong, for people.
pub(super) type Done = Result<(), String>;

/// A step: what it is called, whether it acknowledges all before it when it returns, and what it does.
pub(super) type Step = (&'static str, bool, fn(&Alive) -> Done);

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn errno(errno: nix::errno::Errno) -> String {
    errno.desc().to_owned()
}

impl Alive {
    fn find(&self, path: &str) -> Option<Ino> {
        let mut at = ROOT;
        for name in path.split('/') {
            at = self.engine.lookup(at, name.as_bytes()).unwrap()?.attr.ino;
        }
        Some(at)
    }

    fn split<'a>(&self, path: &'a str) -> (Ino, &'a [u8]) {
        match path.rsplit_once('/') {
            Some((dir, name)) => (self.find(dir).unwrap(), name.as_bytes()),
            None => (ROOT, path.as_bytes()),
        }
    }

    fn write(&self, path: &str, off: u64, byte: u8, len: usize) -> Done {
        let Some(ino) = self.find(path) else {
            return Ok(());
        };
        let bytes = vec![byte; len];
        let written = self.engine.write(ino, off, &bytes, WriteHow::default());
        written.map(drop).map_err(errno)
    }

    fn make(&self, path: &str) -> Done {
        let (parent, name) = self.split(path);
        let make = Make {
            kind: Kind::File,
            perm: 0o640,
            umask: 0,
            rdev: 0,
            target: b"",
        };
        match self.engine.make(parent, name, &make, &me()) {
            Ok(_) | Err(nix::errno::Errno::EEXIST) => Ok(()),
            Err(why) => Err(errno(why)),
        }
    }

    fn link(&self, from: &str, to: &str) -> Done {
        let (parent, name) = self.split(to);
        if self.find(to).is_some() {
            return Ok(());
        }
        let Some(ino) = self.find(from) else {
            return Ok(());
        };
        self.engine.link(ino, parent, name).map(drop).map_err(errno)
    }

    fn rename(&self, from: &str, to: &str) -> Done {
        if self.find(from).is_none() {
            return Ok(());
        }
        let ((dir, name), (new_dir, new)) = (self.split(from), self.split(to));
        (self.engine.rename(dir, name, new_dir, new, 0)).map_err(errno)
    }

    fn remove(&self, path: &str) -> Done {
        let Some(ino) = self.find(path) else {
            return Ok(());
        };
        let (parent, name) = self.split(path);
        self.engine.unlink(parent, name).map_err(errno)?;
        self.engine.forget(ino, u64::from(u32::MAX));
        Ok(())
    }

    fn snap(&self, name: &str, automatic: bool) -> Done {
        let name = SnapName::new(name).unwrap();
        let meta = SnapMeta {
            reason: automatic.then(|| "automatic".to_owned()),
            ..SnapMeta::default()
        };
        match self.host.snap(Some(&name), Some("a test"), &meta) {
            Err(failure) if failure.kind == llctl::protocol::ErrorKind::Exists => Ok(()),
            done => done.map(drop).map_err(text),
        }
    }

    fn part(&self, to: &str, glob: &str) -> Done {
        let part = Part {
            of: PartOf::To(to.parse().unwrap()),
            globs: vec![glob.to_owned()],
            there: Vec::new(),
        };
        let done = self.host.revert_part(&part, OnConflict::Revert, false);
        done.map(drop).map_err(text)
    }

    fn prune(&self) -> Done {
        let rules = llctl::config::Retention::nothing();
        self.host
            .prune(Some(&rules), true, None)
            .map(drop)
            .map_err(text)
    }

    fn note(&self) {
        let act = Act {
            at: UnixNanos::now(),
            what: Deal::Revert,
            targets: vec!["one".to_owned()],
            more: 0,
            steps: None,
            why: Some("a test".to_owned()),
            uid: 0,
            pid: 0,
            command: "test".to_owned(),
            took_us: 1,
            files: None,
            bytes: None,
            error: None,
            error_kind: None,
        };
        self.host.note(act, None, false);
    }
}

/// The rules that a step puts in force.
pub(super) const RULES: &str = "[retention]\nkeep_last = 3\n";

/// The history. A step can be done again when it failed.
pub(super) const STEPS: &[Step] = &[
    ("snap one", true, |b| b.snap("one", false)),
    ("write", false, |b| b.write("a", 100, 1, 6000)),
    ("link", false, |b| b.link("a", "dir/also")),
    ("automatic", true, |b| b.snap("auto-1", true)),
    ("write again", false, |b| b.write("dir/also", 0, 2, 5000)),
    ("rename one of two links", false, |b| {
        b.rename("dir/also", "dir/moved")
    }),
    ("a name", false, |b| b.make("new")),
    ("content", false, |b| b.write("new", 0, 3, 4000)),
    ("automatic again", true, |b| b.snap("auto-2", true)),
    ("rename onto another link of the same file", false, |b| {
        b.rename("a", "dir/moved")
    }),
    ("a part", true, |b| b.part("one", "dir")),
    ("who did it", false, |b| {
        crate::engine::on_behalf(std::process::id(), 0);
        b.write("new", 10, 4, 10)?;
        b.engine.write_authors();
        Ok(())
    }),
    ("rules", false, |b| {
        b.host.trust(RULES).map(drop).map_err(text)
    }),
    ("an act", false, |b| {
        b.note();
        Ok(())
    }),
    ("many are removed", false, |b| {
        b.engine.mark_bulk(2, Said::default());
        b.engine.grow_up();
        b.remove("old/1")
    }),
    ("one more", false, |b| b.remove("old/2")),
    ("the mark stays", true, |b| {
        b.engine.settle_marks();
        b.engine.mark_bulk(0, Said::default());
        b.engine.sync().map_err(text)
    }),
    ("a young name", false, |b| b.make("young")),
    ("one is removed", false, |b| {
        b.engine.mark_bulk(2, Said::default());
        b.engine.grow_up();
        b.remove("old/3")
    }),
    ("its mark goes", false, |b| {
        b.engine.mark_bulk(0, Said::default());
        b.engine.settle_marks();
        Ok(())
    }),
    ("checksums", false, |b| {
        digest::compute_all(&b.engine);
        Ok(())
    }),
    ("undo", true, |b| b.host.undo(1).map(drop).map_err(text)),
    ("redo", true, |b| b.host.redo(1).map(drop).map_err(text)),
    ("describe", false, |b| {
        let edit = llctl::protocol::MetaEdit {
            message: Some("said later".to_owned()),
            ..Default::default()
        };
        let name = SnapName::new("one").unwrap();
        b.host.describe(&name, &edit).map(drop).map_err(text)
    }),
    ("prune", false, |b| b.prune()),
    ("image", true, |b| b.engine.checkpoint().map_err(text)),
    ("a part of the base", true, |b| b.part("@base", "old")),
    ("delete", false, |b| {
        let name = SnapName::new("one").unwrap();
        match b.host.delete(&[name], None) {
            Err(failure) if failure.kind == llctl::protocol::ErrorKind::NotFound => Ok(()),
            done => done.map(drop).map_err(text),
        }
    }),
    ("the end", true, |b| b.engine.sync().map_err(text)),
];
