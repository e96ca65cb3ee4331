//! An agent's settings with llctl's hook in them, or without it.
//!
//! The text is changed only where the hook is: order, spacing, comments and whatever else is in it stay.

use jsonc_parser::cst::{CstArray, CstInputValue, CstNode, CstObject, CstRootNode};
use jsonc_parser::{ParseOptions, json};

use super::Agent;

/// Why settings cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// They are no JSON, comments and trailing commas allowed.
    #[error("it is no JSON: {0}")]
    Json(String),
    /// Something in them is not what the agent's documentation says.
    #[error("{0} in it is not {1}")]
    Shape(String, &'static str),
}

/// `text` with the hook that runs `command`, or without any of llctl's hooks if there is no command. None if nothing is
/// left that says something: the file need not be there.
///
/// # Errors
/// The text is not what the agent would understand; nothing is guessed.
pub fn edit(
    agent: Agent,
    text: &str,
    command: Option<&str>,
) -> Result<Option<String>, ConfigError> {
    let options = ParseOptions::default();
    let root = CstRootNode::parse(text, &options).map_err(|e| ConfigError::Json(e.to_string()))?;
    let top = match root.value() {
        None => root.object_value_or_set(),
        Some(_) => root
            .object_value()
            .ok_or_else(|| shape("the outermost value", OBJECT))?,
    };
    if let Some(command) = command {
        // What was installed before, by another version or from another place, goes.
        remove(agent, &top)?;
        if agent == Agent::Cursor && top.get("version").is_none() {
            top.insert(0, "version", json!(1));
        }
        let hooks = object(&top, "hooks")?.unwrap_or_else(|| top.object_value_or_set("hooks"));
        let event = agent.event();
        let entries = array(&hooks, event)?.unwrap_or_else(|| hooks.array_value_or_set(event));
        entries.append(entry(agent, command));
        entries.ensure_multiline();
        return Ok(Some(ended(root.to_string())));
    }
    let found = remove(agent, &top)?;
    if found && says_nothing(agent, &top) && !text.contains("//") && !text.contains("/*") {
        return Ok(None);
    }
    Ok(Some(if found {
        root.to_string()
    } else {
        text.to_owned()
    }))
}

/// What the settings say for `command` to be run before each tool call.
fn entry(agent: Agent, command: &str) -> CstInputValue {
    /// The agent waits for it so long, and goes on. In seconds, but for Gemini CLI.
    const TIMEOUT: usize = 10;
    match agent {
        Agent::ClaudeCode => json!({
            "matcher": "*",
            "hooks": [{ "type": "command", "command": command, "timeout": TIMEOUT }],
        }),
        Agent::Codex => json!({
            "hooks": [{ "type": "command", "command": command, "timeout": TIMEOUT }],
        }),
        Agent::Gemini => json!({
            "hooks": [{ "type": "command", "name": "llfs", "command": command, "timeout": (TIMEOUT * 1000) }],
        }),
        Agent::Cursor => json!({ "command": command, "timeout": TIMEOUT }),
    }
}

const OBJECT: &str = "an object";
const ARRAY: &str = "an array";

fn shape(what: &str, wanted: &'static str) -> ConfigError {
    ConfigError::Shape(what.to_owned(), wanted)
}

/// Takes llctl's hooks out, and what is empty after that. Whether there was one.
fn remove(agent: Agent, top: &CstObject) -> Result<bool, ConfigError> {
    let Some(hooks) = object(top, "hooks")? else {
        return Ok(false);
    };
    let Some(entries) = array(&hooks, agent.event())? else {
        return Ok(false);
    };
    let mut found = false;
    for entry in entries.elements() {
        let Some(entry) = entry.as_object() else {
            continue;
        };
        // Cursor has commands where the others have groups of them.
        if is_own(agent, &entry) {
            entry.remove();
            found = true;
            continue;
        }
        let Some(group) = entry.array_value("hooks") else {
            continue;
        };
        let own: Vec<CstNode> = group
            .elements()
            .into_iter()
            .filter(|hook| hook.as_object().is_some_and(|hook| is_own(agent, &hook)))
            .collect();
        if own.is_empty() {
            continue;
        }
        found = true;
        if own.len() == group.elements().len() {
            entry.remove();
        } else {
            own.into_iter().for_each(CstNode::remove);
        }
    }
    if found && entries.elements().is_empty() {
        hooks
            .get(agent.event())
            .into_iter()
            .for_each(|property| property.remove());
        if hooks.properties().is_empty() {
            top.get("hooks")
                .into_iter()
                .for_each(|property| property.remove());
        }
    }
    Ok(found)
}

