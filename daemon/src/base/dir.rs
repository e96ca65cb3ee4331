//! Listing directories.

use std::os::fd::AsFd;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::Base;
use super::resolve::{open_to_read, stat_at};
use crate::tree::Kind;

/// One entry of a base directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseEntry {
    pub name: Box<[u8]>,
    /// Inode number as the directory has it. It is good for showing; only [`Base::lookup`] makes it known.
    pub ino: u64,
    pub kind: Kind,
}

impl Base {
    /// All entries of the directory `ino` except `.` and `..`, in the order in which its filesystem has them.
    ///
    /// Listing makes no place known (nobody would ever forget it): who hands out an entry's inode number
    /// as a reference looks the name up.
    ///
    /// # Errors
    /// ENOTDIR: not a directory; ESTALE: not known, or something else is there now; what `openat2` and
    /// `getdents64` give.
    pub fn list(&self, ino: u64) -> Result<Vec<BaseEntry>, Errno> {
        let dir = self.dir_fd(ino)?;
        let fd = open_to_read(dir.as_fd(), c".", OFlag::O_DIRECTORY)?;
        let mut stream = Dir::from_fd(fd)?;
        let mut entries = Vec::new();
        for entry in stream.iter() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let kind = match entry.file_type() {
                Some(kind) => kind_of(kind),
                // Not every filesystem puts types into its directories.
                None => match stat_at(dir.as_fd(), name) {
                    Ok(stat) => Kind::from_mode(stat.st_mode).ok_or(Errno::EIO)?,
                    Err(Errno::ENOENT) => continue,
                    Err(error) => return Err(error),
                },
            };
            entries.push(BaseEntry {
                name: name.to_bytes().into(),
                ino: entry.ino(),
                kind,
            });
        }
        Ok(entries)
    }
}

fn kind_of(kind: Type) -> Kind {
    match kind {
        Type::File => Kind::File,
        Type::Directory => Kind::Dir,
        Type::Symlink => Kind::Symlink,
        Type::Fifo => Kind::Fifo,
        Type::Socket => Kind::Socket,
        Type::CharacterDevice => Kind::Char,
        Type::BlockDevice => Kind::Block,
    }
}
