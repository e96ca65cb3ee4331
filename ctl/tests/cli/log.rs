//! `llctl log`, `who` and `cat`, and what a terminal gets.

use std::io::Read;
use std::process::Stdio;

use llctl::protocol::{
    Author, BytePath, ChangeCounts, ChangeKind, Deed, LogEntry, Request, Response, UnixNanos,
};
use serde_bytes::ByteBuf;

use super::fake::{Fake, WHEN};

pub fn entries() -> Vec<Response> {
    let author = |command: &str, line: &str, pid, did: &[Deed]| Author {
        command: command.to_owned(),
        line: line.to_owned(),
        pid,
        uid: 4_000_000,
        did: did.to_vec(),
        at: UnixNanos(WHEN.0 + 1_000_000_000),
    };
    let entry = LogEntry {
        state: "@live".to_owned(),
        id: None,
        created: None,
        message: None,
        since: "before".to_owned(),
        path: BytePath::from("src/main.rs"),
        from: None,
        kind: Some(ChangeKind::Modified),
        below: None,
        by: vec![
            author(
                "sed",
                "sed -i s/a/b/ main.rs",
                4242,
                &[Deed::Made, Deed::Wrote],
            ),
            author("", "", 0, &[Deed::Wrote]),
        ],
    };
    let renamed = LogEntry {
        state: "before".to_owned(),
        id: Some(3),
        created: Some(WHEN),
        message: Some("all tests pass\nreally".to_owned()),
        since: "@base".to_owned(),
        from: Some(BytePath::from("src/old.rs")),
        kind: Some(ChangeKind::Renamed),
        below: Some(ChangeCounts {
            modified: 2,
            ..ChangeCounts::default()
        }),
        by: Vec::new(),
        ..entry.clone()
    };
    vec![
        Response::LogEntry(entry),
        Response::LogEntry(renamed),
        Response::LogEnd,
    ]
}

#[test]
fn a_log_is_a_line_for_each_state() {
    let fake = Fake::new(entries());
    assert_eq!(
        fake.output(&["log", "src/../src/main.rs", "-n", "5"]),
        "\
M  @live  since before  by sed, (a mapping)
R  before  2026-11-21 11:44:02  (was src/old.rs)  (2 modified)  all tests pass
"
    );
    assert_eq!(
        fake.requests(),
        [Request::Log {
            path: BytePath::from("src/main.rs"),
            limit: Some(5)
        }]
    );
    let json = fake.output(&["log", "x", "--json"]);
    let first = json.lines().next().unwrap();
    assert_eq!(
        first,
        "{\"entry\":{\"state\":\"@live\",\"id\":null,\"created\":null,\"message\":null,\"since\":\"before\",\
         \"path\":\"src/main.rs\",\"kind\":\"modified\",\"by\":[{\"command\":\"sed\",\
         \"line\":\"sed -i s/a/b/ main.rs\",\"pid\":4242,\"uid\":4000000,\"did\":[\"made\",\"wrote\"],\
         \"at\":\"2026-11-21T11:44:03Z\"},{\"command\":\"\",\"line\":\"\",\"pid\":0,\"uid\":4000000,\
         \"did\":[\"wrote\"],\"at\":\"2026-11-21T11:44:03Z\"}]}}"
    );
    let nothing = Fake::new(vec![Response::LogEnd]).run(&["log", "x"]);
    assert_eq!((nothing.code, nothing.stdout.as_str()), (0, ""));
    assert_eq!(
        nothing.stderr,
        "It is as in the base, and was in every snapshot.\n"
    );
    let outside = fake.run(&["log", "/elsewhere/file"]);
    assert_eq!(outside.code, 2);
    assert!(outside.stderr.contains("not inside the mount"));
}

