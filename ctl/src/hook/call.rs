//! A tool call that an agent is about to make.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

/// What an agent says before a tool call, in the words of all agents: each has its own name for the same thing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Call {
    /// The event; empty if it was not said.
    pub event: String,
    /// The tool.
    pub tool: String,
    /// The session.
    pub session: Option<String>,
    /// The user's prompt that led to this.
    pub prompt: Option<String>,
    /// The agent below the main one that makes the call.
    pub subagent: Option<String>,
    /// The call itself.
    pub id: Option<String>,
    /// Directories and files that say where it happens, the likeliest first. Absolute paths.
    pub places: Vec<PathBuf>,
    /// What the tool is told to do, in one line: a command, or the path of a file.
    pub gist: Option<String>,
}

/// Standard input holds no call.
#[derive(Debug, thiserror::Error)]
pub enum MalformedCall {
    /// It is no JSON object.
    #[error("standard input is no JSON object of the agent: {0}")]
    Json(#[from] serde_json::Error),
    /// It is one, and no tool is named in it.
    #[error("the agent's JSON names no tool")]
    NoTool,
}

/// Events before a tool call, of all agents.
const BEFORE: [&str; 5] = [
    "PreToolUse",
    "BeforeTool",
    "preToolUse",
    "beforeShellExecution",
    "beforeMCPExecution",
];

/// The union of what the agents send. Values rather than strings, so that a number where a text was is no error.
#[derive(Deserialize)]
struct Wire {
    hook_event_name: Option<Value>,
    session_id: Option<Value>,
    conversation_id: Option<Value>,
    prompt_id: Option<Value>,
    turn_id: Option<Value>,
    generation_id: Option<Value>,
    agent_id: Option<Value>,
    tool_name: Option<Value>,
    tool_use_id: Option<Value>,
    tool_input: Option<Value>,
    /// Cursor's `beforeShellExecution` has it instead of a tool.
    command: Option<Value>,
    cwd: Option<Value>,
    workspace_roots: Option<Value>,
}

impl Call {
    /// Reads what an agent sent.
    ///
    /// # Errors
    /// It is not JSON, or it is the event before a tool call and names no tool.
    pub fn parse(json: &[u8]) -> Result<Self, MalformedCall> {
        let wire: Wire = serde_json::from_slice(json)?;
        let event = text(wire.hook_event_name).unwrap_or_default();
        let input = wire.tool_input.unwrap_or_default();
        let command = wire.command.or_else(|| input.get("command").cloned());
        let tool = match text(wire.tool_name) {
            Some(tool) => tool,
            None if event == "beforeShellExecution" => "Shell".to_owned(),
            None if event.is_empty() || BEFORE.contains(&event.as_str()) => {
                return Err(MalformedCall::NoTool);
            }
            None => String::new(),
        };
        let file = ["file_path", "path", "notebook_path", "absolute_path"]
            .iter()
            .find_map(|key| text(input.get(key).cloned()));
        let directory = ["working_directory", "workdir", "dir_path", "directory"]
            .iter()
            .find_map(|key| text(input.get(key).cloned()));
        let roots = match wire.workspace_roots {
            Some(Value::Array(roots)) => roots,
            _ => Vec::new(),
        };
        let places = [directory, file.clone(), text(wire.cwd)]
            .into_iter()
            .flatten()
            .chain(roots.into_iter().filter_map(|root| text(Some(root))))
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .collect();
        Ok(Self {
            event,
            tool,
            session: text(wire.session_id).or(text(wire.conversation_id)),
            prompt: text(wire.prompt_id)
                .or(text(wire.turn_id))
                .or(text(wire.generation_id)),
            subagent: text(wire.agent_id),
            id: text(wire.tool_use_id),
            places,
            gist: command.and_then(words).or(file).map(|gist| line(&gist)),
        })
    }

    /// Whether the event is one before a tool call, as far as it was said.
    pub fn is_before_tool(&self) -> bool {
        self.event.is_empty() || BEFORE.contains(&self.event.as_str())
    }

