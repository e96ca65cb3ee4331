//! `llctl run`: a command between a snapshot and, if it fails, a revert.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::Command;
use std::time::Duration;

use llctl::escape::{command_line, escaped};
use llctl::protocol::MESSAGE_MAX;
use llctl::run::{self, End, OnFailure, Options, Report, RunError};
use llctl::{Client, ClientError, StateRef, exit, locate};

use super::args::{DiffArgs, Global, RunArgs, WhenFailed};
use super::fail::Fail;
use super::output::{Output, Style, on_stderr};
use super::{Outcome, diff, snapshots, units};

/// `llctl run`
pub fn run(global: &Global, args: RunArgs, out: &mut Output) -> Outcome {
    match try_run(global, args, out) {
        Ok(code) => Ok(code),
        Err((code, fail)) => {
            fail.report(out);
            Ok(code)
        }
    }
}

/// Failures of `run` itself have codes of their own, since all others are the command's.
fn try_run(global: &Global, args: RunArgs, out: &mut Output) -> Result<u8, (u8, Fail)> {
    let own = |fail: Fail| (exit::RUN_FAILED, fail);
    if args.on_failure == WhenFailed::Ask && !super::interactive() {
        return Err(own(Fail::Refused {
            code: exit::RUN_FAILED,
            kind: "refused",
            message: "the command was not run: nobody can be asked here if it fails".to_owned(),
            hint: Some("leave --on-failure ask out, or say `--on-failure keep`".to_owned()),
        }));
    }
    // Found once: the command may remove the directory that this program stands in.
    let mount = match &global.socket {
        Some(_) => None,
        None => {
            let mount = locate::locate(global.directory.as_deref());
            Some(mount.map_err(|e| own(ClientError::from(e).into()))?)
        }
    };
    let mut connect = || match (&global.socket, &mount) {
        (Some(socket), _) => Client::connect_socket(socket),
        (None, Some(mount)) => Client::connect_mount(mount),
        (None, None) => unreachable!("one of both is there"),
    };
    let (program, rest) = args.command.split_first().expect("clap wants one at least");
    let mut command = Command::new(program);
    command.args(rest);
    let mut options = Options {
        message: Some(message(&args.command)),
        session: args.session,
        timeout: args.timeout,
        on_failure: match args.on_failure {
            WhenFailed::Revert => OnFailure::Revert,
            WhenFailed::Ask => OnFailure::Ask,
            WhenFailed::Keep => OnFailure::Keep,
        },
        keep_on: args.keep_on,
        check: args.verify.as_ref().map(|check| {
            let mut command = Command::new("sh");
            command.arg("-c").arg(check);
            command
        }),
        exclusive: true,
    };
    let timeout = args.timeout;
    let mut ask = |report: &Report| ask(global, report, timeout);
    let report = match run::run(&mut connect, &mut command, &mut options, &mut ask) {
        Ok(report) => report,
        Err(error) => return Err(explained(error)),
    };
    tell(&report, timeout);
    if out.json {
        out.keyed("run", &report).map_err(|e| own(e.into()))?;
    }
    Ok(report.code())
}

/// `before: cargo test`, as long as a message may be.
fn message(command: &[OsString]) -> String {
    let words = command.iter().map(|word| word.to_string_lossy());
    let mut text = format!("before: {}", command_line(words));
    while text.len() > MESSAGE_MAX {
        text.pop();
    }
    text
}

fn explained(error: RunError) -> (u8, Fail) {
    let refused = |code: u8, hint: Option<String>, message: String, kind: &'static str| {
        let fail = Fail::Refused {
            code,
            kind,
            message,
            hint,
        };
        (code, fail)
    };
    let message = error.to_string();
    match error {
        RunError::Snapshot(source) => {
            refused(exit::RUN_FAILED, source.hint(), message, source.kind())
        }
        RunError::Start { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            refused(exit::RUN_NOT_FOUND, None, message, "not_found")
        }
        RunError::Start { .. } => refused(exit::RUN_NOT_STARTED, None, message, "not_started"),
        RunError::Wait(_) => refused(exit::RUN_FAILED, None, message, "io"),
        RunError::Revert { snapshot, source } => {
            let hint = format!(
                "everything is as the command left it; `llctl revert {}` tries again",
                escaped(snapshot.as_bytes())
            );
            refused(exit::RUN_FAILED, Some(hint), message, source.kind())
        }
    }
}

