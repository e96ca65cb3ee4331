//! `llctl log` and `llctl who`: what happened to a file, and who did it.

use std::io;
use std::path::PathBuf;

use llctl::escape::escaped;
use llctl::protocol::{Author, BytePath, ChangeKind, LogEntry};
use llctl::{Client, exit};
use nix::unistd::{Uid, User};

use super::args::Global;
use super::diff::{letter, paths};
use super::fitted::Line;
use super::output::{Output, Style};
use super::{Outcome, units};

/// Where a line goes on that is too long for a terminal,
const INDENT: usize = 3;
/// and one about a program.
const INDENT_WHO: usize = 8;

/// `llctl log`
pub fn log(
    client: &mut Client,
    global: &Global,
    path: PathBuf,
    limit: Option<u64>,
    out: &mut Output,
) -> Outcome {
    let entries = entries(client, global, path, limit)?;
    out.page();
    for entry in &entries {
        match out.json {
            true => out.keyed("entry", entry)?,
            false => line(entry, out)?,
        }
    }
    if entries.is_empty() && !out.json {
        eprintln!("It is as in the base, and was in every snapshot.");
    }
    Ok(exit::OK)
}

/// `llctl who`
pub fn who(
    client: &mut Client,
    global: &Global,
    path: PathBuf,
    limit: Option<u64>,
    out: &mut Output,
) -> Outcome {
    let mut entries = entries(client, global, path, limit)?;
    out.page();
    entries.retain(|entry| !entry.by.is_empty());
    if out.json {
        for entry in &entries {
            out.keyed("entry", entry)?;
        }
        return Ok(exit::OK);
    }
    for entry in &entries {
        let mut line = Line::default();
        title(&mut line, "", entry);
        line.print(INDENT, out)?;
        for author in &entry.by {
            person(author, out)?;
        }
    }
    if entries.is_empty() {
        eprintln!("No program is known to have changed it.");
    }
    Ok(exit::OK)
}

fn entries(
    client: &mut Client,
    global: &Global,
    path: PathBuf,
    limit: Option<u64>,
) -> Result<Vec<LogEntry>, super::Fail> {
    let path = below_mount(client, global, path)?;
    Ok(client.log(path, limit)?)
}

/// A path of the user's as one below the mount's root.
pub fn below_mount(
    client: &Client,
    global: &Global,
    path: PathBuf,
) -> Result<BytePath, super::Fail> {
    let mountpoint = client.welcome().mountpoint.clone();
    let dir = global.directory.as_deref();
    let mut found = paths::below_mount(mountpoint.as_path(), dir, &[path])?;
    Ok(found.pop().unwrap_or_default())
}

/// `M  before-upgrade  2026-11-21 11:44:02  sed, vim  all tests pass`
fn line(entry: &LogEntry, out: &mut Output) -> io::Result<()> {
    let (letter, style) = match entry.kind {
        Some(kind) => letter(kind),
        None => letter(ChangeKind::Modified),
    };
    let mut line = Line::default();
    line.add("", style, letter);
    title(&mut line, "  ", entry);
    let mut names: Vec<String> = Vec::new();
    for author in &entry.by {
        let name = name(author);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if !names.is_empty() {
        let last = names.len() - 1;
        for (at, name) in names.into_iter().enumerate() {
            let comma = if at < last { "," } else { "" };
            match at {
                0 => line.add("  ", Style::Plain, format!("by {name}{comma}")),
                _ => line.add(" ", Style::Plain, format!("{name}{comma}")),
            }
        }
    }
    if let Some(from) = &entry.from {
        line.add("  ", Style::Plain, format!("(was {from})"));
    }
    if let Some(below) = entry.below.filter(|counts| counts.total() > 0) {
        line.add("  ", Style::Plain, format!("({})", units::counts(&below)));
    }
    if let Some(message) = entry.message.as_ref().and_then(|m| m.lines().next()) {
        line.text("  ", Style::Dim, escaped(message.as_bytes()));
    }
    line.print(INDENT, out)
}

/// `before-upgrade  2026-11-21 11:44:02`
fn title(line: &mut Line, before: &'static str, entry: &LogEntry) {
    line.add(before, Style::Bold, escaped(entry.state.as_bytes()));
    let when = match entry.created {
        Some(created) => units::local(created),
        None => format!("since {}", escaped(entry.since.as_bytes())),
    };
    line.add("  ", Style::Plain, when);
}

/// `    2026-11-21 11:43:58  sed  4242  root  made, wrote  sed -i s/a/b/ main.rs`
fn person(author: &Author, out: &mut Output) -> io::Result<()> {
    let did: Vec<&str> = author.did.iter().map(|deed| deed.word()).collect();
    let pid = match author.pid {
        0 => "-".to_owned(),
        pid => pid.to_string(),
    };
    let command = escaped(author.line.as_bytes());
    let did = did.join(", ");
    let did = if command.is_empty() {
        did
    } else {
        format!("{did:<12}")
    };
    let mut line = Line::default();
    line.add("    ", Style::Plain, units::local(author.at));
    line.add("  ", Style::Plain, format!("{:<15}", name(author)));
    line.add("  ", Style::Plain, format!("{pid:>7}"));
    line.add("  ", Style::Plain, format!("{:<8}", user(author.uid)));
    line.add("  ", Style::Plain, did);
    if !command.is_empty() {
        line.text("  ", Style::Dim, command);
    }
    line.print(INDENT_WHO, out)
}

fn name(author: &Author) -> String {
    match author.command.as_str() {
        "" => "(a mapping)".to_owned(),
        command => escaped(command.as_bytes()),
    }
}

/// The user's name, or the number of one that this machine does not know.
fn user(uid: u32) -> String {
    let known = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    known.map_or_else(|| uid.to_string(), |user| escaped(user.name.as_bytes()))
}
