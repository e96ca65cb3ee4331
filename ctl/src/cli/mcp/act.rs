//! What the tools do.

use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use llctl::protocol::{BytePath, ChangeCounts, RevertInfo, SnapMeta};
use llctl::{SnapName, StateRef};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Place, Why};
use crate::cli::{diff, snapshots, units};

/// Lines of a diff that a model gets, at most: it has to read them all.
const LINES_MAX: usize = 400;
/// Bytes of output of a command that a model gets, at most: the last ones.
const OUTPUT_MAX: usize = 16 << 10;
const LIMIT: usize = 50;
const TIMEOUT_SECONDS: u64 = 600;

/// What a tool says: text for the model, and the same as data.
#[derive(Debug)]
pub struct Said {
    pub text: String,
    pub data: Value,
}

/// Does what `name` does.
pub fn tool(place: &Place, name: &str, arguments: Map<String, Value>) -> Result<Said, Why> {
    let arguments = Value::Object(arguments);
    match name {
        "checkpoint" => checkpoint(place, serde_json::from_value(arguments)?),
        "list" => list(place, serde_json::from_value(arguments)?),
        "show" => show(place, serde_json::from_value(arguments)?),
        "diff" => difference(place, serde_json::from_value(arguments)?),
        "revert" => revert(place, serde_json::from_value(arguments)?),
        "undo" => undone(&place.connect()?.undo()?, "undone"),
        "redo" => undone(&place.connect()?.redo_steps(1)?, "done again"),
        "run_guarded" => run_guarded(place, &serde_json::from_value(arguments)?),
        other => Err(Why::Other(format!("there is no tool named {other}"))),
    }
}

#[derive(Deserialize)]
struct Checkpoint {
    name: Option<String>,
    message: Option<String>,
    session: Option<String>,
}

fn checkpoint(place: &Place, wanted: Checkpoint) -> Result<Said, Why> {
    let name = wanted.name.map(SnapName::new).transpose()?;
    let mut client = place.connect()?;
    let mountpoint = client.welcome().mountpoint.as_path();
    let meta = SnapMeta {
        reason: Some("manual".to_owned()),
        session: wanted.session,
        created_by: Some("mcp".to_owned()),
        git: llctl::git::read(mountpoint, mountpoint),
        ..SnapMeta::default()
    };
    let info = client.snap_with(name, wanted.message, meta)?;
    Ok(Said {
        text: format!(
            "Checkpoint {} taken. To come back to it: revert with to={0:?}.",
            info.name
        ),
        data: serde_json::to_value(&info)?,
    })
}

#[derive(Deserialize)]
struct List {
    limit: Option<usize>,
}

fn list(place: &Place, wanted: List) -> Result<Said, Why> {
    let listing = place.connect()?.list()?;
    let all = listing.snapshots.len();
    let limit = wanted.limit.unwrap_or(LIMIT);
    let shown: Vec<_> = listing.snapshots.iter().rev().take(limit).collect();
    let mut text = match all {
        0 => "No checkpoints yet; `checkpoint` takes one.\n".to_owned(),
        _ => format!(
            "{}, the newest first:\n",
            units::count(all as u64, "checkpoint")
        ),
    };
    for snap in &shown {
        let message = snap.message.as_deref().unwrap_or_default();
        let message = message.lines().next().unwrap_or_default();
        writeln!(
            text,
            "{}  {}  {message}",
            snap.name,
            units::local(snap.created)
        )
        .expect("memory");
    }
    if shown.len() < all {
        writeln!(text, "({} older ones are not shown)", all - shown.len()).expect("memory");
    }
    let undo = listing.discarded.iter().find(|state| state.undo);
    if let Some(state) = undo {
        writeln!(
            text,
            "`undo` brings back what the revert to {} discarded.",
            state.reverted_to
        )
        .expect("memory");
    }
    Ok(Said {
        text,
        data: json!({"checkpoints": shown, "total": all, "discarded": listing.discarded}),
    })
}

#[derive(Deserialize)]
struct Show {
    name: String,
}

fn show(place: &Place, wanted: Show) -> Result<Said, Why> {
    let detail = place.connect()?.show(SnapName::new(wanted.name)?)?;
    let snap = &detail.snapshot;
    let mut text = format!("{}, taken {}", snap.name, units::local(snap.created));
    if let Some(counts) = &detail.since_previous {
        let previous = detail.previous.as_deref().unwrap_or("@base");
        write!(text, "\n{} since {previous}", units::counts(counts)).expect("memory");
    }
    if let Some(counts) = &detail.to_live {
        write!(text, "\nsince then: {}", units::counts(counts)).expect("memory");
    }
    if let Some(message) = &snap.message {
        write!(text, "\n\n{message}").expect("memory");
    }
    Ok(Said {
        text,
        data: serde_json::to_value(&detail)?,
    })
}

#[derive(Deserialize)]
struct Diff {
    from: Option<String>,
    to: Option<String>,
    paths: Option<Vec<String>>,
    patch: Option<bool>,
}

