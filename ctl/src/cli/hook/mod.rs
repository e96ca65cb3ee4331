//! `llctl hook`: a checkpoint before each tool call of a coding agent that may write.
//!
//! Whatever goes wrong, the agent goes on: the exit code is 0, and standard output says what lets the call pass.

mod install;
mod said;

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use llctl::escape::escaped_text;
use llctl::hook::{Agent, Call, may_write};
use llctl::locate::{self, LocateError, Mount};
use llctl::protocol::{Entity, FIELD_MAX, SnapMeta};
use llctl::{Client, ClientError, exit, git};

use super::Outcome;
use super::args::{Global, HookCommand};
use super::output::Output;

/// The agent waits no longer than this, whoever is slow: itself in sending, the daemon in answering.
const PATIENCE: Duration = Duration::from_secs(5);
/// A call that is longer than this is not read to its end, in bytes.
const CALL_MAX: u64 = 64 << 20;

/// `llctl hook`
pub fn run(global: &Global, command: HookCommand, out: &mut Output) -> Outcome {
    let agent = match command {
        HookCommand::Install(args) => return install::run(global, args, out),
        HookCommand::ClaudeCode => Agent::ClaudeCode,
        HookCommand::Codex => Agent::Codex,
        HookCommand::Gemini => Agent::Gemini,
        HookCommand::Cursor => Agent::Cursor,
    };
    let warning = before(agent, global);
    if let Some(warning) = &warning {
        drop(writeln!(io::stderr(), "llctl: {warning}"));
    }
    if let Some(consent) = agent.consent(warning.as_deref()) {
        // An agent that does not listen has decided for itself.
        drop(out.object(&consent));
        drop(out.finish());
    }
    Ok(exit::OK)
}

/// Reads the call and takes the checkpoint. What the user should know, if it was not said in this session before.
fn before(agent: Agent, global: &Global) -> Option<String> {
    let (sender, receiver) = mpsc::channel();
    let (directory, socket) = (global.directory.clone(), global.socket.clone());
    // What waits for somebody who never answers ends with the process.
    thread::spawn(move || {
        let call = read();
        let session = call.as_ref().ok().and_then(|call| call.session.clone());
        drop(sender.send(Step::Session(session)));
        let done = call.and_then(|call| checkpoint(agent, &call, directory, socket));
        drop(sender.send(Step::Done(done)));
    });
    let mut session = None;
    let trouble = loop {
        match receiver.recv_timeout(PATIENCE) {
            Ok(Step::Session(said)) => session = said,
            Ok(Step::Done(Ok(()))) => return None,
            Ok(Step::Done(Err(trouble))) => break trouble,
            Err(_) => break Trouble::new("slow", "the llfs daemon does not answer"),
        }
    };
    said::first(agent, session.as_deref(), trouble.kind).then(|| {
        let text = format!("no checkpoint before this tool call: {}", trouble.text);
        escaped_text(&text)
    })
}

enum Step {
    Session(Option<String>),
    Done(Result<(), Trouble>),
}

/// Why there is no checkpoint.
#[derive(Debug)]
struct Trouble {
    /// What is said once.
    kind: &'static str,
    text: String,
}

impl Trouble {
    fn new(kind: &'static str, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
        }
    }
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Self {
        let hint = error.hint().map(|hint| format!(" ({hint})"));
        Self::new(error.kind(), format!("{error}{}", hint.unwrap_or_default()))
    }
}

fn read() -> Result<Call, Trouble> {
    let mut json = Vec::new();
    io::stdin()
        .lock()
        .take(CALL_MAX)
        .read_to_end(&mut json)
        .map_err(|error| Trouble::new("input", format!("standard input: {error}")))?;
    Call::parse(&json).map_err(|error| Trouble::new("input", error.to_string()))
}

fn checkpoint(
    agent: Agent,
    call: &Call,
    directory: Option<PathBuf>,
    socket: Option<PathBuf>,
) -> Result<(), Trouble> {
    if !call.is_before_tool() || !may_write(agent, &call.tool) {
        return Ok(());
    }
    if let Some(socket) = socket {
        return snap(Client::connect_socket(&socket)?, agent, call);
    }
    for mount in mounts(call, directory)? {
        snap(Client::connect_mount(&mount)?, agent, call)?;
    }
    Ok(())
}

/// The mounts in which the call may happen: those of the directories that it names, or of this program's.
fn mounts(call: &Call, directory: Option<PathBuf>) -> Result<Vec<Mount>, LocateError> {
    let mut mounts: Vec<Mount> = Vec::new();
    let mut why = None;
    if directory.is_none() {
        for dir in call.directories() {
            match locate::locate(Some(dir)) {
                Ok(mount) if !mounts.iter().any(|m| m.mountpoint == mount.mountpoint) => {
                    mounts.push(mount);
                }
                Ok(_) => {}
                Err(error) => why = why.or(Some(error)),
            }
        }
    }
    if mounts.is_empty() {
        // What the call named says more than where the agent was started.
        let here = locate::locate(directory.as_deref());
        mounts.push(here.map_err(|error| why.unwrap_or(error))?);
    }
    Ok(mounts)
}

impl From<LocateError> for Trouble {
    fn from(error: LocateError) -> Self {
        ClientError::from(error).into()
    }
}

fn snap(mut client: Client, agent: Agent, call: &Call) -> Result<(), Trouble> {
    let message = match &call.gist {
        Some(gist) => format!("before {}: {gist}", call.tool),
        None => format!("before {}", call.tool),
    };
    let mut meta = said_of(agent, call);
    let mountpoint = client.welcome().mountpoint.as_path();
    let inside = call.directories().find(|dir| dir.starts_with(mountpoint));
    meta.git = git::read(inside.unwrap_or(mountpoint), mountpoint);
    client.snap_if_changed(None, Some(message), meta)?;
    Ok(())
}

/// Whose call it is. A subagent's work is a task within that of the user's prompt.
fn said_of(agent: Agent, call: &Call) -> SnapMeta {
    let task = call.subagent.as_ref().or(call.prompt.as_ref());
    let parent = call.subagent.as_ref().and(call.prompt.as_ref());
    SnapMeta {
        reason: Some("pre-change".to_owned()),
        session: call.session.as_deref().and_then(field),
        task: task.and_then(|id| field(id)),
        parent_task: parent.and_then(|id| field(id)),
        created_by: Some(agent.name().to_owned()),
        request_id: call.id.as_deref().and_then(field),
        entity: field(&call.tool).map(|id| Entity {
            kind: "tool".to_owned(),
            id,
        }),
        ..SnapMeta::default()
    }
}

/// As much of what the agent said as a field may hold: a checkpoint is worth more than an id.
fn field(text: &str) -> Option<String> {
    let mut text: String = text.chars().filter(|c| !c.is_control()).collect();
    let end = (0..=FIELD_MAX.min(text.len())).rev();
    let end = end.into_iter().find(|&at| text.is_char_boundary(at));
    text.truncate(end.unwrap_or(0));
    (!text.is_empty()).then_some(text)
}
