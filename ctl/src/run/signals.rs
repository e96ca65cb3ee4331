//! Signals that are taken one by one while a command runs, instead of ending this program.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Those that are handed on to the command.
const FORWARDED: [Signal; 6] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// Signals of this thread, held back for as long as this lives.
pub(super) struct Signals {
    fd: SignalFd,
    before: SigSet,
}

impl Signals {
    /// Holds back what is forwarded, news of children, and SIGTTOU, which whoever hands the terminal over would get.
    pub fn block() -> io::Result<Self> {
        let mut set: SigSet = FORWARDED.into_iter().collect();
        set.add(Signal::SIGCHLD);
        set.add(Signal::SIGCONT);
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        set.add(Signal::SIGTTOU);
        let before = set.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        Ok(Self { fd, before })
    }

    /// The mask of before, which the command gets.
    pub fn before(&self) -> SigSet {
        self.before
    }

    /// The next signal, waited for at most so long; without a limit, for ever.
    pub fn next(&self, limit: Option<Duration>) -> io::Result<Option<Signal>> {
        loop {
            if let Some(info) = self.fd.read_signal()? {
                let number = i32::try_from(info.ssi_signo).unwrap_or_default();
                match Signal::try_from(number) {
                    Ok(signal) => return Ok(Some(signal)),
                    Err(_) => continue,
                }
            }
            let timeout = match limit {
                // Rounded up, so that what is left of the last millisecond is not spent in a loop.
                Some(limit) => PollTimeout::try_from(limit + Duration::from_micros(999))
                    .unwrap_or(PollTimeout::MAX),
                None => PollTimeout::NONE,
            };
            let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout) {
                Ok(0) => return Ok(None),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Does something while signals do what they did before: a question can be interrupted.
    pub fn unblocked<T>(&self, f: impl FnOnce() -> T) -> io::Result<T> {
        self.drain();
        let blocked = self.before.thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let done = f();
        blocked.thread_set_mask()?;
        Ok(done)
    }

    /// Forgets those that came and were handed on, or came too late to be.
    fn drain(&self) {
        while let Ok(Some(_)) = self.fd.read_signal() {}
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.drain();
        // The mask was this thread's before, and can be set.
        pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None).ok();
    }
}
