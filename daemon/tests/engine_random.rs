//! Random operations through the engine, without a mount, against the same in a plain directory: answers and errnos, the
//! whole tree after every few steps, and, for what a plain directory cannot do (snapshots, reverts, undo, dying and
//! opening again), against what the engine itself showed before, in every attribute.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use llfs::engine::{Attr, Caller, Engine, Make, OpenOptions, SetAttr, WriteHow};
use llfs::tree::{Ino, Kind, ROOT};
use nix::errno::Errno;
use proptest::prelude::*;

const ROOT_USER: Caller = Caller {
    uid: 0,
    gid: 0,
    pid: 0,
};
const PATHS: &[&str] = &[
    "a", "b", "c", "d", "d/a", "d/b", "d/e", "d/e/a", "f", "f/x", "f/y", "g",
];

#[derive(Clone, Debug)]
enum Op {
    Create(usize),
    Mkdir(usize),
    Symlink(usize),
    Fifo(usize),
    Unlink(usize),
    Rmdir(usize),
    Rename(usize, usize, u32),
    Link(usize, usize),
    Write(usize, u64, usize, u8),
    Truncate(usize, u64),
    Punch(usize, u64, u64),
    Zero(usize, u64, u64, bool),
    Allocate(usize, u64, u64),
    Copy(usize, u64, usize, u64, u64),
    Chmod(usize, u16),
    Chown(usize, u32),
    Xattr(usize, u8, bool),
    Snap,
    Revert(usize),
    RevertBase,
    Undo(usize),
    Redo(usize),
    Delete(usize),
    Reopen(bool),
}

impl Op {
    fn paths(&self) -> Vec<usize> {
        match *self {
            Op::Create(p)
            | Op::Mkdir(p)
            | Op::Symlink(p)
            | Op::Fifo(p)
            | Op::Unlink(p)
            | Op::Rmdir(p) => vec![p],
            Op::Rename(a, b, _) | Op::Link(a, b) | Op::Copy(a, _, b, ..) => vec![a, b],
            Op::Write(p, ..) | Op::Truncate(p, _) | Op::Punch(p, ..) | Op::Zero(p, ..) => vec![p],
            Op::Allocate(p, ..) | Op::Chmod(p, _) | Op::Chown(p, _) | Op::Xattr(p, ..) => vec![p],
            _ => Vec::new(),
        }
    }
}

fn path() -> impl Strategy<Value = usize> {
    0..PATHS.len()
}

/// Offsets near the edges of blocks, within five of them.
fn offset() -> impl Strategy<Value = u64> {
    (0u64..6, prop_oneof![Just(0i64), -3i64..4, 0i64..4096])
        .prop_map(|(b, d)| (b as i64 * 4096 + d).max(0) as u64)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => path().prop_map(Op::Create),
        2 => path().prop_map(Op::Mkdir),
        1 => path().prop_map(Op::Symlink),
        1 => path().prop_map(Op::Fifo),
        2 => path().prop_map(Op::Unlink),
        1 => path().prop_map(Op::Rmdir),
        4 => (path(), path(), 0u32..3).prop_map(|(a, b, f)| Op::Rename(a, b, f)),
        2 => (path(), path()).prop_map(|(a, b)| Op::Link(a, b)),
        10 => (path(), offset(), 1usize..9000, any::<u8>()).prop_map(|(p, o, l, b)| Op::Write(p, o, l, b)),
        4 => (path(), offset()).prop_map(|(p, s)| Op::Truncate(p, s)),
        2 => (path(), offset(), offset()).prop_map(|(p, o, l)| Op::Punch(p, o, l + 1)),
        2 => (path(), offset(), offset(), any::<bool>()).prop_map(|(p, o, l, k)| Op::Zero(p, o, l + 1, k)),
        1 => (path(), offset(), offset()).prop_map(|(p, o, l)| Op::Allocate(p, o, l + 1)),
        2 => (path(), offset(), path(), offset(), offset()).prop_map(|(a, x, b, y, l)| Op::Copy(a, x, b, y, l + 1)),
        2 => (path(), 0u16..0o7777).prop_map(|(p, m)| Op::Chmod(p, m)),
        1 => (path(), 0u32..3).prop_map(|(p, u)| Op::Chown(p, u)),
        2 => (path(), 0u8..3, any::<bool>()).prop_map(|(p, n, s)| Op::Xattr(p, n, s)),
        3 => Just(Op::Snap),
        2 => (0usize..8).prop_map(Op::Revert),
        1 => Just(Op::RevertBase),
        2 => (1..4usize).prop_map(Op::Undo),
        2 => (1..4usize).prop_map(Op::Redo),
        1 => (0usize..8).prop_map(Op::Delete),
        2 => any::<bool>().prop_map(Op::Reopen),
    ]
}

