//! `llctl diff`: by file, as counts of lines, or as a patch.

mod lines;
mod names;
mod patch;
pub mod paths;

use std::io;

use llctl::protocol::{BytePath, Change, ChangeCounts, Content};
use llctl::{Client, exit};
use serde::Serialize;

use super::Outcome;
use super::args::{DiffArgs, Global};
use super::fail::Fail;
use super::fitted::Line;
use super::output::{Output, Style};
use super::units;

pub use names::plain_summary as as_line;
pub use patch::git as as_patch;

pub use names::letter;

/// Where a line goes on that is too long for a terminal,
const INDENT: usize = 3;
/// and one of `--stat`.
const STAT_INDENT: usize = 20;

/// `llctl diff`
pub fn run(client: &mut Client, global: &Global, args: DiffArgs, out: &mut Output) -> Outcome {
    let mountpoint = client.welcome().mountpoint.clone();
    let paths = if args.paths.is_empty() {
        Vec::new()
    } else {
        paths::below_mount(
            mountpoint.as_path(),
            global.directory.as_deref(),
            &args.paths,
        )?
    };
    let (from, to) = (args.from.clone(), args.to.clone().unwrap_or_default());
    out.page();
    let counts = client.diff(from, to, paths, args.contents(), |change| {
        show(change, &args, out)
    })?;
    let code = end(&counts, &args, out)?;
    Ok(if args.exit_code && counts.total() > 0 {
        exit::FAILED
    } else {
        code
    })
}

/// Shows one change.
pub fn show(change: Change, args: &DiffArgs, out: &mut Output) -> io::Result<()> {
    if out.json {
        object(change, args, out)
    } else if args.patch {
        patch::print(&change, out)
    } else if args.stat {
        stat(&change, out)
    } else {
        names::summary(Line::default(), &change).print(INDENT, out)
    }
}

/// Says how many there were.
pub fn end(counts: &ChangeCounts, args: &DiffArgs, out: &mut Output) -> Outcome {
    if out.json {
        out.keyed("summary", counts)?;
    } else if counts.total() == 0 {
        eprintln!("No differences.");
    } else if !args.patch {
        out.line(out.paint(Style::Dim, &format!("{}.", units::counts(counts))))?;
    }
    Ok(exit::OK)
}

/// A change in JSON: contents become a patch or counts of lines, by the option that asked for them.
#[derive(Serialize)]
struct ChangeObject {
    #[serde(flatten)]
    change: Change,
    #[serde(skip_serializing_if = "Option::is_none", rename = "patch")]
    text: Option<BytePath>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lines: Option<lines::Counts>,
}

fn object(mut change: Change, args: &DiffArgs, out: &mut Output) -> io::Result<()> {
    let text = args.patch.then(|| BytePath(patch::git(&change)));
    let lines = if args.stat {
        both(&change).map(|(old, new)| lines::count(old, new))
    } else {
        None
    };
    change.patch = None;
    out.keyed(
        "change",
        &ChangeObject {
            change,
            text,
            lines,
        },
    )
}

/// One line of `--stat`.
fn stat(change: &Change, out: &mut Output) -> io::Result<()> {
    let (added, removed) = match (both(change), &change.patch) {
        (Some((old, new)), _) => {
            let counts = lines::count(old, new);
            (format!("+{}", counts.added), format!("-{}", counts.removed))
        }
        (None, Some(_)) => ("binary".to_owned(), String::new()),
        (None, None) => (String::new(), String::new()),
    };
    let mut line = Line::default();
    line.add("", Style::Good, format!("{added:>7}"));
    line.add(" ", Style::Bad, format!("{removed:>7}"));
    line.add("  ", Style::Plain, "");
    names::summary(line, change).print(STAT_INDENT, out)
}

/// Both contents, if they are text.
fn both(change: &Change) -> Option<(&[u8], &[u8])> {
    let patch = change.patch.as_ref()?;
    match (text(&patch.old)?, text(&patch.new)?) {
        (None, None) => None,
        (old, new) => Some((old.unwrap_or_default(), new.unwrap_or_default())),
    }
}

/// None if there is something that is no text; `Some(None)` if there is nothing.
fn text(content: &Content) -> Option<Option<&[u8]>> {
    match content {
        Content::Absent => Some(None),
        Content::Bytes(bytes) => Some(Some(bytes.as_slice())),
        Content::Binary | Content::TooLarge => None,
    }
}

fn outside(path: &std::path::Path, mountpoint: &std::path::Path) -> Fail {
    use std::os::unix::ffi::OsStrExt;
    Fail::Refused {
        code: exit::USAGE,
        kind: "invalid",
        message: format!(
            "{} is not inside the mount {}",
            llctl::escape::escaped(path.as_os_str().as_bytes()),
            llctl::escape::escaped(mountpoint.as_os_str().as_bytes())
        ),
        hint: Some("paths are relative to the current directory, or to DIR with -C DIR".to_owned()),
    }
}
