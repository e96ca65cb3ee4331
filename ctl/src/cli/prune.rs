//! `llctl prune`: what would go, the question, and that it goes.

use llctl::config::{AppliesTo, Retention, Size, Span};
use llctl::escape::escaped;
use llctl::protocol::PruneInfo;
use llctl::{Client, exit};

use super::output::{Output, Style};
use super::{Outcome, confirm, units};

/// What `prune` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without rules of its own it goes by those in force (`llctl config show`), which llfs also does by itself every few minutes. With any of \
the --keep options, these and no others say what is kept. Snapshots that are pinned always stay, those that have tags too, and those \
that somebody asked for, unless --all is given: only what llfs, `llctl hook` or the like took by themselves goes. What undo and redo need is \
no snapshot and stays.

Examples:
  llctl prune --dry-run                         what would go, and what that frees
  llctl prune --keep-last 10 --keep-for 1d
  llctl prune --all --daily 30 --dry-run")]
pub struct PruneArgs {
    /// Keep the newest so many
    #[arg(long, value_name = "COUNT")]
    keep_last: Option<u32>,
    /// Keep what is not older, such as 12h or 7d
    #[arg(long, value_name = "TIME")]
    keep_for: Option<Span>,
    /// Keep the last one of each of the newest so many hours that have any
    #[arg(long, value_name = "COUNT")]
    hourly: Option<u32>,
    /// Keep the last one of each of the newest so many days that have any
    #[arg(long, value_name = "COUNT")]
    daily: Option<u32>,
    /// Of all that, keep no more than may hold so much together, such as 20G
    #[arg(long, value_name = "SIZE")]
    max_size: Option<Size>,
    /// Also give up what somebody asked for
    #[arg(long)]
    all: bool,
    /// Do it without asking
    #[arg(short, long)]
    yes: bool,
    /// Only show what would go
    #[arg(short = 'n', long, conflicts_with = "yes")]
    dry_run: bool,
}

impl PruneArgs {
    fn has_keeps(&self) -> bool {
        let counts = [self.keep_last, self.hourly, self.daily];
        counts.iter().any(Option::is_some) || self.keep_for.is_some()
    }

    /// The rules that are asked for; none for those in force.
    fn rules(&self, in_force: &Retention) -> Option<Retention> {
        if !self.has_keeps() && self.max_size.is_none() && !self.all {
            return None;
        }
        let mut rules = in_force.clone();
        if self.has_keeps() {
            rules = Retention {
                keep_last: self.keep_last.unwrap_or(0),
                keep_for: self.keep_for,
                hourly: self.hourly.unwrap_or(0),
                daily: self.daily.unwrap_or(0),
                max_size: None,
                ..rules
            };
        }
        rules.max_size = self.max_size.or(rules.max_size);
        if self.all {
            rules.applies_to = AppliesTo::All;
        }
        Some(rules)
    }
}

/// `llctl prune`
pub fn run(client: &mut Client, args: PruneArgs, out: &mut Output) -> Outcome {
    // A client of an older daemon fails here.
    let in_force = client.config()?.rules.retention;
    let rules = args.rules(&in_force);
    let done = if args.yes {
        client.prune(rules, true)?
    } else {
        let plan = client.prune(rules.clone(), false)?;
        if args.dry_run || plan.snapshots.is_empty() {
            tell(&plan, out)?;
            return Ok(exit::OK);
        }
        if super::interactive() && !out.json {
            for line in lines(&plan, out) {
                eprintln!("{line}");
            }
        }
        confirm::ask(
            out,
            &format!(
                "Give up {} for good?",
                units::count(plan.snapshots.len() as u64, "snapshot")
            ),
            "what is given up cannot be brought back, so this needs a yes",
            "`llctl prune --dry-run` shows what would go, `llctl prune --yes` does it",
        )?;
        client.prune_shown(rules, &plan)?
    };
    tell(&done, out)?;
    Ok(exit::OK)
}

fn tell(info: &PruneInfo, out: &mut Output) -> std::io::Result<()> {
    if out.json {
        return out.object(info);
    }
    if !info.done {
        for line in lines(info, out) {
            out.line(line)?;
        }
    }
    let count = units::count(info.snapshots.len() as u64, "snapshot");
    let frees = |verb: &str| match info.frees {
        Some(bytes) => format!(", which {verb} {}", units::size(bytes)),
        None => String::new(),
    };
    out.line(match (info.snapshots.is_empty(), info.done) {
        (true, _) => format!("Nothing to give up: all {} stay.", info.kept),
        (false, true) => format!("Gave up {count}{}; {} stay.", frees("frees"), info.kept),
        (false, false) => format!(
            "Would give up {count}{}; {} stay.",
            frees("would free"),
            info.kept
        ),
    })
}

fn lines(info: &PruneInfo, out: &Output) -> Vec<String> {
    let line = |pruned: &llctl::protocol::Pruned| {
        let name = out.paint(Style::Bold, &escaped(pruned.name.as_bytes()));
        format!("would give up {name}, of {}", units::local(pruned.created))
    };
    info.snapshots.iter().map(line).collect()
}
