//! What automation is made of, broken: rules that are no file, hooks that call back, watchers that do not read, prunes of what is being
//! read, agents' hooks at a daemon that hangs, an MCP client that talks nonsense.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::process::Stdio;
use std::time::Duration;

use llfs_tests::binaries;
use llfs_tests::command::{Run, Running, until};
use llfs_tests::killer::{kill_worker, worker_of};
use llfs_tests::mounted::Mounted;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

fn automatic(name: &str) -> Mounted {
    let mut site = Mounted::prepare(name);
    site.by_itself();
    site.mount();
    site
}

#[test]
fn rules_that_are_no_file_are_told_and_wait_for_nobody() {
    let site = automatic("faults-rules");
    let file = site.path("llfs.toml");
    site.rules("[checkpoints]\nquiet = \"off\"\nevery = \"off\"\nbulk = 3\n");
    let broken = |why: &str| {
        for command in [&["config", "check"][..], &["config", "trust", "--yes"]] {
            let refused = site.llctl(command).finish();
            assert_eq!(refused.code(), 1, "{}", refused.text());
            assert!(refused.err().contains(why), "{}", refused.err());
        }
        let shown = site.json(&["config", "show"]);
        assert_eq!(shown["rules"]["checkpoints"]["bulk"], 3, "{shown}");
        assert_eq!(shown["file"], "broken", "{shown}");
        // Components come from there too.
        let refused = site
            .llctl(&["revert", "@base", "--component", "web"])
            .finish();
        assert_ne!(refused.code(), 0);
        site.json(&["status"]);
    };
    fs::remove_file(&file).unwrap();
    mkfifo(&file, Mode::S_IRWXU).unwrap();
    broken("it is no regular file");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    broken("it is a directory");
    fs::remove_dir(&file).unwrap();
    // A hole of a terabyte, and what is only a little too long.
    let huge = fs::File::create(&file).unwrap();
    for length in [1 << 40, 65_537] {
        huge.set_len(length).unwrap();
        broken("it has more than 65536 bytes");
    }
    fs::write(&file, b"\xff\xfe").unwrap();
    broken("it is not UTF-8");
    fs::write(&file, "[retention]\nkeep_last = -1\n").unwrap();
    broken("2:13");
    fs::remove_file(&file).unwrap();
    // A link out of the mount is not followed by the daemon; what the user is shown is what is trusted.
    symlink("/dev/zero", &file).unwrap();
    broken("it is no regular file");
    // What is in force goes on being so over all that, and over a revert to before there was a file.
    fs::remove_file(&file).unwrap();
    site.revert("@base");
    assert_eq!(
        site.json(&["config", "show"])["rules"]["checkpoints"]["bulk"],
        3
    );
}

#[test]
fn a_hook_that_calls_back_runs_no_hooks() {
    let site = automatic("faults-hooks");
    let llctl = binaries::llctl();
    let text = format!(
        "[checkpoints]\nquiet = \"off\"\nevery = \"off\"\nbulk = 0\n[hooks]\ntimeout = \"60s\"
before_snap = \"echo $LLFS_SNAPSHOT >> before; {0} snap inner-$LLFS_SNAPSHOT; {0} delete --yes old || true; {0} revert @live || true\"
after_delete = \"exit 7\"
",
        llctl.display()
    );
    site.snap("old");
    site.rules(&text);
    site.snap("a");
    assert_eq!(site.names(), ["inner-a", "a"]);
    assert_eq!(fs::read_to_string(site.path("before")).unwrap(), "a\n");
    // What a hook wrote before a snapshot is in it.
    assert_eq!(
        fs::read_to_string(site.path(".llfs/a/before")).unwrap(),
        "a\n"
    );
    site.verify();
}

