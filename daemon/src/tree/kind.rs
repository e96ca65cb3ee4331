//! What sort of object an inode is.

use serde::{Deserialize, Serialize};

/// The seven object types a directory can hold; stored as one small integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
#[repr(u8)]
pub enum Kind {
    File = 0,
    Dir = 1,
    Symlink = 2,
    Fifo = 3,
    Socket = 4,
    Char = 5,
    Block = 6,
}

/// A stored number that names no [`Kind`].
#[derive(Debug, thiserror::Error)]
#[error("{0} is not an object type")]
pub struct UnknownKind(pub u8);

impl Kind {
    /// Every kind, in the order of their stored numbers.
    pub const ALL: [Kind; 7] = [
        Kind::File,
        Kind::Dir,
        Kind::Symlink,
        Kind::Fifo,
        Kind::Socket,
        Kind::Char,
        Kind::Block,
    ];

    /// The `S_IFMT` bits of a mode word.
    pub const fn to_mode(self) -> u32 {
        match self {
            Kind::File => libc::S_IFREG,
            Kind::Dir => libc::S_IFDIR,
            Kind::Symlink => libc::S_IFLNK,
            Kind::Fifo => libc::S_IFIFO,
            Kind::Socket => libc::S_IFSOCK,
            Kind::Char => libc::S_IFCHR,
            Kind::Block => libc::S_IFBLK,
        }
    }

    /// The kind that a mode word's `S_IFMT` bits name; `None` where they name none (permission
    /// bits alone, as `mknod` may pass for a regular file, included).
    pub fn from_mode(mode: u32) -> Option<Kind> {
        Kind::ALL
            .into_iter()
            .find(|kind| kind.to_mode() == mode & libc::S_IFMT)
    }

    /// Whether the object is a directory.
    pub const fn is_dir(self) -> bool {
        matches!(self, Kind::Dir)
    }
}

impl From<Kind> for u8 {
    fn from(kind: Kind) -> u8 {
        kind as u8
    }
}

impl TryFrom<u8> for Kind {
    type Error = UnknownKind;

    fn try_from(number: u8) -> Result<Kind, UnknownKind> {
        Kind::ALL
            .get(usize::from(number))
            .copied()
            .ok_or(UnknownKind(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_keeps_its_number_and_its_mode_bits() {
        for (number, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(u8::from(kind)), number);
            assert_eq!(Kind::try_from(number as u8).unwrap(), kind);
            assert_eq!(Kind::from_mode(kind.to_mode() | 0o7777), Some(kind));
        }
        assert!(Kind::try_from(7).is_err());
        assert_eq!(Kind::from_mode(0o644), None);
    }

    #[test]
    fn one_byte_in_msgpack_and_unknown_numbers_are_refused() {
        let bytes = rmp_serde::to_vec(&Kind::Block).unwrap();
        assert_eq!(bytes, [6]);
        assert_eq!(rmp_serde::from_slice::<Kind>(&bytes).unwrap(), Kind::Block);
        assert!(rmp_serde::from_slice::<Kind>(&[9]).is_err());
    }
}
