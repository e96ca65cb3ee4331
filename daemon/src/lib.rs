//! The llfs daemon.
pub mod store;
pub mod base;
pub mod tree;
pub mod engine;
pub mod fuse;
pub mod control;
pub mod supervisor;