/// A hook that runs when its worker dies, its supervisor too, or when the mount ends, is ended, whether or not anything comes by itself.
#[test]
fn a_hook_goes_on_for_nobody() {
    let mut site = Mounted::new("faults-hook-left");
    site.allow(Duration::from_secs(300));
    let place = site.scratch.dir("hooks");
    let text = format!(
        "[hooks]\ntimeout = \"10m\"\nbefore_snap = \"cd /; echo $$ >> {}/pids; exec sleep 600\"\n",
        place.display()
    );
    site.rules(&text);
    let pids = |count: usize| {
        until("a hook that has begun", Duration::from_secs(60), || {
            let text = fs::read_to_string(place.join("pids")).ok()?;
            let pids: Vec<String> = text.lines().map(str::to_owned).collect();
            (text.ends_with('\n') && pids.len() == count).then_some(pids)
        })
    };
    let ended = |pid: &str| {
        until("the end of a hook", Duration::from_secs(60), || {
            (!std::path::Path::new("/proc").join(pid).exists()).then_some(())
        });
    };
    std::thread::scope(|scope| {
        let client = scope.spawn(|| site.llctl(&["snap", "a"]).finish());
        let first = pids(1).remove(0);
        kill_worker(site.pid());
        ended(&first);
        // It was asked for again.
        let second = pids(2).remove(1);
        site.unmount();
        ended(&second);
        assert_ne!(client.join().unwrap().code(), 0);
    });
    // Nobody is left who knows of it.
    site.mount();
    std::thread::scope(|scope| {
        let client = scope.spawn(|| site.llctl(&["snap", "b"]).finish());
        let third = pids(3).remove(2);
        site.kill9();
        ended(&third);
        assert_ne!(client.join().unwrap().code(), 0);
    });
    site.mount();
}

