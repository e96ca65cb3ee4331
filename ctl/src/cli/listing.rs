//! `llctl list`: a table of snapshots, and what reverts discarded.

use std::io;

use llctl::escape::escaped;
use llctl::protocol::{DiscardedInfo, SnapInfo};
use llctl::{Client, exit};

use super::Outcome;
use super::output::{Output, Style};
use super::units;

/// `llctl list`
pub fn list(client: &mut Client, out: &mut Output) -> Outcome {
    let listing = client.list()?;
    if out.json {
        out.object(&listing)?;
        return Ok(exit::OK);
    }
    if listing.snapshots.is_empty() {
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
    out.line("Discarded by reverts (`llctl undo` brings back the one marked *):")?;
    let rows: Vec<Vec<String>> = states
        .iter()
        .map(|state| {
            vec![
                if state.undo { "*" } else { "" }.to_owned(),
                units::local(state.discarded),
                match state.reverted_to.as_str() {
                    "@part" => "by the revert of a part".to_owned(),
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

/// Columns as wide as their widest cell; nothing is cut off, and no line ends in spaces.
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
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (i, cell) in cells.enumerate() {
            let pad = " ".repeat(widths[i] - width(cell));
            if i > 0 {
                text.push_str("  ");
            }
            match head[i].1 {
                Align::Left => text.extend([cell, &pad]),
                Align::Right => text.extend([&pad, cell]),
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

fn width(text: &str) -> usize {
    text.chars().count()
}
