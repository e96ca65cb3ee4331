//! `llctl status`: the mount, its store and their health.

use std::time::Duration;

use llctl::escape::{escaped, escaped_text};
use llctl::protocol::StatusInfo;
use llctl::writers::Writer;
use llctl::{Client, exit};
use serde::Serialize;

use super::Outcome;
use super::output::{Output, Style};
use super::revert::warn;
use super::snapshots::field;
use super::units;

/// How long is looked for programs that have files open, at most.
const LOOK: Duration = Duration::from_millis(300);

#[derive(Serialize)]
struct Page<'a> {
    #[serde(flatten)]
    status: &'a StatusInfo,
    /// As far as they were found in time; of other users' programs only root sees anything.
    open_for_writing: &'a [Writer],
}

/// `llctl status`
pub fn run(client: &mut Client, out: &mut Output) -> Outcome {
    let looked = warn::begin_for(client.welcome().mountpoint.as_path(), LOOK);
    let status = client.status()?;
    let programs = looked.end();
    if out.json {
        out.object(&Page {
            status: &status,
            open_for_writing: &programs,
        })?;
        return Ok(exit::OK);
    }
    field(
        out,
        "mount",
        &out.paint(Style::Bold, &status.mountpoint.to_string()),
    )?;
    field(out, "store", &status.store.to_string())?;
    let mut space = format!("{} in the store", units::size(status.store_bytes));
    if let Some(limit) = status.store_limit {
        space.push_str(&format!(" of at most {}", units::size(limit)));
    }
    if let Some(free) = status.store_free {
        space.push_str(&format!(", {} free on its disk", units::size(free)));
    }
    if let Some(base) = status.base_bytes {
        space.push_str(&format!(", {} in the directory below", units::size(base)));
    }
    field(out, "space", &space)?;
    if let Some(parts) = status.store_parts {
        let text = format!(
            "file data {}, journal {}, images {}, notes {}, reserve {}",
            units::size(parts.layers),
            units::size(parts.journal),
            units::size(parts.images),
            units::size(parts.notes),
            units::size(parts.reserve)
        );
        field(out, "of that", &text)?;
        if parts.saved > 0 {
            let saved = format!("{} less by `llctl archive`", units::size(parts.saved));
            field(out, "archived", &saved)?;
        }
    }
    let daemon = format!(
        "llfs {}, process {}, up {}",
        escaped(status.version.as_bytes()),
        status.pid,
        units::uptime(status.uptime_secs)
    );
    field(out, "daemon", &daemon)?;
    let last = match &status.last_snapshot {
        Some(last) => format!(
            ", the last is {} of {}",
            escaped(last.name.as_bytes()),
            units::local(last.created)
        ),
        None => String::new(),
    };
    field(out, "snapshots", &format!("{}{last}", status.snapshots))?;
    if !status.held.is_empty() {
        let held = status.held.iter();
        let held = held.map(|h| format!("{} {}", escaped(h.name.as_bytes()), units::size(h.bytes)));
        let held = held.collect::<Vec<_>>().join(", ");
        field(
            out,
            "held alone",
            &format!("{held}: what deleting one of them frees"),
        )?;
    }
    if status.discarded > 0 {
        field(
            out,
            "discarded",
            &format!(
                "{}, see `llctl list`",
                units::count(status.discarded, "state")
            ),
        )?;
    }
    if let Some(changed) = status.changed {
        let since = status
            .last_snapshot
            .as_ref()
            .map_or("the mount was made", |_| "the last snapshot");
        let what = match &status.changes {
            Some(counts) => units::counts(counts),
            None => units::count(changed, "path"),
        };
        field(out, "changed", &format!("{what} since {since}"))?;
    }
    for (at, program) in programs.iter().enumerate() {
        let label = if at == 0 { "writers" } else { "" };
        field(out, label, &warn::sentence(program))?;
    }
    if let Some(why) = &status.read_only {
        field(out, "read-only", &out.paint(Style::Bad, &escaped_text(why)))?;
    }
    for warning in &status.warnings {
        let label = out.paint(Style::Notice, "warning:");
        out.line(format!("{label} {}", escaped_text(warning)))?;
    }
    Ok(exit::OK)
}
