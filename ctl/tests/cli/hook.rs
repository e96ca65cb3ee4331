//! `llctl hook`: what it asks the daemon for each agent's tool calls, what it answers the agent, and the agents' settings.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use llctl::protocol::{ErrorKind, Request, Response};

use super::fake::{Fake, Run, finish, llctl, snap};

const AGENTS: [&str; 4] = ["claude-code", "codex", "gemini", "cursor"];

/// A call of each agent that writes, and what it must be answered for the call to go on.
const WRITING: [(&str, &str, &str); 4] = [
    (
        "claude-code",
        include_str!("hook/claude-code-bash.json"),
        "",
    ),
    ("codex", include_str!("hook/codex-apply-patch.json"), ""),
    ("gemini", include_str!("hook/gemini-shell.json"), "{}\n"),
    (
        "cursor",
        include_str!("hook/cursor-shell.json"),
        "{\"permission\":\"allow\"}\n",
    ),
];

fn fed(mut command: Command, input: &str) -> Run {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    Run {
        code: output.status.code().expect("not killed by a signal"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// `llctl hook AGENT` with a call, at a daemon, in a session's environment.
fn hook(fake: &Fake, agent: &str, call: &str) -> Run {
    let mut command = fake.command(&["hook", agent]);
    command.env("XDG_RUNTIME_DIR", &fake.dir);
    fed(command, call)
}

fn daemon() -> Fake {
    Fake::new(vec![Response::Snap(snap("2026-11-21-114402"))])
}

#[test]
fn a_call_that_may_write_is_preceded_by_a_snapshot() {
    for (agent, call, consent) in WRITING {
        let fake = daemon();
        let run = hook(&fake, agent, call);
        assert_eq!(
            (run.code, run.stdout.as_str(), run.stderr.as_str()),
            (0, consent, ""),
            "{agent}"
        );
        let requests = fake.requests();
        let [
            Request::Snap {
                name: None,
                message: Some(message),
                ..
            },
        ] = &requests[..]
        else {
            panic!("{agent}: {requests:?}");
        };
        assert!(message.starts_with("before "), "{message}");
    }
}

#[test]
fn a_call_that_reads_asks_for_nothing() {
    for (agent, tool, consent) in [
        ("claude-code", "Read", ""),
        ("codex", "update_plan", ""),
        ("gemini", "read_file", "{}\n"),
        ("cursor", "Grep", "{\"permission\":\"allow\"}\n"),
    ] {
        let fake = daemon();
        let run = hook(
            &fake,
            agent,
            &format!(r#"{{"tool_name":"{tool}","session_id":"s"}}"#),
        );
        assert_eq!(
            (run.code, run.stdout.as_str(), run.stderr.as_str()),
            (0, consent, "")
        );
        assert_eq!(fake.requests(), [], "{agent}");
    }
}

#[test]
fn an_agent_is_never_stopped_and_told_once_a_session() {
    for (agent, call, consent) in WRITING {
        let fake = Fake::failing(ErrorKind::NoSpace);
        let run = hook(&fake, agent, call);
        let why = "no checkpoint before this tool call: it did not work (do something else)";
        assert_eq!(
            (run.code, run.stderr.as_str()),
            (0, format!("llctl: {why}\n").as_str())
        );
        let shown = match agent {
            "cursor" => consent.to_owned(),
            _ => format!("{{\"systemMessage\":\"{why}\"}}\n"),
        };
        assert_eq!(run.stdout, shown, "{agent}");
        let again = hook(&fake, agent, call);
        assert_eq!(
            (again.code, again.stdout.as_str(), again.stderr.as_str()),
            (0, consent, "")
        );
        // In another session it is news.
        let other = call.replace("\"session_id\": \"", "\"session_id\": \"x");
        let other = other.replace("\"session_id\":\"", "\"session_id\":\"x");
        let other = other.replace("\"conversation_id\": \"", "\"conversation_id\": \"x");
        assert_ne!(hook(&fake, agent, &other).stderr, "", "{agent}");
    }
}

#[test]
fn what_is_no_call_stops_nobody() {
    for agent in AGENTS {
        for bad in ["", "nonsense", "[1]", "{}", "\u{1b}[31m"] {
            let fake = daemon();
            let run = hook(&fake, agent, bad);
            assert_eq!(run.code, 0);
            assert!(
                run.stderr.starts_with("llctl: no checkpoint before"),
                "{}",
                run.stderr
            );
            assert!(!run.stderr.contains('\u{1b}'));
            assert!(!run.stdout.is_empty(), "{agent} is told");
            serde_json::from_str::<serde_json::Value>(&run.stdout).unwrap();
            assert_eq!(fake.requests(), []);
        }
        // Other events are none of its business.
        let fake = daemon();
        let run = hook(
            &fake,
            agent,
            r#"{"hook_event_name":"SessionStart","session_id":"s"}"#,
        );
        assert_eq!((run.code, run.stderr.as_str()), (0, ""));
        assert_eq!(fake.requests(), []);
    }
}

#[test]
fn without_a_mount_or_a_daemon_the_agent_goes_on() {
    let fake = daemon();
    let call = format!(
        r#"{{"tool_name":"Bash","session_id":"s","cwd":"{}"}}"#,
        fake.dir.display()
    );
    let nowhere = || {
        let mut command = llctl();
        command
            .args(["hook", "claude-code"])
            .env("XDG_RUNTIME_DIR", &fake.dir)
            .current_dir(&fake.dir);
        fed(command, &call)
    };
    let run = nowhere();
    assert_eq!(run.code, 0);
    assert!(
        run.stderr.contains("is not inside an llfs mount"),
        "{}",
        run.stderr
    );
    let named = fake.dir.canonicalize().unwrap();
    assert!(
        run.stderr.contains(named.to_str().unwrap()),
        "{}",
        run.stderr
    );
    assert_eq!(nowhere().stderr, "", "it was said");
    let mut command = llctl();
    let nobody = fake.dir.join("nobody");
    command
        .arg("--socket")
        .arg(&nobody)
        .args(["hook", "codex"])
        .env("XDG_RUNTIME_DIR", &fake.dir);
    let run = fed(command, &call);
    assert_eq!(run.code, 0);
    assert!(
        run.stderr.contains("no llfs daemon answers"),
        "{}",
        run.stderr
    );
}

#[test]
fn who_does_not_answer_is_not_waited_for() {
    let (ended, waiting) = mpsc::channel::<()>();
    let waiting = std::sync::Mutex::new(waiting);
    let fake = Fake::answering(move |_| {
        // Until the test is over.
        waiting.lock().unwrap().recv().ok();
        Vec::new()
    });
    let begun = Instant::now();
    let run = hook(&fake, "gemini", WRITING[2].1);
    assert_eq!(run.code, 0);
    assert!(run.stderr.contains("does not answer"), "{}", run.stderr);
    assert!(begun.elapsed() < Duration::from_secs(240));
    // An agent that leaves standard input open.
    let mut command = fake.command(&["hook", "codex"]);
    command
        .env("XDG_RUNTIME_DIR", &fake.dir)
        .stdin(Stdio::piped());
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let input = child.stdin.take();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    drop((input, ended));
}

/// `llctl hook install` in a home directory of its own.
fn install(home: &Path, args: &[&str]) -> Run {
    let mut command = llctl();
    command
        .args(["hook", "install"])
        .args(args)
        .env("HOME", home)
        .env_remove("CODEX_HOME")
        .env_remove("CLAUDE_CONFIG_DIR")
        .current_dir(home);
    finish(command)
}

fn settings(agent: &str) -> &'static str {
    match agent {
        "claude-code" => ".claude/settings.json",
        "codex" => ".codex/hooks.json",
        "gemini" => ".gemini/settings.json",
        _ => ".cursor/hooks.json",
    }
}

#[test]
fn a_hook_is_installed_and_taken_out() {
    let fake = daemon();
    for agent in AGENTS {
        let file = fake.dir.join(settings(agent));
        let planned = install(&fake.dir, &[agent, "--dry-run"]);
        assert_eq!(planned.code, 0, "{}", planned.stderr);
        assert!(
            planned.stdout.ends_with("Nothing was changed.\n"),
            "{}",
            planned.stdout
        );
        assert!(!file.exists());
        let refused = install(&fake.dir, &[agent]);
        assert_eq!(refused.code, 6);
        assert!(refused.stderr.contains("needs a yes"), "{}", refused.stderr);
        assert!(!file.exists());
        let done = install(&fake.dir, &[agent, "--yes"]);
        assert_eq!((done.code, done.stderr.as_str()), (0, ""));
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(&format!("hook {agent} || exit 1")), "{text}");
        let again = install(&fake.dir, &[agent, "--yes"]);
        assert!(again.stdout.contains("already"), "{}", again.stdout);
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
        let out = install(&fake.dir, &[agent, "--remove", "--yes"]);
        assert_eq!((out.code, out.stderr.as_str()), (0, ""));
        assert!(!file.exists(), "{agent}");
        let none = install(&fake.dir, &[agent, "--remove"]);
        assert!(
            none.stdout.starts_with("There is no hook of llctl in"),
            "{}",
            none.stdout
        );
    }
}

#[test]
fn the_installed_command_is_one_that_a_shell_runs() {
    let fake = daemon();
    for (agent, call, consent) in WRITING {
        install(&fake.dir, &[agent, "--yes"]);
        let text = fs::read_to_string(fake.dir.join(settings(agent))).unwrap();
        let settings: serde_json::Value = serde_json::from_str(&text).unwrap();
        let event = settings["hooks"]
            .as_object()
            .unwrap()
            .values()
            .next()
            .unwrap();
        let hook = match agent {
            "cursor" => &event[0],
            _ => &event[0]["hooks"][0],
        };
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(hook["command"].as_str().unwrap())
            .current_dir(&fake.dir);
        command
            .env("XDG_RUNTIME_DIR", &fake.dir)
            .env_remove("LLFS_MOUNT");
        let run = fed(command, call);
        assert_eq!(run.code, 0, "{agent}: {}", run.stderr);
        assert!(
            run.stderr.contains("not inside an llfs mount"),
            "{}",
            run.stderr
        );
        assert_eq!(agent == "cursor", run.stdout == consent);
    }
}

#[test]
fn the_change_is_shown_and_nothing_else_is_changed() {
    let fake = daemon();
    let file = fake.dir.join(".claude/settings.json");
    fs::create_dir(fake.dir.join(".claude")).unwrap();
    let text =
        "{\n  \"model\": \"opus\",\n  \"permissions\": { \"allow\": [ \"Bash(ls:*)\" ] }\n}\n";
    fs::write(&file, text).unwrap();
    let done = install(&fake.dir, &["claude-code", "--project", "--yes"]);
    let shown = format!("--- {0}\n+++ {0}\n", file.display());
    let rest = "\
@@ -1,4 +1,18 @@
 {
   \"model\": \"opus\",
-  \"permissions\": { \"allow\": [ \"Bash(ls:*)\" ] }
+  \"permissions\": { \"allow\": [ \"Bash(ls:*)\" ] },
+  \"hooks\": {
+    \"PreToolUse\": [
+      {
+        \"matcher\": \"*\",
+        \"hooks\": [
+          {
+            \"type\": \"command\",
+            \"command\": \"llctl hook claude-code || exit 1\",
+            \"timeout\": 10
+          }
+        ]
+      }
+    ]
+  }
 }
