//! The llfs daemon.

// The simulated disk of `daemon/tests` serves the tests in here too.
#[cfg(test)]
extern crate self as llfs;

pub mod base;
mod check;
pub mod control;
pub mod engine;
pub mod fuse;
pub mod relay;
pub mod store;
pub mod supervisor;
pub mod tree;
pub mod worker;
