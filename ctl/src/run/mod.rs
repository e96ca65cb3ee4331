//! Running a command that may fail: a snapshot before, the revert after.
//!
//! What `llctl run` does, for programs. The command has a process group of its own and the terminal, if there is one;
//! before a revert all of the group is ended, so that nothing of it writes into the reverted tree.
mod job;
mod signals;
mod terminal;

use std::io;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigHandler, Signal, signal};
use serde::Serialize;

use crate::client::{Client, ClientError};
use crate::escape::Shown;
use crate::name::{NameError, SnapName};
use crate::protocol::{RevertInfo, SnapMeta};

pub use job::GRACE;
use job::Job;
use signals::Signals;
use terminal::Terminal;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "how")]
pub enum End {
    /// By itself.
    Exited {
        /// Its exit code.
        code: i32,
    },
    /// By a signal.
    Signaled {
        /// The signal's number.
        signal: i32,
    },
    /// It was ended because it took too long.
    TimedOut,
}

impl End {
    /// As the exit code of a shell or of timeout(1): the command's own, 128 and the signal, 124 for a timeout.
    pub fn code(self) -> u8 {
        let code = match self {
            Self::Exited { code } => code,
            Self::Signaled { signal } => 128 + signal,
            Self::TimedOut => i32::from(crate::exit::TIMED_OUT),
        };
        u8::try_from(code).unwrap_or(u8::MAX)
    }

    /// Whether it exited with 0.
    pub fn is_success(self) -> bool {
        self == Self::Exited { code: 0 }
    }
}

/// What is done after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// Everything becomes what it was before.
    #[default]
    Revert,
    /// Whoever runs it is asked.
    Ask,
    /// Nothing.
    Keep,
}

/// How a command is run.
#[derive(Debug, Default)]
pub struct Options {
    /// What the snapshot's message says.
    pub message: Option<String>,
    /// The session that the snapshot is of.
    pub session: Option<String>,
    /// How long the command may take, and how long the check.
    pub timeout: Option<Duration>,
    /// What is done after a failure.
    pub on_failure: OnFailure,
    /// Exit codes (see [`End::code`]) that are no failures.
    pub keep_on: Vec<u8>,
    /// A command that must exit with 0 for the changes to be kept.
    pub check: Option<Command>,
    /// This process exists for this run alone: processes that leave the command's group come to it when their parents end
    /// (`PR_SET_CHILD_SUBREAPER`), and are ended too before a revert. Without it only the group is.
    pub exclusive: bool,
}

/// What became of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The snapshot that was taken before.
    pub snapshot: String,
    /// How the command ended.
    pub end: End,
    /// How the check ended, if it was run.
    pub check: Option<End>,
    /// The revert, if one was done.
    pub reverted: Option<RevertInfo>,
    /// Whether processes of the command are left that could not be ended before the revert.
    pub left_running: bool,
    /// How long the command and the check took, in milliseconds.
    pub took_ms: u64,
}

impl Report {
    /// The exit code of all of it: the command's; if that succeeded and the check did not, the check's.
    pub fn code(&self) -> u8 {
        match self.check {
            Some(check) if !check.is_success() => check.code(),
            _ => self.end.code(),
        }
    }
}