/// What a hook leaves running holds its output open, and is neither waited for nor ended.
#[test]
fn a_hook_that_leaves_something_running_holds_up_nobody() {
    let site = automatic("faults-detached");
    let text =
        "[checkpoints]\nquiet = \"off\"\nevery = \"off\"\nbulk = 0\n[hooks]\ntimeout = \"100s\"
before_snap = \"sleep 90 & echo $! > pid-$LLFS_SNAPSHOT\"
";
    site.rules(text);
    let begun = std::time::Instant::now();
    for name in ["a", "b"] {
        fs::write(site.path("f"), name).unwrap();
        site.snap(name);
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(80));
    for name in ["a", "b"] {
        let pid = fs::read_to_string(site.path(&format!("pid-{name}"))).unwrap();
        let pid = nix::unistd::Pid::from_raw(pid.trim().parse().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    }
    site.verify();
}

#[test]
fn a_phase_and_a_session_take_what_there_is_and_are_never_empty() {
    let site = automatic("faults-session");
    site.rules("[checkpoints]\nquiet = \"off\"\nevery = \"off\"\n");
    let first = site.json(&["session", "monday"]);
    assert_eq!(first["meta"]["session"], Value::Null);
    assert_eq!(first["message"], "before another session");
    // Nothing has changed: a phase, and another session, take none.
    let phase = site.json(&["phase", "review", "--session", "monday"]);
    assert_eq!(phase["unchanged"]["name"], first["name"]);
    fs::write(site.path("f"), "monday's").unwrap();
    let second = site.json(&["session", "tuesday"]);
    let meta = &second["meta"];
    assert_eq!(
        (&meta["session"], &meta["phase"], &meta["reason"]),
        (&"monday".into(), &"review".into(), &"automatic".into())
    );
    assert_eq!(meta["entity"], json!({"type": "session", "id": "tuesday"}));
    let same = site.json(&["session", "wednesday"]);
    assert_eq!(same["unchanged"]["name"], second["name"]);
    site.json(&["session", "tuesday"]);
    // The next one is tuesday's, and so it is for a daemon that comes after this one.
    kill_worker(site.pid());
    fs::write(site.path("f"), "tuesday's").unwrap();
    let third = site.json(&["phase", "next"]);
    assert_eq!(third["message"], "before this phase");
    fs::write(site.path("f"), "still tuesday's").unwrap();
    let fourth = site.json(&["session", "thursday"]);
    assert_eq!(fourth["meta"]["phase"], "next");
    assert_eq!(site.names().len(), 4);
    // Too long to be said by a snapshot: told at once, and not when the next one is taken.
    let refused = site.llctl(&["session", &"x".repeat(10_000)]).finish();
    assert_ne!(refused.code(), 0);
}

fn watch(site: &Mounted) -> Running {
    site.llctl(&["watch", "--json"]).start()
}

#[test]
fn a_crowd_of_watchers_holds_up_nobody() {
    let mut site = automatic("faults-watch");
    site.allow(Duration::from_secs(300));
    let mut crowd: Vec<Running> = (0..24).map(|_| watch(&site)).collect();
    // Those for whom there is no room are told so; the others have their first line.
    let mut turned_away = 0;
    for watcher in &mut crowd {
        let ended = until("a first line, or an end", PATIENCE, || {
            if watcher.output_so_far().contains("watching") {
                return Some(false);
            }
            watcher.wait(Duration::ZERO).map(|_| true)
        });
        turned_away += u32::from(ended);
    }
    assert_eq!(turned_away, 8);
    // Half of the others do not read and are stopped, and one is killed.
    let mut heard: Vec<Running> = Vec::new();
    for (at, mut watcher) in crowd.into_iter().enumerate() {
        if watcher.wait(Duration::ZERO).is_some() {
            assert_eq!(watcher.finish().code(), 6);
        } else if at % 3 == 0 {
            kill(Pid::from_raw(watcher.pid()), Signal::SIGSTOP).unwrap();
            heard.push(watcher);
        } else {
            heard.push(watcher);
        }
    }
    for n in 0..20 {
        site.snap(&format!("s{n}"));
    }
    kill_worker(site.pid());
    site.snap("last");
    site.verify();
    for watcher in &mut heard {
        kill(Pid::from_raw(watcher.pid()), Signal::SIGCONT).unwrap();
        until("the last snapshot", PATIENCE, || {
            let text = watcher.output_so_far();
            text.contains("\"targets\":[\"last\"]").then_some(())
        });
        let text = watcher.output_so_far();
        assert_eq!(text.matches("\"event\":\"snap\"").count(), 21, "{text}");
    }
    site.unmount();
    for watcher in heard {
        watcher.finish().ok();
    }
}

#[test]
fn what_is_read_while_it_is_pruned_is_whole_or_told_to_be_gone() {
    let site = automatic("faults-prune");
    let content: Vec<u8> = (0..8u32 << 20).map(|n| (n / 4096) as u8).collect();
    for round in 0..4 {
        fs::write(site.path("big"), &content).unwrap();
        for n in 0..40 {
            fs::write(site.path(&format!("f{n}")), format!("{round}")).unwrap();
        }
        let name = format!("old{round}");
        site.llctl(&["snap", &name, "--reason", "automatic"]).ok();
        fs::write(site.path("big"), b"").unwrap();
        site.snap(&format!("new{round}"));
        // One has the file open in the view, one is in the middle of a cat, and one of a diff.
        let view = fs::File::open(site.path(&format!(".llfs/{name}/big"))).unwrap();
        let mut cat = site.llctl(&["cat", &format!("{name}:big")]);
        let mut cat = cat
            .raw()
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut diff = site.llctl(&["diff", "--patch", &name, "@live"]);
        let diff = diff
            .raw()
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut start = [0; 4096];
        std::io::Read::read_exact(cat.stdout.as_mut().unwrap(), &mut start).unwrap();
        let pruned = site.json(&["prune", "--keep-last", "0", "--yes"]);
        assert_eq!(pruned["snapshots"][0]["name"], name.as_str(), "{pruned}");
        fs::write(site.path("more"), &content).unwrap();
        let done = cat.wait_with_output().unwrap();
        let whole = [&start[..], &done.stdout[..]].concat();
        assert!(content.starts_with(&whole), "round {round}: wrong bytes");
        assert!(whole.len() == content.len() || !done.status.success());
        let done = diff.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success() || !said.is_empty());
        // The view's file: what it was, or an error.
        let mut bytes = Vec::new();
        match std::io::Read::read_to_end(&mut &view, &mut bytes) {
            Ok(_) => assert!(bytes.is_empty() || bytes == content, "round {round}"),
            Err(error) => assert!(error.raw_os_error().is_some(), "{error}"),
        }
        site.verify();
    }
    assert_eq!(site.names(), ["new0", "new1", "new2", "new3"]);
}

