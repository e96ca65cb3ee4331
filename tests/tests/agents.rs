//! Agents at a real mount: hooks that take checkpoints by themselves, and the MCP server.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use llfs_tests::binaries;
use llfs_tests::command::Run;
use llfs_tests::manifest::{Ignore, Manifest};
use llfs_tests::mounted::Mounted;
use serde_json::{Value, json};

#[track_caller]
fn same(before: &Manifest, mounted: &Mounted) {
    before.assert_same(&mounted.manifest(), Ignore::default(), "after going back");
}

/// A repository with a history, something that is ignored, and a database.
fn repository(base: &Path) {
    let script = "
        git init -q -b main . && git config user.name a && git config user.email a@b
        printf 'build/\\napp.db\\n' > .gitignore
        mkdir -p src build && echo 'fn main() {}' > src/main.rs && echo object > build/main.o
        git add . && git commit -qm one
        echo '// more' >> src/main.rs && git commit -qam two && echo '// most' >> src/main.rs && git commit -qam three
        python3 -c \"import sqlite3; c = sqlite3.connect('app.db'); c.execute('create table t (x)');
c.executemany('insert into t values (?)', [(i,) for i in range(1000)]); c.commit()\"
        echo 'uncommitted' > notes";
    Run::shell(script).dir(base).ok();
}

/// An agent that does as it is told: before each tool call it runs the hook of its settings, as its makers document.
struct Agent<'a> {
    mounted: &'a Mounted,
    hook: String,
    calls: u32,
}

impl<'a> Agent<'a> {
    fn new(mounted: &'a Mounted) -> Self {
        mounted
            .llctl(&["hook", "install", "claude-code", "--yes"])
            .ok();
        let home = mounted.env.iter().find(|(name, _)| name == "HOME").unwrap();
        let file = Path::new(&home.1).join(".claude/settings.json");
        let settings: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
        let hook = &settings["hooks"]["PreToolUse"][0]["hooks"][0]["command"];
        Self {
            mounted,
            hook: hook.as_str().unwrap().to_owned(),
            calls: 0,
        }
    }

    fn hook(&mut self, tool: &str, input: &Value) {
        self.calls += 1;
        let call = json!({
            "session_id": "session-1", "prompt_id": "prompt-1", "cwd": self.mounted.dir,
            "hook_event_name": "PreToolUse", "permission_mode": "default",
            "tool_name": tool, "tool_input": input, "tool_use_id": format!("toolu_{}", self.calls),
        });
        let path = self.mounted.scratch.path().join("call.json");
        fs::write(&path, call.to_string()).unwrap();
        let mut run = self.mounted.program("sh").args(["-c", &self.hook]);
        run.raw().stdin(File::open(&path).unwrap());
        let done = run.ok();
        assert_eq!((done.out().as_str(), done.err().as_str()), ("", ""));
    }

    fn bash(&mut self, command: &str) {
        self.hook("Bash", &json!({"command": command}));
        Run::shell(command).dir(&self.mounted.dir).ok();
    }
}

fn snapshots(mounted: &Mounted) -> Vec<Value> {
    mounted.json(&["list"])["snapshots"]
        .as_array()
        .unwrap()
        .clone()
}

#[test]
fn an_agent_that_destroys_everything_is_undone_by_one_command() {
    let mounted = Mounted::over("agents-disaster", repository);
    let mut agent = Agent::new(&mounted);
    // It begins well.
    agent.bash("echo '// good' >> src/main.rs");
    let before = mounted.manifest();
    agent.bash("python3 -c \"import sqlite3; c = sqlite3.connect('app.db'); c.execute('drop table t'); c.commit()\"");
    agent.bash("git reset -q --hard HEAD~2 && git reflog expire --expire=now --all && git gc -q --prune=now");
    agent.bash("rm -rf src build notes .gitignore");
    agent.bash("find . -mindepth 1 -delete");
    assert_eq!(fs::read_dir(&mounted.dir).unwrap().count(), 0);
    // Nobody asked for a checkpoint, and the first one of the disaster is found by what was about to happen.
    let snapshots = snapshots(&mounted);
    let first = snapshots
        .iter()
        .find(|snap| snap["message"].as_str().unwrap().contains("drop table"))
        .expect("a checkpoint before it");
    mounted.revert(first["name"].as_str().unwrap());
    same(&before, &mounted);
    Run::shell("git fsck --full --strict && test $(git rev-list --count HEAD) = 3")
        .dir(&mounted.dir)
        .ok();
    let rows = "python3 -c \"import sqlite3; assert sqlite3.connect('app.db').execute('select count(*) from t').fetchone() == (1000,)\"";
    Run::shell(rows).dir(&mounted.dir).ok();
}

