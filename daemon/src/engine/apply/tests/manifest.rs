//! Everything that can be seen of a tree, of the engine's and of a directory's.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;

use super::super::super::Engine;
use super::super::hand::Spot;
use super::super::xattr;
use super::ground::Paths;
use crate::tree::{FIRST_INO, Ino, Kind, ROOT};

/// One object as seen through one of its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub kind: Kind,
    pub perm: u32,
    pub owner: (u32, u32),
    pub nlink: u32,
    pub rdev: u32,
    /// Not of a directory.
    pub size: u64,
    pub atime: (i64, u32),
    pub mtime: (i64, u32),
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub target: Vec<u8>,
    pub content: Vec<u8>,
    /// Stretches of data, from and to, in whole blocks.
    pub data: Vec<(i64, i64)>,
    /// Its number if it is the base's; 0 for a new one, which gets another.
    pub ino: Ino,
    /// The first of its names.
    pub first: Vec<u8>,
}

pub type Manifest = BTreeMap<Vec<u8>, Seen>;

/// What the engine shows.
pub fn of_engine(engine: &Engine) -> Manifest {
    let mut all = Manifest::new();
    let mut queue = vec![(Vec::new(), ROOT)];
    while let Some((path, ino)) = queue.pop() {
        let a = engine.getattr(ino).unwrap();
        if a.kind == Kind::Dir {
            for (name, child, _) in engine.children(ino) {
                // A listing makes no number known.
                engine.lookup(ino, &name).unwrap().unwrap();
                queue.push((join(&path, &name), child));
            }
        }
        let file = a.kind == Kind::File;
        let names = engine.listxattr(ino).unwrap();
        let names = names.split(|b| *b == 0).filter(|n| !n.is_empty());
        let mut content = vec![0; if file { a.size as usize } else { 0 }];
        if file {
            assert_eq!(
                engine.read(ino, 0, &mut content, true).unwrap(),
                content.len()
            );
        }
        let seen = Seen {
            kind: a.kind,
            perm: a.perm.into(),
            owner: (a.uid, a.gid),
            nlink: a.nlink,
            rdev: a.rdev,
            size: if a.kind == Kind::Dir { 0 } else { a.size },
            atime: atime(a.kind, (a.atime.sec, a.atime.nsec)),
            mtime: (a.mtime.sec, a.mtime.nsec),
            xattrs: names
                .filter(|n| !xattr::is_shadow(n))
                .map(|n| (n.to_vec(), engine.getxattr(ino, n).unwrap()))
                .collect(),
            target: match a.kind {
                Kind::Symlink => engine.readlink(ino).unwrap(),
                _ => Vec::new(),
            },
            content,
            data: match file {
                true => stretches(|off, whence| engine.lseek(ino, off, whence)),
                false => Vec::new(),
            },
            ino,
            first: Vec::new(),
        };
        all.insert(path, seen);
    }
    grouped(all)
}

/// What a directory holds.
pub fn of_dir(root: &Path) -> Manifest {
    let mut all = Manifest::new();
    let mut queue = vec![(Vec::new(), root.to_owned())];
    while let Some((path, place)) = queue.pop() {
        let meta = fs::symlink_metadata(&place).unwrap();
        let kind = Kind::from_mode(meta.mode()).unwrap();
        if kind == Kind::Dir {
            for entry in Dir::from_fd(quiet(&place).into()).unwrap().iter() {
                let name = entry.unwrap().file_name().to_bytes().to_vec();
                if !matches!(&name[..], b"." | b"..") {
                    let below = place.join(OsStr::from_bytes(&name));
                    queue.push((join(&path, &name), below));
                }
            }
        }
        let (mut content, mut data) = (Vec::new(), Vec::new());
        if kind == Kind::File {
            let file = quiet(&place);
            content = vec![0; meta.len() as usize];
            file.read_exact_at(&mut content, 0).unwrap();
            data = stretches(|off, whence| {
                // SAFETY: lseek reads and writes no memory.
                Errno::result(unsafe { libc::lseek(file.as_raw_fd(), off, whence) })
            });
        }
        let seen = Seen {
            kind,
            perm: meta.mode() & 0o7777,
            owner: (meta.uid(), meta.gid()),
            nlink: meta.nlink() as u32,
            rdev: meta.rdev() as u32,
            size: if kind == Kind::Dir { 0 } else { meta.len() },
            atime: atime(kind, (meta.atime(), meta.atime_nsec() as u32)),
            mtime: (meta.mtime(), meta.mtime_nsec() as u32),
            xattrs: xattr::read(&spot(&place)).unwrap(),
            target: match kind {
                Kind::Symlink => fs::read_link(&place).unwrap().into_os_string().into_vec(),
                _ => Vec::new(),
            },
            content,
            data,
            ino: if path.is_empty() { ROOT } else { meta.ino() },
            first: Vec::new(),
        };
        all.insert(path, seen);
    }
    grouped(all)
}

