//! The commands about one snapshot or a few: snap, show, revert, undo, delete, rename.

use std::io;
use std::time::Duration;

use llctl::escape::{escaped, escaped_text};
use llctl::protocol::{RevertInfo, SnapInfo};
use llctl::{Client, SnapName, StateRef, exit};

use super::Outcome;
use super::output::{Output, Style};
use super::units;

/// `llctl snap`
pub fn snap(
    client: &mut Client,
    name: Option<SnapName>,
    message: Option<String>,
    out: &mut Output,
) -> Outcome {
    let info = client.snap(name, message)?;
    if out.json {
        out.object(&info)?;
    } else {
        let changed = info
            .changed
            .map(|n| format!(" ({} changed since the last one)", units::count(n, "file")));
        out.line(format!(
            "Snapshot {} taken{}.",
            bold(out, &info.name),
            changed.unwrap_or_default()
        ))?;
    }
    Ok(exit::OK)
}

/// `llctl show`
pub fn show(client: &mut Client, name: SnapName, out: &mut Output) -> Outcome {
    let detail = client.show(name)?;
    if out.json {
        out.object(&detail)?;
        return Ok(exit::OK);
    }
    let SnapInfo {
        name,
        id,
        created,
        message,
        bytes,
        ..
    } = &detail.snapshot;
    field(out, "snapshot", &bold(out, name))?;
    field(out, "number", &id.to_string())?;
    field(out, "created", &units::local(*created))?;
    if let Some(bytes) = bytes {
        field(
            out,
            "alone",
            &format!(
                "{} (freed if only this snapshot is deleted)",
                units::size(*bytes)
            ),
        )?;
    }
    let previous = detail
        .previous
        .as_deref()
        .map_or("@base".to_owned(), |name| escaped(name.as_bytes()));
    if let Some(counts) = &detail.since_previous {
        field(
            out,
            "changes",
            &format!("{} since {previous}", units::counts(counts)),
        )?;
    }
    if let Some(counts) = &detail.to_live {
        field(out, "since then", &units::counts(counts))?;
    }
    if let Some(message) = message {
        out.line("")?;
        for line in escaped_text(message).lines() {
            out.line(format!("    {line}"))?;
        }
    }
    Ok(exit::OK)
}

/// `llctl revert`
pub fn revert(client: &mut Client, to: StateRef, out: &mut Output) -> Outcome {
    let info = client.revert(to)?;
    if out.json {
        out.object(&info)?;
    } else if info.discarded.is_none() {
        out.line(format!(
            "Everything is as in {} already.",
            bold(out, &info.to)
        ))?;
    } else {
        out.line(format!(
            "Reverted to {}: {}. `llctl undo` takes it back.",
            bold(out, &info.to),
            effort(&info)
        ))?;
    }
    Ok(exit::OK)
}

/// `llctl undo`
pub fn undo(client: &mut Client, out: &mut Output) -> Outcome {
    let info = client.undo()?;
    if out.json {
        out.object(&info)?;
    } else {
        out.line(format!(
            "The revert is undone: {}. `llctl undo` redoes it.",
            effort(&info)
        ))?;
    }
    Ok(exit::OK)
}

/// `llctl delete`
pub fn delete(client: &mut Client, names: Vec<SnapName>, out: &mut Output) -> Outcome {
    let deleted = client.delete(names)?;
    if out.json {
        out.keyed("deleted", &deleted)?;
    } else {
        let names: Vec<String> = deleted.iter().map(|name| bold(out, name)).collect();
        out.line(format!("Deleted {}.", names.join(", ")))?;
    }
    Ok(exit::OK)
}

/// `llctl rename`
pub fn rename(client: &mut Client, old: SnapName, new: SnapName, out: &mut Output) -> Outcome {
    let info = client.rename(old.clone(), new)?;
    if out.json {
        out.object(&info)?;
    } else {
        out.line(format!(
            "{} is now {}.",
            bold(out, old.as_str()),
            bold(out, &info.name)
        ))?;
    }
    Ok(exit::OK)
}

fn effort(info: &RevertInfo) -> String {
    format!(
        "{} changed, in {}",
        units::count(info.changed, "file"),
        units::took(Duration::from_micros(info.took_us))
    )
}

fn bold(out: &Output, name: &str) -> String {
    out.paint(Style::Bold, &escaped(name.as_bytes()))
}

/// One line of a description.
pub fn field(out: &mut Output, name: &str, value: &str) -> io::Result<()> {
    let name = out.paint(Style::Dim, &format!("{name:<11}"));
    out.line(format!("{name}{value}"))
}
