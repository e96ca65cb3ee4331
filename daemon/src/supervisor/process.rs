//! Other processes, and this one.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};

/// A process that can be waited for, though it is no child of ours.
pub(super) struct Watched(OwnedFd);

impl Watched {
    /// The process of this id; `None` if there is none (any more).
    ///
    /// # Errors
    /// The kernel has no pidfd_open (Linux before 5.3).
    pub(super) fn find(pid: u32) -> io::Result<Option<Self>> {
        // SAFETY: pidfd_open takes two integers and touches no memory of ours.
        let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) };
        match Errno::result(raw) {
            // SAFETY: the kernel has just made this descriptor for us, and nobody else knows of it.
            Ok(raw) => Ok(Some(Self(unsafe { OwnedFd::from_raw_fd(raw as i32) }))),
            Err(Errno::ESRCH) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Kills it; `false` if it has ended.
    pub(super) fn kill(&self) -> io::Result<bool> {
        let none = std::ptr::null_mut::<libc::siginfo_t>();
        // SAFETY: pidfd_send_signal takes a descriptor that is open, and no details.
        let sent = unsafe {
            let fd = self.0.as_raw_fd();
            libc::syscall(libc::SYS_pidfd_send_signal, fd, libc::SIGKILL, none, 0)
        };
        match Errno::result(sent) {
            Ok(_) => Ok(true),
            Err(Errno::ESRCH) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Whether it ends within `limit`.
    pub(super) fn ends_within(&self, limit: Duration) -> io::Result<bool> {
        let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        loop {
            match poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], limit) {
                Err(Errno::EINTR) => {}
                ready => return Ok(ready? > 0),
            }
        }
    }
}

/// Makes this process fit to be a daemon: as many descriptors as it may have, private files, and no directory that it
/// keeps busy.
pub(super) fn prepare_daemon() {
    umask(Mode::from_bits_truncate(0o077));
    if let Err(error) = std::env::set_current_dir("/") {
        tracing::warn!(%error, "cannot leave the current directory");
    }
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

/// Whether a process has died, as far as its first thread is concerned (state `Z`, see proc_pid_stat(5)). Its parent, or
/// another thread of it that waits for the kernel, keeps the rest of it.
pub(super) fn is_zombie(pid: u32) -> bool {
    std::fs::read(format!("/proc/{pid}/stat")).is_ok_and(|line| {
        let name_end = line.iter().rposition(|b| *b == b')');
        name_end.and_then(|end| line.get(end + 2)) == Some(&b'Z')
    })
}

/// Whether there is such a process, and it is not [`is_zombie`].
pub(super) fn lives(pid: u32) -> bool {
    std::fs::exists(format!("/proc/{pid}")).unwrap_or(true) && !is_zombie(pid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_end_of_a_process_is_noticed() {
        let mut child = Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let watched = Watched::find(child.id()).unwrap().unwrap();
        assert!(!watched.ends_within(Duration::ZERO).unwrap());
        drop(child.stdin.take());
        assert!(watched.ends_within(Duration::from_secs(60)).unwrap());
        child.wait().unwrap();
        assert!(Watched::find(child.id()).unwrap().is_none());
    }
}
