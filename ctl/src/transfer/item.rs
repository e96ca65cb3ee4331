//! What an export tells of states.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::BLOCK_MAX;
use crate::protocol::{BytePath, SnapMeta, UnixNanos};

/// A time: seconds since 1970 and nanoseconds below a second.
pub type Time = (i64, u32);

/// One thing that is told. Those of one state are its `State`, what it has lost and what it has, and `End`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    /// A state begins.
    State(Box<Head>),
    /// The state that this one is told from has something here, and this one has not, or has something else. What is below a
    /// directory is told before it.
    Gone(BytePath),
    /// What is at a path. A directory is told before what is in it, and the root, whose path is empty, first.
    Entry(Box<Entry>),
    /// Bytes of the file that was told last, behind those that were told before; what is not told is a hole.
    Data {
        /// From this byte on, a multiple of 4096.
        at: u64,
        /// The bytes: a multiple of 4096, but at the end of the file.
        bytes: ByteBuf,
    },
    /// The state is complete.
    End,
}

/// A state as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// The snapshot's name.
    pub name: String,
    /// When it was taken.
    pub created: UnixNanos,
    /// What the user said of it.
    #[serde(default)]
    pub message: String,
    /// What else it says of itself.
    #[serde(default)]
    pub meta: SnapMeta,
    /// The checksum of the state: see docs/FORMAT.md.
    pub hash: ByteBuf,
    /// That of the state that it is told from; none: it is told whole.
    #[serde(default)]
    pub from: Option<ByteBuf>,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Where, from the root on.
    pub path: BytePath,
    /// The type: 0 file, 1 directory, 2 symbolic link, 3 pipe, 4 socket, 5 character device, 6 block device.
    pub kind: u8,
    /// Permission bits with set-ID and sticky.
    pub perm: u16,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Last read.
    pub atime: Time,
    /// Last change of the content.
    pub mtime: Time,
    /// Last change of anything.
    pub ctime: Time,
    /// Number of names; of a directory 0.
    #[serde(default)]
    pub links: u32,
    /// Length of a file in bytes.
    #[serde(default)]
    pub size: u64,
    /// Device number.
    #[serde(default)]
    pub device: u32,
    /// Target of a symbolic link.
    #[serde(default)]
    pub target: Option<ByteBuf>,
    /// Extended attributes, in the order of their names.
    #[serde(default)]
    pub xattrs: Vec<(ByteBuf, ByteBuf)>,
    /// Another name of what was told as this entry of the state, the first being 0; the rest is as it was told there.
    #[serde(default)]
    pub link: Option<u64>,
}

/// Why bytes are not items.
#[derive(Debug, thiserror::Error)]
pub enum ItemError {
    /// More than [`BLOCK_MAX`] bytes.
    #[error("a block of {0} bytes is too long")]
    TooLong(usize),
    /// They mean nothing.
    #[error("a block holds something else: {0}")]
    Decode(#[from] rmp_serde::decode::Error),
}

/// The items of a block.
///
/// # Errors
/// It is too long, or means nothing.
pub fn decode(block: &[u8]) -> Result<Vec<Item>, ItemError> {
    if block.len() > BLOCK_MAX {
        return Err(ItemError::TooLong(block.len()));
    }
    let mut items = Vec::new();
    let mut left = rmp_serde::Deserializer::new(block);
    while !left.get_ref().is_empty() {
        items.push(Item::deserialize(&mut left)?);
    }
    Ok(items)
}

/// Adds an item to a block.
///
/// # Errors
/// It cannot be encoded; a bug.
pub fn encode(item: &Item, block: &mut Vec<u8>) -> Result<(), rmp_serde::encode::Error> {
    rmp_serde::encode::write_named(block, item)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_survive_their_block() {
        let items = [
            Item::Gone("a/b".into()),
            Item::Data {
                at: 4096,
                bytes: ByteBuf::from(vec![7; 10]),
            },
            Item::End,
        ];
        let mut block = Vec::new();
        for item in &items {
            encode(item, &mut block).unwrap();
        }
        assert_eq!(decode(&block).unwrap(), items);
        for cut in [1, block.len() / 2, block.len() - 1] {
            assert!(decode(&block[..cut]).is_err(), "{cut}");
        }
        assert!(decode(&vec![0xc0; BLOCK_MAX + 1]).is_err());
    }

    proptest::proptest! {
        #[test]
        fn garbage_is_an_error_and_never_a_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            drop(decode(&bytes));
        }
    }
}
