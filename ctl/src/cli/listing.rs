//! `llctl list`: a table of snapshots, and what reverts discarded.

use std::io;

use llctl::escape::escaped;
use llctl::protocol::{DiscardedInfo, ListQuery, SnapInfo, SortBy};
use llctl::{Client, Moment, exit};

use super::Outcome;
use super::fail::Fail;
use super::fitted::{CUT_MIN, cut, width};
use super::history::moment;
use super::meta;
use super::output::{Output, Style};
use super::snapshots::{bold, field};
use super::units;

/// What `list` takes.
#[derive(Debug, Default, clap::Args)]
pub struct ListArgs {
    /// Only those of this session
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Only those of this phase
    #[arg(long, value_name = "NAME")]
    phase: Option<String>,
    /// Only those of this task
    #[arg(long, value_name = "ID")]
    task: Option<String>,
    /// Only those with this reason
    #[arg(long, value_name = "WORDS")]
    reason: Option<String>,
    /// Only those with this tag; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Only those taken then or later: an age such as 10m or 2d, or a time such as 2026-11-21T10:00
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Moment>,
    /// Only those taken then or earlier
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Moment>,
    /// The order
    #[arg(long, value_name = "BY", default_value = "created")]
    sort: Sort,
    /// The other way round
    #[arg(long)]
    reverse: bool,
    /// At most so many: the last of the list
    #[arg(short = 'n', long, value_name = "COUNT")]
    limit: Option<u32>,
    /// Leave out so many at the end of the list
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    skip: u32,
}

/// What a list is sorted by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum Sort {
    /// When it was taken
    #[default]
    Created,
    /// Its name
    Name,
    /// How much changed in it
    Changed,
    /// How much space it holds alone
    Alone,
}

impl From<ListArgs> for ListQuery {
    fn from(args: ListArgs) -> Self {
        ListQuery {
            session: args.session,
            phase: args.phase,
            task: args.task,
            reason: args.reason,
            tags: args.tags,
            since: args.since.map(|m| m.0),
            until: args.until.map(|m| m.0),
            sort: match args.sort {
                Sort::Created => SortBy::Created,
                Sort::Name => SortBy::Name,
                Sort::Changed => SortBy::Changed,
                Sort::Alone => SortBy::Alone,
            },
            reverse: args.reverse,
            skip: args.skip,
            limit: args.limit,
        }
    }
}

/// `llctl resume`
pub fn resume(client: &mut Client, session: Option<String>, out: &mut Output) -> Outcome {
    let query = ListQuery {
        session: session.clone(),
        limit: Some(1),
        ..ListQuery::default()
    };
    let Some(last) = client.list_some(query)?.snapshots.pop() else {
        let what = session.map_or(String::new(), |s| format!(" of the session {s:?}"));
        return Err(Fail::Refused {
            code: exit::NOT_FOUND,
            kind: "not_found",
            message: format!("there is no snapshot{what}"),
            hint: Some("`llctl list` shows those there are".to_owned()),
        });
    };
    if out.json {
        out.object(&last)?;
        return Ok(exit::OK);
    }
    field(out, "snapshot", &bold(out, &last.name))?;
    field(out, "created", &units::local(last.created))?;
    if let Some(message) = &last.message {
        let first = message.lines().next().unwrap_or_default();
        field(out, "message", &escaped(first.as_bytes()))?;
    }
    meta::fields(&last.meta, out)?;
    Ok(exit::OK)
}

/// `llctl list`
pub fn list(client: &mut Client, args: ListArgs, out: &mut Output) -> Outcome {
    let query = ListQuery::from(args);
    let all = query.is_all();
    let listing = client.list_some(query)?;
    if out.json {
        out.object(&listing)?;
        return Ok(exit::OK);
    }
    if listing.snapshots.is_empty() && !all {
        eprintln!("No snapshot is like that.");
    } else if listing.snapshots.is_empty() {
        eprintln!("No snapshots yet; `llctl snap` takes one.");
    } else {
        snapshots(&listing.snapshots, out)?;
    }
    if !listing.discarded.is_empty() {
        if !listing.snapshots.is_empty() {
            out.line("")?;
        }
        discarded(&listing.discarded, out)?;
    }
    Ok(exit::OK)
}

