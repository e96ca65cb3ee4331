//! The agents, and where each keeps its settings.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// An agent that can call llctl.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agent {
    /// Claude Code.
    ClaudeCode,
    /// Codex.
    Codex,
    /// Gemini CLI.
    Gemini,
    /// Cursor.
    Cursor,
}

/// For which work the agent is to call llctl.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope<'a> {
    /// All that this user does.
    User,
    /// That in the project with this directory.
    Project(&'a Path),
}

impl Agent {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::ClaudeCode, Self::Codex, Self::Gemini, Self::Cursor];

    /// What it is called on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClaudeCode => "claude-code",
            Self::Codex => "codex",
            Self::Gemini => "gemini",
            Self::Cursor => "cursor",
        }
    }

    /// Its name in full.
    pub fn title(self) -> &'static str {
        match self {
            Self::ClaudeCode => "Claude Code",
            Self::Codex => "Codex",
            Self::Gemini => "Gemini CLI",
            Self::Cursor => "Cursor",
        }
    }

    /// The event before a tool call, as its settings call it.
    pub fn event(self) -> &'static str {
        match self {
            Self::ClaudeCode | Self::Codex => "PreToolUse",
            Self::Gemini => "BeforeTool",
            Self::Cursor => "preToolUse",
        }
    }

    /// The file in which it looks for hooks. None for a user without a home directory.
    pub fn settings(self, scope: Scope<'_>) -> Option<PathBuf> {
        let (home_var, directory, file) = match self {
            Self::ClaudeCode => (Some("CLAUDE_CONFIG_DIR"), ".claude", "settings.json"),
            Self::Codex => (Some("CODEX_HOME"), ".codex", "hooks.json"),
            Self::Gemini => (None, ".gemini", "settings.json"),
            Self::Cursor => (None, ".cursor", "hooks.json"),
        };
        let given = |name: &str| {
            env::var_os(name)
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
        };
        let directory = match scope {
            Scope::Project(project) => project.join(directory),
            Scope::User => match home_var.and_then(given) {
                Some(dir) => dir,
                None => given("HOME")?.join(directory),
            },
        };
        Some(directory.join(file))
    }

    /// What standard output must say for the tool call to go on. `warning` is for the user, where there is a place for it.
    ///
    /// Claude Code, Codex and Gemini CLI take silence for consent; Cursor refuses the call without a word of it.
    pub fn consent(self, warning: Option<&str>) -> Option<Value> {
        match (self, warning) {
            (Self::Cursor, _) => Some(json!({"permission": "allow"})),
            (Self::Gemini, None) => Some(json!({})),
            (_, Some(warning)) => Some(json!({"systemMessage": warning})),
            (Self::ClaudeCode | Self::Codex, None) => None,
        }
    }
}

impl fmt::Display for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