#[test]
fn no_checkpoint_of_a_hook_is_empty_and_each_says_whose_it_is() {
    let mounted = Mounted::over("agents-empty", repository);
    let mut agent = Agent::new(&mounted);
    agent.bash("true");
    let begun = snapshots(&mounted).len();
    assert_eq!(begun, 1, "the first one is there to come back to");
    for _ in 0..5 {
        agent.bash("cat src/main.rs");
        agent.hook("Read", &json!({"file_path": mounted.path("src/main.rs")}));
    }
    assert_eq!(snapshots(&mounted).len(), begun);
    agent.bash("echo 1 > one");
    agent.bash("echo 2 > two");
    agent.bash("true");
    agent.bash("true");
    let all = snapshots(&mounted);
    assert_eq!(all.len(), begun + 2);
    // What was not done is not in the history either.
    let history = mounted.llctl(&["history", "--json"]).ok().out();
    assert_eq!(history.matches("\"snap\"").count(), all.len(), "{history}");
    let meta = &all[1]["meta"];
    assert_eq!(meta["session"], "session-1");
    assert_eq!(meta["task"], "prompt-1");
    assert_eq!(meta["reason"], "pre-change");
    assert_eq!(meta["created_by"], "claude-code");
    assert_eq!(all[1]["message"], "before Bash: echo 2 > two");
    // After going back to an older one nothing has changed either.
    mounted.revert(all[0]["name"].as_str().unwrap());
    agent.bash("true");
    assert_eq!(snapshots(&mounted).len(), all.len());
}

#[test]
fn a_file_that_is_deleted_while_it_is_open_is_no_change_when_it_is_closed() {
    let mounted = Mounted::new("agents-orphan");
    let file = File::create(mounted.path("temporary")).unwrap();
    fs::remove_file(mounted.path("temporary")).unwrap();
    mounted.snap("with-it");
    drop(file);
    // The kernel forgets it some time after that; what is asked is the same before and after.
    Run::shell("sync; echo 2 > /proc/sys/vm/drop_caches || true")
        .dir("/")
        .finish();
    let said = mounted.json(&["snap", "--if-changed"]);
    assert_eq!(said["unchanged"]["name"], "with-it", "{said}");
    fs::write(mounted.path("new"), "").unwrap();
    let said = mounted.json(&["snap", "--if-changed", "second"]);
    assert_eq!(said["name"], "second", "{said}");
}

/// `llctl mcp` and a client of a few lines, which speaks JSON-RPC as the protocol's specification has it.
struct Mcp {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    id: u64,
}