/// A tree, path to what is there.
type Tree = BTreeMap<PathBuf, Node>;

#[derive(Clone, Debug, PartialEq)]
struct Node {
    kind: Kind,
    perm: u16,
    uid: u32,
    nlink: u32,
    content: Vec<u8>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What only the engine's own trees are compared by.
    exact: Option<(Ino, u64, String)>,
}

struct World {
    dir: PathBuf,
    plain: PathBuf,
    engine: Option<Arc<Engine>>,
    /// Names of snapshots, the engine's tree of each, and a copy of the plain directory.
    snapshots: Vec<(String, Tree, PathBuf)>,
    /// What was discarded, oldest first, and whether redo leads there and not undo.
    discarded: Vec<(bool, (Tree, PathBuf))>,
    base: (Tree, PathBuf),
    count: u32,
}

static WORLDS: AtomicU32 = AtomicU32::new(0);

impl World {
    fn new() -> World {
        let n = WORLDS.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("llfs-random-{}-{n}", std::process::id()));
        let base = dir.join("base");
        fs::create_dir_all(base.join("d/e")).unwrap();
        fs::write(base.join("a"), b"first").unwrap();
        fs::write(base.join("b"), vec![7; 10_000]).unwrap();
        fs::hard_link(base.join("b"), base.join("d/b")).unwrap();
        fs::write(base.join("d/e/a"), vec![9; 4096]).unwrap();
        let sparse = fs::File::create(base.join("d/a")).unwrap();
        sparse.set_len(20_000).unwrap();
        sparse.write_all_at(b"in the middle", 9_000).unwrap();
        symlink("nowhere", base.join("c")).unwrap();
        let mut world = World {
            plain: dir.join("plain"),
            engine: None,
            snapshots: Vec::new(),
            discarded: Vec::new(),
            base: (Tree::new(), dir.join("copy-base")),
            count: 0,
            dir,
        };
        copy(&base, &world.plain);
        copy(&base, &world.base.1);
        world.engine = Some(world.open());
        world.base.0 = world.tree();
        world
    }

    fn open(&self) -> Arc<Engine> {
        let options = OpenOptions {
            base: self.dir.join("base"),
            store: self.dir.join("store"),
            fresh: false,
        };
        Engine::open(&options).unwrap()
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().unwrap()
    }

    fn lookup(&self, path: &str) -> Result<Attr, Errno> {
        let mut attr = self.engine().getattr(ROOT)?;
        for name in path.split('/') {
            if attr.kind != Kind::Dir {
                return Err(Errno::ENOTDIR);
            }
            let found = self.engine().lookup(attr.ino, name.as_bytes())?;
            attr = found.ok_or(Errno::ENOENT)?.attr;
        }
        Ok(attr)
    }

    fn slot<'p>(&self, path: &'p str) -> Result<(Ino, &'p [u8]), Errno> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = if dir.is_empty() {
            self.engine().getattr(ROOT)?
        } else {
            self.lookup(dir)?
        };
        match parent.kind {
            Kind::Dir => Ok((parent.ino, name.as_bytes())),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn tree(&self) -> Tree {
        let mut tree = Tree::new();
        self.walk(ROOT, Path::new(""), &mut tree);
        tree
    }

    fn walk(&self, dir: Ino, at: &Path, tree: &mut Tree) {
        let e = self.engine();
        let mut names = Vec::new();
        let mut after = 0;
        loop {
            let mut some = 0;
            e.readdir(dir, after, true, &mut |l| {
                if some == 3 {
                    return true;
                }
                some += 1;
                after = l.cookie;
                if let Some(entry) = l.entry {
                    names.push((l.name.to_vec(), entry.attr));
                }
                false
            })
            .unwrap();
            if some == 0 {
                break;
            }
        }
        for (name, attr) in names {
            let path = at.join(std::ffi::OsStr::from_bytes(&name));
            assert_eq!(
                e.lookup(dir, &name).unwrap().unwrap().attr,
                attr,
                "{path:?}"
            );
            let content = match attr.kind {
                Kind::File => {
                    let mut bytes = vec![0; attr.size as usize + 10];
                    let n = e.read(attr.ino, 0, &mut bytes, true).unwrap();
                    bytes.truncate(n);
                    assert_eq!(n as u64, attr.size, "{path:?}");
                    bytes
                }
                Kind::Symlink => e.readlink(attr.ino).unwrap(),
                _ => Vec::new(),
            };
            let listed = e.listxattr(attr.ino).unwrap();
            let xattrs = listed
                .split(|b| *b == 0)
                .filter(|n| !n.is_empty())
                .map(|n| (n.to_vec(), e.getxattr(attr.ino, n).unwrap()))
                .collect();
            let exact = (
                attr.ino,
                attr.size,
                format!(
                    "{:?} {:?} {:?} {}",
                    attr.mtime, attr.ctime, attr.atime, attr.gid
                ),
            );
            let node = Node {
                kind: attr.kind,
                perm: attr.perm,
                uid: attr.uid,
                nlink: attr.nlink,
                content,
                xattrs,
                exact: Some(exact),
            };
            tree.insert(path.clone(), node);
            if attr.kind == Kind::Dir {
                self.walk(attr.ino, &path, tree);
            }
        }
    }

    fn step(&mut self, op: &Op) -> Result<(), TestCaseError> {
        let e = self.engine();
        let at = |p: &usize| self.plain.join(PATHS[*p]);
        // Following links is the kernel's business.
        let through_link = |p: &usize| {
            let parent = at(p).parent().map(Path::to_owned).unwrap_or_default();
            parent
                .ancestors()
                .take_while(|a| *a != self.plain)
                .any(Path::is_symlink)
        };
        if op.paths().iter().any(through_link) {
            return Ok(());
        }
        let c = |p: &usize| CString::new(at(p).as_os_str().as_bytes()).unwrap();
        let make = |p: &usize, kind, perm, target: &[u8]| {
            let (dir, name) = self.slot(PATHS[*p])?;
            let make = Make {
                kind,
                perm,
                umask: 0,
                rdev: 0,
                target,
            };
            e.make(dir, name, &make, &ROOT_USER).map(drop)
        };
        let file = |p: &usize| match self.lookup(PATHS[*p])? {
            a if a.kind == Kind::File => Ok(a.ino),
            a if a.kind == Kind::Dir => Err(Errno::EISDIR),
            _ => Err(Errno::EINVAL),
        };
        // What only means something for regular files is not asked of others.
        let is_file = |p: &usize| fs::symlink_metadata(at(p)).is_ok_and(|m| m.is_file());
        let io =
            |r: std::io::Result<()>| r.map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(0)));
        let open = |p: &usize| {
            fs::OpenOptions::new()
                .read(true)
                .write(true)
                .open(at(p))
                .unwrap()
        };
        let call = |r: i32| Errno::result(r).map(drop);
        let (ours, theirs) = match op {
            Op::Create(p) => (
                make(p, Kind::File, 0o644, b""),
                io(fs::OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .open(at(p))
                    .map(drop)),
            ),
            Op::Mkdir(p) => (make(p, Kind::Dir, 0o755, b""), io(fs::create_dir(at(p)))),
            Op::Symlink(p) => (
                make(p, Kind::Symlink, 0o777, b"nowhere"),
                io(symlink("nowhere", at(p))),
            ),
            Op::Fifo(p) => (
                make(p, Kind::Fifo, 0o600, b""),
                // SAFETY: the path is a C string.
                call(unsafe { libc::mkfifo(c(p).as_ptr(), 0o600) }),
            ),
            Op::Unlink(p) => {
                let ino = self.lookup(PATHS[*p]).map(|a| a.ino);
                let ours = self.slot(PATHS[*p]).and_then(|(d, n)| e.unlink(d, n));
                // Nobody has it open: the kernel forgets it at once.
                if let (Ok(()), Ok(ino)) = (ours, ino) {
                    e.forget(ino, 1 << 40);
                }
                (ours, io(fs::remove_file(at(p))))
            }
            Op::Rmdir(p) => (
                self.slot(PATHS[*p]).and_then(|(d, n)| e.rmdir(d, n)),
                io(fs::remove_dir(at(p))),
            ),
            Op::Rename(a, b, flags) => {
                // The kernel refuses to move a directory below itself before the engine is asked.
                let (from, to) = (PATHS[*a], PATHS[*b]);
                let below =
                    |x: &str, y: &str| x.strip_prefix(y).is_some_and(|r| r.starts_with('/'));
                if from == to || below(to, from) || below(from, to) {
                    return Ok(());
                }
                let ours = self.slot(from).and_then(|(d, n)| {
                    let (d2, n2) = self.slot(to)?;
                    e.rename(d, n, d2, n2, *flags)
                });
                // SAFETY: the paths are C strings.
                let theirs = call(unsafe {
                    libc::renameat2(
                        libc::AT_FDCWD,
                        c(a).as_ptr(),
                        libc::AT_FDCWD,
                        c(b).as_ptr(),
                        *flags,
                    )
                });
                (ours, theirs)
            }
            Op::Link(a, b) => {
                if fs::symlink_metadata(at(a)).is_ok_and(|m| m.is_dir()) {
                    return Ok(());
                }
                let ours = self.lookup(PATHS[*a]).and_then(|attr| {
                    let (d, n) = self.slot(PATHS[*b])?;
                    e.link(attr.ino, d, n).map(drop)
                });
                (ours, io(fs::hard_link(at(a), at(b))))
            }
            Op::Write(p, off, len, byte) if is_file(p) => {
                let data = vec![*byte; *len];
                (
                    file(p)
                        .and_then(|ino| e.write(ino, *off, &data, WriteHow::default()).map(drop)),
                    io(open(p).write_all_at(&data, *off)),
                )
            }
            Op::Truncate(p, size) if is_file(p) => {
                let set = SetAttr {
                    size: Some(*size),
                    ..SetAttr::default()
                };
                (
                    file(p).and_then(|ino| e.setattr(ino, &set, &ROOT_USER).map(drop)),
                    io(open(p).set_len(*size)),
                )
            }
            Op::Punch(p, off, len) if is_file(p) => {
                let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
                self.fallocate(p, *off, *len, mode, &open(p))
            }
            Op::Zero(p, off, len, keep) if is_file(p) => {
                let keep = if *keep { libc::FALLOC_FL_KEEP_SIZE } else { 0 };
                self.fallocate(p, *off, *len, libc::FALLOC_FL_ZERO_RANGE | keep, &open(p))
            }
            Op::Allocate(p, off, len) if is_file(p) => self.fallocate(p, *off, *len, 0, &open(p)),
            Op::Copy(a, x, b, y, len) if is_file(a) && is_file(b) => {
                let ours = file(a).and_then(|from| {
                    e.copy_file_range(from, *x, file(b)?, *y, *len, &ROOT_USER)
                        .map(drop)
                });
                let (mut x, mut y) = (*x as i64, *y as i64);
                let (from, to) = (open(a), open(b));
                use std::os::fd::AsRawFd;
                // SAFETY: the offsets live as long as the call.
                let copied = unsafe {
                    libc::copy_file_range(
                        from.as_raw_fd(),
                        &mut x,
                        to.as_raw_fd(),
                        &mut y,
                        *len as usize,
                        0,
                    )
                };
                (ours, Errno::result(copied).map(drop))
            }
            Op::Chmod(p, perm) => {
                if fs::symlink_metadata(at(p)).is_ok_and(|m| m.is_symlink()) {
                    return Ok(());
                }
                let set = SetAttr {
                    perm: Some(*perm),
                    ..SetAttr::default()
                };
                (
                    self.lookup(PATHS[*p])
                        .and_then(|a| e.setattr(a.ino, &set, &ROOT_USER).map(drop)),
                    // SAFETY: the path is a C string.
                    call(unsafe { libc::chmod(c(p).as_ptr(), u32::from(*perm)) }),
                )
            }
            Op::Chown(p, uid) => {
                let set = SetAttr {
                    uid: Some(*uid),
                    gid: Some(*uid),
                    ..SetAttr::default()
                };
                (
                    self.lookup(PATHS[*p])
                        .and_then(|a| e.setattr(a.ino, &set, &ROOT_USER).map(drop)),
                    io(std::os::unix::fs::lchown(at(p), Some(*uid), Some(*uid))),
                )
            }
            Op::Xattr(p, n, set) if is_file(p) => {
                let name = format!("user.x{n}");
                let cname = CString::new(name.clone()).unwrap();
                let ours = file(p).and_then(|ino| {
                    if *set {
                        e.setxattr(ino, name.as_bytes(), b"value", 0, &ROOT_USER)
                    } else {
                        e.removexattr(ino, name.as_bytes())
                    }
                });
                // SAFETY: the path and the name are C strings, the value is as long as said.
                let theirs = call(unsafe {
                    if *set {
                        libc::setxattr(
                            c(p).as_ptr(),
                            cname.as_ptr(),
                            c"value".as_ptr().cast(),
                            5,
                            0,
                        )
                    } else {
                        libc::removexattr(c(p).as_ptr(), cname.as_ptr())
                    }
                });
                (ours, theirs)
            }
            _ => return self.manage(op),
        };
        prop_assert_eq!(ours, theirs, "{:?}", op);
        Ok(())
    }

    fn fallocate(
        &self,
        p: &usize,
        off: u64,
        len: u64,
        mode: i32,
        theirs: &fs::File,
    ) -> (Result<(), Errno>, Result<(), Errno>) {
        use std::os::fd::AsRawFd;
        let ino = self.lookup(PATHS[*p]).unwrap().ino;
        let ours = self.engine().fallocate(ino, off, len, mode, &ROOT_USER);
        // SAFETY: plain numbers.
        let r = unsafe { libc::fallocate(theirs.as_raw_fd(), mode, off as i64, len as i64) };
        (ours, Errno::result(r).map(drop))
    }

    /// Snapshots and what belongs to them.
    fn manage(&mut self, op: &Op) -> Result<(), TestCaseError> {
        match op {
            Op::Snap => {
                self.count += 1;
                let name = format!("s{}", self.count);
                self.engine().snapshot(|_| name.clone(), "").unwrap();
                let saved = self.save();
                self.snapshots.push((name, saved.0, saved.1));
            }
            Op::Revert(n) if !self.snapshots.is_empty() => {
                let (name, tree, plain) = self.snapshots[n % self.snapshots.len()].clone();
                let saved = self.save();
                let done = self.engine().revert(&name).unwrap();
                self.discarded(saved, done.kept.is_some())?;
                self.restore(&tree, &plain)?;
            }
            Op::RevertBase => {
                let saved = self.save();
                let done = self.engine().revert_base().unwrap();
                self.discarded(saved, done.kept.is_some())?;
                let (tree, plain) = self.base.clone();
                self.restore(&tree, &plain)?;
            }
            Op::Undo(steps) | Op::Redo(steps) => {
                let redo = matches!(op, Op::Redo(_));
                let mut head = self.save();
                let done = if redo {
                    self.engine().redo(*steps)
                } else {
                    self.engine().undo(*steps)
                };
                let there = self.discarded.iter().filter(|d| d.0 == redo).count();
                prop_assert_eq!(done.is_ok(), *steps <= there);
                if *steps <= there {
                    // One step after the other comes to the same.
                    for _ in 0..*steps {
                        let top = self.discarded.iter().rposition(|d| d.0 == redo);
                        let (_, next) = self.discarded.remove(top.unwrap());
                        let old = std::mem::replace(&mut head, next);
                        self.discarded.push((!redo, old));
                    }
                    self.restore(&head.0, &head.1)?;
                }
            }
            Op::Delete(n) if !self.snapshots.is_empty() => {
                let (name, ..) = self.snapshots.remove(n % self.snapshots.len());
                self.engine().delete(&[name]).unwrap();
            }
            Op::Reopen(clean) => {
                let before = self.tree();
                let engine = self.engine.take().unwrap();
                if *clean {
                    engine.close().unwrap();
                }
                // The thread of the engine may be at work; the lock goes with the last of both.
                let gone = Arc::downgrade(&engine);
                drop(engine);
                while gone.strong_count() > 0 {
                    std::thread::yield_now();
                }
                self.engine = Some(self.open());
                prop_assert_eq!(before, self.tree(), "reopened");
            }
            _ => {}
        }
        Ok(())
    }

    /// After a revert: what there was goes to the pile of undo, and all of the pile of redo with it; if nothing differs, nothing does.
    fn discarded(&mut self, saved: (Tree, PathBuf), done: bool) -> Result<(), TestCaseError> {
        if !done {
            prop_assert_eq!(&saved.0, &self.tree());
            return Ok(());
        }
        self.discarded.push((false, saved));
        self.discarded.iter_mut().for_each(|d| d.0 = false);
        Ok(())
    }

    /// The engine's tree, and a copy of the plain directory.
    fn save(&mut self) -> (Tree, PathBuf) {
        self.count += 1;
        let to = self.dir.join(format!("copy{}", self.count));
        copy(&self.plain, &to);
        (self.tree(), to)
    }

    fn restore(&mut self, tree: &Tree, plain: &Path) -> Result<(), TestCaseError> {
        prop_assert_eq!(&self.tree(), tree);
        fs::remove_dir_all(&self.plain).unwrap();
        copy(plain, &self.plain);
        Ok(())
    }

    /// The same tree on both sides.
    fn compare(&self) -> Result<(), TestCaseError> {
        let mut ours = self.tree();
        ours.values_mut().for_each(|n| n.exact = None);
        let mut theirs = Tree::new();
        walk_plain(&self.plain, Path::new(""), &mut theirs);
        prop_assert_eq!(ours, theirs);
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.engine = None;
        if let Err(e) = fs::remove_dir_all(&self.dir) {
            eprintln!("{}: {e}", self.dir.display());
        }
    }
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp")
        .arg("-a")
        .arg("--sparse=always")
        .arg(from)
        .arg(to)
        .status()
        .unwrap();
    assert!(status.success());
}

