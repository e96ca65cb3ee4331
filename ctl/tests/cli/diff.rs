//! `llctl diff` by file, as counts of lines and as JSON.

use std::io::Read;
use std::process::Stdio;

use llctl::StateRef;
use llctl::protocol::{
    BytePath, Change, ChangeCounts, ChangeKind, Content, FileType, Patch, Request, Response, Side,
};

use super::fake::{Fake, WHEN};

pub fn side(file_type: FileType, size: u64, mode: u32) -> Option<Side> {
    Some(Side {
        file_type,
        size,
        mode,
        uid: 0,
        gid: 0,
        mtime: WHEN,
    })
}

pub fn change(path: &str, kind: ChangeKind, old: Option<Side>, new: Option<Side>) -> Change {
    Change {
        path: BytePath::from(path),
        kind,
        from: None,
        old,
        new,
        patch: None,
    }
}

pub fn text(content: &str) -> Content {
    Content::Bytes(content.as_bytes().to_vec().into())
}

pub fn answer(changes: Vec<Change>) -> Vec<Response> {
    let mut counts = ChangeCounts::default();
    changes.iter().for_each(|change| counts.count(change.kind));
    changes
        .into_iter()
        .map(Response::Change)
        .chain([Response::DiffEnd(counts)])
        .collect()
}

fn changes() -> Vec<Change> {
    use ChangeKind::{Added, Mode, Modified, Removed, Renamed, Times, TypeChanged, Xattrs};
    use FileType::{Directory, File, Symlink};
    let file = |size| side(File, size, 0o644);
    vec![
        change(
            "",
            Times,
            side(Directory, 0, 0o755),
            side(Directory, 0, 0o755),
        ),
        change("bin", Added, None, side(Directory, 0, 0o755)),
        Change {
            path: BytePath::from(&b"bin/\xff\n"[..]),
            ..change("", Added, None, file(1536))
        },
        change("gone", Removed, file(10), None),
        change("link", TypeChanged, file(10), side(Symlink, 3, 0o777)),
        change("main.rs", Modified, file(10), file(2048)),
        Change {
            from: Some(BytePath::from("old")),
            ..change("new", Renamed, file(5), file(5))
        },
        change("run", Mode, file(1), side(File, 1, 0o4755)),
        change("tagged", Xattrs, file(1), file(1)),
    ]
}

#[test]
fn each_change_has_its_line() {
    let fake = Fake::new(answer(changes()));
    assert_eq!(
        fake.output(&["diff"]),
        "\
t  .
A  bin/
A  bin/\\xff\\n  (1.5 KiB)
D  gone  (10 B)
T  link  (file -> symlink, mode 0644 -> 0777)
M  main.rs  (10 B -> 2.0 KiB)
R  old -> new
m  run  (mode 0644 -> 4755)
x  tagged
2 added, 1 removed, 2 modified, 1 renamed, 3 with other attributes.
"
    );
    assert_eq!(
        fake.requests(),
        [Request::Diff {
            from: None,
            to: StateRef::Live,
            paths: Vec::new(),
            patch: false
        }]
    );
}

#[test]
fn states_and_paths_are_sent_as_the_daemon_wants_them() {
    let fake = Fake::new(answer(Vec::new()));
    std::fs::create_dir(fake.dir.join("sub")).unwrap();
    std::os::unix::fs::symlink(&fake.dir, fake.dir.join("sub/up")).unwrap();
    let absolute = fake.dir.join("abs").into_os_string().into_string().unwrap();
    let mut command = fake.command(&[
        "diff", "monday", "@undo", "--", "x", "../y/", ".", "..", "up/z", &absolute,
    ]);
    command.current_dir(fake.dir.join("sub"));
    let run = super::fake::finish(command);
    assert_eq!((run.code, run.stderr.as_str()), (0, "No differences.\n"));
    let wanted = ["sub/x", "y", "sub", "", "sub/up/z", "abs"];
    assert_eq!(
        fake.requests(),
        [Request::Diff {
            from: Some("monday".parse().unwrap()),
            to: StateRef::Undo,
            paths: wanted.map(BytePath::from).to_vec(),
            patch: false
        }]
    );
}

#[test]
fn a_path_outside_of_the_mount_is_wrong_usage() {
    let fake = Fake::new(answer(Vec::new()));
    let run = fake.run(&["diff", "--", "/etc/passwd"]);
    assert_eq!(run.code, 2);
    assert!(
        run.stderr
            .starts_with("llctl: error: /etc/passwd is not inside the mount "),
        "{}",
        run.stderr
    );
    assert!(fake.requests().is_empty());
}

#[test]
fn the_exit_code_tells_of_differences_only_if_asked() {
    let some = Fake::new(answer(changes()));
    let none = Fake::new(answer(Vec::new()));
    assert_eq!(some.run(&["diff"]).code, 0);
    assert_eq!(some.run(&["diff", "--exit-code"]).code, 1);
    assert_eq!(none.run(&["diff", "--exit-code"]).code, 0);
    assert_eq!(none.run(&["diff"]).stdout, "");
}

#[test]
fn stat_counts_lines() {
    let mut modified = changes().remove(5);
    modified.patch = Some(Patch {
        old: text("a\nb\n"),
        new: text("a\nc\nd\n"),
    });
    let mut binary = modified.clone();
    binary.patch = Some(Patch {
        old: Content::Binary,
        new: text("x"),
    });
    let fake = Fake::new(answer(vec![modified, binary, changes().remove(1)]));
    assert_eq!(
        fake.output(&["diff", "--stat"]),
        "     +2      -1  M  main.rs  (10 B -> 2.0 KiB)
 binary          M  main.rs  (10 B -> 2.0 KiB)
                 A  bin/
1 added, 2 modified.
"
    );
    assert!(matches!(
        fake.requests()[0],
        Request::Diff { patch: true, .. }
    ));
    let json = fake.output(&["diff", "--stat", "--json"]);
    let first: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!(
        first["change"]["lines"],
        serde_json::json!({"added": 2, "removed": 1})
    );
}

#[test]
fn json_has_a_line_for_each_change_and_a_summary() {
    let fake = Fake::new(answer(changes()));
    let text = fake.output(&["diff", "--json"]);
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 10);
    assert_eq!(
        lines[2]["change"]["path"],
        serde_json::json!({"bytes": "62696e2fff0a"})
    );
    assert_eq!(
        lines[6]["change"],
        serde_json::json!({
            "path": "new", "kind": "renamed", "from": "old",
            "old": {"file_type": "file", "size": 5, "mode": 0o644, "uid": 0, "gid": 0, "mtime": "2026-11-21T11:44:02Z"},
            "new": {"file_type": "file", "size": 5, "mode": 0o644, "uid": 0, "gid": 0, "mtime": "2026-11-21T11:44:02Z"},
        })
    );
    assert_eq!(
        lines[9],
        serde_json::json!({"summary": {"added": 2, "removed": 1, "modified": 2, "renamed": 1, "attributes": 3}})
    );
    assert_eq!(fake.run(&["diff", "--json", "--exit-code"]).code, 1);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    // More than a pipe holds, so that the program is still writing when its reader goes.
    let many = (0..20_000)
        .map(|n| change(&format!("{n:0>60}"), ChangeKind::Added, None, None))
        .collect();
    let fake = Fake::new(answer(many));
    let mut child = fake
        .command(&["diff"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut start = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut start).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), output.stderr.as_slice()),
        (Some(0), &b""[..])
    );
}
