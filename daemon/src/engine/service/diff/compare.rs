//! How an object differs between two states.

use std::collections::BTreeMap;
use std::sync::Arc;

use llctl::protocol::{BytePath, Change, ChangeKind, FileType, Side};
use nix::errno::Errno;
use serde_bytes::ByteBuf;

use super::content;
use super::names::{Names, Object};
use super::pairs::Item;
use crate::engine::service::listing::nanos;
use crate::engine::{Answer, Engine};
use crate::tree::diff::Changes;
use crate::tree::{Ino, Kind, Time, Xattrs};

/// Compares objects of two states.
pub(super) struct Comparison<'a> {
    engine: &'a Engine,
    names: (&'a Names<'a>, &'a Names<'a>),
    changes: &'a Changes,
    /// Contents are read where only they can tell.
    exact: bool,
}

/// What of an object is compared, and shown.
pub(super) struct Look {
    pub kind: Kind,
    pub perm: u16,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u32,
    pub size: u64,
    pub mtime: Time,
}

impl Look {
    pub fn at(names: &Names<'_>, ino: Ino) -> Answer<Look> {
        Ok(match names.object(ino)? {
            Object::Over(i) => Look {
                kind: i.kind,
                perm: i.perm,
                uid: i.uid,
                gid: i.gid,
                rdev: i.rdev,
                size: i.size,
                mtime: i.mtime,
            },
            Object::Base(s) => Look {
                kind: s.kind,
                perm: s.perm,
                uid: s.uid,
                gid: s.gid,
                rdev: s.rdev,
                size: s.size,
                mtime: s.mtime.into(),
            },
        })
    }

    pub fn side(&self) -> Side {
        Side {
            file_type: file_type(self.kind),
            size: self.size,
            mode: u32::from(self.perm),
            uid: self.uid,
            gid: self.gid,
            mtime: nanos(self.mtime),
        }
    }
}

fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::File,
        Kind::Dir => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::Fifo,
        Kind::Socket => FileType::Socket,
        Kind::Char => FileType::CharDevice,
        Kind::Block => FileType::BlockDevice,
    }
}

impl<'a> Comparison<'a> {
    pub fn new(
        engine: &'a Engine,
        names: (&'a Names<'a>, &'a Names<'a>),
        changes: &'a Changes,
        exact: bool,
    ) -> Comparison<'a> {
        Comparison {
            engine,
            names,
            changes,
            exact,
        }
    }

    /// The change at a path; `None` if nothing differs there that anybody can see.
    pub fn change(&self, item: &Item) -> Answer<Option<Change>> {
        let Some(kind) = self.kind(item)? else {
            return Ok(None);
        };
        let look = |names, ino: Option<Ino>| ino.map(|i| Look::at(names, i)).transpose();
        Ok(Some(Change {
            path: BytePath(item.path.clone()),
            kind,
            from: item.from.clone().map(BytePath),
            old: look(self.names.0, item.old)?.map(|l| l.side()),
            new: look(self.names.1, item.new)?.map(|l| l.side()),
            patch: None,
        }))
    }

    /// What happened at a path; `None` if nothing differs there that anybody can see.
    pub fn kind(&self, item: &Item) -> Answer<Option<ChangeKind>> {
        let (a, b) = match (item.old, item.new) {
            (None, None) => return Ok(None),
            (None, Some(_)) => return Ok(Some(ChangeKind::Added)),
            (Some(_), None) => return Ok(Some(ChangeKind::Removed)),
            _ if item.from.is_some() => return Ok(Some(ChangeKind::Renamed)),
            (Some(a), Some(b)) => (a, b),
        };
        let (old, new) = (Look::at(self.names.0, a)?, Look::at(self.names.1, b)?);
        if old.kind != new.kind {
            return Ok(Some(ChangeKind::TypeChanged));
        }
        if self.content_differs((a, &old), (b, &new))? {
            return Ok(Some(ChangeKind::Modified));
        }
        if (old.perm, old.uid, old.gid) != (new.perm, new.uid, new.gid) {
            return Ok(Some(ChangeKind::Mode));
        }
        if xattrs(self.names.0, a)? != xattrs(self.names.1, b)? {
            return Ok(Some(ChangeKind::Xattrs));
        }
        // A directory's own time is an echo of what came and went in it, which is told itself if it is still to be seen.
        let echo = old.kind == Kind::Dir;
        Ok((old.mtime != new.mtime && !echo).then_some(ChangeKind::Times))
    }

    /// Whether contents, or what stands for them, differ.
    pub fn content_differs(&self, (a, old): (Ino, &Look), (b, new): (Ino, &Look)) -> Answer<bool> {
        match old.kind {
            _ if old.kind != new.kind => Ok(true),
            Kind::File if old.size != new.size => Ok(true),
            Kind::File if a == b && !self.changes.data.contains(&a) && !self.lengths_differ(a) => {
                Ok(false)
            }
            Kind::File => content::differ(
                self.engine,
                (self.names.0.view, a),
                (self.names.1.view, b),
                self.exact,
            ),
            Kind::Symlink => {
                Ok(content::target(self.names.0, a)? != content::target(self.names.1, b)?)
            }
            Kind::Char | Kind::Block => Ok(old.rdev != new.rdev),
            Kind::Dir | Kind::Fifo | Kind::Socket => Ok(false),
        }
    }

    /// A file was cut and grew again: the base's part of it is shorter, though no extent says so.
    fn lengths_differ(&self, ino: Ino) -> bool {
        let part = |names: &Names<'_>| match names.object(ino) {
            Ok(Object::Over(i)) => i.base_len.get().unwrap_or(0),
            Ok(Object::Base(s)) => s.size,
            Err(_) => 0,
        };
        part(self.names.0) != part(self.names.1)
    }
}

/// All extended attributes of an object.
pub(in crate::engine::service) fn xattrs(names: &Names<'_>, ino: Ino) -> Answer<Xattrs> {
    match names.object(ino)? {
        Object::Over(inode) => Ok(inode.xattrs.clone().unwrap_or_default()),
        Object::Base(_) => base_xattrs(names.peeks.engine, ino),
    }
}

fn base_xattrs(engine: &Engine, ino: Ino) -> Answer<Xattrs> {
    let listed = match engine.base.listxattr(ino) {
        Err(Errno::EOPNOTSUPP) => Vec::new(),
        answer => answer?,
    };
    let mut all = BTreeMap::new();
    for name in listed {
        match engine.base.getxattr(ino, &name) {
            Ok(value) => {
                all.insert(name, ByteBuf::from(value));
            }
            // As when the overlay takes an object over: what the daemon cannot read is not there.
            Err(Errno::ENODATA | Errno::EPERM | Errno::EACCES | Errno::EOPNOTSUPP) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(Arc::new(all))
}