#[test]
fn a_hook_at_a_daemon_that_hangs_lets_the_agent_go_on() {
    let site = automatic("faults-hang");
    fs::write(site.path("f"), "x").unwrap();
    let call = json!({
        "session_id": "s", "cwd": site.dir, "hook_event_name": "PreToolUse",
        "tool_name": "Bash", "tool_input": {"command": "true"}, "tool_use_id": "1",
    });
    let path = site.scratch.path().join("call.json");
    fs::write(&path, call.to_string()).unwrap();
    let hook = || {
        let mut run = site.llctl(&["hook", "claude-code"]);
        run.raw().stdin(fs::File::open(&path).unwrap());
        run.finish()
    };
    let supervisor = site.pid();
    let worker = worker_of(supervisor).unwrap();
    for pid in [supervisor, worker] {
        kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    }
    let done = hook();
    for pid in [worker, supervisor] {
        kill(Pid::from_raw(pid), Signal::SIGCONT).unwrap();
    }
    assert_eq!(done.code(), 0, "{}", done.text());
    assert!(
        done.err().contains("no checkpoint before"),
        "{}",
        done.err()
    );
    // What was asked is done when the daemon goes on, or was given up; then all is as always.
    until("the daemon answers", PATIENCE, || {
        site.llctl(&["status"])
            .finish()
            .status
            .success()
            .then_some(())
    });
    fs::write(site.path("f"), "y").unwrap();
    let before = site.names().len();
    let done = hook();
    assert_eq!((done.code(), done.err().as_str()), (0, ""));
    assert_eq!(site.names().len(), before + 1);
    // Not mounted.
    site.unmount();
    let done = hook();
    assert_eq!(done.code(), 0, "{}", done.text());
    assert!(
        done.err().contains("no checkpoint before"),
        "{}",
        done.err()
    );
    assert_eq!(hook().err(), "", "it was said");
}

#[test]
fn an_mcp_client_that_talks_nonsense_harms_nobody() {
    let site = automatic("faults-mcp");
    fs::write(site.path("f"), "x").unwrap();
    let talk = |lines: &[Vec<u8>]| -> (Vec<Value>, bool) {
        let mut run = site.llctl(&["mcp"]);
        let command = run.raw().stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let lines = lines.to_vec();
        let writer = std::thread::spawn(move || {
            // The server may have had enough.
            for line in lines {
                if input
                    .write_all(&line)
                    .and_then(|()| input.write_all(b"\n"))
                    .is_err()
                {
                    return;
                }
            }
        });
        let mut answers = Vec::new();
        let mut line = String::new();
        while output.read_line(&mut line).unwrap() > 0 {
            answers.push(serde_json::from_str(&line).expect("nothing but JSON-RPC"));
            line.clear();
        }
        writer.join().unwrap();
        (answers, child.wait().unwrap().code().is_some())
    };
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let begin = [
        hello.to_string().into_bytes(),
        ready.to_string().into_bytes(),
    ];
    let ask = |id: u32, tool: &str, arguments: Value| {
        json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool, "arguments": arguments}})
            .to_string()
            .into_bytes()
    };
    for garbage in [
        b"nonsense".to_vec(),
        b"\xff\xfe\x00".to_vec(),
        b"[]".to_vec(),
        b"{\"jsonrpc\": \"2.0\"}".to_vec(),
        "[".repeat(100_000).into_bytes(),
        json!({"jsonrpc": "2.0", "id": 2, "method": "no/such"})
            .to_string()
            .into_bytes(),
        json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": 7})
            .to_string()
            .into_bytes(),
        ask(2, "checkpoint", json!({"name": "x".repeat(8 << 20)})),
        ask(2, "checkpoint", json!({"message": "x".repeat(8 << 20)})),
        ask(2, "diff", json!({"paths": vec!["../../../etc"; 10_000]})),
        ask(2, "revert", json!({"to": "@base", "confirm": "yes"})),
        ask(2, "run_guarded", json!({"command": 7})),
    ] {
        let (_, ended) = talk(std::slice::from_ref(&garbage));
        assert!(ended, "a signal ended it");
        let mut all = begin.to_vec();
        all.push(garbage);
        all.push(ask(9, "list", json!({})));
        let (answers, ended) = talk(&all);
        assert!(ended, "a signal ended it");
        assert_eq!(answers[0]["result"]["serverInfo"]["name"], "llfs");
    }
    assert_eq!(fs::read(site.path("f")).unwrap(), b"x");
    assert_eq!(site.names(), Vec::<String>::new());
    Run::new("true").ok();
}