#[test]
fn who_names_the_processes() {
    let fake = Fake::new(entries());
    assert_eq!(
        fake.output(&["who", "src/main.rs"]),
        "\
@live  since before
    2026-11-21 11:44:03  sed                 4242  4000000   made, wrote   sed -i s/a/b/ main.rs
    2026-11-21 11:44:03  (a mapping)            -  4000000   wrote
"
    );
    let json = fake.output(&["who", "src/main.rs", "--json"]);
    assert_eq!(json.lines().count(), 1);
    let nobody = Fake::new(vec![Response::LogEnd]).run(&["who", "x"]);
    assert_eq!(nobody.code, 0);
    assert_eq!(nobody.stderr, "No program is known to have changed it.\n");
}

#[test]
fn a_file_is_printed_as_it_was() {
    let piece = |bytes: &[u8]| Response::Content(ByteBuf::from(bytes.to_vec()));
    let fake = Fake::new(vec![piece(b"one\n"), piece(b"two"), Response::ContentEnd]);
    for args in [
        &["cat", "before:src/a:b"][..],
        &["cat", "before", "src/a:b"],
    ] {
        assert_eq!(fake.output(args), "one\ntwo");
    }
    let asked = Request::Cat {
        state: "before".parse().unwrap(),
        path: BytePath::from("src/a:b"),
        from: 0,
    };
    assert_eq!(fake.requests(), [asked.clone(), asked]);
    assert_eq!(
        fake.output(&["cat", "@base:a", "--json"]),
        "{\"state\":\"@base\",\"path\":\"a\",\"size\":7,\"content\":\"one\\ntwo\"}\n"
    );
    for wrong in [
        &["cat", "before"][..],
        &["cat", "@nothing:a"],
        &["cat", "-x", "a"],
    ] {
        assert_eq!(fake.run(wrong).code, 2, "{wrong:?}");
    }
}

/// Runs `llctl` on a terminal of its own, and gives what that shows.
fn on_a_terminal(fake: &Fake, args: &[&str], pager: &str) -> String {
    let terminal = nix::pty::openpty(None, None).unwrap();
    let slave = || Stdio::from(terminal.slave.try_clone().unwrap());
    let mut command = fake.command(args);
    command.stdout(slave()).stderr(slave());
    command.env("LLFS_PAGER", pager).env_remove("LESS");
    let mut child = command.spawn().unwrap();
    drop(command);
    drop(terminal.slave);
    let mut shown = Vec::new();
    // The end of a terminal is an error.
    std::fs::File::from(terminal.master)
        .read_to_end(&mut shown)
        .unwrap_or(0);
    assert!(child.wait().unwrap().success());
    String::from_utf8(shown).unwrap().replace("\r\n", "\n")
}

#[test]
fn on_a_terminal_a_pager_shows_it() {
    let fake = Fake::new(entries());
    let pager = "sed 's/^/> /'; echo options $LESS";
    let shown = on_a_terminal(&fake, &["--color=never", "log", "x"], pager);
    assert_eq!(
        shown,
        "\
> M  @live  since before  by sed, (a mapping)
> R  before  2026-11-21 11:44:02  (was src/old.rs)  (2 modified)  all tests pass
options FRX
"
    );
    // Colors go through it; JSON and short answers don't.
    let colored = on_a_terminal(&fake, &["log", "x"], "cat -v");
    assert!(colored.contains("^[[33mM^[[0m"), "{colored}");
    let json = on_a_terminal(&fake, &["log", "x", "--json"], "sed 's/^/> /'");
    assert!(json.starts_with("{\"entry\""), "{json}");
    let none = on_a_terminal(&fake, &["--color=never", "log", "x"], "");
    assert!(none.starts_with("M  @live"), "{none}");
    // Who has seen enough ends it without an error.
    let quit = on_a_terminal(&fake, &["--color=never", "log", "x"], "head -n 1");
    assert_eq!(quit, "M  @live  since before  by sed, (a mapping)\n");
    let escape = Response::Content(ByteBuf::from(b"a\x1b[2Jb\n".to_vec()));
    let fake = Fake::new(vec![escape, Response::ContentEnd]);
    let shown = on_a_terminal(&fake, &["cat", "s:x"], "");
    assert!(!shown.contains('\x1b'), "{shown:?}");
}
