//! Changing attributes.

use nix::errno::Errno;
use serde_bytes::ByteBuf;

use super::acl::{self, Acl};
use super::authors::Did;
use super::{Answer, Attr, Caller, Engine, SetAttr, SetTime, xattr};
use crate::tree::{Ino, Inode, Kind, Time};

const S_ISUID: u16 = 0o4000;
const S_ISGID: u16 = 0o2000;
const S_IXGRP: u16 = 0o010;

impl Engine {
    /// Sets attributes; a size is set first, and all together are one change.
    ///
    /// # Errors
    /// `EFBIG`, `EISDIR` and `EINVAL` for the size of what has none, `ENOSPC`, or what the base says.
    pub fn setattr(&self, ino: Ino, set: &SetAttr, who: &Caller) -> Answer<Attr> {
        self.with_room(|| match set.size {
            Some(size) => {
                self.truncate(ino, size, set, who)?;
                self.did(ino, Did::WROTE);
                self.attr(ino)
            }
            None => {
                let seed = self.seed(ino)?;
                self.change(|tx| tx.edit(ino, &seed, |inode, now| set_attr(inode, set, now)))?;
                self.did(ino, Did::ATTRS);
                self.attr(ino)
            }
        })
    }
}

/// Sets everything but the size.
pub(super) fn set_attr(inode: &mut Inode, set: &SetAttr, now: Time) {
    let chown = set.uid.is_some() || set.gid.is_some();
    let nothing = !chown
        && set.perm.is_none()
        && set.size.is_none()
        && set.atime.is_none()
        && set.mtime.is_none()
        && set.ctime.is_none();
    if chown || nothing {
        inode.uid = set.uid.unwrap_or(inode.uid);
        inode.gid = set.gid.unwrap_or(inode.gid);
        if inode.kind != Kind::Dir {
            kill_privileges(inode);
        }
    }
    if let Some(perm) = set.perm {
        inode.perm = perm;
        chmod_acl(inode);
    }
    let time = |t: SetTime| match t {
        SetTime::Now => now,
        SetTime::To(t) => t,
    };
    inode.atime = set.atime.map_or(inode.atime, time);
    inode.mtime = set.mtime.map_or(inode.mtime, time);
    inode.ctime = set.ctime.unwrap_or(now);
}

/// What a write by someone without `CAP_FSETID` takes away, and a change of owner by anyone: set-user-ID, set-group-ID
/// of what the group may execute (`setattr_should_drop_suidgid` of Linux), and file capabilities.
pub(super) fn kill_privileges(inode: &mut Inode) {
    inode.perm &= !S_ISUID;
    if inode.perm & S_IXGRP != 0 {
        inode.perm &= !S_ISGID;
    }
    kill_capability(inode);
}

/// Takes file capabilities away, as every write does.
pub(super) fn kill_capability(inode: &mut Inode) {
    if has_capability(inode) {
        xattr::edit(inode, |x| {
            x.remove(xattr::CAPABILITY);
        });
    }
}

/// Whether the file has capabilities.
pub(super) fn has_capability(inode: &Inode) -> bool {
    inode
        .xattrs
        .as_ref()
        .is_some_and(|x| x.contains_key(xattr::CAPABILITY))
}

/// Whether [`kill_privileges`] has something to do besides capabilities.
pub(super) fn has_set_id(inode: &Inode) -> bool {
    inode.perm & S_ISUID != 0 || inode.perm & (S_ISGID | S_IXGRP) == S_ISGID | S_IXGRP
}

fn chmod_acl(inode: &mut Inode) {
    let perm = inode.perm;
    let access = inode.xattrs.as_ref().and_then(|x| x.get(acl::ACCESS));
    if let Some(mut acl) = access.and_then(|bytes| Acl::decode(bytes)) {
        acl.chmod(perm);
        xattr::edit(inode, |x| {
            x.insert(acl::ACCESS.to_vec(), ByteBuf::from(acl.encode()));
        });
    }
}

/// The size of something that has none to set.
pub(super) fn check_sizable(inode: &Inode) -> Answer<()> {
    match inode.kind {
        Kind::File => Ok(()),
        Kind::Dir => Err(Errno::EISDIR),
        _ => Err(Errno::EINVAL),
    }
}
