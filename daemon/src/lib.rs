//! The llfs daemon.
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
