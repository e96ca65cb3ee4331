//! How the daemon in the background tells the `llfs mount` that started it how the start went.
//!
//! The daemon's standard output is a pipe to its parent. It carries one message; then the daemon closes it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use llctl::protocol::BytePath;
use serde::{Deserialize, Serialize};

use super::trouble::Trouble;

/// The longest message, in bytes.
const MESSAGE_MAX: u64 = 1 << 20;

/// How the start went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Outcome {
    Mounted(Mounted),
    Failed(Trouble),
}

/// What is mounted now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mounted {
    pub(super) mountpoint: BytePath,
    pub(super) store: BytePath,
    pub(super) pid: u32,
    /// A mount whose daemon had died was there, and was cleaned away.
    pub(super) revived: bool,
    /// Nothing can be written.
    pub(super) read_only: bool,
}

impl Mounted {
    pub(super) fn new(mountpoint: &Path, store: &Path, revived: bool, read_only: bool) -> Self {
        Self {
            mountpoint: mountpoint.into(),
            store: store.into(),
            pid: std::process::id(),
            revived,
            read_only,
        }
    }
}

/// Sends the message over standard output and puts `/dev/null` there: after this the parent is gone.
pub(super) fn send(outcome: &Outcome) -> io::Result<()> {
    let message = rmp_serde::to_vec_named(outcome).map_err(io::Error::other)?;
    let mut stdout = io::stdout().lock();
    let sent = stdout.write_all(&message).and_then(|()| stdout.flush());
    let null = File::options().write(true).open("/dev/null")?;
    nix::unistd::dup2_stdout(&null)?;
    sent
}

/// Waits for the message; `None` if the daemon ended without one.
pub(super) fn receive(pipe: impl Read) -> io::Result<Option<Outcome>> {
    let mut message = Vec::new();
    pipe.take(MESSAGE_MAX).read_to_end(&mut message)?;
    if message.is_empty() {
        return Ok(None);
    }
    rmp_serde::from_slice(&message)
        .map(Some)
        .map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_outcomes_arrive_and_silence_is_noticed() {
        let mounted = Mounted::new(Path::new("/a\n"), Path::new("/s"), true, false);
        let failed = Trouble::new("no").hint("try").code(8);
        for outcome in [Outcome::Mounted(mounted), Outcome::Failed(failed)] {
            let bytes = rmp_serde::to_vec_named(&outcome).unwrap();
            assert_eq!(receive(&bytes[..]).unwrap(), Some(outcome.clone()));
            assert!(receive(&bytes[..bytes.len() - 1]).is_err());
        }
        assert_eq!(receive(io::empty()).unwrap(), None);
    }
}
