//! What `llfs` and its clients say to each other, and a typed client to say it with.
//!
//! * [`protocol`]: the messages, each field documented.
//! * [`codec`]: how a message becomes bytes on the control socket.
//! * [`locate`]: from a directory to the mount that holds it, and from a mount to its socket.
//! * [`client`]: a blocking client with one method a request.
//! * [`git`]: what a git repository has checked out, without running git.
//! * [`name`]: snapshot names and references to states, validated in one place for both sides.
//! * [`man`]: manual pages.
//! * [`moment`]: points in time as users name them.
//! * [`hook`]: agents that call llctl before each of their tools.
//! * [`run`]: a command between a snapshot and, if it fails, a revert.
//! * [`globs`]: choosing paths by patterns; [`components`]: patterns with names.
//! * [`config`]: the schema of `llfs.toml`.
//! * [`lineage`]: which snapshots are a session's or a task's.
//! * [`phrase`]: commands in words.
//! * [`plain`]: files that may be anything.
//! * [`prometheus`]: metrics as text.
//! * [`transfer`]: snapshots as a file.
//! * [`writers`]: who has files of a mount open.
//! * [`exit`]: the exit codes of the `llctl` program.
pub mod client;
pub mod codec;
pub mod components;
pub mod config;
pub mod escape;
pub mod exit;
pub mod git;
pub mod globs;
pub mod hook;
pub mod lineage;
pub mod locate;
pub mod man;
pub mod moment;
pub mod name;
pub mod phrase;
pub mod plain;
pub mod prometheus;
pub mod protocol;
pub mod run;
pub mod transfer;
pub mod writers;

pub use client::{Client, ClientError};
pub use moment::Moment;
pub use name::{SnapName, StateRef};
pub use protocol::{ErrorKind, Failure};
