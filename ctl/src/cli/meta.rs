//! What snapshots say of themselves: the options that say it, and the commands annotate, tag, pin and unpin.

use std::io;
use std::path::Path;

use llctl::escape::escaped;
use llctl::protocol::{Entity, GitState, MetaEdit, Metric, SnapInfo, SnapMeta, Trace};
use llctl::{Client, SnapName, exit, git};

use super::Outcome;
use super::output::Output;
use super::snapshots::{bold, field};

/// Options that say more of a snapshot.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "What it says of itself")]
pub struct MetaArgs {
    /// Why it is taken: manual, error, timeout, resource-limit, validation-failed, pre-change, automatic, or own words
    #[arg(long, value_name = "WORDS")]
    pub reason: Option<String>,
    /// The session that it belongs to, such as one run of an agent
    #[arg(long, value_name = "ID")]
    pub session: Option<String>,
    /// The phase of the work
    #[arg(long, value_name = "NAME")]
    pub phase: Option<String>,
    /// The task that it belongs to
    #[arg(long, value_name = "ID")]
    pub task: Option<String>,
    /// The task that this task is a part of
    #[arg(long, value_name = "ID")]
    pub parent_task: Option<String>,
    /// Who or what takes it
    #[arg(long, value_name = "NAME")]
    pub created_by: Option<String>,
    /// The request on whose behalf it is taken
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
    /// The trace that it belongs to: 32 hexadecimal digits, or a W3C traceparent
    #[arg(long, value_name = "TRACE")]
    pub trace: Option<Trace>,
    /// What the work is about, such as ticket:1234
    #[arg(long, value_name = "TYPE:ID", value_parser = entity)]
    pub entity: Option<Entity>,
    /// A word to find it by; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// A value to keep with it; numbers are kept as numbers; may be given several times
    #[arg(long = "metric", value_name = "KEY=VALUE", value_parser = metric)]
    pub metrics: Vec<(String, Metric)>,
}

fn entity(text: &str) -> Result<Entity, String> {
    match text.split_once(':') {
        Some((kind, id)) if !kind.is_empty() && !id.is_empty() => Ok(Entity {
            kind: kind.to_owned(),
            id: id.to_owned(),
        }),
        _ => Err("a type and an id with a colon between them, such as ticket:1234".to_owned()),
    }
}

fn metric(text: &str) -> Result<(String, Metric), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), Metric::parse(value))),
        _ => Err("a name and a value with = between them, such as tests=12".to_owned()),
    }
}

impl From<MetaArgs> for SnapMeta {
    fn from(args: MetaArgs) -> Self {
        SnapMeta {
            reason: args.reason,
            session: args.session,
            phase: args.phase,
            task: args.task,
            parent_task: args.parent_task,
            created_by: args.created_by,
            request_id: args.request_id,
            trace: args.trace,
            entity: args.entity,
            tags: args.tags.into_iter().collect(),
            metrics: args.metrics.into_iter().collect(),
            git: None,
            config: None,
            format: None,
            imported: None,
            pinned: false,
        }
    }
}

/// What the repository of the current directory, or of the mount's root, has checked out. With `status`, git is asked
/// whether it is dirty.
pub fn repository(mountpoint: &Path, status: bool) -> Option<GitState> {
    let here = std::env::current_dir().ok();
    let here = here.filter(|dir| dir.starts_with(mountpoint));
    let dir = here.as_deref().unwrap_or(mountpoint);
    let found = git::read(dir, mountpoint)?;
    let dirty = if status { git::dirty(dir) } else { None };
    Some(GitState { dirty, ..found })
}

/// `llctl annotate`
pub fn annotate(
    client: &mut Client,
    name: SnapName,
    message: Option<String>,
    set: MetaArgs,
    unset: Vec<String>,
    out: &mut Output,
) -> Outcome {
    let edit = MetaEdit {
        message,
        set: set.into(),
        unset: unset.into_iter().collect(),
        ..MetaEdit::default()
    };
    let info = client.describe(name, edit)?;
    told(
        &info,
        &format!("{} is annotated.", bold(out, &info.name)),
        out,
    )
}

/// `llctl tag`
pub fn tag(
    client: &mut Client,
    name: SnapName,
    tags: Vec<String>,
    remove: bool,
    out: &mut Output,
) -> Outcome {
    let mut edit = MetaEdit::default();
    if remove {
        edit.untag.extend(tags);
    } else {
        edit.set.tags.extend(tags);
    }
    let info = client.describe(name, edit)?;
    let tags: Vec<String> = (info.meta.tags.iter())
        .map(|t| escaped(t.as_bytes()))
        .collect();
    let text = match &tags[..] {
        [] => format!("{} has no tags.", bold(out, &info.name)),
        tags => format!("{} is tagged {}.", bold(out, &info.name), tags.join(", ")),
    };
    told(&info, &text, out)
}

/// `llctl pin` and `llctl unpin`
pub fn pin(client: &mut Client, names: Vec<SnapName>, pinned: bool, out: &mut Output) -> Outcome {
    for name in names {
        let edit = MetaEdit {
            pinned: Some(pinned),
            ..MetaEdit::default()
        };
        let info = client.describe(name, edit)?;
        let how = if pinned {
            "is pinned: retention keeps it"
        } else {
            "is not pinned any more"
        };
        told(&info, &format!("{} {how}.", bold(out, &info.name)), out)?;
    }
    Ok(exit::OK)
}

fn told(info: &SnapInfo, text: &str, out: &mut Output) -> Outcome {
    if out.json {
        out.object(info)?;
    } else {
        out.line(text)?;
    }
    Ok(exit::OK)
}

/// The fields that say something, one a line.
pub fn fields(meta: &SnapMeta, out: &mut Output) -> io::Result<()> {
    let entity = (meta.entity.as_ref()).map(|e| format!("{}:{}", e.kind, e.id));
    let trace = meta.trace.as_ref().map(|t| t.as_str().to_owned());
    let tags = Vec::from_iter(meta.tags.iter().map(String::as_str)).join(", ");
    let metrics = Vec::from_iter(meta.metrics.iter().map(|(k, v)| format!("{k}={v}"))).join(", ");
    let rows = [
        ("reason", meta.reason.clone()),
        ("session", meta.session.clone()),
        ("phase", meta.phase.clone()),
        ("task", meta.task.clone()),
        ("parent", meta.parent_task.clone()),
        ("by", meta.created_by.clone()),
        ("request", meta.request_id.clone()),
        ("trace", trace),
        ("entity", entity),
        ("tags", Some(tags)),
        ("metrics", Some(metrics)),
        ("git", meta.git.as_ref().map(checkout)),
        ("pinned", meta.pinned.then(|| "yes".to_owned())),
    ];
    for (name, value) in rows {
        if let Some(value) = value.filter(|v| !v.is_empty()) {
            field(out, name, &escaped(value.as_bytes()))?;
        }
    }
    Ok(())
}

/// `main at 0123456789ab, dirty`
fn checkout(git: &GitState) -> String {
    let branch = git.branch.as_deref().unwrap_or("no branch");
    let at = match &git.head {
        Some(head) => format!(" at {}", head.get(..12).unwrap_or(head)),
        None => " without a commit".to_owned(),
    };
    let dirty = match git.dirty {
        Some(true) => ", dirty",
        Some(false) => ", clean",
        None => "",
    };
    format!("{branch}{at}{dirty}")
}