/// A file or directory, opened so that reading it leaves no trace.
fn quiet(path: &Path) -> File {
    let mut how = OpenOptions::new();
    how.read(true).custom_flags(libc::O_NOATIME);
    how.open(path)
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn spot(path: &Path) -> Spot {
    let (dir, name) = match (path.parent(), path.file_name()) {
        (Some(dir), Some(name)) => (dir, name.as_bytes()),
        _ => (path, &b"."[..]),
    };
    let mut how = OpenOptions::new();
    let dir = how.read(true).custom_flags(libc::O_PATH).open(dir).unwrap();
    Spot::new(&std::rc::Rc::new(dir.into()), name).unwrap()
}

/// Reading a symbolic link touches its atime, which can't be avoided; that one is not compared.
fn atime(kind: Kind, time: (i64, u32)) -> (i64, u32) {
    if kind == Kind::Symlink { (0, 0) } else { time }
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() {
        return name.to_vec();
    }
    [path, b"/", name].concat()
}

fn stretches(seek: impl Fn(i64, i32) -> Result<i64, Errno>) -> Vec<(i64, i64)> {
    const B: i64 = crate::tree::BLOCK as i64;
    let mut all: Vec<(i64, i64)> = Vec::new();
    let mut at = 0;
    while let Ok(from) = seek(at, libc::SEEK_DATA) {
        // Where a block ends with zeros, the one counts them and the other does not.
        let (from, to) = (from / B * B, seek(from, libc::SEEK_HOLE).unwrap());
        let to = (to + B - 1) / B * B;
        match all.last_mut() {
            Some((_, end)) if *end == from => *end = to,
            _ => all.push((from, to)),
        }
        at = to;
    }
    all
}

/// Says which names are of one object.
fn grouped(mut all: Manifest) -> Manifest {
    let mut first: BTreeMap<Ino, Vec<u8>> = BTreeMap::new();
    for (path, seen) in &all {
        first.entry(seen.ino).or_insert_with(|| path.clone());
    }
    for seen in all.values_mut() {
        seen.first = first[&seen.ino].clone();
    }
    all
}

/// Fails with the differences; numbers of new objects don't count.
#[track_caller]
pub fn same(expected: &Manifest, found: &Manifest, when: &str) {
    let mut wrong = Vec::new();
    for path in expected
        .keys()
        .chain(found.keys().filter(|p| !expected.contains_key(*p)))
    {
        let name = path.escape_ascii();
        match (expected.get(path), found.get(path)) {
            (Some(_), None) => wrong.push(format!("{name} is missing")),
            (None, Some(_)) => wrong.push(format!("{name} should not be there")),
            (Some(e), Some(f)) => {
                let mut f = f.clone();
                if e.ino >= FIRST_INO {
                    f.ino = e.ino;
                }
                // btrfs counts no subdirectories, the engine does in its own.
                if e.kind == Kind::Dir && (f.nlink == 1 || e.nlink == 1) {
                    f.nlink = e.nlink;
                }
                if *e != f {
                    let short = |s: &Seen| Seen {
                        content: s.content.iter().copied().take(16).collect(),
                        ..s.clone()
                    };
                    let bytes = e.content.iter().zip(&f.content).position(|(a, b)| a != b);
                    let (e, f) = (short(e), short(&f));
                    wrong.push(format!(
                        "{name}: first wrong byte {bytes:?}\n  expected {e:?}\n  found    {f:?}"
                    ));
                }
            }
            (None, None) => {}
        }
    }
    assert!(wrong.is_empty(), "{when}:\n{}", wrong.join("\n"));
}
