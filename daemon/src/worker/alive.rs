//! How the supervisor learns that its worker is dead.
//!
//! Waiting for the process is not enough: a thread that waits for the kernel to forget something keeps the process from
//! being buried, and may wait for an answer that only the next worker can give. So one thread has a table of
//! descriptors of its own, with nothing in it but the end of a pipe. It does nothing, and so it dies at once when the
//! process is killed; then the pipe is closed.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;

use crossbeam_channel::bounded;
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

/// Keeps `pipe` open until this process dies.
///
/// # Errors
/// The system's.
pub(super) fn show(pipe: OwnedFd) -> io::Result<()> {
    let (ready, begun) = bounded(1);
    let number = pipe.as_raw_fd() as u32;
    thread::Builder::new()
        .name("llfs-alive".to_owned())
        .spawn(move || {
            let alone = keep_only(number);
            let failed = alone.is_err();
            drop(ready.send(alone));
            if failed {
                return;
            }
            loop {
                thread::park();
            }
        })?;
    // The thread has its copy now.
    let done = begun.recv().map_err(io::Error::other)?;
    drop(pipe);
    done
}

/// A table of descriptors for this thread alone, with only one of them in it.
fn keep_only(number: u32) -> io::Result<()> {
    unshare(CloneFlags::CLONE_FILES)?;
    for (first, last) in [(0, number.wrapping_sub(1)), (number + 1, u32::MAX)] {
        if number == 0 && first == 0 {
            continue;
        }
        // SAFETY: closes descriptors in a table that only this thread has, and which it uses no more.
        let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        Errno::result(done)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;

    #[test]
    fn the_pipe_stays_open_and_the_other_descriptors_are_not_touched() {
        let (read, write) = nix::unistd::pipe().unwrap();
        let (other, held) = nix::unistd::pipe().unwrap();
        show(write).unwrap();
        let closed = |end: &OwnedFd| {
            let mut fds = [PollFd::new(end.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::ZERO).unwrap() > 0
        };
        assert!(!closed(&read), "the thread does not hold it");
        assert!(!closed(&other), "the thread closed what is ours");
        drop(held);
        assert!(closed(&other), "the thread holds what is ours");
    }
}
