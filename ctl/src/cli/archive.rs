//! `llctl archive`: compresses the data of old snapshots in place.

use clap_complete::ArgValueCompleter;
use llctl::config::Span;
use llctl::protocol::{ArchiveInfo, UnixNanos};
use llctl::{Client, SnapName, exit};

use super::output::Output;
use super::progress::Bar;
use super::{Outcome, complete, units};

/// What `archive` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Nothing changes but the space that they take: they can be looked at, reverted to, exported and deleted as before, and each block is still \
compared with its checksum when it is read. Reads of what is compressed take a little longer. The store keeps the data of several snapshots \
in one file, which is compressed as a whole, with what other snapshots and the tree have in it. Untouched files of the directory below \
the mount are no data of the store. `llctl status` says what it gave.

It can be stopped at any time; what is done is done, and the same command goes on.

Examples:
  llctl archive --older-than 7d
  llctl archive before-upgrade --dry-run")]
pub struct ArchiveArgs {
    /// The snapshots
    #[arg(value_name = "NAME", required_unless_present = "older_than")]
    #[arg(add = ArgValueCompleter::new(complete::snapshots))]
    names: Vec<SnapName>,
    /// And all that are older than this, such as 12h or 7d
    #[arg(long, value_name = "TIME")]
    older_than: Option<Span>,
    /// Only say what there is to be compressed
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// `llctl archive`
pub fn run(client: &mut Client, args: ArchiveArgs, out: &mut Output) -> Outcome {
    let until = args.older_than.map(|span| {
        let age = i64::try_from(span.get().as_nanos()).unwrap_or(i64::MAX);
        UnixNanos(UnixNanos::now().0.saturating_sub(age))
    });
    let mut bar = Bar::new(out.json);
    let done = client.archive(args.names, until, !args.dry_run, |progress| {
        bar.show(&progress);
        Ok(())
    });
    bar.clear();
    let info = done?;
    if out.json {
        out.object(&info)?;
    } else {
        out.line(sentence(&info))?;
    }
    Ok(exit::OK)
}

fn sentence(info: &ArchiveInfo) -> String {
    let snapshots = units::count(info.snapshots.len() as u64, "snapshot");
    let before = units::size(info.before);
    match (info.files, info.after) {
        (0, None) => format!("Nothing to compress in {snapshots}."),
        (0, Some(_)) => {
            format!(
                "Nothing became smaller: what is in {snapshots} is compressed already, or cannot be."
            )
        }
        (_, None) => {
            format!("Would compress {before}: data of {snapshots}, and what lies with it.")
        }
        (_, Some(after)) => format!(
            "Compressed data of {snapshots}, and what lies with it: {before} became {}.",
            units::size(after)
        ),
    }
}
