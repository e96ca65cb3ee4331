//! Which tools of which agent leave the files alone.

use super::Agent;

/// Whether `tool` may change files. Only tools that are known not to are told apart: one that nobody has heard of may.
///
/// A tool that starts another agent counts as writing, although each tool call of that one comes here too: the
/// checkpoint marks where its work begins, and there is none if nothing changed.
pub fn may_write(agent: Agent, tool: &str) -> bool {
    !(read_only(agent).contains(&tool) || own(tool))
}

/// The tools of `llctl mcp`, as agents call those of a server named `llfs`: they take care of themselves.
fn own(tool: &str) -> bool {
    ["mcp__llfs__", "mcp_llfs_", "MCP:llfs"]
        .iter()
        .any(|prefix| tool.starts_with(prefix))
}

fn read_only(agent: Agent) -> &'static [&'static str] {
    match agent {
        Agent::ClaudeCode => &[
            "AskUserQuestion",
            "BashOutput",
            "CronList",
            "EnterPlanMode",
            "ExitPlanMode",
            "Glob",
            "Grep",
            "LS",
            "LSP",
            "ListMcpResourcesTool",
            "NotebookRead",
            "Read",
            "ReadMcpResourceTool",
            "TaskCreate",
            "TaskGet",
            "TaskList",
            "TaskOutput",
            "TaskUpdate",
            "TodoRead",
            "TodoWrite",
            "ToolSearch",
            "WebFetch",
            "WebSearch",
        ],
        Agent::Codex => &[
            "grep_files",
            "list_dir",
            "list_mcp_resource_templates",
            "list_mcp_resources",
            "read_file",
            "read_mcp_resource",
            "request_user_input",
            "update_plan",
            "view_image",
            "web_search",
        ],
        Agent::Gemini => &[
            "ask_user",
            "cli_help",
            "enter_plan_mode",
            "exit_plan_mode",
            "get_internal_docs",
            "glob",
            "google_web_search",
            "grep_search",
            "list_directory",
            "read_file",
            "read_many_files",
            "search_file_content",
            "update_topic",
            "web_fetch",
            "write_todos",
        ],
        Agent::Cursor => &[
            "Glob",
            "Grep",
            "LS",
            "List",
            "Read",
            "ReadLints",
            "SemanticSearch",
            "TodoWrite",
            "WebFetch",
            "WebSearch",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_to_only_read_may_write() {
        let writing = [
            (
                Agent::ClaudeCode,
                ["Bash", "Edit", "Write", "Agent", "mcp__db__drop"],
            ),
            (
                Agent::Codex,
                ["Bash", "apply_patch", "shell", "mcp__db__query", "Read"],
            ),
            (
                Agent::Gemini,
                [
                    "run_shell_command",
                    "replace",
                    "write_file",
                    "save_memory",
                    "mcp_db_drop",
                ],
            ),
            (
                Agent::Cursor,
                ["Shell", "Write", "Delete", "Task", "MCP:drop"],
            ),
        ];
        for (agent, tools) in writing {
            for tool in tools.into_iter().chain(["", "of next year", "read"]) {
                assert!(may_write(agent, tool), "{agent}: {tool}");
            }
        }
        let reading = [
            (Agent::ClaudeCode, "Read"),
            (Agent::ClaudeCode, "mcp__llfs__revert"),
            (Agent::Codex, "update_plan"),
            (Agent::Gemini, "read_file"),
            (Agent::Gemini, "mcp_llfs_list"),
            (Agent::Cursor, "Grep"),
        ];
        for (agent, tool) in reading {
            assert!(!may_write(agent, tool), "{agent}: {tool}");
        }
    }
}
