//! Before anything is touched: what an apply will do, what it needs, and what would stop it half-way.

use std::os::fd::AsFd;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::statfs::{self, fstatfs};
use nix::unistd::Uid;

use super::super::Answer;
use super::error::{ApplyError, During, Trouble};
use super::hand::Spot;
use super::map::Map;
use super::{attrs, content, xattr};
use crate::tree::{BLOCK, Dentry, FIRST_INO, Ino, Inode, Kind};

/// Space for directory entries and the like, for each object and each name.
const PER_ITEM: u64 = 512;
/// Space that is wanted in any case.
const AT_LEAST: u64 = 1 << 20;
/// Names that one object may have; one less than what ext4 allows, as the staging area has one too.
const LINKS_MAX: u32 = 64_999;

/// What an apply does to the base directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApplyPlan {
    /// New names.
    pub added: u64,
    /// Names that go; of a directory that goes with what is in it, as many as the overlay knows of.
    pub removed: u64,
    /// Files of the base whose bytes change, and names that mean something of another type.
    pub modified: u64,
    /// Objects of the base that are elsewhere.
    pub renamed: u64,
    /// Objects of the base of which only attributes change.
    pub attributes: u64,
    /// Bytes of content that are written.
    pub bytes: u64,
    /// Bytes of free space that it needs on the base's disk.
    pub bytes_needed: u64,
    /// Bytes that are free there.
    pub bytes_free: u64,
}

/// Finds out what there is to do.
pub(super) fn plan(map: &Map<'_>) -> Result<ApplyPlan, Trouble> {
    let mut plan = ApplyPlan::default();
    let root = || map.path(crate::tree::ROOT);
    for (slot, dentry) in &map.head.dentries {
        let old = match slot.parent < FIRST_INO {
            true => occupant(map, slot).during("look at", || map.path_of(slot.at()))?,
            false => None,
        };
        match (dentry.get(), old) {
            (Dentry::Whiteout, Some(old)) if !map.names(old).is_empty() => {}
            (Dentry::Whiteout, Some(_)) => plan.removed += 1,
            (Dentry::Whiteout, None) => {}
            (Dentry::Here(ino, _), Some(old)) if ino != old => plan.modified += 1,
            (Dentry::Here(ino, _), None) if ino >= FIRST_INO => plan.added += 1,
            (Dentry::Here(..), _) => {}
        }
    }
    let in_place = overwrites(map).during("look at", root)?;
    for (ino, inode) in alive(map) {
        let bytes = content::layered(map.head, ino, inode);
        plan.bytes += bytes;
        if ino >= FIRST_INO {
            plan.bytes_needed += bytes.next_multiple_of(BLOCK);
            continue;
        }
        let names = map.names(ino).len() as u64;
        if names > 0 {
            plan.renamed += 1;
            plan.added += names - 1;
        } else {
            match differs(map, ino, inode).during("look at", || map.path(ino))? {
                Difference::Content => plan.modified += 1,
                Difference::Attributes => plan.attributes += 1,
                Difference::None => {}
            }
        }
        if bytes > 0 {
            plan.bytes_needed +=
                growth(map, ino, inode, in_place).during("look at", || map.path(ino))?;
        }
    }
    let items = map.head.dentries.len() + map.head.inodes.len();
    plan.bytes_needed += AT_LEAST + items as u64 * PER_ITEM;
    plan.bytes_free = free(map).during("look at", root)?;
    Ok(plan)
}

/// Refuses what would fail half-way, as far as that can be known.
pub(super) fn check(map: &Map<'_>, plan: &ApplyPlan) -> Result<(), ApplyError> {
    if plan.bytes_needed > plan.bytes_free {
        return Err(ApplyError::NoSpace {
            needed: plan.bytes_needed,
            free: plan.bytes_free,
        });
    }
    for (ino, inode) in alive(map) {
        let refuse = |why: String| ApplyError::Refused {
            path: map.path(ino),
            why,
        };
        if inode.kind == Kind::Dir && (map.names(ino).len() > 1 || map.is_below_itself(ino)) {
            let why = "the store is damaged: it is in two places, or below itself".to_owned();
            // Its path may have no end.
            let path = PathBuf::from(format!("the directory with number {ino}"));
            return Err(ApplyError::Refused { path, why });
        }
        if inode.kind != Kind::Dir && inode.nlink > LINKS_MAX {
            return Err(refuse(format!("more than {LINKS_MAX} hard links")));
        }
        if ino < FIRST_INO {
            let obstacle = obstacle(map, ino, inode)
                .during("look at", || map.path(ino))
                .map_err(ApplyError::Unprepared)?;
            if let Some(why) = obstacle {
                return Err(refuse(why.into()));
            }
        }
    }
    Ok(())
}