fn snapshots(snapshots: &[SnapInfo], out: &mut Output) -> io::Result<()> {
    let rows: Vec<Vec<String>> = snapshots
        .iter()
        .map(|snap| {
            let message = snap.message.as_deref().unwrap_or_default();
            vec![
                escaped(snap.name.as_bytes()),
                units::local(snap.created),
                snap.changed.map_or("-".to_owned(), |n| n.to_string()),
                snap.bytes.map_or("-".to_owned(), units::size),
                escaped(message.lines().next().unwrap_or_default().as_bytes()),
            ]
        })
        .collect();
    table(
        out,
        &[
            ("NAME", Align::Left),
            ("CREATED", Align::Left),
            ("CHANGED", Align::Right),
            ("ALONE", Align::Right),
            ("MESSAGE", Align::Left),
        ],
        &rows,
    )
}

fn discarded(states: &[DiscardedInfo], out: &mut Output) -> io::Result<()> {
    let again = if states.iter().any(|state| state.redo) {
        ", `llctl redo` the last one marked +"
    } else {
        ""
    };
    out.line(format!(
        "Discarded by reverts (`llctl undo` brings back the one marked *{again}):"
    ))?;
    let rows: Vec<Vec<String>> = states
        .iter()
        .map(|state| {
            vec![
                match (state.undo, state.redo) {
                    (true, _) => "*",
                    (_, true) => "+",
                    _ => "",
                }
                .to_owned(),
                units::local(state.discarded),
                match state.reverted_to.as_str() {
                    "@part" => "by the revert of a part".to_owned(),
                    // A state that an undo or a redo brought back, or a snapshot that is no more.
                    "@undo" => "to a state without a name".to_owned(),
                    to => format!("by the revert to {}", escaped(to.as_bytes())),
                },
                state.changed.map_or("-".to_owned(), |n| n.to_string()),
                state.bytes.map_or("-".to_owned(), units::size),
            ]
        })
        .collect();
    table(
        out,
        &[
            ("", Align::Left),
            ("DISCARDED", Align::Left),
            ("HOW", Align::Left),
            ("CHANGED", Align::Right),
            ("ALONE", Align::Right),
        ],
        &rows,
    )
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Align {
    Left,
    Right,
}

/// Columns as wide as their widest cell; no line ends in spaces. Nothing is left out, but on a terminal that is too narrow: there the text
/// of the last column is cut, or columns are left out from the right, never the first, whose names are to be typed.
fn table(out: &mut Output, head: &[(&str, Align)], rows: &[Vec<String>]) -> io::Result<()> {
    let widths: Vec<usize> = head
        .iter()
        .enumerate()
        .map(|(i, (title, _))| {
            rows.iter()
                .map(|row| width(&row[i]))
                .chain([width(title)])
                .max()
                .unwrap_or(0)
        })
        .collect();
    let widths = match out.width {
        Some(room) => fitting(widths, head, room),
        None => widths,
    };
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (i, cell) in cells.take(widths.len()).enumerate() {
            let cell = cut(cell, widths[i]);
            let pad = " ".repeat(widths[i] - width(&cell));
            if i > 0 {
                text.push_str("  ");
            }
            match head[i].1 {
                Align::Left => text.extend([cell.as_ref(), &pad]),
                Align::Right => text.extend([&pad, cell.as_ref()]),
            }
        }
        text.truncate(text.trim_end().len());
        text
    };
    let title = line(&mut head.iter().map(|(title, _)| *title));
    let title = out.paint(Style::Dim, &title);
    out.line(title)?;
    for row in rows {
        out.line(line(&mut row.iter().map(String::as_str)))?;
    }
    Ok(())
}

/// The widths of as many columns as there is room for; the last one may be narrower than its text.
fn fitting(mut widths: Vec<usize>, head: &[(&str, Align)], room: usize) -> Vec<usize> {
    while let [.., last] = &mut widths[..] {
        let last = *last;
        let columns = widths.len();
        let all = widths.iter().sum::<usize>() + 2 * (columns - 1);
        let Some(excess) = all.checked_sub(room).filter(|n| *n > 0) else {
            break;
        };
        if columns == 1 {
            break;
        }
        widths.pop();
        if head[columns - 1].1 == Align::Left && last >= excess + CUT_MIN {
            widths.push(last - excess);
            break;
        }
    }
    widths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_terminal_loses_columns_from_the_right() {
        let head = [
            ("NAME", Align::Left),
            ("N", Align::Right),
            ("TEXT", Align::Left),
        ];
        let fit = |room| fitting(vec![10, 5, 30], &head, room);
        assert_eq!(fit(49), [10, 5, 30]);
        assert_eq!(fit(48), [10, 5, 29]);
        assert_eq!(fit(19 + CUT_MIN), [10, 5, CUT_MIN]);
        assert_eq!(fit(18 + CUT_MIN), [10, 5]);
        assert_eq!(fit(17), [10, 5]);
        assert_eq!(fit(16), [10]);
        assert_eq!(fit(1), [10], "a name is never cut");
    }
}