    /// The directories in which it may happen.
    pub fn directories(&self) -> impl Iterator<Item = &Path> {
        // A file may not exist yet, nor the directory that it is in: whatever of its path exists will do.
        self.places
            .iter()
            .filter_map(|place| place.ancestors().find(|dir| dir.is_dir()))
    }
}

/// A text that says something.
fn text(value: Option<Value>) -> Option<String> {
    match value? {
        Value::String(text) if !text.is_empty() => Some(text),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A command line, which may be a list of words.
fn words(value: Value) -> Option<String> {
    match value {
        Value::Array(words) => {
            let words: Vec<String> = words.into_iter().filter_map(|w| text(Some(w))).collect();
            (!words.is_empty()).then(|| words.join(" "))
        }
        other => text(Some(other)),
    }
}

/// Bytes of a gist, at most.
const GIST_MAX: usize = 200;

/// The first line that is not empty, not too long.
fn line(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    let mut line = line.unwrap_or_default().to_owned();
    if line.len() > GIST_MAX {
        let end = (0..=GIST_MAX).rev().find(|&at| line.is_char_boundary(at));
        line.truncate(end.unwrap_or(0));
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(text: &str) -> Call {
        Call::parse(text.as_bytes()).unwrap()
    }

    fn said(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn claude_code() {
        let call = fixture(include_str!("../../tests/cli/hook/claude-code-bash.json"));
        assert!(call.is_before_tool());
        assert_eq!(
            (call.tool.as_str(), call.session),
            ("Bash", said("8c35adc1-4f0e-4d0c-9c39-0c4b3f0c5a11"))
        );
        assert_eq!(
            (call.prompt, call.id),
            (said("prompt_01"), said("toolu_01ABC123"))
        );
        assert_eq!(call.gist, said("rm -rf build && make"));
        assert_eq!(call.places, [PathBuf::from("/home/user/my-project")]);
        let call = fixture(include_str!("../../tests/cli/hook/claude-code-write.json"));
        assert_eq!(call.subagent, said("agent-7"));
        assert_eq!(call.gist, said("/home/user/my-project/src/new.rs"));
        assert_eq!(
            call.places[0],
            PathBuf::from("/home/user/my-project/src/new.rs")
        );
    }

    #[test]
    fn codex() {
        let call = fixture(include_str!("../../tests/cli/hook/codex-bash.json"));
        assert_eq!((call.tool.as_str(), call.prompt), ("Bash", said("turn-1")));
        assert_eq!(call.gist, said("git reset --hard HEAD~3"));
        let call = fixture(include_str!("../../tests/cli/hook/codex-apply-patch.json"));
        assert_eq!(call.tool, "apply_patch");
        assert_eq!(call.gist, said("*** Begin Patch"));
    }

    #[test]
    fn gemini() {
        let call = fixture(include_str!("../../tests/cli/hook/gemini-shell.json"));
        assert!(call.is_before_tool());
        assert_eq!((call.tool.as_str(), call.id), ("run_shell_command", None));
        assert_eq!(call.session, said("3f0c5a11-8c35-4d0c-9c39-0c4b3f0c5a11"));
    }

    #[test]
    fn cursor() {
        let call = fixture(include_str!("../../tests/cli/hook/cursor-shell.json"));
        assert_eq!(
            (call.tool.as_str(), call.session),
            ("Shell", said("668320d2-2fd8-4888-b33c-2a466fec86e7"))
        );
        assert_eq!(call.prompt, said("490b90b7-a2ce-4c2c-bb76-cb77b125df2f"));
        assert_eq!(
            call.places,
            ["/project/web", "/project", "/project"].map(PathBuf::from)
        );
        let call = fixture(include_str!(
            "../../tests/cli/hook/cursor-before-shell.json"
        ));
        assert_eq!(
            (call.tool.as_str(), call.gist),
            ("Shell", said("npm install"))
        );
    }

    #[test]
    fn what_is_no_call_is_an_error_and_what_is_strange_is_not() {
        for bad in [
            "",
            "nonsense",
            "[]",
            "7",
            "{",
            "{}",
            r#"{"hook_event_name":"PreToolUse"}"#,
        ] {
            Call::parse(bad.as_bytes()).unwrap_err();
        }
        let strange =
            r#"{"tool_name":"X","tool_input":[1],"session_id":7,"cwd":{},"workspace_roots":"no"}"#;
        let call = fixture(strange);
        assert_eq!((call.session, call.places), (said("7"), Vec::new()));
        assert!(!fixture(r#"{"hook_event_name":"SessionStart"}"#).is_before_tool());
        let long = format!(
            r#"{{"tool_name":"X","tool_input":{{"command":"\n  {}"}}}}"#,
            "é".repeat(300)
        );
        let gist = fixture(&long).gist.unwrap();
        assert_eq!(gist, format!("{}…", "é".repeat(100)));
        let list = fixture(r#"{"tool_name":"X","tool_input":{"command":["bash","-lc","ls"]}}"#);
        assert_eq!(list.gist, said("bash -lc ls"));
    }
}