/// Whether a hook runs `llctl hook AGENT`, from wherever.
fn is_own(agent: Agent, hook: &CstObject) -> bool {
    let command = hook
        .get("command")
        .and_then(|property| property.value()?.as_string_lit()?.decoded_value().ok());
    command.is_some_and(|command| {
        command
            .split_once(&format!(" hook {agent}"))
            .is_some_and(|(program, rest)| {
                program.trim_end_matches(['"', '\'']).ends_with("llctl")
                    && (rest.is_empty() || rest.starts_with([' ', ';']))
            })
    })
}

fn says_nothing(agent: Agent, top: &CstObject) -> bool {
    let mut left = top.properties().into_iter();
    left.all(|property| {
        agent == Agent::Cursor && property.decoded_name().as_deref() == Some("version")
    })
}

fn object(of: &CstObject, name: &str) -> Result<Option<CstObject>, ConfigError> {
    let Some(property) = of.get(name) else {
        return Ok(None);
    };
    let value = property.object_value();
    value.map(Some).ok_or_else(|| shape(name, OBJECT))
}

fn array(of: &CstObject, name: &str) -> Result<Option<CstArray>, ConfigError> {
    let Some(property) = of.get(name) else {
        return Ok(None);
    };
    let value = property.array_value();
    value.map(Some).ok_or_else(|| shape(name, ARRAY))
}

fn ended(mut text: String) -> String {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const COMMAND: &str = "llctl hook claude-code || exit 1";

    fn with(agent: Agent, text: &str) -> String {
        let command = format!("llctl hook {agent} || exit 1");
        edit(agent, text, Some(&command)).unwrap().unwrap()
    }

    fn without(agent: Agent, text: &str) -> Option<String> {
        edit(agent, text, None).unwrap()
    }

    #[test]
    fn an_empty_file_becomes_one_and_goes_again() {
        for agent in Agent::ALL {
            let text = with(agent, "");
            let value: Value = serde_json::from_str(&text).unwrap();
            let entries = value["hooks"][agent.event()].as_array().unwrap();
            assert_eq!(entries.len(), 1, "{text}");
            assert_eq!(value.get("version").is_some(), agent == Agent::Cursor);
            assert_eq!(without(agent, &text), None, "{agent}: {text}");
            assert_eq!(with(agent, &text), text, "twice is once");
        }
        let command = "\"/opt/my llctl/llctl\" hook claude-code || exit 1";
        let text = edit(Agent::ClaudeCode, "{}\n", Some(command))
            .unwrap()
            .unwrap();
        assert_eq!(without(Agent::ClaudeCode, &text), None, "{text}");
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        let others = [
            "{\n  \"zeta\": 1.50,\n  \"alpha\": [1,2,  3],\n  \"hooks\": {\n    \"Stop\": [{\"hooks\": []}]\n  }\n}\n",
            "{\n\t\"model\": \"opus\",\n\t\"big\": 123456789012345678901234567890\n}\n",
            "{\n  // why\n  \"a\": 1, /* and */\n  \"b\": \"\\u00e9\"\n}\n",
            "{\n  \"hooks\": {\n    \"PreToolUse\": [\n      {\n        \"matcher\": \"Bash\",\n        \"hooks\": [{ \"type\": \"command\", \"command\": \"./check.sh\" }]\n      }\n    ]\n  },\n  \"last\": true\n}\n",
        ];
        for text in others {
            let installed = with(Agent::ClaudeCode, text);
            assert!(installed.contains(COMMAND), "{installed}");
            assert_eq!(
                without(Agent::ClaudeCode, &installed).unwrap(),
                text,
                "{installed}"
            );
            assert_eq!(without(Agent::ClaudeCode, text).unwrap(), text);
        }
    }

    #[test]
    fn only_its_own_hooks_are_taken_out() {
        let text = r#"{"hooks":{"PreToolUse":[{"matcher":"*","hooks":[
            {"type":"command","command":"mine llctl-hook claude-code"},
            {"type":"command","command":"/old/llctl hook claude-code"},
            {"type":"command","command":"llctl hook claude-codes"}]}]}}"#;
        let rest = without(Agent::ClaudeCode, text).unwrap();
        assert!(!rest.contains("/old/llctl"), "{rest}");
        let value: Value = serde_json::from_str(&rest).unwrap();
        assert_eq!(
            value["hooks"]["PreToolUse"][0]["hooks"]
                .as_array()
                .unwrap()
                .len(),
            2
        );
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for bad in [
            "[]",
            "{",
            "7",
            r#"{"hooks": []}"#,
            r#"{"hooks": {"PreToolUse": {}}}"#,
        ] {
            edit(Agent::ClaudeCode, bad, Some(COMMAND)).unwrap_err();
        }
    }
}
