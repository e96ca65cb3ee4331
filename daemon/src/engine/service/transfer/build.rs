//! A root, made of what is told of a state. Nothing leads to it but [`Engine::built`], which keeps its blocks.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use llctl::transfer::item::{Entry, Head};
use nix::errno::Errno;

use super::check::{self, Wrong};
use crate::engine::service::diff::{Names, Peeks};
use crate::engine::service::log::resolve;
use crate::engine::service::states::{View, Which};
use crate::engine::{Answer, Engine};
use crate::tree::{
    BLOCK, BaseLen, Delta, Dentry, FIRST_INO, Fact, Ino, Inode, InodeRef, Kind, ROOT, Root, Slot,
    Src, StateId, Time, Xattrs, numbering,
};

/// Inode numbers that are set apart at a time. No record says so: what was not used is used by the next life.
const INOS: u64 = 4096;
/// Entries of one state, at most: an entry takes 400 bytes of memory.
const ENTRIES_MAX: u64 = 50_000_000;

/// Why a state is not made.
#[derive(Debug)]
pub(super) enum Refused {
    /// What is told cannot be, at this path.
    Wrong(Vec<u8>, Wrong),
    /// The store or the base said so.
    Failed(Errno),
}

impl From<Errno> for Refused {
    fn from(errno: Errno) -> Refused {
        Refused::Failed(errno)
    }
}

/// Turns for inode numbers of what is imported.
#[derive(Default)]
pub(super) struct Inos(Range<u64>);

impl Inos {
    fn next(&mut self, engine: &Engine) -> Ino {
        let turn = self.0.next().unwrap_or_else(|| {
            let mut state = engine.state.write();
            let first = state.next_turn;
            state.next_turn = first + INOS;
            self.0 = first + 1..first + INOS;
            first
        });
        numbering::number(turn)
    }
}

/// From where a state is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// From nothing: it is told whole.
    Nothing,
    /// From a snapshot of the store.
    Kept(StateId),
    /// From the state that was told before it.
    Last,
}

/// A place in the base on which a state relies.
pub(super) type Relied = (Ino, Slot, Fact);

/// A file of which bytes are told.
struct File {
    path: Vec<u8>,
    ino: Ino,
    size: u64,
    /// Where the bytes end that were told.
    next: u64,
}

/// A file that has several names.
struct Linked {
    ino: Ino,
    kind: Kind,
    /// Names that it is to have.
    links: u32,
    told: u32,
}

/// A state in the making.
pub(super) struct Building {
    pub head: Box<Head>,
    pub from: Origin,
    pub root: Root,
    /// What it relies on of the base.
    pub relied: Vec<Relied>,
    /// The directories of these that were asked for.
    asked: HashSet<Ino>,
    /// Directories that were told.
    dirs: HashMap<Vec<u8>, Ino>,
    file: Option<File>,
    linked: HashMap<u64, Linked>,
    count: u64,
}

impl Building {
    /// Begins with what a state is.
    ///
    /// # Errors
    /// What the base says.
    pub fn new(engine: &Engine, head: Box<Head>, from: Origin, root: Root) -> Answer<Building> {
        let mut building = Building {
            head,
            from,
            root,
            relied: Vec::new(),
            asked: HashSet::new(),
            dirs: HashMap::new(),
            file: None,
            linked: HashMap::new(),
            count: 0,
        };
        if from == Origin::Nothing {
            // The base's own names mean nothing here.
            for entry in engine.base.list(ROOT)? {
                let slot = Slot::new(ROOT, &entry.name);
                building.root.dentries.insert(slot, Dentry::Whiteout.into());
            }
        }
        Ok(building)
    }

    /// It as a state that can be looked at.
    pub fn view(&self) -> View {
        View {
            which: Which::Base,
            root: self.root.clone(),
            name: self.head.name.clone(),
        }
    }

