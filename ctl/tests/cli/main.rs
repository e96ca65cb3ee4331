//! The program as a user runs it, against a daemon that plays a part: output and exit code of each command.
// What cannot be unwrapped here fails the test, in helpers too.
#![allow(clippy::unwrap_used)]

mod apply;
mod archive;
mod commands;
mod complete;
mod config;
mod diff;
mod errors;
mod fake;
mod history;
mod hook;
mod log;
mod meta;
mod metrics;
mod patch;
mod phrase;
mod prune;
mod restore;
mod revert;
mod run;
mod terminal;
mod transfer;
mod verify;
mod watch;
