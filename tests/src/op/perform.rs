//! Doing operations for real.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, FallocateFlags, RenameFlags};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, UtimensatFlags};
use nix::unistd::{Gid, Uid, Whence};

use super::{Allocation, Answer, Op, Outcome, Renaming, SLOTS, Spot};
use crate::dice::pattern;
use crate::sys::{self, Mapping};

/// A real tree and the files that operations hold open in it.
#[derive(Debug)]
pub struct World {
    root: PathBuf,
    slots: [Option<Slot>; SLOTS],
}

#[derive(Debug)]
struct Slot {
    file: File,
    append: bool,
}

impl World {
    /// The tree at `root`, with nothing open. Sets this process's umask to 022.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        nix::sys::stat::umask(Mode::from_bits_truncate(0o022));
        World {
            root: root.to_path_buf(),
            slots: Default::default(),
        }
    }

    /// Closes one open file, if it is there.
    pub fn close(&mut self, slot: usize) {
        self.slots[slot] = None;
    }

    /// Closes all open files.
    pub fn close_all(&mut self) {
        self.slots = Default::default();
    }

    /// The open file of `slot`.
    #[must_use]
    pub fn file(&self, slot: usize) -> Option<&File> {
        self.slots[slot].as_ref().map(|slot| &slot.file)
    }

    fn path(&self, at: &Spot) -> PathBuf {
        at.below(&self.root)
    }

    fn open(&self, at: &Spot, options: &mut OpenOptions, flags: i32) -> Result<File, Errno> {
        // Non-blocking: a fifo must not wait for its other end.
        let flags = flags | libc::O_NOFOLLOW | libc::O_NONBLOCK;
        options
            .custom_flags(flags)
            .open(self.path(at))
            .map_err(errno)
    }

    fn slot(&self, slot: usize) -> Result<&Slot, Errno> {
        self.slots[slot].as_ref().ok_or(Errno::EBADF)
    }

    /// Does `op` and tells how it ended.
    pub fn perform(&mut self, op: &Op) -> Answer {
        match op {
            Op::Open { slot, at, append } => {
                self.slots[*slot] = None;
                let mut options = OpenOptions::new();
                options.read(true).write(!append).append(*append);
                let file = self.open(at, &mut options, 0)?;
                // Only files are worth holding: the rest is refused alike everywhere.
                if !file.metadata().map_err(errno)?.is_file() {
                    return Err(Errno::EINVAL);
                }
                self.slots[*slot] = Some(Slot {
                    file,
                    append: *append,
                });
                Ok(Outcome::Done)
            }
            Op::Close { slot } => {
                self.close(*slot);
                Ok(Outcome::Done)
            }
            Op::HandleWrite {
                slot,
                offset,
                len,
                fill,
            } => {
                let Slot { file, append } = self.slot(*slot)?;
                let bytes = pattern(*fill, *len);
                match append {
                    true => (&*file).write_all(&bytes).map_err(errno)?,
                    false => file.write_all_at(&bytes, *offset).map_err(errno)?,
                }
                Ok(Outcome::Done)
            }
            Op::HandleRead { slot, offset, len } => {
                read(&self.slot(*slot)?.file, *offset, *len).map(Outcome::Bytes)
            }
            Op::HandleTruncate { slot, size } => {
                self.slot(*slot)?.file.set_len(*size).map_err(errno)?;
                Ok(Outcome::Done)
            }
            Op::HandleStat { slot } => {
                let found = self.slot(*slot)?.file.metadata().map_err(errno)?;
                Ok(Outcome::Numbers(vec![found.size(), found.nlink()]))
            }
            Op::HandleSync { slot } => {
                self.slot(*slot)?.file.sync_all().map_err(errno)?;
                Ok(Outcome::Done)
            }
            _ => self.perform_at_path(op),
        }
    }

    fn perform_at_path(&self, op: &Op) -> Answer {
        match op {
            Op::Create {
                at,
                mode,
                exclusive,
            } => {
                let mut options = OpenOptions::new();
                options.write(true).create(true).mode(*mode);
                let flags = if *exclusive { libc::O_EXCL } else { 0 };
                self.open(at, &mut options, flags)?;
            }
            Op::Write {
                at,
                offset,
                len,
                fill,
            } => {
                let file = self.open(at, OpenOptions::new().write(true), 0)?;
                file.write_all_at(&pattern(*fill, *len), *offset)
                    .map_err(errno)?;
            }
            Op::Append { at, len, fill } => {
                let mut file = self.open(at, OpenOptions::new().append(true), 0)?;
                file.write_all(&pattern(*fill, *len)).map_err(errno)?;
            }
            Op::Empty { at } => {
                self.open(at, OpenOptions::new().write(true), libc::O_TRUNC)?;
            }
            Op::Truncate { at, size } => {
                nix::unistd::truncate(&self.path(at), size.cast_signed())?;
            }
            Op::Allocate {
                at,
                how,
                offset,
                len,
            } => {
                let file = self.open(at, OpenOptions::new().write(true), 0)?;
                let mode = match how {
                    Allocation::Plain => FallocateFlags::empty(),
                    Allocation::KeepSize => FallocateFlags::FALLOC_FL_KEEP_SIZE,
                    Allocation::Punch => {
                        FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE
                    }
                };
                nix::fcntl::fallocate(&file, mode, offset.cast_signed(), len.cast_signed())?;
            }
            Op::MapWrite {
                at,
                offset,
                len,
                fill,
            } => {
                return self.map_write(at, *offset, &pattern(*fill, *len));
            }
            Op::CopyRange {
                from,
                to,
                from_offset,
                to_offset,
                len,
            } => {
                let source = self.open(from, OpenOptions::new().read(true), 0)?;
                let target = self.open(to, OpenOptions::new().write(true), 0)?;
                return copy_range(&source, *from_offset, &target, *to_offset, *len);
            }
            Op::Read { at, offset, len } => {
                let file = self.open(at, OpenOptions::new().read(true), 0)?;
                return read(&file, *offset, *len).map(Outcome::Bytes);
            }
            Op::Holes { at } => {
                let file = self.open(at, OpenOptions::new().read(true), 0)?;
                return holes_are_zeros(&file);
            }
            Op::Readlink { at } => {
                let target = std::fs::read_link(self.path(at)).map_err(errno)?;
                return Ok(Outcome::Bytes(target.into_os_string().into_vec()));
            }
            Op::List { at } => return self.list(at),
            _ => self.perform_on_names(op)?,
        }
        Ok(Outcome::Done)
    }

    fn perform_on_names(&self, op: &Op) -> Result<(), Errno> {
        match op {
            Op::Mkdir { at, mode } => {
                nix::unistd::mkdir(&self.path(at), Mode::from_bits_truncate(*mode))
            }
            Op::Rmdir { at } => std::fs::remove_dir(self.path(at)).map_err(errno),
            Op::Unlink { at } => nix::unistd::unlink(&self.path(at)),
            Op::Rename { from, to, how } => {
                let flags = match how {
                    Renaming::Plain => RenameFlags::empty(),
                    Renaming::NoReplace => RenameFlags::RENAME_NOREPLACE,
                    Renaming::Exchange => RenameFlags::RENAME_EXCHANGE,
                };
                let (from, to) = (self.path(from), self.path(to));
                nix::fcntl::renameat2(AT_FDCWD, &from, AT_FDCWD, &to, flags)
            }
            Op::Link { from, to } => {
                let (from, to) = (self.path(from), self.path(to));
                nix::unistd::linkat(AT_FDCWD, &from, AT_FDCWD, &to, AtFlags::empty())
            }
            Op::Symlink { at, target } => {
                nix::unistd::symlinkat(target.as_slice(), AT_FDCWD, &self.path(at))
            }
            Op::Mknod { at, socket, mode } => {
                let kind = if *socket {
                    SFlag::S_IFSOCK
                } else {
                    SFlag::S_IFIFO
                };
                nix::sys::stat::mknod(&self.path(at), kind, Mode::from_bits_truncate(*mode), 0)
            }
            _ => self.perform_on_attributes(op),
        }
    }

    fn perform_on_attributes(&self, op: &Op) -> Result<(), Errno> {
        match op {
            Op::Chmod { at, mode } => {
                let path = self.path(at);
                // chmod(2) follows links; the C library refuses not to.
                if path.symlink_metadata().map_err(errno)?.is_symlink() {
                    return Err(Errno::EOPNOTSUPP);
                }
                let mode = Mode::from_bits_truncate(*mode);
                nix::sys::stat::fchmodat(AT_FDCWD, &path, mode, FchmodatFlags::FollowSymlink)
            }
            Op::Chown { at, uid, gid } => {
                let (uid, gid) = (Some(Uid::from_raw(*uid)), Some(Gid::from_raw(*gid)));
                let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
                nix::unistd::fchownat(AT_FDCWD, &self.path(at), uid, gid, flags)
            }
            Op::Utimens {
                at,
                seconds,
                nanoseconds,
            } => {
                let access = nix::sys::time::TimeSpec::UTIME_OMIT;
                let change = nix::sys::time::TimeSpec::new(*seconds, *nanoseconds);
                let flags = UtimensatFlags::NoFollowSymlink;
                nix::sys::stat::utimensat(AT_FDCWD, &self.path(at), &access, &change, flags)
            }
            Op::SetXattr {
                at,
                name,
                value,
                flags,
            } => sys::set_xattr(&self.path(at), name, value, *flags),
            Op::RemoveXattr { at, name } => sys::remove_xattr(&self.path(at), name),
            Op::SetAcl {
                at,
                default,
                permissions,
            } => {
                let path = self.path(at);
                if path.symlink_metadata().map_err(errno)?.is_symlink() {
                    return Err(Errno::EOPNOTSUPP);
                }
                let name: &[u8] = match default {
                    true => b"system.posix_acl_default",
                    false => b"system.posix_acl_access",
                };
                sys::set_xattr(&path, name, &acl(*permissions), 0)
            }
            other => unreachable!("{other:?} is done elsewhere"),
        }
    }

    fn map_write(&self, at: &Spot, offset: u64, bytes: &[u8]) -> Answer {
        let file = self.open(at, OpenOptions::new().read(true).write(true), 0)?;
        let found = file.metadata().map_err(errno)?;
        if !found.is_file() {
            return Err(Errno::EINVAL);
        }
        let size = usize::try_from(found.len()).expect("test files are small");
        let offset = usize::try_from(offset).expect("test offsets are small");
        if offset >= size || bytes.is_empty() {
            return Ok(Outcome::Done);
        }
        let mapping = Mapping::new(&file, size, true)?;
        mapping.write(offset, &bytes[..bytes.len().min(size - offset)]);
        mapping.sync()?;
        Ok(Outcome::Done)
    }

    fn list(&self, at: &Spot) -> Answer {
        let path = self.path(at);
        // read_dir would follow a link.
        if path.symlink_metadata().map_err(errno)?.is_symlink() {
            return Err(Errno::ENOTDIR);
        }
        let mut names = Vec::new();
        for entry in std::fs::read_dir(path).map_err(errno)? {
            names.push(entry.map_err(errno)?.file_name().into_vec());
        }
        names.sort();
        Ok(Outcome::Names(names))
    }
}

