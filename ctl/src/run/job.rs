//! A command in its process group: started, waited for, ended with all that came of it.

use std::cell::Cell;
use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, getpid, tcsetpgrp};

use super::End;
use super::signals::Signals;
use super::terminal::Terminal;

/// How long processes have after SIGTERM until SIGKILL.
pub const GRACE: Duration = Duration::from_secs(5);
/// How long is waited for processes that were killed.
const BURIAL: Duration = Duration::from_secs(10);
/// How often is looked whether they are gone: not all of them are this process's children.
const LOOK: Duration = Duration::from_millis(10);

/// A command that was started.
pub(super) struct Job<'a> {
    /// Its first process, which leads its group. Not waited for before the end, so that nobody else gets the number.
    leader: Pid,
    terminal: Option<&'a Terminal>,
    /// What leaves the group comes to this process when its parent ends, and is the job's too.
    adopts: bool,
    /// All of it is gone: from here on others may have its numbers.
    gone: Cell<bool>,
}

impl<'a> Job<'a> {
    /// Starts `command` in a group of its own, which gets the terminal if this process's group has it.
    pub fn start(
        command: &mut Command,
        signals: &Signals,
        terminal: Option<&'a Terminal>,
        adopts: bool,
    ) -> io::Result<Self> {
        let mask = signals.before();
        let tty = terminal.filter(|t| t.is_ours()).map(Terminal::raw);
        command.process_group(0);
        // SAFETY: between fork and exec only getpid, tcsetpgrp and sigprocmask are called, which are safe there
        // (signal-safety(7)); the terminal is open for as long as the job is being started.
        unsafe {
            command.pre_exec(move || {
                if let Some(tty) = tty {
                    tcsetpgrp(BorrowedFd::borrow_raw(tty), getpid())?;
                }
                mask.thread_set_mask()?;
                Ok(())
            });
        }
        match command.spawn() {
            Ok(child) => Ok(Self {
                leader: Pid::from_raw(child.id().cast_signed()),
                terminal,
                adopts,
                gone: Cell::new(false),
            }),
            Err(error) => {
                if tty.is_some() {
                    terminal.into_iter().for_each(Terminal::take);
                }
                Err(error)
            }
        }
    }

    /// Waits until the command has ended, or for `limit`. Meanwhile what is sent to this process is handed on, and
    /// both stop and go on together, as a shell's jobs do.
    pub fn wait(&self, signals: &Signals, limit: Option<Duration>) -> io::Result<End> {
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        loop {
            self.stop_together()?;
            if let Some(end) = self.ended()? {
                self.leave_terminal(matches!(end, End::Signaled { .. }));
                return Ok(end);
            }
            let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(End::TimedOut);
            }
            match signals.next(left)? {
                None | Some(Signal::SIGCHLD) => self.bury_orphans(),
                Some(Signal::SIGCONT) => self.go_on(),
                Some(signal) => self.send(signal),
            }
        }
    }

    /// How the first process ended, if it has.
    fn ended(&self) -> io::Result<Option<End>> {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        match waitid(Id::Pid(self.leader), flags) {
            Ok(WaitStatus::Exited(_, code)) => Ok(Some(End::Exited { code })),
            Ok(WaitStatus::Signaled(_, signal, _)) => Ok(Some(End::Signaled {
                signal: signal as i32,
            })),
            Ok(_) | Err(Errno::EINTR) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// A command that stopped stops this process's group as well, so that the shell notices.
    fn stop_together(&self) -> io::Result<()> {
        let Some(terminal) = self.terminal else {
            return Ok(());
        };
        let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG;
        let stopped = match waitid(Id::Pid(self.leader), flags) {
            Ok(WaitStatus::Stopped(_, signal)) => signal,
            Ok(_) | Err(Errno::EINTR | Errno::ECHILD) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        let wants_terminal = matches!(stopped, Signal::SIGTTIN | Signal::SIGTTOU);
        if !(wants_terminal && terminal.is_ours()) {
            if terminal.is_of(self.leader) {
                terminal.take();
            }
            // This returns when somebody continues the group. In a group that nobody could continue, the kernel
            // ignores the signal, and the command just goes on.
            killpg(nix::unistd::getpgrp(), Signal::SIGTSTP)?;
        }
        self.go_on();
        Ok(())
    }

    /// Lets the command go on, in the foreground if that is where this process is.
    fn go_on(&self) {
        if let Some(terminal) = self.terminal.filter(|t| t.is_ours()) {
            terminal.give(self.leader);
        }
        self.send(Signal::SIGCONT);
    }

    /// Sends a signal to the group.
    fn send(&self, signal: Signal) {
        // Nobody may be left to get it.
        killpg(self.leader, signal).ok();
    }

    /// The terminal is this process's again.
    fn leave_terminal(&self, killed: bool) {
        if let Some(terminal) = self.terminal.filter(|t| t.is_of(self.leader)) {
            terminal.take();
            if killed {
                terminal.restore();
            }
        }
    }

    /// Ends everything that came of the command: SIGTERM, and SIGKILL after [`GRACE`] or when the user does not want to
    /// wait and interrupts. Whether all of it is gone.
    pub fn end(&self, signals: &Signals) -> io::Result<bool> {
        if self.gone.get() {
            return Ok(true);
        }
        self.send(Signal::SIGTERM);
        // Who is stopped would not notice.
        self.send(Signal::SIGCONT);
        let gone = self.gone_within(signals, GRACE, Signal::SIGTERM)? || {
            self.send(Signal::SIGKILL);
            self.gone_within(signals, BURIAL, Signal::SIGKILL)?
        };
        self.leave_terminal(true);
        self.gone.set(gone);
        Ok(gone)
    }

    fn gone_within(&self, signals: &Signals, limit: Duration, how: Signal) -> io::Result<bool> {
        let deadline = Instant::now() + limit;
        let mut told = HashSet::new();
        loop {
            self.bury();
            let adopted = if self.adopts {
                children()
            } else {
                HashSet::new()
            };
            for child in adopted.difference(&told) {
                kill(Pid::from_raw(*child), how).ok();
            }
            if adopted.is_empty() && killpg(self.leader, None) == Err(Errno::ESRCH) {
                return Ok(true);
            }
            told.extend(adopted);
            if Instant::now() >= deadline {
                return Ok(false);
            }
            let signal = signals.next(Some(LOOK))?;
            let hurry = matches!(
                signal,
                Some(Signal::SIGINT | Signal::SIGTERM | Signal::SIGQUIT)
            );
            if hurry && how == Signal::SIGTERM {
                return Ok(false);
            }
        }
    }

    /// Takes note of the ends of processes.
    fn bury(&self) {
        let whom = if self.adopts {
            Pid::from_raw(-1)
        } else {
            self.leader
        };
        while matches!(
            waitpid(whom, Some(WaitPidFlag::WNOHANG)),
            Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..))
        ) {}
    }

    /// The same, without the first process.
    fn bury_orphans(&self) {
        let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        while self.adopts
            && let Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) =
                waitid(Id::All, peek)
            && pid != self.leader
            && waitpid(pid, Some(WaitPidFlag::WNOHANG)).is_ok()
        {}
    }
}

impl Drop for Job<'_> {
    fn drop(&mut self) {
        // It has ended, or `end` could not end it.
        waitpid(self.leader, Some(WaitPidFlag::WNOHANG)).ok();
    }
}

/// The children of this process.
fn children() -> HashSet<i32> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten();
    let lists =
        tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    let words = lists.flat_map(|list| {
        list.split_ascii_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .collect::<Vec<i32>>()
    });
    words.collect()
}
