//! One file for each thing that reads bytes of others.
pub mod client;
pub mod export;
pub mod image;
pub mod journal;
pub mod layer;
pub mod names;
pub mod protocol;
pub mod server;
pub mod state;
pub mod superblock;
