//! Taking the mount away, on a thread of its own: the kernel may wait for the worker meanwhile, and the supervisor for
//! the worker's death.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

use crate::fuse::{self, UnmountError};

/// The worker has to hand over what mappings hold.
const FLUSH: u8 = b'F';
/// Nothing is mounted any more.
const GONE: u8 = b'G';
/// Programs go on using it.
const IN_USE: u8 = b'U';

/// What the thread has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Have the worker flush, and call [`Ending::flushed`].
    Flush,
    /// The mount is gone.
    Gone,
    /// The mount is detached, and programs still use it.
    InUse,
}

/// An unmount that is under way.
pub(super) struct Ending(UnixStream);

impl Ending {
    /// Begins to unmount; a mount in use is detached, after everything was taken in that the kernel still held back.
    pub(super) fn begin(point: &Path) -> io::Result<Ending> {
        let (ours, theirs) = UnixStream::pair()?;
        let point = point.to_path_buf();
        thread::Builder::new()
            .name("llfs-unmount".to_owned())
            .spawn(move || {
                // The other end is gone when the supervisor has ended.
                drop(end(&point, &theirs));
            })?;
        Ok(Ending(ours))
    }

    /// What comes next; to be called when there is something to read.
    pub(super) fn step(&mut self) -> Option<Step> {
        let mut letter = [0];
        match self.0.read(&mut letter) {
            Ok(1) if letter[0] == FLUSH => Some(Step::Flush),
            Ok(1) if letter[0] == GONE => Some(Step::Gone),
            Ok(1) => Some(Step::InUse),
            _ => None,
        }
    }

    /// The worker has flushed, or cannot.
    pub(super) fn flushed(&mut self) {
        // It is gone only when it does not wait for that any more.
        drop(self.0.write_all(&[FLUSH]));
    }
}

impl AsFd for Ending {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn end(point: &Path, mut other: &UnixStream) -> io::Result<()> {
    let error = match fuse::unmount(point) {
        Ok(()) | Err(UnmountError::NotMounted(_)) => return other.write_all(&[GONE]),
        Err(error) => error,
    };
    if let UnmountError::Busy { users, .. } = &error {
        for user in users {
            tracing::warn!("still in use: {user}");
        }
    }
    tracing::warn!(%error, "detaching it");
    other.write_all(&[FLUSH])?;
    other.read_exact(&mut [0])?;
    detach(point);
    other.write_all(&[IN_USE])
}

/// Takes the mount away from the tree of directories, whoever uses it.
pub(super) fn detach(point: &Path) {
    if let Err(error) = fuse::detach(point) {
        tracing::error!(%error, "a mount that nobody serves stays");
    }
}
