//! Support for the tests that drive `llfs` and `llctl` through a real mount.
//!
//! Nothing here looks inside the daemon: the tests see what a user sees, two programs and a
//! directory. [`Mounted`](mounted::Mounted) is one mount with everything it needs in a scratch
//! directory, [`Manifest`](manifest::Manifest) is a whole tree written down, [`Op`](op::Op) is one
//! filesystem operation and [`Model`](model::Model) says what it has to do.

pub mod acked;
pub mod binaries;
pub mod command;
pub mod contend;
pub mod dice;
pub mod history;
pub mod invariants;
pub mod killer;
pub mod loopback;
pub mod manifest;
pub mod model;
pub mod mounted;
pub mod mountinfo;
pub mod op;
pub mod preload;
pub mod scratch;
pub mod seeded;
pub mod soak;
pub mod sys;
pub mod tree;
pub mod watchdog;
pub mod wound;