impl Mcp {
    fn start(mounted: &Mounted) -> Self {
        let mut run = mounted
            .program(binaries::llctl())
            .arg("mcp")
            .dir(&mounted.dir);
        let command = run.raw().stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut mcp = Self {
            input: child.stdin.take(),
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
            id: 0,
        };
        let hello = mcp.request(
            "initialize",
            json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}),
        );
        let said = &hello["result"];
        assert_eq!(said["serverInfo"]["name"], "llfs");
        assert!(
            said["instructions"]
                .as_str()
                .unwrap()
                .contains("`run_guarded`")
        );
        mcp.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        mcp
    }

    fn send(&mut self, message: &Value) {
        writeln!(self.input.as_mut().unwrap(), "{message}").unwrap();
    }

    fn request(&mut self, method: &str, params: Value) -> Value {
        self.id += 1;
        let id = self.id;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        loop {
            let mut line = String::new();
            assert_ne!(
                self.output.read_line(&mut line).unwrap(),
                0,
                "the server ended"
            );
            let answer: Value = serde_json::from_str(&line).expect("nothing but JSON-RPC");
            if answer["id"] == id {
                return answer;
            }
        }
    }

    /// Calls a tool; its text, and its data unless it failed.
    fn call(&mut self, tool: &str, arguments: Value) -> (String, Option<Value>) {
        let answer = self.request("tools/call", json!({"name": tool, "arguments": arguments}));
        let result = &answer["result"];
        let text = result["content"][0]["text"]
            .as_str()
            .unwrap_or_else(|| panic!("{answer}"));
        let failed = result["isError"] == true;
        (
            text.to_owned(),
            (!failed).then(|| result["structuredContent"].clone()),
        )
    }

    fn end(mut self) {
        drop(self.input.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Mcp {
    fn drop(&mut self) {
        // A test that failed leaves no server behind.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn a_model_takes_checkpoints_and_goes_back() {
    let mounted = Mounted::over("agents-mcp", repository);
    let before = mounted.manifest();
    let mut mcp = Mcp::start(&mounted);
    let tools = mcp.request("tools/list", json!({}));
    let names: Vec<&str> = tools["result"]["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "checkpoint",
            "list",
            "show",
            "diff",
            "revert",
            "undo",
            "redo",
            "run_guarded"
        ]
    );
    let (text, data) = mcp.call(
        "checkpoint",
        json!({"name": "good", "message": "before it"}),
    );
    assert!(text.contains("Checkpoint good taken"), "{text}");
    assert_eq!(data.unwrap()["message"], "before it");
    fs::remove_dir_all(mounted.path("src")).unwrap();
    fs::write(mounted.path("notes"), "changed\n").unwrap();
    let after = mounted.manifest();
    let (text, data) = mcp.call("diff", json!({"patch": true, "paths": ["notes"]}));
    assert!(text.contains("-uncommitted\n+changed\n"), "{text}");
    assert_eq!(data.unwrap()["summary"]["modified"], 1);
    // A revert that is not confirmed changes nothing.
    let (text, data) = mcp.call("revert", json!({"to": "good"}));
    assert!(text.starts_with("Nothing is done yet."), "{text}");
    assert!(text.contains("src/main.rs"), "{text}");
    assert_eq!(data.unwrap()["done"], false);
    same(&after, &mounted);
    let (text, data) = mcp.call("revert", json!({"to": "good", "confirm": true}));
    assert!(text.starts_with("Reverted to good"), "{text}");
    assert_eq!(data.unwrap()["done"], true);
    same(&before, &mounted);
    mcp.call("undo", json!({})).1.unwrap();
    same(&after, &mounted);
    mcp.call("redo", json!({})).1.unwrap();
    same(&before, &mounted);
    let (text, _) = mcp.call("list", json!({"limit": 1}));
    assert!(text.contains("good"), "{text}");
    let (text, _) = mcp.call("show", json!({"name": "good"}));
    assert!(text.contains("before it"), "{text}");
    mcp.end();
}

#[test]
fn a_guarded_command_that_fails_leaves_nothing() {
    let mounted = Mounted::over("agents-guarded", repository);
    let before = mounted.manifest();
    let mut mcp = Mcp::start(&mounted);
    let command = "echo half; echo error >&2; rm -rf src; exit 3";
    let (text, data) = mcp.call("run_guarded", json!({"command": command}));
    let data = data.unwrap();
    assert_eq!(
        (&data["exit_code"], &data["stdout"]),
        (&json!(3), &json!("half\n"))
    );
    assert!(
        text.contains("error") && text.contains("reverted to"),
        "{text}"
    );
    same(&before, &mounted);
    let guarded = json!({"command": "echo x > new", "check": "test -e missing"});
    mcp.call("run_guarded", guarded).1.unwrap();
    assert!(!mounted.path("new").exists());
    let slow = json!({"command": "echo x > new; sleep 300", "timeout_seconds": 1});
    let (_, data) = mcp.call("run_guarded", slow);
    assert_eq!(data.unwrap()["exit_code"], 124);
    assert!(!mounted.path("new").exists());
    let (_, data) = mcp.call("run_guarded", json!({"command": "echo x > new; cat"}));
    assert_eq!(
        data.unwrap()["exit_code"],
        0,
        "its standard input is not the client's"
    );
    assert!(mounted.path("new").exists());
    mcp.end();
}

#[test]
fn a_model_reads_checkpoints_and_is_told_what_it_did_wrong() {
    let mounted = Mounted::new("agents-resources");
    mounted.snap("vor dem Umbau");
    let mut mcp = Mcp::start(&mounted);
    let found = mcp.request("resources/list", json!({}));
    let uri = &found["result"]["resources"][1]["uri"];
    assert_eq!(uri, "llfs://checkpoint/vor%20dem%20Umbau");
    let read = mcp.request("resources/read", json!({"uri": uri}));
    let text = read["result"]["contents"][0]["text"].as_str().unwrap();
    let detail: Value = serde_json::from_str(text).unwrap();
    assert_eq!(detail["snapshot"]["name"], "vor dem Umbau");
    let read = mcp.request("resources/read", json!({"uri": "llfs://checkpoint/none"}));
    assert!(
        read["error"]["message"]
            .as_str()
            .unwrap()
            .contains("no snapshot named"),
        "{read}"
    );
    for (tool, arguments, why) in [
        ("show", json!({}), "missing field `name`"),
        (
            "show",
            json!({"name": "none"}),
            "there is no snapshot named",
        ),
        (
            "revert",
            json!({"to": "@nonsense"}),
            "there is no such state",
        ),
        ("checkpoint", json!({"name": "a/b"}), "cannot contain '/'"),
        (
            "checkpoint",
            json!({"name": "vor dem Umbau"}),
            "Hint: choose another name",
        ),
        ("undo", json!({}), "nothing to undo"),
        ("nothing", json!({}), "no tool named nothing"),
    ] {
        let (text, data) = mcp.call(tool, arguments);
        assert_eq!(data, None, "{tool}");
        assert!(text.contains(why), "{tool}: {text}");
    }
    // A worker that dies is not the model's business, and neither is an unmount in between.
    mounted.remount();
    mcp.call("list", json!({})).1.unwrap();
    mcp.end();
}