fn difference(place: &Place, wanted: Diff) -> Result<Said, Why> {
    let from = wanted.from.map(|from| from.parse()).transpose()?;
    let to = wanted.to.map(|to| to.parse()).transpose()?;
    let paths = wanted.paths.unwrap_or_default().into_iter().map(|path| {
        let path = path.trim_start_matches("./").trim_end_matches('/');
        BytePath::from(if path == "." { "" } else { path })
    });
    let (lines, counts) = changes(
        place,
        from,
        to.unwrap_or_default(),
        paths.collect(),
        wanted.patch == Some(true),
    )?;
    let data = json!({"summary": counts, "changes": lines});
    let mut text = shortened(lines);
    writeln!(text, "{}.", total(&counts)).expect("memory");
    Ok(Said { text, data })
}

/// What differs, as lines.
fn changes(
    place: &Place,
    from: Option<StateRef>,
    to: StateRef,
    paths: Vec<BytePath>,
    patch: bool,
) -> Result<(Vec<String>, ChangeCounts), Why> {
    let mut lines = Vec::new();
    let counts = place.connect()?.diff(from, to, paths, patch, |change| {
        // What is not shown is counted all the same.
        if lines.len() <= LINES_MAX {
            if patch {
                let patch = String::from_utf8_lossy(&diff::as_patch(&change)).into_owned();
                lines.extend(patch.lines().map(str::to_owned));
            } else {
                lines.push(diff::as_line(&change));
            }
        }
        Ok(())
    })?;
    Ok((lines, counts))
}

fn shortened(mut lines: Vec<String>) -> String {
    let more = lines.len() > LINES_MAX;
    lines.truncate(LINES_MAX);
    if more {
        lines.push("(and more: name paths to see less at once)".to_owned());
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

fn total(counts: &ChangeCounts) -> String {
    match counts.total() {
        0 => "No differences".to_owned(),
        _ => units::counts(counts),
    }
}

#[derive(Deserialize)]
struct Revert {
    to: String,
    confirm: Option<bool>,
}

fn revert(place: &Place, wanted: Revert) -> Result<Said, Why> {
    let to: StateRef = wanted.to.parse()?;
    if wanted.confirm != Some(true) {
        let (lines, counts) = changes(place, Some(StateRef::Live), to, Vec::new(), false)?;
        let data = json!({"done": false, "summary": counts, "changes": lines});
        let text = match counts.total() {
            0 => format!(
                "Everything is as in {} already: there is nothing to revert.",
                wanted.to
            ),
            _ => format!(
                "Nothing is done yet. The revert to {} would do this:\n{}{}.\nCall revert again with confirm=true to do it.",
                wanted.to,
                shortened(lines),
                total(&counts)
            ),
        };
        return Ok(Said { text, data });
    }
    let info = place.connect()?.revert(to)?;
    let text = match info.discarded {
        None => format!("Everything was as in {} already.", info.to),
        Some(_) => format!(
            "Reverted to {}: {} changed. `undo` takes it back.",
            info.to,
            snapshots::files(&info, info.changed)
        ),
    };
    Ok(Said {
        text,
        data: json!({"done": true, "reverted": info}),
    })
}

fn undone(info: &RevertInfo, what: &str) -> Result<Said, Why> {
    Ok(Said {
        text: format!(
            "The revert is {what}: {} changed.",
            snapshots::files(info, info.changed)
        ),
        data: json!({"reverted": info}),
    })
}

#[derive(Deserialize)]
struct Guarded {
    command: String,
    timeout_seconds: Option<u64>,
    check: Option<String>,
    on_failure: Option<When>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum When {
    Revert,
    Keep,
}

/// `llctl run` in a process of its own: this one's standard input and output belong to the client, and its signals too.
fn run_guarded(place: &Place, wanted: &Guarded) -> Result<Said, Why> {
    let timeout = wanted.timeout_seconds.unwrap_or(TIMEOUT_SECONDS).max(1);
    let mut run = Command::new(std::env::current_exe()?);
    run.args(place.options())
        .args(["--json", "--color", "never", "run", "--timeout"])
        .arg(format!("{timeout}s"));
    if let Some(When::Keep) = wanted.on_failure {
        run.args(["--on-failure", "keep"]);
    }
    if let Some(check) = &wanted.check {
        run.arg("--verify").arg(check);
    }
    if let Some(directory) = place.directory() {
        run.current_dir(directory);
    }
    let output = run
        .args(["--", "sh", "-c", &wanted.command])
        .stdin(Stdio::null())
        .output()?;
    let mut stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    // The last line is llctl's own account.
    let start = stdout.trim_end().rfind('\n').map_or(0, |at| at + 1);
    let report: Option<Value> = serde_json::from_str(stdout[start..].trim()).ok();
    let Some(run) = report.as_ref().and_then(|report| report.get("run")) else {
        return Err(Why::Other(tail(&stderr).to_owned()));
    };
    let run = run.clone();
    stdout.truncate(start);
    let took = Duration::from_millis(run["took_ms"].as_u64().unwrap_or_default());
    let text = format!(
        "{}{}\n(exit code {}, took {})",
        tail(&stdout),
        tail(&stderr),
        output.status.code().unwrap_or(-1),
        units::took(took)
    );
    Ok(Said {
        text,
        data: json!({
            "exit_code": output.status.code(),
            "stdout": tail(&stdout),
            "stderr": tail(&stderr),
            "run": run,
        }),
    })
}

fn tail(text: &str) -> &str {
    let start = text.len().saturating_sub(OUTPUT_MAX);
    let start = (start..=text.len()).find(|&at| text.is_char_boundary(at));
    &text[start.unwrap_or(0)..]
}
