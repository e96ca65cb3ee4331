//! `llctl status`: the mount, its store and their health.

use llctl::escape::{escaped, escaped_text};
use llctl::{Client, exit};

use super::Outcome;
use super::output::{Output, Style};
use super::snapshots::field;
use super::units;

/// `llctl status`
pub fn run(client: &mut Client, out: &mut Output) -> Outcome {
    let status = client.status()?;
    if out.json {
        out.object(&status)?;
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
        field(
            out,
            "changed",
            &format!("{} since {since}", units::count(changed, "file")),
        )?;
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