Claude Code takes a checkpoint before each tool call that may write. Sessions that run already may have to be started again.
`llctl hook install claude-code --project --remove` takes it out again.
";
    assert_eq!(done.stdout, shown + rest);
    let json = install(
        &fake.dir,
        &["claude-code", "--project", "--remove", "--yes", "--json"],
    );
    let report: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(
        (&report["agent"], &report["changed"]),
        (&"claude-code".into(), &true.into())
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
}

#[test]
fn settings_that_are_not_understood_are_left_alone() {
    let fake = daemon();
    let file = fake.dir.join(".cursor/hooks.json");
    fs::create_dir(fake.dir.join(".cursor")).unwrap();
    fs::write(&file, "{ \"hooks\": 7 }").unwrap();
    let run = install(&fake.dir, &["cursor", "--yes"]);
    assert_eq!(run.code, 6);
    let expected = format!(
        "llctl: error: {} was not changed: hooks in it is not an object\n",
        file.display()
    );
    assert!(run.stderr.starts_with(&expected), "{}", run.stderr);
    assert_eq!(fs::read_to_string(&file).unwrap(), "{ \"hooks\": 7 }");
}

#[test]
fn a_link_to_settings_stays_a_link() {
    let fake = daemon();
    fs::create_dir_all(fake.dir.join(".gemini")).unwrap();
    fs::write(fake.dir.join("dotfile"), "{\n  // mine\n  \"a\": 1\n}\n").unwrap();
    let link = fake.dir.join(".gemini/settings.json");
    std::os::unix::fs::symlink("../dotfile", &link).unwrap();
    let run = install(&fake.dir, &["gemini", "--yes"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    let text = fs::read_to_string(fake.dir.join("dotfile")).unwrap();
    assert!(
        text.contains("// mine") && text.contains("BeforeTool"),
        "{text}"
    );
    install(&fake.dir, &["gemini", "--remove", "--yes"]);
    assert_eq!(
        fs::read_to_string(fake.dir.join("dotfile")).unwrap(),
        "{\n  // mine\n  \"a\": 1\n}\n"
    );
}

#[test]
fn odd_settings_are_told_and_left_alone() {
    use nix::sys::stat::Mode;
    use std::os::unix::fs::symlink;
    let fake = daemon();
    let directory = fake.dir.join(".claude");
    let file = directory.join("settings.json");
    let refused = |why: &str| {
        let run = install(&fake.dir, &["claude-code", "--yes"]);
        assert_ne!(run.code, 0, "{why}");
        assert!(run.stderr.contains(why), "{}", run.stderr);
        let left: Vec<_> = (fs::read_dir(&directory).into_iter().flatten())
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert!(left.len() <= 1, "{left:?}");
    };
    // A file where the directory should be.
    fs::write(&directory, "").unwrap();
    refused("settings.json");
    fs::remove_file(&directory).unwrap();
    fs::create_dir(&directory).unwrap();
    fs::create_dir(&file).unwrap();
    refused("it is a directory");
    fs::remove_dir(&file).unwrap();
    nix::unistd::mkfifo(&file, Mode::S_IRWXU).unwrap();
    refused("it is no regular file");
    fs::remove_file(&file).unwrap();
    let long = fs::File::create(&file).unwrap();
    long.set_len(1 << 40).unwrap();
    refused("it has more than 16777216 bytes");
    fs::remove_file(&file).unwrap();
    // What the link leads to would come to be beside it.
    symlink("nowhere", &file).unwrap();
    refused("is a link that leads nowhere");
    assert!(fs::symlink_metadata(&file).unwrap().is_symlink());
    fs::remove_file(&file).unwrap();
    symlink("settings.json", &file).unwrap();
    refused("is a link that leads nowhere");
    fs::remove_file(&file).unwrap();
    // Settings that others may read stay readable, and are whole at any time.
    fs::write(&file, "{}\n").unwrap();
    let mode = || {
        use std::os::unix::fs::PermissionsExt;
        fs::metadata(&file).unwrap().permissions().mode() & 0o777
    };
    let before = mode();
    assert_eq!(install(&fake.dir, &["claude-code", "--yes"]).code, 0);
    assert_eq!(mode(), before);
}

/// Who is asked may take long, and the agent may write its settings meanwhile.
#[test]
fn settings_that_change_while_somebody_is_asked_stay() {
    let fake = daemon();
    let file = fake.dir.join(settings("gemini"));
    fs::create_dir(file.parent().unwrap()).unwrap();
    fs::write(&file, "{}").unwrap();
    let terminal = nix::pty::openpty(None, None).unwrap();
    let slave = || Stdio::from(terminal.slave.try_clone().unwrap());
    let mut command = llctl();
    command.args(["hook", "install", "gemini"]);
    command.env("HOME", &fake.dir).current_dir(&fake.dir);
    command.stdin(slave()).stderr(slave()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut master = fs::File::from(terminal.master);
    let mut said = Vec::new();
    while !said.ends_with(b"[y/N] ") {
        let mut byte = [0];
        master.read_exact(&mut byte).unwrap();
        said.push(byte[0]);
    }
    let theirs = r#"{"theme": "dark"}"#;
    fs::write(&file, theirs).unwrap();
    master.write_all(b"y\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(6));
    assert_eq!(fs::read_to_string(&file).unwrap(), theirs);
}
