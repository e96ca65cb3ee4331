//! Extended attributes.

use std::sync::Arc;

use nix::errno::Errno;
use serde_bytes::ByteBuf;

use super::acl::{self, Acl};
use super::authors::Did;
use super::{Answer, Caller, Engine};
use crate::tree::{FIRST_INO, Ino, Inode};

/// File capabilities, which writing and changing the owner takes away.
pub(super) const CAPABILITY: &[u8] = b"security.capability";
/// Bytes of all attributes of an inode together; a record must hold them.
const TOTAL_MAX: usize = 1 << 20;
const CREATE: i32 = libc::XATTR_CREATE;
const REPLACE: i32 = libc::XATTR_REPLACE;

impl Engine {
    /// Sets an extended attribute; the access ACL sets the permission bits too.
    ///
    /// # Errors
    /// `EEXIST`, `ENODATA`, `EINVAL` for an ACL that is none, `ENOSPC`, or what the base says.
    pub fn setxattr(
        &self,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        flags: i32,
        who: &Caller,
    ) -> Answer<()> {
        let acl = match name {
            n if n == acl::ACCESS || n == acl::DEFAULT => {
                Some(Acl::decode(value).ok_or(Errno::EINVAL)?)
            }
            _ => None,
        };
        self.with_room(|| {
            let seed = self.seed(ino)?;
            self.change(|tx| {
                let mut inode = tx.inode(ino, &seed)?;
                let exists = inode.xattrs.as_ref().is_some_and(|x| x.contains_key(name));
                if flags & CREATE != 0 && exists {
                    return Err(Errno::EEXIST);
                }
                if flags & REPLACE != 0 && !exists {
                    return Err(Errno::ENODATA);
                }
                let mut store = true;
                if let Some(acl) = &acl
                    && name == acl::ACCESS
                {
                    inode.perm = inode.perm & !0o777 | acl.mode();
                    if who.uid != 0 && !in_group(who, inode.gid) {
                        inode.perm &= !0o2000;
                    }
                    store = !acl.is_trivial();
                }
                edit(&mut inode, |x| {
                    if store {
                        x.insert(name.to_vec(), ByteBuf::from(value));
                    } else {
                        x.remove(name);
                    }
                });
                let total: usize = inode
                    .xattrs
                    .iter()
                    .flat_map(|x| x.iter())
                    .map(|(k, v)| k.len() + v.len())
                    .sum();
                if total > TOTAL_MAX {
                    return Err(Errno::ENOSPC);
                }
                inode.ctime = tx.now;
                tx.rely(&seed);
                tx.put(ino, inode);
                Ok(())
            })?;
            self.did(ino, Did::ATTRS);
            Ok(())
        })
    }

    /// The value of an extended attribute.
    ///
    /// # Errors
    /// `ENODATA`, or what the base says.
    pub fn getxattr(&self, ino: Ino, name: &[u8]) -> Answer<Vec<u8>> {
        let _gate = self.gate.read();
        match self.inode(ino) {
            Some(inode) => value(&inode, name),
            None if ino >= FIRST_INO => self.getxattr_hidden(ino, name),
            None => self.base_xattr(ino, name),
        }
    }

    /// The names of all extended attributes, each followed by a NUL.
    ///
    /// # Errors
    /// What the base says.
    pub fn listxattr(&self, ino: Ino) -> Answer<Vec<u8>> {
        let _gate = self.gate.read();
        let names: Vec<Vec<u8>> = match self.inode(ino) {
            Some(inode) => names(&inode),
            None if ino >= FIRST_INO => self.xattrs_hidden(ino)?,
            None => self.base_xattrs(ino)?,
        };
        let mut out = Vec::new();
        for name in names {
            out.extend(name);
            out.push(0);
        }
        Ok(out)
    }

    /// The value of an attribute of an object of the base.
    pub(super) fn base_xattr(&self, ino: Ino, name: &[u8]) -> Answer<Vec<u8>> {
        match self.base.getxattr(ino, name) {
            Err(Errno::EOPNOTSUPP) => Err(Errno::ENODATA),
            answer => answer,
        }
    }

    /// The names of all attributes of an object of the base.
    pub(super) fn base_xattrs(&self, ino: Ino) -> Answer<Vec<Vec<u8>>> {
        match self.base.listxattr(ino) {
            Err(Errno::EOPNOTSUPP) => Ok(Vec::new()),
            answer => answer,
        }
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// `ENODATA`, `ENOSPC`, or what the base says.
    pub fn removexattr(&self, ino: Ino, name: &[u8]) -> Answer<()> {
        self.with_room(|| {
            let seed = self.seed(ino)?;
            self.change(|tx| {
                let mut inode = tx.inode(ino, &seed)?;
                if !inode.xattrs.as_ref().is_some_and(|x| x.contains_key(name)) {
                    return Err(Errno::ENODATA);
                }
                edit(&mut inode, |x| {
                    x.remove(name);
                });
                inode.ctime = tx.now;
                tx.rely(&seed);
                tx.put(ino, inode);
                Ok(())
            })?;
            self.did(ino, Did::ATTRS);
            Ok(())
        })
    }
}

/// The value of an attribute of an inode of the overlay.
pub(super) fn value(inode: &Inode, name: &[u8]) -> Answer<Vec<u8>> {
    let found = inode.xattrs.as_ref().and_then(|x| x.get(name));
    found.map(|v| v.to_vec()).ok_or(Errno::ENODATA)
}

/// The names of all attributes of an inode of the overlay.
pub(super) fn names(inode: &Inode) -> Vec<Vec<u8>> {
    let all = inode.xattrs.iter();
    all.flat_map(|x| x.keys().cloned()).collect()
}

/// Changes an inode's attributes; having none is `None`.
pub(super) fn edit(
    inode: &mut Inode,
    f: impl FnOnce(&mut std::collections::BTreeMap<Vec<u8>, ByteBuf>),
) {
    let mut all = inode
        .xattrs
        .take()
        .map_or_else(Default::default, Arc::unwrap_or_clone);
    f(&mut all);
    inode.xattrs = (!all.is_empty()).then(|| Arc::new(all));
}

/// Whether the caller is a member of a group, its supplementary groups included (`Groups:` of `proc_pid_status(5)`).
pub(super) fn in_group(who: &Caller, gid: u32) -> bool {
    if who.gid == gid {
        return true;
    }
    std::fs::read_to_string(format!("/proc/{}/status", who.pid))
        .ok()
        .and_then(|s| {
            let line = s.lines().find_map(|l| l.strip_prefix("Groups:"))?;
            Some(line.split_whitespace().any(|g| g.parse() == Ok(gid)))
        })
        .unwrap_or(false)
}
