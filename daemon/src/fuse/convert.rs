//! Between the engine's values and fuser's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, TimeOrNow};
use nix::errno::Errno;

use crate::engine::api::{Attr, Entry, SetTime};
use crate::engine::metrics;
use crate::tree::{Kind, Time};

/// How long the kernel may keep what it was told: for ever, in effect. It is told of every change that it did not make.
pub(super) const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

/// How long the kernel may keep what a name means.
pub(super) fn name_ttl(entry: &Entry) -> &'static Duration {
    match entry.lasting {
        true => &FOREVER,
        false => &Duration::ZERO,
    }
}

/// What `stat` shows as the best size for input and output, in bytes.
const BLOCK_SIZE: u32 = 4096;

pub(super) fn errno(errno: Errno) -> fuser::Errno {
    metrics::failed(errno);
    fuser::Errno::from_i32(errno as i32)
}

pub(super) fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Dir => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::Char => FileType::CharDevice,
        Kind::Block => FileType::BlockDevice,
    }
}

pub(super) fn file_attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino),
        size: attr.size,
        blocks: attr.blocks,
        atime: attr.atime.into(),
        mtime: attr.mtime.into(),
        ctime: attr.ctime.into(),
        crtime: UNIX_EPOCH,
        kind: file_type(attr.kind),
        perm: attr.perm,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: BLOCK_SIZE,
        flags: 0,
    }
}

/// The attributes of which only the inode number and the type count: of no inode at all (0) in a negative entry, and of
/// `.` and `..` in a listing.
pub(super) fn bare_attr(ino: u64, kind: Kind) -> FileAttr {
    FileAttr {
        ino: INodeNo(ino),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: file_type(kind),
        perm: 0,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK_SIZE,
        flags: 0,
    }
}

/// The time that the kernel sent.
///
/// fuser 0.18.0 makes a `SystemTime` of seconds before the epoch by taking the nanoseconds off too, instead of adding them;
/// seconds and nanoseconds as they were sent are still there, in the distance from the epoch.
pub(super) fn sent_time(sent: SystemTime) -> Time {
    match sent.duration_since(UNIX_EPOCH) {
        Ok(after) => Time {
            sec: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            nsec: after.subsec_nanos(),
        },
        Err(error) => {
            let before = error.duration();
            Time {
                sec: 0i64.saturating_sub_unsigned(before.as_secs()),
                nsec: before.subsec_nanos(),
            }
        }
    }
}

pub(super) fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(sent) => SetTime::To(sent_time(sent)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What fuser 0.18.0 makes of the time in a SETATTR.
    fn as_fuser_gives_it(sec: i64, nsec: u32) -> SystemTime {
        if sec >= 0 {
            UNIX_EPOCH + Duration::new(sec as u64, nsec)
        } else {
            UNIX_EPOCH - Duration::new(sec.unsigned_abs(), nsec)
        }
    }

    #[test]
    fn times_before_the_epoch_arrive_as_they_were_sent() {
        for (sec, nsec) in [
            (-1, 300_000_000),
            (-1, 0),
            (-86_400, 999_999_999),
            (0, 5),
            (4_000_000_000, 7),
        ] {
            assert_eq!(sent_time(as_fuser_gives_it(sec, nsec)), Time { sec, nsec });
        }
    }

    #[test]
    fn every_kind_keeps_its_type() {
        for kind in Kind::ALL {
            let mode = match file_type(kind) {
                FileType::RegularFile => libc::S_IFREG,
                FileType::Directory => libc::S_IFDIR,
                FileType::Symlink => libc::S_IFLNK,
                FileType::NamedPipe => libc::S_IFIFO,
                FileType::Socket => libc::S_IFSOCK,
                FileType::CharDevice => libc::S_IFCHR,
                FileType::BlockDevice => libc::S_IFBLK,
            };
            assert_eq!(mode, kind.to_mode());
        }
    }
}