/// Inodes of the overlay that have names, here or in the base.
pub(super) fn alive<'a>(map: &Map<'a>) -> impl Iterator<Item = (Ino, &'a Inode)> {
    (map.head.inodes.iter())
        .filter(|(_, inode)| inode.nlink > 0)
        .map(|(ino, inode)| (*ino, &**inode))
}

/// What would keep a base object from being changed.
fn obstacle(map: &Map<'_>, ino: Ino, inode: &Inode) -> Answer<Option<&'static str>> {
    let Some(spot) = map.object(ino)? else {
        return Ok(Some("it is not where it was"));
    };
    if inode.kind == Kind::File && content::changed(map.head, ino, inode, map.place(ino)) {
        match spot.open(OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_NOCTTY) {
            Ok(_) => {}
            Err(Errno::ETXTBSY) => return Ok(Some("a program is running from it")),
            Err(Errno::EPERM) => return Ok(Some("it is immutable or append-only (see lsattr)")),
            Err(Errno::EROFS) => return Ok(Some("its file system is read-only")),
            // The owner can change the mode for a while.
            Err(Errno::EACCES) if owned(&spot)? => {}
            Err(Errno::EACCES) => return Ok(Some("it cannot be written by this user")),
            Err(e) => return Err(e),
        }
    }
    if locked(&spot)? {
        return Ok(Some("it is immutable or append-only (see lsattr)"));
    }
    if !attrs::may_set(&spot, inode)? {
        return Ok(Some("its attributes cannot be set by this user"));
    }
    Ok(None)
}

fn owned(spot: &Spot) -> Answer<bool> {
    let me = Uid::effective().as_raw();
    Ok(spot.stat()?.is_some_and(|s| s.st_uid == me))
}

/// Whether the object has a flag that forbids changes (`chattr`).
fn locked(spot: &Spot) -> Answer<bool> {
    use std::os::fd::AsRawFd;
    // SAFETY: statx is plain numbers, of which zero is a value.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the name is NUL-terminated and `stat` is a statx to be filled; both outlive the call.
    let done = unsafe {
        libc::statx(
            spot.dir.as_raw_fd(),
            spot.name.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT,
            libc::STATX_TYPE,
            &raw mut stat,
        )
    };
    Errno::result(done)?;
    let flags = (libc::STATX_ATTR_IMMUTABLE | libc::STATX_ATTR_APPEND) as u64;
    Ok(stat.stx_attributes & flags != 0)
}

enum Difference {
    Content,
    Attributes,
    None,
}

/// How a base object that stays where it is differs from what the head has.
fn differs(map: &Map<'_>, ino: Ino, inode: &Inode) -> Answer<Difference> {
    if inode.kind == Kind::File && content::changed(map.head, ino, inode, map.place(ino)) {
        return Ok(Difference::Content);
    }
    let Some(spot) = map.object(ino)? else {
        return Ok(Difference::None);
    };
    let Some(stat) = spot.stat()? else {
        return Ok(Difference::None);
    };
    // A directory's times tell of its entries, which are counted themselves.
    let times = inode.kind == Kind::Dir
        || (inode.mtime.sec, i64::from(inode.mtime.nsec)) == (stat.st_mtime, stat.st_mtime_nsec);
    let same = times
        && (inode.uid, inode.gid, u32::from(inode.perm))
            == (stat.st_uid, stat.st_gid, stat.st_mode & 0o7777)
        && xattr::read(&spot)?.len() == inode.xattrs.as_ref().map_or(0, |x| x.len());
    Ok(if same {
        Difference::None
    } else {
        Difference::Attributes
    })
}

/// What the base has at a slot.
fn occupant(map: &Map<'_>, slot: &crate::tree::Slot) -> Answer<Option<Ino>> {
    match map.spot(slot.at())? {
        Some(spot) => Ok(map.look(&spot)?.map(|s| s.st_ino)),
        None => Ok(None),
    }
}

fn growth(map: &Map<'_>, ino: Ino, inode: &Inode, in_place: bool) -> Answer<u64> {
    let all = content::layered(map.head, ino, inode).next_multiple_of(BLOCK);
    let Some(spot) = map.object(ino)? else {
        return Ok(all);
    };
    match spot.open(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY) {
        Ok(file) => content::growth(map.head, ino, inode, file.as_fd(), in_place),
        Err(_) => Ok(all),
    }
}

/// Whether the base's file system writes in place what it has, so that overwriting takes no space.
fn overwrites(map: &Map<'_>) -> Answer<bool> {
    let kind = fstatfs(map.root().as_fd())?.filesystem_type();
    Ok(kind == statfs::EXT4_SUPER_MAGIC || kind == statfs::TMPFS_MAGIC)
}

/// Bytes that we may still take on the base's disk: not what it keeps for root, which nobody is shown as free.
fn free(map: &Map<'_>) -> Answer<u64> {
    let fs = fstatfs(map.root().as_fd())?;
    let blocks = fs.blocks_available();
    Ok(blocks.saturating_mul(u64::try_from(fs.block_size()).unwrap_or(0)))
}
