//! Agents at a real mount: hooks that take checkpoints by themselves, at work.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs::{self, File};
use std::path::Path;

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
