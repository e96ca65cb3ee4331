//! `llctl do`: a phrase, shown as the command that it means, then done.

use std::ffi::OsString;

use clap::Parser;
use llctl::escape::escaped;
use llctl::{SnapName, exit, phrase};

use super::Outcome;
use super::args::{Args, Command, Global};
use super::fail::Fail;
use super::output::{Output, Style, on_stderr};

/// `llctl do`
pub fn run(global: &Global, words: &[String], dry_run: bool, out: &mut Output) -> Outcome {
    let understood = phrase::parse(&words.join(" ")).map_err(|error| Fail::Refused {
        code: exit::USAGE,
        kind: "not_understood",
        message: error.to_string(),
        hint: Some(format!("these are understood:\n{}", phrase::EXAMPLES)),
    })?;
    let shown = command_line(&understood.args);
    eprintln!("llctl: {}", on_stderr(Style::Bold, &shown));
    if dry_run {
        if out.json {
            out.keyed("command", &understood.args)?;
        }
        return Ok(exit::OK);
    }
    let whole = ["llctl"].into_iter().map(OsString::from);
    let parsed = Args::try_parse_from(whole.chain(understood.args.iter().map(OsString::from)));
    let command = parsed.map_err(|error| Fail::Refused {
        code: exit::USAGE,
        kind: "not_understood",
        message: format!("{shown}: {}", error.kind()),
        hint: None,
    })?;
    if let Some(session) = &understood.session {
        check_session(global, &command.command, session)?;
    }
    super::command(global, command.command, out)
}

/// The snapshot that is reverted to must be of the session that was named, if it is of any.
fn check_session(global: &Global, command: &Command, session: &str) -> Result<(), Fail> {
    let Command::Revert(args) = command else {
        return Ok(());
    };
    let Some(llctl::StateRef::Snapshot(name)) = &args.to else {
        return Ok(());
    };
    let name: &SnapName = name;
    let detail = super::connect(global)?.show(name.clone())?;
    match detail.snapshot.meta.session {
        Some(of) if of != session => Err(Fail::Refused {
            code: exit::NOT_FOUND,
            kind: "not_found",
            message: format!("{name} is a snapshot of session {of}, not of {session}"),
            hint: Some(format!("`llctl revert {name}` reverts to it all the same")),
        }),
        _ => Ok(()),
    }
}

/// As it would be typed in a shell.
fn command_line(args: &[String]) -> String {
    let args = args.iter().map(|arg| escaped(arg.as_bytes()));
    llctl::escape::command_line(["llctl".to_owned()].into_iter().chain(args))
}