fn errno(error: io::Error) -> Errno {
    match error.raw_os_error() {
        Some(number) => Errno::from_raw(number),
        // write_all makes one up when a write takes nothing.
        None => Errno::EIO,
    }
}

fn read(file: &File, offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while filled < len {
        match file
            .read_at(&mut bytes[filled..], offset + filled as u64)
            .map_err(errno)?
        {
            0 => break,
            count => filled += count,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

fn copy_range(source: &File, from: u64, target: &File, to: u64, len: usize) -> Answer {
    let mut copied = 0;
    while copied < len {
        let (start, place) = (from + copied as u64, to + copied as u64);
        match sys::copy_file_range(source, start, target, place, len - copied)? {
            0 => break,
            count => copied += count,
        }
    }
    Ok(Outcome::Numbers(vec![copied as u64]))
}

/// Whatever the file calls a hole must read as zeros, and the segments must cover the file.
fn holes_are_zeros(file: &File) -> Answer {
    let found = file.metadata().map_err(errno)?;
    if !found.is_file() {
        return Err(Errno::EINVAL);
    }
    let size = found.len().cast_signed();
    let mut at = 0;
    while at < size {
        let data = match nix::unistd::lseek(file, at, Whence::SeekData) {
            Ok(data) => data,
            Err(Errno::ENXIO) => size,
            Err(error) => return Err(error),
        };
        let hole = read(file, at.cast_unsigned(), (data - at).max(0) as usize)?;
        if hole.iter().any(|&b| b != 0) || data < at {
            return Err(Errno::EILSEQ);
        }
        at = match data < size {
            true => nix::unistd::lseek(file, data, Whence::SeekHole)?,
            false => size,
        };
        if at <= data && data < size {
            return Err(Errno::EILSEQ);
        }
    }
    Ok(Outcome::Done)
}

/// The value of an ACL attribute: version 2, then (tag, permissions, id) in order of the tags.
fn acl([owner, user, group, mask, other]: [u16; 5]) -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let entries = [
        (0x01, owner, NOBODY),
        (0x02, user, 1000),
        (0x04, group, NOBODY),
        (0x10, mask, NOBODY),
        (0x20, other, NOBODY),
    ];
    let mut value = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        let tag: u16 = tag;
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    value
}
