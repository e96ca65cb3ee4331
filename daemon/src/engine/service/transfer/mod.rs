//! Snapshots that leave the store, and such as come from another one.
//!
//! [`send`] tells a state path by path, with all that it holds, the base's part too. [`build`] makes a root of what is told, which
//! nothing but reclaim knows of; its blocks are written as those of any file. [`import`] keeps it from block to block, and
//! [`adopt`] makes snapshots of it: journaled on the side, and there all at once.

mod adopt;
mod build;
mod check;
mod import;
mod send;

pub(super) use import::{begin, block, end, give_up};
pub(super) use send::export;

pub(in crate::engine) use import::Import;