    /// Takes in what is at a path.
    pub fn entry(&mut self, engine: &Engine, inos: &mut Inos, entry: Entry) -> Result<(), Refused> {
        let path = entry.path.0.clone();
        let wrong = |what: Wrong| Refused::Wrong(path.clone(), what);
        let refused = |what: &str| Err(wrong(what.to_owned()));
        let kind = check::entry(&entry).map_err(wrong)?;
        let names = check::names(&path).map_err(wrong)?;
        self.file = None;
        if self.count == ENTRIES_MAX {
            return refused("there are too many files");
        }
        let number = self.count;
        self.count += 1;
        let Some((name, above)) = names.split_last() else {
            if kind != Kind::Dir {
                return refused("the root is no directory");
            }
            self.own(engine, ROOT)?;
            self.set(ROOT, &entry)?;
            if self.from == Origin::Nothing
                && let Some(root) = self.root.inodes.get_mut(&ROOT)
            {
                // None of the directories that the base has in it counts.
                InodeRef::make_mut(root).nlink = 2;
            }
            self.dirs.insert(Vec::new(), ROOT);
            return Ok(());
        };
        // What it looks at of the base stays known until it is relied on.
        let peeks = Peeks::new(engine);
        let Some(parent) = self.dir(&peeks, &above.join(&b'/'))? else {
            return refused("there is no such directory");
        };
        let slot = Slot::new(parent, name);
        if let Some((there, was)) = self.meaning(&peeks, &slot)? {
            if self.from == Origin::Nothing {
                return refused("it is told twice");
            }
            if (was, kind) == (Kind::Dir, Kind::Dir) {
                self.own(engine, there)?;
                self.set(there, &entry)?;
                self.dirs.insert(path, there);
                return Ok(());
            }
            self.gone(engine, &path)?;
        }
        self.rely(engine, parent)?;
        if let Some(first) = entry.link {
            let Some(linked) = self.linked.get_mut(&first) else {
                return refused("there is no such file to link to");
            };
            if linked.kind != kind || linked.told == linked.links {
                return refused("it is no name of that file");
            }
            linked.told += 1;
            let ino = linked.ino;
            return Ok(self.apply(&Delta::Link { slot, ino, kind })?);
        }
        let ino = inos.next(engine);
        let inode = inode(&entry, kind);
        self.apply(&Delta::Inode(ino, Box::new(inode)))?;
        self.apply(&Delta::Link { slot, ino, kind })?;
        match kind {
            Kind::Dir => {
                self.count_dir(engine, parent, 1)?;
                self.dirs.insert(path, ino);
            }
            Kind::File => {
                self.file = Some(File {
                    path,
                    ino,
                    size: entry.size,
                    next: 0,
                });
            }
            _ => {}
        }
        if entry.links > 1 {
            let (links, told) = (entry.links, 1);
            let linked = Linked {
                ino,
                kind,
                links,
                told,
            };
            self.linked.insert(number, linked);
        }
        Ok(())
    }

    /// Takes in bytes of the file that was told last. `others` are the roots that were built before this one.
    pub fn data(
        &mut self,
        engine: &Engine,
        others: &[Root],
        at: u64,
        bytes: &[u8],
    ) -> Result<(), Refused> {
        let Some(file) = &mut self.file else {
            let what = "there are bytes of no file".to_owned();
            return Err(Refused::Wrong(Vec::new(), what));
        };
        check::data(at, bytes, file.next, file.size)
            .map_err(|what| Refused::Wrong(file.path.clone(), what))?;
        file.next = at + bytes.len() as u64;
        let (ino, blocks) = (file.ino, (bytes.len() as u64).div_ceil(BLOCK));
        let root = &mut self.root;
        // The gate is held in there: a block that was handed out is referred to before a seal or a reclaim.
        engine.with_room(|| {
            let layer = engine.target().layer;
            let block = engine.alloc(layer, blocks)?;
            engine.put_bytes(layer, u64::from(block) * BLOCK, bytes)?;
            let to = Some(Src::Layer { layer, block });
            let (from, len) = (at / BLOCK, blocks);
            root.apply(&Delta::Map { ino, from, len, to })
                .map_err(|_| Errno::EIO)?;
            *engine.built.lock() = others.iter().chain([&*root]).cloned().collect();
            Ok(())
        })?;
        Ok(())
    }

    /// Takes away what is at a path.
    pub fn gone(&mut self, engine: &Engine, path: &[u8]) -> Result<(), Refused> {
        let wrong = |what: &str| Err(Refused::Wrong(path.to_vec(), what.to_owned()));
        self.file = None;
        let names = check::names(path).map_err(|what| Refused::Wrong(path.to_vec(), what))?;
        let Some((name, above)) = names.split_last() else {
            return wrong("the root cannot be gone");
        };
        let peeks = Peeks::new(engine);
        let Some(parent) = self.dir(&peeks, &above.join(&b'/'))? else {
            return wrong("there is no such directory");
        };
        let slot = Slot::new(parent, name);
        let Some((ino, kind)) = self.meaning(&peeks, &slot)? else {
            return wrong("it was not there");
        };
        if kind == Kind::Dir {
            if !self.is_empty(&peeks, ino)? {
                return wrong("something is still in it");
            }
            self.dirs.remove(path);
            self.count_dir(engine, parent, -1)?;
        }
        self.rely(engine, parent)?;
        let delta = match engine.probe(parent, name)?.0 {
            Some(_) => Delta::Hide(slot),
            None => Delta::Clear(slot),
        };
        self.apply(&delta)?;
        let left = self.root.inodes.get_mut(&ino).map(|inode| {
            let inode = InodeRef::make_mut(inode);
            inode.nlink = match kind {
                Kind::Dir => 0,
                _ => inode.nlink.saturating_sub(1),
            };
            inode.nlink
        });
        if left == Some(0) {
            self.root.inodes.remove(&ino);
            crate::tree::extent::remove_all(&mut self.root.extents, ino);
        }
        Ok(())
    }

