//! What of an object counts for the checksum of a state, as bytes; docs/FORMAT.md describes them.

use super::content::{Contents, Fingerprint};
use crate::engine::Answer;
use crate::engine::service::diff::{Names, Object, target, xattrs};
use crate::tree::{Ino, Kind, Time};

/// Objects that a state has, turned to bytes.
pub(super) struct Entries<'a> {
    pub contents: &'a mut Contents,
    bytes: Vec<u8>,
}

impl<'a> Entries<'a> {
    pub fn new(contents: &'a mut Contents) -> Entries<'a> {
        Entries {
            contents,
            bytes: Vec::new(),
        }
    }

    /// The object `ino` at `path`.
    ///
    /// # Errors
    /// What reading it says; `ESTALE` if the state is gone.
    pub fn of(&mut self, names: &Names<'_>, path: &[u8], ino: Ino) -> Answer<&[u8]> {
        let look = Seen::at(names, ino)?;
        let content = match look.kind {
            Kind::File => Some(self.contents.of(names, ino, look.unchanged)?),
            _ => None,
        };
        let out = &mut self.bytes;
        out.clear();
        out.push(look.kind.into());
        put(out, path);
        out.extend(look.perm.to_le_bytes());
        out.extend(look.uid.to_le_bytes());
        out.extend(look.gid.to_le_bytes());
        if look.kind != Kind::Dir {
            out.extend(look.nlink.to_le_bytes());
            out.extend(look.mtime.sec.to_le_bytes());
            out.extend(look.mtime.nsec.to_le_bytes());
        }
        if let Some(content) = content {
            out.extend(look.size.to_le_bytes());
            out.extend(content);
        }
        match look.kind {
            Kind::Symlink => put(out, &target(names, ino)?),
            Kind::Char | Kind::Block => out.extend(look.rdev.to_le_bytes()),
            _ => {}
        }
        let xattrs = xattrs(names, ino)?;
        out.extend((xattrs.len() as u32).to_le_bytes());
        for (name, value) in xattrs.iter() {
            put(out, name);
            put(out, value);
        }
        Ok(&self.bytes)
    }
}

/// Bytes after their count.
fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    // No path, attribute or target has 4 GiB.
    out.extend((bytes.len() as u32).to_le_bytes());
    out.extend(bytes);
}

/// The attributes that count.
struct Seen {
    kind: Kind,
    perm: u16,
    uid: u32,
    gid: u32,
    nlink: u32,
    rdev: u32,
    size: u64,
    mtime: Time,
    /// Of a file that is as the base has it.
    unchanged: Option<Fingerprint>,
}

impl Seen {
    fn at(names: &Names<'_>, ino: Ino) -> Answer<Seen> {
        Ok(match names.object(ino)? {
            Object::Over(i) => Seen {
                kind: i.kind,
                perm: i.perm,
                uid: i.uid,
                gid: i.gid,
                nlink: i.nlink,
                rdev: i.rdev,
                size: i.size,
                mtime: i.mtime,
                unchanged: None,
            },
            Object::Base(s) => Seen {
                kind: s.kind,
                perm: s.perm,
                uid: s.uid,
                gid: s.gid,
                nlink: s.nlink,
                rdev: s.rdev,
                size: s.size,
                mtime: s.mtime.into(),
                unchanged: Some(Fingerprint::of(&s)),
            },
        })
    }
}
