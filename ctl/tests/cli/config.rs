//! `llctl config`.

use std::fs;

use llctl::config::{Config, ConfigError};
use llctl::protocol::{ConfigInfo, FileState, Request, Response};

use super::fake::{Fake, WHEN, finish, llctl};

fn info() -> ConfigInfo {
    ConfigInfo {
        rules: Config::default(),
        text: None,
        hash: None,
        trusted: None,
        file: FileState::None,
        error: None,
        automatic: true,
    }
}

#[test]
fn check_says_where_a_file_is_wrong() {
    let fake = Fake::new(vec![Response::Pong]);
    let file = fake.dir.join("other.toml");
    fs::write(&file, "[retention]\nkeep_for = \"2 days\"\n").unwrap();
    let path = file.to_str().unwrap();
    // A file that is named needs no mount.
    let check = |args: &[&str]| {
        let mut command = llctl();
        command
            .args(["config", "check", path])
            .args(args)
            .current_dir("/");
        finish(command)
    };
    let why = "expected a time such as 45s, 10m, 1h30m or 7d, not \"2 days\"; \"off\" is for none";
    let hint = "`llctl config --help` shows what the file may say";
    let run = check(&[]);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""));
    assert_eq!(
        run.stderr,
        format!("llctl: error: {path}:2:12: {why}\nhint: {hint}\n")
    );
    let run = check(&["--json"]);
    let expected = serde_json::json!({"error": {"kind": "invalid", "message": format!("{path}:2:12: {why}"), "hint": hint}});
    let found: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((run.code, found), (1, expected));
    fs::write(&file, "[retention]\nkeep_for = \"2d\"\n").unwrap();
    assert_eq!(check(&[]).stdout, format!("{path} is right.\n"));
    assert_eq!(
        check(&["--json"]).stdout,
        format!("{{\"file\":\"{path}\",\"valid\":true}}\n")
    );
}

#[test]
fn check_without_a_file_looks_into_the_mount() {
    let fake = Fake::new(vec![Response::Pong]);
    let run = fake.run(&["config", "check"]);
    assert_eq!(run.code, 4, "{}", run.stderr);
    fs::write(
        fake.dir.join("llfs.toml"),
        "[hooks]\nbefore_lunch = \"x\"\n",
    )
    .unwrap();
    let run = fake.run(&["config", "check"]);
    assert_eq!(run.code, 1);
    assert!(
        run.stderr.contains(
            "llfs.toml:2:1: unknown field `before_lunch`, expected one of `timeout`, `before_snap`"
        ),
        "{}",
        run.stderr
    );
}

#[test]
fn show_is_a_file_that_says_what_is_in_force() {
    let fake = Fake::new(vec![Response::Config(info())]);
    let shown = fake.output(&["config", "show"]);
    assert_eq!(
        shown,
        "# in force: the defaults

[components]

[checkpoints]
automatic = true
quiet = \"30s\"
every = \"10m\"
bulk = 20

[retention]
keep_last = 50
keep_for = \"2h\"
hourly = 48
daily = 30
keep_tagged = true
max_size = \"off\"
applies_to = \"automatic\"

[hooks]
timeout = \"30s\"
"
    );
    assert_eq!(Config::parse(&shown), Ok(Config::default()));
    let trusted = ConfigInfo {
        trusted: Some(WHEN),
        text: Some(String::new()),
        file: FileState::Broken,
        error: Some(ConfigError {
            line: Some(3),
            column: Some(1),
            message: "no\u{1b}".to_owned(),
        }),
        automatic: false,
        ..info()
    };
    let fake = Fake::new(vec![Response::Config(trusted)]);
    let shown = fake.output(&["config", "show"]);
    for line in [
        "# in force: as llfs.toml was when it was trusted, 2026-11-21",
        "# llfs.toml is not right: line 3, column 1: no\\x1b",
        "# nothing is taken or given up by itself in this mount",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&fake.output(&["config", "show", "--json"])).unwrap();
    assert_eq!(json["file"], "broken");
    assert_eq!(json["rules"]["checkpoints"]["every"], "10m");
}

#[test]
fn trust_needs_a_yes_and_sends_what_it_read() {
    let fake = Fake::new(vec![Response::Config(info())]);
    let text = "[checkpoints]\nbulk = 5\n";
    let file = fake.dir.join("llfs.toml");
    fs::write(&file, text).unwrap();
    let run = fake.run(&["config", "trust"]);
    assert_eq!(run.code, 6, "{}", run.stderr);
    assert!(run.stderr.contains("needs a yes"), "{}", run.stderr);
    let trusting = |r: &Request| matches!(r, Request::Trust { .. });
    assert!(!fake.requests().iter().any(trusting));
    fake.output(&["config", "trust", "--yes"]);
    let sent = Request::Trust {
        text: text.to_owned(),
    };
    assert_eq!(fake.requests().last(), Some(&sent));
    // What is wrong is not sent.
    fs::write(&file, "bulk\n").unwrap();
    let run = fake.run(&["config", "trust", "--yes"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert_eq!(fake.requests().last(), Some(&sent));
    fs::remove_file(&file).unwrap();
    let said = fake.output(&["config", "trust", "--yes"]);
    assert!(said.ends_with("is in force already.\n"), "{said}");
}
