//! The control socket: what `llctl` and other clients talk to.
//!
//! [`Service`] is what the daemon can do; the engine implements it. [`Listener`] is the bound socket, [`Server`] takes
//! connections from it and gives each its own thread. Nothing here knows trees or stores, and nothing that a client
//! sends is believed before it was checked: who it is, how long its messages are, how fast they come.
mod account;
mod answer;
mod connection;
mod listener;
mod server;
mod service;
#[cfg(test)]
mod tests;
mod watch;

pub use connection::peer_pid;
pub use listener::{BindError, Listener};
pub use server::Server;
pub use service::{Feed, Service, Sink};