/// How something ended, for people.
fn how(what: &str, end: End, timeout: Option<Duration>) -> String {
    match end {
        End::Exited { code } => format!("{what} exited with {code}"),
        End::Signaled { signal } => match nix::sys::signal::Signal::try_from(signal) {
            Ok(signal) => format!("{what} was ended by {signal}"),
            Err(_) => format!("{what} was ended by signal {signal}"),
        },
        End::TimedOut => format!(
            "{what} took longer than {} and was ended",
            units::took(timeout.unwrap_or_default())
        ),
    }
}

fn ending(report: &Report, timeout: Option<Duration>) -> String {
    match report.check {
        Some(check) if !check.is_success() => how("the check", check, timeout),
        _ => how("the command", report.end, timeout),
    }
}

/// Says on standard error what was done, and how to undo it. Nobody may be there to read it.
fn tell(report: &Report, timeout: Option<Duration>) {
    let name = on_stderr(Style::Bold, &escaped(report.snapshot.as_bytes()));
    let ending = ending(report, timeout);
    let text = match &report.reverted {
        Some(info) if info.discarded.is_none() => {
            format!("{ending}; it had changed nothing since {name}")
        }
        Some(info) => format!(
            "{ending}; reverted to {name}: {} changed, in {}. `llctl undo` takes the revert back.",
            snapshots::files(info, info.changed),
            units::took(Duration::from_micros(info.took_us))
        ),
        None => format!("{ending}; its changes are kept. `llctl revert {name}` takes them back."),
    };
    let mut stderr = io::stderr().lock();
    drop(writeln!(stderr, "llctl: {text}"));
    if report.left_running {
        drop(writeln!(
            stderr,
            "llctl: {} processes of the command could not be ended and may still write",
            on_stderr(Style::Notice, "warning:")
        ));
    }
}

/// Asks whether to revert; without an answer, yes.
fn ask(global: &Global, report: &Report, timeout: Option<Duration>) -> bool {
    loop {
        eprint!(
            "llctl: {}. Revert to {}? [Y/n, d to see what changed] ",
            ending(report, timeout),
            escaped(report.snapshot.as_bytes())
        );
        let mut answer = String::new();
        if io::stdin().read_line(&mut answer).is_err() {
            return true;
        }
        match answer.trim() {
            "" | "y" | "Y" | "yes" => return true,
            "n" | "N" | "no" => return false,
            "d" | "diff" => show_changes(global, &report.snapshot),
            _ => {}
        }
    }
}

fn show_changes(global: &Global, snapshot: &str) {
    let shown = || -> Outcome {
        let mut out = Output::new(false, global.color);
        let mut client = super::connect(global)?;
        let args = DiffArgs {
            from: snapshot.parse::<StateRef>().ok(),
            ..DiffArgs::default()
        };
        diff::run(&mut client, global, args, &mut out)?;
        out.finish()?;
        Ok(exit::OK)
    };
    if let Err(fail) = shown() {
        fail.report(&mut Output::new(false, global.color));
    }
}

/// `90s`, `10m`, `1h 30m`, or a number of seconds.
pub fn parse_timeout(text: &str) -> Result<Duration, String> {
    let parsed = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => text
            .parse::<jiff::SignedDuration>()
            .ok()
            .and_then(|d| Duration::try_from(d).ok()),
    };
    parsed
        .filter(|d| !d.is_zero())
        .ok_or_else(|| "expected a time such as 90s, 10m or 1h30m".to_owned())
}
