//! `llctl history`: what was done, by whom, and what became of it.

use std::io;

use clap_complete::engine::ArgValueCompleter;
use llctl::escape::{escaped, escaped_text};
use llctl::protocol::{Act, Deal, HistoryQuery};
use llctl::{Client, Moment, SnapName, exit};

use super::Outcome;
use super::complete;
use super::fitted::Line;
use super::output::{Output, Style};
use super::units;

/// What `history` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Every snap, revert, undo, redo, delete, rename, annotate, prune and apply is kept, those that failed too: the last 16,000 or so. \
The oldest come first. Give --why with a command to say why it is done.

Examples:
  llctl history
  llctl history --what revert --what undo --since 2h
  llctl history before-upgrade --json
  llctl history --failed -n 10")]
pub struct HistoryArgs {
    /// Only what was done with this snapshot, by the name that it had then
    #[arg(add = ArgValueCompleter::new(complete::snapshots))]
    pub name: Option<SnapName>,
    /// Only acts of this kind: snap, revert, undo, redo, delete, rename, describe, prune, apply; may be given several times
    #[arg(long, value_name = "KIND", value_parser = kind)]
    pub what: Vec<Deal>,
    /// Only what this user did, by number
    #[arg(long, value_name = "UID")]
    pub uid: Option<u32>,
    /// Only what was done then or later: an age such as 10m or 2d, or a time such as 2026-11-21T10:00
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub since: Option<Moment>,
    /// Only what was done then or earlier
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub until: Option<Moment>,
    /// Only what failed
    #[arg(long)]
    pub failed: bool,
    /// At most so many, the newest
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub limit: Option<u32>,
}

fn kind(text: &str) -> Result<Deal, String> {
    let all = Deal::ALL;
    (all.into_iter().find(|deal| deal.as_str() == text)).ok_or_else(|| {
        let names = all.map(Deal::as_str).join(", ");
        format!("one of {names}")
    })
}

/// A time on the command line.
pub fn moment(text: &str) -> Result<Moment, String> {
    Moment::parse(text)
        .ok_or_else(|| "an age such as 10m or 2d, or a time such as 2026-11-21T10:00".to_owned())
}

/// `llctl history`
pub fn run(client: &mut Client, args: HistoryArgs, out: &mut Output) -> Outcome {
    let query = HistoryQuery {
        what: args.what,
        target: args.name.map(String::from),
        uid: args.uid,
        since: args.since.map(|m| m.0),
        until: args.until.map(|m| m.0),
        failed: args.failed,
        limit: args.limit,
    };
    let acts = client.history(query)?;
    if out.json {
        out.keyed("acts", &acts)?;
        return Ok(exit::OK);
    }
    for act in &acts {
        line(act, out)?;
    }
    Ok(exit::OK)
}

/// Where a line goes on that is too long for a terminal.
pub const INDENT: usize = 6;

/// What was done to what, in pieces that stand together.
pub fn pieces(act: &Act) -> Vec<String> {
    let mut all = vec![act.what.as_str().to_owned()];
    let last = act.targets.len().saturating_sub(1);
    for (at, target) in act.targets.iter().enumerate() {
        let target = escaped(target.as_bytes());
        match act.what {
            Deal::Rename if at > 0 => all.extend(["to".to_owned(), target]),
            Deal::Rename => all.push(target),
            _ if at < last => all.push(target + ","),
            _ => all.push(target),
        }
    }
    if act.more > 0 {
        all.push(format!("and {} more", act.more));
    }
    if let Some(steps) = act.steps.filter(|n| *n > 1) {
        all.push(format!("{steps} steps"));
    }
    all
}

/// How much it was, and how long it took.
pub fn figures(act: &Act) -> String {
    let mut how = Vec::new();
    how.extend(act.files.map(|n| units::count(n, "file")));
    how.extend(act.bytes.map(units::size));
    how.push(units::took(std::time::Duration::from_micros(act.took_us)));
    how.join(", ")
}

fn line(act: &Act, out: &mut Output) -> io::Result<()> {
    let mut first = Line::default();
    first.add("", Style::Dim, units::local(act.at));
    for (at, piece) in pieces(act).into_iter().enumerate() {
        first.add(if at == 0 { "  " } else { " " }, Style::Bold, piece);
    }
    first.add("  ", Style::Plain, format!("({})", figures(act)));
    first.print(INDENT, out)?;
    let command = match act.command.as_str() {
        "" => "a process".to_owned(),
        line => escaped(line.as_bytes()),
    };
    let mut by = Line::default();
    by.add("    ", Style::Plain, format!("by user {}:", act.uid));
    by.text(" ", Style::Plain, command);
    by.add(" ", Style::Plain, format!("(pid {})", act.pid));
    by.print(INDENT, out)?;
    if let Some(why) = &act.why {
        let first = why.lines().next().unwrap_or_default();
        let mut line = Line::default();
        line.add("    ", Style::Plain, "why:");
        line.text(" ", Style::Plain, escaped(first.as_bytes()));
        line.print(INDENT, out)?;
    }
    if let Some(error) = &act.error {
        let text = out.paint(Style::Bad, &format!("failed: {}", escaped_text(error)));
        out.line(format!("    {text}"))?;
    }
    Ok(())
}
