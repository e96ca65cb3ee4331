//! Making an object's attributes those that the head has.

use std::collections::BTreeMap;

use nix::errno::Errno;
use nix::unistd::Uid;

use super::super::Answer;
use super::super::acl;
use super::hand::{Hand, Spot};
use super::xattr;
use crate::tree::{FIRST_INO, Ino, Inode, Kind, Time};

/// File capabilities, the one `security.` attribute that is the head's business and not the system's.
const CAPABILITY: &[u8] = b"security.capability";

/// Sets what differs: owner, extended attributes, mode and times, in the order in which none undoes another.
/// Changing the owner takes set-ID bits and capabilities away, so it comes first; an access ACL carries the mode's bits
/// and comes after it; the times come last, because everything else may move them.
pub(super) fn set(hand: &Hand<'_>, at: &Spot, ino: Ino, inode: &Inode) -> Answer<()> {
    let Some(stat) = at.stat()? else {
        return Err(Errno::ENOENT);
    };
    if (stat.st_uid, stat.st_gid) != (inode.uid, inode.gid) {
        hand.chown(at, inode.uid, inode.gid)?;
    }
    let is = xattr::read(at)?;
    let none = BTreeMap::new();
    let wanted = inode.xattrs.as_deref().unwrap_or(&none);
    for name in is.keys().filter(|n| !wanted.contains_key(*n)) {
        remove(hand, at, name, ino)?;
    }
    // Read again: the owner and the ACLs may have changed the mode.
    let mode = at.stat()?.map_or(0, |s| s.st_mode & 0o7777);
    if inode.kind != Kind::Symlink && mode != u32::from(inode.perm) {
        open_and(hand, at, |at| hand.chmod(at, inode.perm))?;
    }
    for (name, value) in wanted.iter().filter(|(n, _)| !xattr::is_shadow(n)) {
        let now = is.get(name).map(Vec::as_slice);
        // What chown takes away, and what chmod rewrites, is set whatever was there.
        let volatile = name == CAPABILITY || name == acl::ACCESS;
        if volatile || now != Some(value) {
            set_one(hand, at, inode, name, value)?;
        }
    }
    let time = |sec, nsec: i64| Time {
        sec,
        nsec: u32::try_from(nsec).unwrap_or(0),
    };
    let now = at.stat()?;
    let times = now.map(|s| {
        (
            time(s.st_atime, s.st_atime_nsec),
            time(s.st_mtime, s.st_mtime_nsec),
        )
    });
    if times != Some((inode.atime, inode.mtime)) {
        hand.set_times(at, Some(inode.atime), inode.mtime)?;
    }
    Ok(())
}

fn remove(hand: &Hand<'_>, at: &Spot, name: &[u8], ino: Ino) -> Answer<()> {
    let label = name.starts_with(b"security.") && name != CAPABILITY;
    // The system labels what is new; the head never had such a label.
    if label && ino >= FIRST_INO {
        return Ok(());
    }
    match hand.remove_xattr(at, name) {
        Err(Errno::ENODATA) => Ok(()),
        Err(Errno::EACCES | Errno::EPERM | Errno::EOPNOTSUPP) if label => Ok(()),
        answer => answer,
    }
}

fn set_one(hand: &Hand<'_>, at: &Spot, inode: &Inode, name: &[u8], value: &[u8]) -> Answer<()> {
    match hand.set_xattr(at, name, value) {
        // `user.` attributes need write permission, which the owner may have taken from himself.
        Err(Errno::EACCES) if inode.kind != Kind::Symlink => {
            hand.chmod(at, inode.perm | 0o200)?;
            hand.set_xattr(at, name, value)?;
            hand.chmod(at, inode.perm)
        }
        answer => answer,
    }
}

/// Tries, and if a directory's mode is in the way of its owner, opens that up and tries again.
fn open_and(hand: &Hand<'_>, at: &Spot, f: impl Fn(&Spot) -> Answer<()>) -> Answer<()> {
    use std::os::fd::AsFd;
    match f(at) {
        Err(Errno::EACCES) if hand.open_up(at.dir.as_fd())? => f(at),
        answer => answer,
    }
}

/// Whether [`set`] may do what it would have to.
pub(super) fn may_set(at: &Spot, inode: &Inode) -> Answer<bool> {
    let me = Uid::effective();
    let Some(stat) = at.stat()? else {
        return Ok(true);
    };
    if me.is_root() {
        return Ok(true);
    }
    let group = inode.gid == stat.st_gid || in_groups(inode.gid)?;
    if stat.st_uid == me.as_raw() {
        return Ok(inode.uid == stat.st_uid && group);
    }
    // Of what others own nothing can be changed, and nothing may have to be.
    let same = (inode.uid, inode.gid, u32::from(inode.perm))
        == (stat.st_uid, stat.st_gid, stat.st_mode & 0o7777)
        && (inode.mtime.sec, i64::from(inode.mtime.nsec)) == (stat.st_mtime, stat.st_mtime_nsec)
        && (inode.atime.sec, i64::from(inode.atime.nsec)) == (stat.st_atime, stat.st_atime_nsec);
    let none = BTreeMap::new();
    let wanted = inode.xattrs.as_deref().unwrap_or(&none);
    let is = xattr::read(at)?;
    Ok(same
        && is
            .iter()
            .map(|(k, v)| (k, &v[..]))
            .eq(wanted.iter().map(|(k, v)| (k, &v[..]))))
}

fn in_groups(gid: u32) -> Answer<bool> {
    let groups = nix::unistd::getgroups()?;
    Ok(nix::unistd::getegid().as_raw() == gid || groups.iter().any(|g| g.as_raw() == gid))
}
