//! The tools, as a model is told of them.

use std::sync::Arc;

use rmcp::model::{Tool, ToolAnnotations};
use serde_json::{Value, json};

/// All tools.
pub fn all() -> Vec<Tool> {
    let reads = || ToolAnnotations::new().read_only(true).open_world(false);
    let writes = |destructive| {
        ToolAnnotations::new()
            .read_only(false)
            .destructive(destructive)
            .open_world(false)
    };
    let state = "a checkpoint's name, @base (the directory as it was before llfs was mounted), or an age such as @10m";
    vec![
        tool(
            "checkpoint",
            "Keep the state of all files as it is now, in milliseconds. Do this before anything risky.",
            json!({
                "name": {"type": "string", "description": "a name for it, such as before-migration; made from the time if left out"},
                "message": {"type": "string", "description": "why it is taken, for whoever looks for it later"},
                "session": {"type": "string", "description": "the session that it belongs to, if you have an id for it"},
            }),
            &[],
            writes(false),
        ),
        tool(
            "list",
            "List the checkpoints, the newest first, and what reverts have discarded.",
            json!({
                "limit": {"type": "integer", "minimum": 1, "description": "at most so many (default 50)"},
            }),
            &[],
            reads(),
        ),
        tool(
            "show",
            "Show one checkpoint: when and why it was taken, and how much changed before and after it.",
            json!({"name": {"type": "string", "description": "its name"}}),
            &["name"],
            reads(),
        ),
        tool(
            "diff",
            "Show what differs between two states, by file, or line by line with patch=true.",
            json!({
                "from": {"type": "string", "description": format!("the older state: {state} (default: the last checkpoint)")},
                "to": {"type": "string", "description": "the newer state (default: all files as they are now)"},
                "paths": {"type": "array", "items": {"type": "string"}, "description": "only these files and directories, relative to the root of the mount"},
                "patch": {"type": "boolean", "description": "show the changed lines"},
            }),
            &[],
            reads(),
        ),
        tool(
            "revert",
            "Make all files exactly what they were in a checkpoint. Without confirm=true it only shows what would change. \
             What is discarded is kept: `undo` brings it back.",
            json!({
                "to": {"type": "string", "description": state},
                "confirm": {"type": "boolean", "description": "true to do it, after you have seen what would change"},
            }),
            &["to"],
            writes(true),
        ),
        tool(
            "undo",
            "Bring back what the last revert discarded. Called again, it takes back the revert before that one.",
            json!({}),
            &[],
            writes(true),
        ),
        tool(
            "redo",
            "Take back the last undo: the revert is done again.",
            json!({}),
            &[],
            writes(true),
        ),
        tool(
            "run_guarded",
            "Run a shell command with a checkpoint before it. If it fails, takes too long, or the check after it fails, all \
             files become what they were before.",
            json!({
                "command": {"type": "string", "description": "run with sh -c, in the root of the mount"},
                "timeout_seconds": {"type": "integer", "minimum": 1, "description": "end it after this time (default 600)"},
                "check": {"type": "string", "description": "a command that must succeed afterwards, such as 'cargo test'"},
                "on_failure": {"type": "string", "enum": ["revert", "keep"], "description": "keep leaves the files as a failed command left them (default revert)"},
            }),
            &["command"],
            ToolAnnotations::new()
                .read_only(false)
                .destructive(true)
                .open_world(true),
        ),
    ]
}

fn tool(
    name: &'static str,
    description: &'static str,
    mut properties: Value,
    required: &[&str],
    annotations: ToolAnnotations,
) -> Tool {
    // Some clients (smolagents) take what is not said to be nullable for required.
    for (name, property) in properties.as_object_mut().into_iter().flatten() {
        if !required.contains(&name.as_str()) {
            property["nullable"] = Value::Bool(true);
        }
    }
    let schema = json!({
        "type": "object",
        "properties": properties,
        "required": required,
    });
    let Value::Object(schema) = schema else {
        unreachable!("it is written as one")
    };
    Tool::new(name, description, Arc::new(schema)).with_annotations(annotations)
}