    fn apply(&mut self, delta: &Delta) -> Answer<()> {
        self.root.apply(delta).map_err(|error| {
            tracing::error!(%error, "an import made a state that cannot be");
            Errno::EIO
        })
    }

    /// What a name means so far.
    fn meaning(&self, peeks: &Peeks<'_>, slot: &Slot) -> Answer<Option<(Ino, Kind)>> {
        Names::new(peeks, &self.view()).meaning(slot)
    }

    fn is_empty(&self, peeks: &Peeks<'_>, dir: Ino) -> Answer<bool> {
        Ok(Names::new(peeks, &self.view()).children(dir)?.is_empty())
    }

    /// The directory at a path.
    fn dir(&self, peeks: &Peeks<'_>, path: &[u8]) -> Answer<Option<Ino>> {
        if let Some(ino) = self.dirs.get(path) {
            return Ok(Some(*ino));
        }
        if self.from == Origin::Nothing {
            return Ok(None);
        }
        let found = resolve(&Names::new(peeks, &self.view()), path)?;
        Ok(found.filter(|(_, kind)| *kind == Kind::Dir).map(|f| f.0))
    }

    /// Takes an inode of the base into the root.
    fn own(&mut self, engine: &Engine, ino: Ino) -> Answer<()> {
        self.rely(engine, ino)?;
        if ino < FIRST_INO && self.root.inode(ino).is_none() {
            let inode = engine.base_inode(ino)?;
            self.apply(&Delta::Inode(ino, Box::new(inode)))?;
        }
        Ok(())
    }

    /// Notes that the state relies on a directory of the base.
    fn rely(&mut self, engine: &Engine, dir: Ino) -> Answer<()> {
        if (ROOT + 1..FIRST_INO).contains(&dir) && self.asked.insert(dir) {
            let stat = engine.base.stat(dir)?;
            self.relied.extend(engine.places(dir, &stat)?);
        }
        Ok(())
    }

    /// Gives a directory that is there the attributes that are told.
    fn set(&mut self, ino: Ino, entry: &Entry) -> Answer<()> {
        let there = self.root.inodes.get_mut(&ino).ok_or(Errno::ESTALE)?;
        let there = InodeRef::make_mut(there);
        let told = inode(entry, Kind::Dir);
        (there.perm, there.uid, there.gid) = (told.perm, told.uid, told.gid);
        (there.atime, there.mtime, there.ctime) = (told.atime, told.mtime, told.ctime);
        there.xattrs = told.xattrs;
        Ok(())
    }

    /// A directory has one more in it, or one less.
    fn count_dir(&mut self, engine: &Engine, dir: Ino, more: i32) -> Answer<()> {
        self.own(engine, dir)?;
        let there = self.root.inodes.get_mut(&dir).ok_or(Errno::ESTALE)?;
        let there = InodeRef::make_mut(there);
        there.nlink = there.nlink.saturating_add_signed(more).max(2);
        Ok(())
    }
}

fn inode(entry: &Entry, kind: Kind) -> Inode {
    let xattrs = entry.xattrs.iter();
    let xattrs: std::collections::BTreeMap<_, _> = xattrs
        .map(|(name, value)| (name.to_vec(), value.clone()))
        .collect();
    let target = entry.target.as_ref();
    Inode {
        kind,
        perm: entry.perm,
        uid: entry.uid,
        gid: entry.gid,
        nlink: match kind {
            Kind::Dir => 2,
            _ => entry.links,
        },
        rdev: entry.device,
        size: match (kind, target) {
            (Kind::Dir, _) => BLOCK,
            (_, Some(target)) => target.len() as u64,
            _ => entry.size,
        },
        atime: Time::from(entry.atime),
        mtime: Time::from(entry.mtime),
        ctime: Time::from(entry.ctime),
        base_len: BaseLen::NONE,
        layered: 0,
        covered: 0,
        home: None,
        xattrs: (!xattrs.is_empty()).then(|| Xattrs::new(xattrs)),
        target: target.map(|target| Arc::new(target.to_vec().into_boxed_slice())),
    }
}
