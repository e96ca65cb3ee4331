//! Snapshots as a file: what `llctl export` writes and `llctl import` reads. docs/EXPORT.md describes it.
//!
//! [`item`]: what is told, one thing after the other, as the daemon and its client say it to each other, in blocks.
//! [`file`]: those blocks compressed, each with a checksum.

pub mod file;
pub mod item;

pub use file::{FileError, Reader, Writer};
pub use item::{Entry, Head, Item, ItemError};

/// Bytes of a block's items, at most.
pub const BLOCK_MAX: usize = 768 << 10;
/// Bytes of a file that one item tells, at most.
pub const DATA_MAX: usize = 256 << 10;
