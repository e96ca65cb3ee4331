//! Coding agents that call llctl before each of their tools: what they say, and how they are told to.
//!
//! An agent runs a command before each tool call and gives it a JSON object on standard input. The formats are those that
//! the agents' makers document:
//!
//! | agent | event | described at |
//! |---|---|---|
//! | Claude Code | `PreToolUse` | <https://code.claude.com/docs/en/hooks> |
//! | Codex | `PreToolUse` | <https://developers.openai.com/codex/hooks>, `codex-rs/hooks/schema` in openai/codex |
//! | Gemini CLI | `BeforeTool` | `docs/hooks/reference.md` in google-gemini/gemini-cli |
//! | Cursor | `preToolUse` | <https://cursor.com/docs/agent/hooks> |
//!
//! Fields that are not needed are passed over, and those that are may be missing: a later version of an agent must not
//! be stopped by an older llctl.
mod agent;
mod call;
mod config;
mod tools;

pub use agent::{Agent, Scope};
pub use call::{Call, MalformedCall};
pub use config::{ConfigError, edit};
pub use tools::may_write;