fn walk_plain(root: &Path, at: &Path, tree: &mut Tree) {
    for entry in fs::read_dir(root.join(at)).unwrap() {
        let path = at.join(entry.unwrap().file_name());
        let full = root.join(&path);
        let m = fs::symlink_metadata(&full).unwrap();
        let kind = Kind::from_mode(m.mode()).unwrap();
        let content = match kind {
            Kind::File => fs::read(&full).unwrap(),
            Kind::Symlink => fs::read_link(&full)
                .unwrap()
                .as_os_str()
                .as_bytes()
                .to_vec(),
            _ => Vec::new(),
        };
        let mut xattrs = BTreeMap::new();
        if kind == Kind::File {
            for n in 0..3 {
                let name = CString::new(format!("user.x{n}")).unwrap();
                let c = CString::new(full.as_os_str().as_bytes()).unwrap();
                let mut value = [0u8; 64];
                // SAFETY: C strings, and a buffer as long as said.
                let len = unsafe {
                    libc::getxattr(c.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), 64)
                };
                if len >= 0 {
                    xattrs.insert(name.into_bytes(), value[..len as usize].to_vec());
                }
            }
        }
        let node = Node {
            kind,
            perm: (m.mode() & 0o7777) as u16,
            uid: m.uid(),
            nlink: m.nlink() as u32,
            content,
            xattrs,
            exact: None,
        };
        tree.insert(path.clone(), node);
        if kind == Kind::Dir {
            walk_plain(root, &path, tree);
        }
    }
}

/// Cases, more with `LLFS_CASES`.
fn cases() -> u32 {
    std::env::var("LLFS_CASES")
        .ok()
        .and_then(|c| c.parse().ok())
        .unwrap_or(40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 300, ..ProptestConfig::default() })]
    #[test]
    fn the_engine_does_what_a_plain_directory_does(ops in prop::collection::vec(op(), 1..120)) {
        let mut world = World::new();
        for (i, op) in ops.iter().enumerate() {
            world.step(op)?;
            if i % 10 == 9 {
                world.compare()?;
            }
        }
        world.compare()?;
    }
}
