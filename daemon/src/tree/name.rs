//! File names: bytes, shared between the entry that holds one and the inode that remembers it.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use equivalent::{Comparable, Equivalent};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use triomphe::ThinArc;

use super::Ino;

/// The longest name that a directory entry may have, in bytes (`NAME_MAX`, `linux/limits.h`).
pub const NAME_MAX: usize = 255;

/// A directory entry's name: any bytes but NUL and `/`, cheap to clone. One pointer: each changed file has two, in maps whose
/// nodes stay half empty.
#[derive(Clone)]
pub struct Name(ThinArc<(), u8>);

impl Name {
    /// The name's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0.slice
    }
}

impl From<&[u8]> for Name {
    fn from(bytes: &[u8]) -> Self {
        Name(ThinArc::from_header_and_slice((), bytes))
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Name {}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        serde_bytes::Bytes::new(self.as_bytes()).serialize(s)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let bytes = serde_bytes::ByteBuf::deserialize(d)?;
        Ok(Name::from(bytes.as_slice()))
    }
}

/// Where an entry is: a directory and a name in it. Sorted so that a directory's entries lie together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot {
    /// The directory.
    pub parent: Ino,
    /// The name in it.
    pub name: Name,
}

impl Slot {
    /// The slot `name` of the directory `parent`.
    pub fn new(parent: Ino, name: &[u8]) -> Self {
        Slot {
            parent,
            name: name.into(),
        }
    }

    /// The same slot, borrowed.
    pub fn at(&self) -> At<'_> {
        At(self.parent, self.name.as_bytes())
    }
}

/// A borrowed [`Slot`], for looking one up without allocating.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At<'a>(pub Ino, pub &'a [u8]);

impl Equivalent<Slot> for At<'_> {
    fn equivalent(&self, slot: &Slot) -> bool {
        self.0 == slot.parent && self.1 == slot.name.as_bytes()
    }
}

impl Comparable<Slot> for At<'_> {
    fn compare(&self, slot: &Slot) -> Ordering {
        (self.0, self.1).cmp(&(slot.parent, slot.name.as_bytes()))
    }
}