/// Why a command could not be run, or its changes could not be reverted.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No snapshot could be taken; the command was not started.
    #[error("the command was not run, for no snapshot could be taken: {0}")]
    Snapshot(#[source] ClientError),
    /// The command could not be started; the snapshot is deleted again.
    #[error("{command} cannot be run: {source}")]
    Start {
        /// The program, as it is shown to people.
        command: String,
        /// What the system said.
        source: io::Error,
    },
    /// The command could not be waited for.
    #[error("the command could not be waited for: {0}")]
    Wait(#[from] io::Error),
    /// The revert failed: everything is as the command left it.
    #[error("the command failed, and so did the revert to {snapshot}: {source}")]
    Revert {
        /// What should have been reverted to.
        snapshot: String,
        /// Why it was not.
        source: ClientError,
    },
}

/// Takes a snapshot, runs `command`, and reverts to the snapshot if it fails.
///
/// `connect` gives connections: one before and one after, since the command may take hours. `ask` decides
/// after a failure where [`OnFailure::Ask`] is chosen; true means to revert.
///
/// Signals that would end this process are handed on to the command meanwhile. They are blocked in this thread; in a
/// program of several threads the others must block them too.
///
/// # Errors
/// See [`RunError`].
pub fn run(
    connect: &mut dyn FnMut() -> Result<Client, ClientError>,
    command: &mut Command,
    options: &mut Options,
    ask: &mut dyn FnMut(&Report) -> bool,
) -> Result<Report, RunError> {
    let (snapshot, number) = {
        let mut client = connect().map_err(RunError::Snapshot)?;
        let meta = SnapMeta {
            reason: Some("pre-change".to_owned()),
            session: options.session.clone(),
            ..SnapMeta::default()
        };
        let info = client.snap_with(None, options.message.clone(), meta);
        let info = info.map_err(RunError::Snapshot)?;
        (info.name, info.id)
    };
    if options.exclusive {
        set_child_subreaper(true).map_err(io::Error::from)?;
        // SAFETY: the default action runs no code of ours. A parent that ignored SIGCHLD would have us never learn how
        // a child ended.
        unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }.map_err(io::Error::from)?;
    }
    let signals = Signals::block()?;
    let terminal = Terminal::find();
    let begun = Instant::now();
    let start = |command: &mut Command| {
        Job::start(command, &signals, terminal.as_ref(), options.exclusive)
            .map_err(|source| not_started(command, source))
    };
    let job = match start(command) {
        Ok(job) => job,
        Err(error) => {
            discard(connect, &snapshot, number);
            return Err(error);
        }
    };
    let end = job.wait(&signals, options.timeout)?;
    let mut report = Report {
        snapshot,
        end,
        check: None,
        reverted: None,
        left_running: false,
        took_ms: 0,
    };
    if end == End::TimedOut {
        report.left_running = !job.end(&signals)?;
    }
    let mut failed = !end.is_success() && !options.keep_on.contains(&end.code());
    let mut checking = None;
    if let Some(check) = options.check.as_mut().filter(|_| !failed) {
        let check = checking.insert(start(check)?);
        let end = check.wait(&signals, options.timeout)?;
        if end == End::TimedOut {
            check.end(&signals)?;
        }
        report.check = Some(end);
        failed = !end.is_success();
    }
    report.took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let revert = failed
        && match options.on_failure {
            OnFailure::Revert => true,
            OnFailure::Keep => false,
            OnFailure::Ask => signals.unblocked(|| ask(&report))?,
        };
    if revert {
        let mut gone = job.end(&signals)?;
        if let Some(check) = &checking {
            gone &= check.end(&signals)?;
        }
        report.left_running = !gone;
        let reverted = revert_to(connect, &report.snapshot);
        report.reverted = Some(reverted.map_err(|source| RunError::Revert {
            snapshot: report.snapshot.clone(),
            source,
        })?);
    }
    Ok(report)
}

fn not_started(command: &Command, source: io::Error) -> RunError {
    RunError::Start {
        command: Path::new(command.get_program()).shown(),
        source,
    }
}

fn named(snapshot: &str) -> Result<SnapName, ClientError> {
    SnapName::new(snapshot).map_err(|why: NameError| ClientError::Unexpected(why.to_string()))
}

fn revert_to(
    connect: &mut dyn FnMut() -> Result<Client, ClientError>,
    snapshot: &str,
) -> Result<RevertInfo, ClientError> {
    // What git is in the middle of, the command began.
    connect()?.revert_with(named(snapshot)?.into(), true)
}

/// Deletes the snapshot that was taken for nothing, and no other one that has its name by now.
fn discard(connect: &mut dyn FnMut() -> Result<Client, ClientError>, snapshot: &str, number: u64) {
    let deleted = connect()
        .and_then(|mut client| client.delete_shown(vec![named(snapshot)?], Some(vec![number])));
    // It costs next to nothing: why the command could not be started is what the user is told.
    drop(deleted);
}
