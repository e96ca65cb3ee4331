//! Names, most of them without an allocation.

use std::fmt;

/// The longest name that is kept in place, in bytes.
const IN_PLACE: usize = 22;

/// A name as bytes, in 24 bytes of which most names need no more.
#[derive(Clone)]
pub enum ShortName {
    /// Its length, and its bytes at the front.
    InPlace(u8, [u8; IN_PLACE]),
    /// A longer one.
    Apart(Box<[u8]>),
}

impl ShortName {
    /// The empty name.
    pub const EMPTY: ShortName = ShortName::InPlace(0, [0; IN_PLACE]);

    /// The name's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            ShortName::InPlace(len, bytes) => &bytes[..usize::from(*len)],
            ShortName::Apart(bytes) => bytes,
        }
    }

    /// Bytes that are allocated for it.
    #[cfg(test)]
    pub fn apart(&self) -> usize {
        match self {
            ShortName::InPlace(..) => 0,
            ShortName::Apart(bytes) => bytes.len(),
        }
    }
}

impl PartialEq for ShortName {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for ShortName {}

impl fmt::Debug for ShortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

impl From<&[u8]> for ShortName {
    fn from(name: &[u8]) -> ShortName {
        let mut bytes = [0; IN_PLACE];
        match bytes.get_mut(..name.len()) {
            Some(front) => {
                front.copy_from_slice(name);
                ShortName::InPlace(name.len() as u8, bytes)
            }
            None => ShortName::Apart(name.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_length_come_back() {
        assert_eq!(size_of::<ShortName>(), 24);
        let all: Vec<u8> = (1..=255).collect();
        for len in 0..=all.len() {
            let name = ShortName::from(&all[..len]);
            assert_eq!(name.as_bytes(), &all[..len]);
            assert_eq!(name.apart() == 0, len <= IN_PLACE);
        }
        assert!(ShortName::EMPTY.as_bytes().is_empty());
    }
}
