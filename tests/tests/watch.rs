//! `llctl watch`: what happens to a mount, line by line, over the deaths of workers and to the end of the mount.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use llfs_tests::command::{Running, until};
use llfs_tests::killer::kill_worker;
use llfs_tests::mounted::Mounted;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// A watch whose first line has come.
fn watch(mounted: &Mounted, args: &[&str]) -> Running {
    let all: Vec<&str> = ["watch", "--json"].iter().chain(args).copied().collect();
    let mut watch = mounted.llctl(&all).start();
    lines(&mut watch, 1);
    watch
}

/// The first so many whole lines of it, waited for.
fn lines(watch: &mut Running, count: usize) -> Vec<Value> {
    until(&format!("{count} events"), PATIENCE, || {
        let text = watch.output_so_far();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let all: Vec<Value> = (whole.lines())
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        (all.len() >= count).then_some(all)
    })
}

fn brief(events: &[Value]) -> Vec<String> {
    let word = |event: &Value, key| event[key].as_str().unwrap_or_default().to_owned();
    (events.iter())
        .map(|e| format!("{} {}", word(e, "event"), word(e, "stage")))
        .map(|text| text.trim_end().to_owned())
        .collect()
}

#[test]
fn everything_that_is_done_is_told_with_who_and_how_long() {
    let mounted = Mounted::over("watch", |base| fs::write(base.join("f"), "0").unwrap());
    let mut watch = watch(&mounted, &[]);
    mounted.snap("a");
    fs::write(mounted.path("f"), "1").unwrap();
    mounted.revert("a");
    mounted.undo();
    mounted.redo();
    assert_ne!(mounted.llctl(&["revert", "gone"]).finish().code(), 0);
    mounted.delete("a");
    let expected = [
        "watching",
        "snap finished",
        "revert started",
        "revert finished",
        "undo started",
        "undo finished",
        "redo started",
        "redo finished",
        "revert started",
        "revert failed",
        "delete finished",
    ];
    let told = lines(&mut watch, expected.len());
    assert_eq!(brief(&told), expected);
    for pair in told.windows(2) {
        let [before, after] = [&pair[0], &pair[1]].map(|e| e["seq"].as_u64().unwrap());
        assert_eq!(after, before + 1);
    }
    assert_eq!(told[3]["started"], told[2]["seq"]);
    assert_eq!(told[3]["act"]["files"], 1);
    assert!(told[3]["act"]["took_us"].as_u64().unwrap() > 0);
    assert_eq!(told[9]["act"]["error_kind"], "not_found");
    let me = nix::unistd::geteuid().as_raw();
    for event in &told[1..] {
        assert_eq!(event["act"]["uid"], me);
        assert!(event["act"]["command"].as_str().unwrap().contains("llctl"));
    }
    // The history has the same objects.
    let acts = mounted.json(&["history"])["acts"]
        .as_array()
        .unwrap()
        .clone();
    let ended: Vec<Value> = (told[1..].iter())
        .filter(|e| e["stage"] != "started")
        .map(|e| e["act"].clone())
        .collect();
    assert_eq!(ended, acts);
    // So has the log.
    let log = fs::read_to_string(mounted.store.join("llfs.log")).unwrap();
    assert!(log.contains("event=\"revert\" stage=\"finished\""), "{log}");

    mounted.unmount();
    let told = lines(&mut watch, expected.len() + 1);
    assert_eq!(brief(&told).last().unwrap(), "unmounting");
    watch.finish().ok();
}

#[test]
fn a_watch_outlives_the_worker_and_misses_nothing() {
    let mounted = Mounted::over("watch-killed", |_| {});
    let mut watching = watch(&mounted, &[]);
    mounted.snap("a");
    kill_worker(mounted.pid());
    mounted.snap("b");
    let expected = ["watching", "snap finished", "restarted", "snap finished"];
    let told = lines(&mut watching, expected.len());
    assert_eq!(brief(&told), expected);
    assert_eq!(told[2]["restarts"], 1);
    assert_eq!(told[3]["act"]["targets"][0], "b");
    // One that comes later is told what the dead worker kept.
    let first = told[0]["seq"].to_string();
    let mut later = watch(&mounted, &["--after", &first]);
    assert_eq!(
        lines(&mut later, expected.len()),
        relabelled(&told, &mut later)
    );
    // Nothing, and a word about it, for one from long ago.
    let mut old = watch(&mounted, &["--after", "1"]);
    let told_old = lines(&mut old, expected.len() + 1);
    assert_eq!(brief(&told_old)[..3], ["watching", "gap", "snap finished"]);
    assert_eq!(told_old[1]["missed"], Value::Null);
}

