//! The terminal, which one process group at a time has.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, RawFd};

use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};

/// The controlling terminal. SIGTTOU is blocked where it changes hands.
pub(super) struct Terminal {
    tty: File,
    own: Pid,
    modes: Option<Termios>,
}

impl Terminal {
    /// That of this process, if it has one.
    pub fn find() -> Option<Self> {
        let tty = OpenOptions::new().read(true).write(true).open("/dev/tty");
        let tty = tty.ok()?;
        Some(Self {
            own: getpgrp(),
            modes: tcgetattr(&tty).ok(),
            tty,
        })
    }

    /// Whether this process's group has it now.
    pub fn is_ours(&self) -> bool {
        tcgetpgrp(&self.tty).is_ok_and(|group| group == self.own)
    }

    /// Whether `group` has it now.
    pub fn is_of(&self, group: Pid) -> bool {
        tcgetpgrp(&self.tty).is_ok_and(|now| now == group)
    }

    /// Hands it to `group`.
    pub fn give(&self, group: Pid) {
        // A terminal that hung up can be had by nobody.
        tcsetpgrp(self.tty.as_fd(), group).ok();
    }

    /// Takes it back.
    pub fn take(&self) {
        self.give(self.own);
    }

    /// Sets it as it was at the start: a program that was killed could not.
    pub fn restore(&self) {
        if let Some(modes) = &self.modes {
            tcsetattr(&self.tty, SetArg::TCSADRAIN, modes).ok();
        }
    }

    /// For the child, which must not allocate.
    pub fn raw(&self) -> RawFd {
        self.tty.as_raw_fd()
    }
}
