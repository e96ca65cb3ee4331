//! Completion in shells: the shell asks this program at each TAB, so that it knows the snapshots of the mount.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::{CompleteEnv, EnvCompleter, Shells};
use llctl::protocol::SnapInfo;
use llctl::{Client, exit};

use super::args::{Args, Global};
use super::output::Output;
use super::{Fail, Outcome, connect};

/// The variable by which a shell asks for completions instead of a run.
const ASKED: &str = "LLCTL_COMPLETE";
/// The program, for scripts.
const NAME: &str = "llctl";
/// States that are no snapshots.
const STATES: [(&str, &str); 5] = [
    ("@base", "the directory below the mount"),
    ("@undo", "what the last revert discarded"),
    ("@redo", "what the last undo discarded"),
    ("@live", "everything as it is now"),
    ("@10m", "ten minutes ago"),
];

/// Answers a shell and ends the program, if a shell asks.
pub fn answer() {
    CompleteEnv::with_factory(Args::command)
        .var(ASKED)
        .complete();
}

/// A shell that scripts are made for.
pub fn shell(name: &str) -> Result<&'static dyn EnvCompleter, String> {
    const ALL: Shells<'static> = Shells::builtins();
    let known = || ALL.names().collect::<Vec<_>>().join(", ");
    (ALL.iter().find(|shell| shell.is(name))).ok_or_else(|| format!("one of {}", known()))
}

/// `llctl completions`
pub fn script(name: &str, out: &mut Output) -> Outcome {
    let shell = shell(name).map_err(|names| Fail::Refused {
        code: exit::USAGE,
        kind: "invalid",
        message: format!("no completions for {name}: {names}"),
        hint: None,
    })?;
    let mut script = Vec::new();
    shell.write_registration(ASKED, NAME, NAME, NAME, &mut script)?;
    out.raw(&script)?;
    Ok(exit::OK)
}

/// Names of snapshots that begin so.
pub fn snapshots(current: &OsStr) -> Vec<CompletionCandidate> {
    let Some(current) = current.to_str() else {
        return Vec::new();
    };
    let list = client().and_then(|mut client| Ok(client.list()?));
    let Ok(listing) = list else {
        return Vec::new();
    };
    // The newest are the likeliest.
    let newest_first = listing.snapshots.into_iter().rev();
    newest_first
        .filter(|snap| snap.name.starts_with(current) && is_plain(&snap.name))
        .enumerate()
        .map(|(place, snap)| candidate(snap).display_order(Some(place)))
        .collect()
}

/// Names of snapshots and other states that begin so.
pub fn states(current: &OsStr) -> Vec<CompletionCandidate> {
    let mut all = snapshots(current);
    let begins = |name: &str| current.to_str().is_some_and(|text| name.starts_with(text));
    let others = STATES.iter().filter(|(name, _)| begins(name));
    all.extend(others.map(|(name, help)| {
        CompletionCandidate::new(*name)
            .help(Some((*help).into()))
            .display_order(Some(usize::MAX))
    }));
    all
}

fn candidate(snap: SnapInfo) -> CompletionCandidate {
    let help = snap.message.as_deref().and_then(|text| text.lines().next());
    let help = help.map(|text| llctl::escape::escaped(text.as_bytes()).into());
    CompletionCandidate::new(snap.name).help(help)
}

/// Whether a shell takes a name for what it is. Others are not offered: what is completed is run.
fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || "._-+:@%,=".contains(c);
    name.chars().all(plain)
}

/// To the mount that the command line is about.
fn client() -> Result<Client, Fail> {
    let words: Vec<OsString> = env::args_os().skip_while(|word| word != "--").collect();
    let after = |flag: &str| {
        let at = words.iter().position(|word| word == flag)?;
        words.get(at + 1).map(PathBuf::from)
    };
    connect(&Global {
        directory: after("-C"),
        socket: after("--socket"),
        why: None,
        json: false,
        color: super::args::ColorWhen::Never,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_shell_would_run_are_not_offered() {
        assert!(is_plain("before-upgrade_2.1@x"));
        for bad in [
            "a b",
            "$(reboot)",
            "a;b",
            "`a`",
            "a'b",
            "a\"b",
            "a&b",
            "a|b",
            "a>b",
            "*",
        ] {
            assert!(!is_plain(bad), "{bad}");
        }
    }
}
