//! The commands about one snapshot or a few: snap, show, revert, undo, redo, delete, rename.

use std::io;
use std::time::Duration;

use llctl::client::Snapped;
use llctl::escape::{escaped, escaped_text};
use llctl::protocol::{RevertInfo, SnapInfo, SnapMeta};
use llctl::{Client, SnapName, exit};

use super::Outcome;
use super::meta;
use super::output::{Output, Style};
use super::units;

/// How a snapshot is taken.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// Not if nothing has changed.
    pub if_changed: bool,
    /// With what `git status` says.
    pub git_status: bool,
}

/// `llctl snap`
pub fn snap(
    client: &mut Client,
    name: Option<SnapName>,
    message: Option<String>,
    mut meta: SnapMeta,
    how: How,
    out: &mut Output,
) -> Outcome {
    meta.git = meta::repository(client.welcome().mountpoint.as_path(), how.git_status);
    // As the standard has it, one that makes no sense is passed over.
    let traceparent = || std::env::var("TRACEPARENT").ok()?.parse().ok();
    meta.trace = meta.trace.or_else(traceparent);
    let taken = match how.if_changed {
        true => client.snap_if_changed(name, message, meta)?,
        false => Snapped::Taken(client.snap_with(name, message, meta)?),
    };
    tell(&taken, out)
}

/// `llctl phase`
pub fn phase(
    client: &mut Client,
    name: String,
    session: Option<String>,
    out: &mut Output,
) -> Outcome {
    tell(&client.phase(name, session)?, out)
}

/// `llctl session`
pub fn session(client: &mut Client, id: String, out: &mut Output) -> Outcome {
    tell(&client.session(id)?, out)
}

fn tell(taken: &Snapped, out: &mut Output) -> Outcome {
    let info = match taken {
        Snapped::Taken(info) => info,
        Snapped::Unchanged(info) => {
            if out.json {
                out.keyed("unchanged", info)?;
            } else {
                let name = bold(out, &info.name);
                out.line(format!(
                    "Nothing has changed since {name}: no snapshot was taken."
                ))?;
            }
            return Ok(exit::OK);
        }
    };
    if out.json {
        out.object(info)?;
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
        shared,
        hash,
        meta,
        ..
    } = &detail.snapshot;
    field(out, "snapshot", &bold(out, name))?;
    field(out, "number", &id.to_string())?;
    field(out, "created", &units::local(*created))?;
    if let Some(imported) = meta.imported {
        field(out, "imported", &units::local(imported))?;
    }
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
    if let Some(shared) = shared {
        field(
            out,
            "shared",
            &format!("{} in common with other states", units::size(*shared)),
        )?;
    }
    if let Some(archived) = detail.archived {
        field(
            out,
            "archived",
            &format!("{} of it are compressed", units::size(archived)),
        )?;
    }
    if let Some(hash) = hash {
        field(out, "hash", hash)?;
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
    meta::fields(meta, out)?;
    if let Some(format) = meta.format {
        field(out, "format", &format!("version {format} of the store"))?;
    }
    if let Some(hash) = &meta.config {
        let known = match &detail.config {
            Some(_) => ", shown by --json",
            None => "",
        };
        field(
            out,
            "rules",
            &format!("an llfs.toml with the hash {hash}{known}"),
        )?;
    }
    if let Some(message) = message {
        out.line("")?;
        for line in escaped_text(message).lines() {
            out.line(format!("    {line}"))?;
        }
    }
    Ok(exit::OK)
}

/// `llctl undo`
pub fn undo(client: &mut Client, steps: u32, out: &mut Output) -> Outcome {
    let info = client.undo_steps(steps)?;
    let what = match steps {
        1 => "The revert is undone".to_owned(),
        n => format!("{n} reverts are undone"),
    };
    if out.json {
        out.object(&info)?;
    } else {
        let back = step("redo", steps);
        out.line(format!("{what}: {}. `{back}` redoes it.", effort(&info)))?;
    }
    Ok(exit::OK)
}

/// `llctl redo`
pub fn redo(client: &mut Client, steps: u32, out: &mut Output) -> Outcome {
    let info = client.redo_steps(steps)?;
    let what = match steps {
        1 => "The revert is done again".to_owned(),
        n => format!("{n} reverts are done again"),
    };
    if out.json {
        out.object(&info)?;
    } else {
        let back = step("undo", steps);
        out.line(format!(
            "{what}: {}. `{back}` takes it back.",
            effort(&info)
        ))?;
    }
    Ok(exit::OK)
}

fn step(command: &str, steps: u32) -> String {
    match steps {
        1 => format!("llctl {command}"),
        n => format!("llctl {command} {n}"),
    }
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

/// `3 files changed, in 1.2 ms`
pub fn effort(info: &RevertInfo) -> String {
    format!(
        "{} changed, in {}",
        files(info, info.changed),
        units::took(Duration::from_micros(info.took_us))
    )
}

/// `3 files`, or `at least 500 files`, of what a revert counted.
pub fn files(info: &RevertInfo, number: u64) -> String {
    let least = if info.at_least { "at least " } else { "" };
    format!("{least}{}", units::count(number, "file"))
}

/// A name as it is shown.
pub fn bold(out: &Output, name: &str) -> String {
    out.paint(Style::Bold, &escaped(name.as_bytes()))
}

/// One line of a description.
pub fn field(out: &mut Output, name: &str, value: &str) -> io::Result<()> {
    let name = out.paint(Style::Dim, &format!("{name:<11}"));
    out.line(format!("{name}{value}"))
}