/// `told`, with the first line of `other`, which has a time of its own.
fn relabelled(told: &[Value], other: &mut Running) -> Vec<Value> {
    let mut told = told.to_vec();
    told[0] = lines(other, 1)[0].clone();
    told
}

#[test]
fn a_watch_ends_as_its_user_wants() {
    let mounted = Mounted::over("watch-ends", |_| {});
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let watch = watch(&mounted, &[]);
        kill(Pid::from_raw(watch.pid()), signal).unwrap();
        watch.finish().ok();
    }
    // Nobody reads any more, and nothing happens that could be written.
    let mut run = mounted.llctl(&["watch"]);
    let mut child = run.raw().stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    reader.read_line(&mut line).unwrap();
    assert!(line.contains("watching after"), "{line}");
    drop(reader);
    let status = until("the end of the watch", PATIENCE, || {
        child.try_wait().unwrap()
    });
    assert!(status.success(), "{status}");
    // Enough was seen.
    let watch = watch(&mounted, &["-n", "1", "--event", "delete"]);
    mounted.snap("a");
    mounted.delete("a");
    let out = watch.finish().ok().out();
    assert_eq!(out.lines().count(), 2, "{out}");
}

#[test]
fn a_watcher_that_is_stopped_stops_nobody() {
    let mounted = Mounted::over("watch-stopped", |_| {});
    let mut watching = watch(&mounted, &[]);
    let pid = Pid::from_raw(watching.pid());
    kill(pid, Signal::SIGSTOP).unwrap();
    // Far more than the socket takes and the daemon keeps.
    let run = mounted.store.with_file_name("run").join("llfs");
    let socket = fs::read_dir(run).unwrap().next().unwrap().unwrap().path();
    let mut client = llctl::Client::connect_socket(&socket).unwrap();
    let name = |text: &str| llctl::SnapName::new(text).unwrap();
    client.snap(Some(name("a")), None).unwrap();
    let rounds = 1500;
    for _ in 0..rounds {
        client.rename(name("a"), name("b")).unwrap();
        client.rename(name("b"), name("a")).unwrap();
    }
    kill(pid, Signal::SIGCONT).unwrap();
    let last = until("the last event", PATIENCE, || {
        let told = lines(&mut watching, 2);
        let last = told.last().unwrap().clone();
        let seqs = |e: &Value| e["seq"].as_u64().unwrap();
        let all = seqs(&last) - seqs(&told[0]) == 1 + 2 * rounds;
        all.then_some(told)
    });
    let gaps: Vec<&Value> = last.iter().filter(|e| e["event"] == "gap").collect();
    assert!(!gaps.is_empty(), "it was told of {} events", last.len());
    let missed: u64 = gaps.iter().map(|e| e["missed"].as_u64().unwrap()).sum();
    let heard = last.len() - 1 - gaps.len();
    assert_eq!(missed + heard as u64, 1 + 2 * rounds);
}

#[test]
fn scarce_space_is_told_and_its_end() {
    let mounted = Mounted::prepare("watch-space");
    mounted.mount_run().args(["--max-store", "48M"]).ok();
    let mut watching = watch(
        &mounted,
        &["--event", "store_limit", "--event", "space_back"],
    );
    // More than 90 %, less than all.
    fs::write(mounted.path("big"), vec![7; 40 << 20]).unwrap();
    let mut number = 0;
    while !mounted.json(&["status"])["warnings"]
        .to_string()
        .contains("max-store")
    {
        number += 1;
        fs::write(mounted.path(&format!("more{number}")), vec![7; 256 << 10]).unwrap();
        assert!(number < 40, "no warning");
    }
    let told = lines(&mut watching, 2);
    assert_eq!(told[1]["event"], "store_limit");
    assert_eq!(told[1]["space"]["limit"], 48 << 20);
    assert!(told[1]["text"].as_str().unwrap().contains("max-store"));
    mounted.snap("a");
    fs::remove_file(mounted.path("big")).unwrap();
    mounted.delete("a");
    let told = lines(&mut watching, 3);
    assert_eq!(told[2]["event"], "space_back");
}

#[test]
fn a_log_of_objects_has_the_same_fields() {
    let mounted = Mounted::prepare("watch-log");
    let run = mounted.mount_run().env("LLFS_LOG_FORMAT", "json");
    run.env("LLFS_LOG", "debug").ok();
    mounted.snap("a");
    mounted.unmount();
    let log = fs::read_to_string(mounted.store.join("llfs.log")).unwrap();
    let events: Vec<Value> = (log.lines())
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["event"] == "snap")
        .collect();
    assert_eq!(events.len(), 1, "{log}");
    assert_eq!(events[0]["stage"], "finished");
    assert_eq!(events[0]["targets"], "a");
    assert!(events[0]["took_us"].is_u64() && events[0]["seq"].is_u64());
}
