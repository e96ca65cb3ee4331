//! Narrow terminals, and those without colors.

use std::io::Read;
use std::process::Stdio;

use llctl::protocol::{Listing, Response, SnapInfo};
use nix::pty::{Winsize, openpty};

use super::fake::{Fake, snap};

/// Runs `llctl` on a terminal of so many columns, and gives the lines that it writes.
fn shown(fake: &Fake, columns: u16, args: &[&str], no_color: bool) -> Vec<String> {
    let size = Winsize {
        ws_row: 24,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let terminal = openpty(Some(&size), None).unwrap();
    let slave = || Stdio::from(terminal.slave.try_clone().unwrap());
    let mut command = fake.command(args);
    command
        .stdout(slave())
        .stderr(slave())
        .env("LLFS_PAGER", "");
    if no_color {
        command.env("NO_COLOR", "1");
    }
    let mut child = command.spawn().unwrap();
    drop(command);
    drop(terminal.slave);
    let mut text = Vec::new();
    // The end of a terminal is an error.
    std::fs::File::from(terminal.master)
        .read_to_end(&mut text)
        .unwrap_or(0);
    assert!(child.wait().unwrap().success());
    let text = String::from_utf8(text).unwrap().replace("\r\n", "\n");
    text.lines().map(str::to_owned).collect()
}

fn listing() -> Fake {
    let first = SnapInfo {
        changed: Some(12),
        bytes: Some(4096),
        message: Some("all tests pass, and the linter has nothing to say any more".to_owned()),
        ..snap("before-upgrade")
    };
    Fake::new(vec![
        Response::List(Listing {
            snapshots: vec![first, snap("b")],
            discarded: Vec::new(),
        }),
        Response::ListEnd,
    ])
}

#[test]
fn a_list_fits_the_terminal() {
    let list = |columns| shown(&listing(), columns, &["list"], true);
    assert_eq!(
        list(80),
        [
            "NAME            CREATED              CHANGED    ALONE  MESSAGE",
            "before-upgrade  2026-11-21 11:44:02       12  4.0 KiB  all tests pass, and the …",
            "b               2026-11-21 11:44:02        -        -",
        ]
    );
    assert_eq!(
        list(40),
        [
            "NAME            CREATED",
            "before-upgrade  2026-11-21 11:44:02",
            "b               2026-11-21 11:44:02",
        ]
    );
    assert_eq!(list(20), ["NAME", "before-upgrade", "b"]);
    assert_eq!(
        list(10),
        ["NAME", "before-upgrade", "b"],
        "names are to be typed"
    );
    let whole = list(200);
    assert!(whole[1].ends_with("nothing to say any more"), "{whole:?}");
    // A pipe gets all of it.
    let piped = listing().output(&["list"]);
    assert_eq!(piped.lines().map(str::to_owned).collect::<Vec<_>>(), whole);
}

#[test]
fn colors_are_for_those_who_want_them() {
    let has_colors = |no_color| {
        let lines = shown(&listing(), 80, &["list"], no_color);
        lines.iter().any(|line| line.contains('\x1b'))
    };
    assert!(has_colors(false));
    assert!(!has_colors(true));
}

/// `args` on terminals of 80 and 40 columns, and what a pipe gets: nothing in it is cut, broken or colored.
fn in_widths(answer: impl Fn() -> Fake, args: &[&str]) -> [Vec<String>; 2] {
    let piped = answer().output(args);
    assert!(!piped.contains('\x1b'), "{piped:?}");
    let wide = shown(&answer(), 400, args, true);
    assert_eq!(piped.lines().map(str::to_owned).collect::<Vec<_>>(), wide);
    [80, 40].map(|columns| {
        let lines = shown(&answer(), columns, args, true);
        for line in &lines {
            assert!(!line.contains('\x1b'), "{line:?}");
            let length = line.chars().count();
            assert!(length <= columns.into(), "{length} columns: {line}");
        }
        // Whatever is cut is free text, and says so.
        let words = |lines: &[String]| -> Vec<String> {
            let words = lines.iter().flat_map(|line| line.split_whitespace());
            words.map(str::to_owned).collect()
        };
        let whole = words(&wide);
        for word in words(&lines) {
            assert!(whole.contains(&word) || word.ends_with('…'), "{word}");
        }
        // Colors are between names, not in what is counted.
        let painted = shown(&answer(), columns, args, false);
        assert_eq!(painted.len(), lines.len());
        assert!(painted.iter().any(|line| line.contains('\x1b')));
        lines
    })
}

#[test]
fn a_diff_breaks_lines_between_names() {
    use llctl::protocol::{BytePath, Change, ChangeKind, FileType};
    let answer = || {
        let file = |size| super::diff::side(FileType::File, size, 0o644);
        Fake::new(super::diff::answer(vec![
            super::diff::change(
                "src/engine/main.rs",
                ChangeKind::Modified,
                file(10),
                file(2048),
            ),
            Change {
                from: Some(BytePath::from("src/engine/an-old-name.rs")),
                ..super::diff::change(
                    "src/engine/a-new-name.rs",
                    ChangeKind::Renamed,
                    file(5),
                    file(5),
                )
            },
        ]))
    };
    let [wide, narrow] = in_widths(answer, &["diff"]);
    assert_eq!(
        wide,
        [
            "M  src/engine/main.rs  (10 B -> 2.0 KiB)",
            "R  src/engine/an-old-name.rs -> src/engine/a-new-name.rs",
            "1 modified, 1 renamed.",
        ]
    );
    assert_eq!(
        narrow,
        [
            "M  src/engine/main.rs  (10 B -> 2.0 KiB)",
            "R  src/engine/an-old-name.rs ->",
            "   src/engine/a-new-name.rs",
            "1 modified, 1 renamed.",
        ]
    );
}

#[test]
fn a_log_breaks_lines_between_names() {
    let answer = || Fake::new(super::log::entries());
    let [wide, narrow] = in_widths(answer, &["log", "src/main.rs"]);
    assert_eq!(
        wide,
        [
            "M  @live  since before  by sed, (a mapping)",
            "R  before  2026-11-21 11:44:02  (was src/old.rs)  (2 modified)  all tests pass",
        ]
    );
    assert_eq!(
        narrow,
        [
            "M  @live  since before  by sed,",
            "   (a mapping)",
            "R  before  2026-11-21 11:44:02",
            "   (was src/old.rs)  (2 modified)",
            "   all tests pass",
        ]
    );
    in_widths(answer, &["who", "src/main.rs"]);
}

#[test]
fn a_history_breaks_lines_between_names() {
    use llctl::protocol::{Act, Deal};
    let acts = || {
        let mut acts = super::history::acts();
        if let Response::Acts(some) = &mut acts[0] {
            let many = Act {
                what: Deal::Delete,
                targets: ["before-upgrade", "before-downgrade", "after-both"]
                    .map(str::to_owned)
                    .to_vec(),
                command: "llctl delete --yes before-upgrade before-downgrade after-both".to_owned(),
                why: Some(
                    "these three are needed by nobody, and take a lot of space on this disk"
                        .to_owned(),
                ),
                ..some[0].clone()
            };
            some.push(many);
        }
        Fake::new(acts)
    };
    let [wide, narrow] = in_widths(acts, &["history"]);
    let many = wide.iter().position(|line| line.contains("delete before"));
    assert_eq!(
        wide[many.unwrap()..][..4],
        [
            "2026-11-21 11:44:02  delete before-upgrade, before-downgrade, after-both",
            "      (1.5 ms)",
            "    by user 1000: llctl delete --yes before-upgrade before-downgrade after-both",
            "      (pid 42)",
        ]
    );
    let many = narrow.iter().position(|line| line.ends_with("  delete"));
    assert_eq!(
        narrow[many.unwrap()..][..5],
        [
            "2026-11-21 11:44:02  delete",
            "      before-upgrade, before-downgrade,",
            "      after-both  (1.5 ms)",
            "    by user 1000: llctl delete --yes be…",
            "      (pid 42)",
        ]
    );
}

#[test]
fn what_is_watched_is_broken_between_words() {
    let [wide, narrow] = in_widths(|| Fake::new(super::watch::answer()), &["watch"]);
    assert_eq!(
        wide[1],
        "2026-11-21 11:44:02  revert a\\x1b started  (user 1000: llctl revert a)"
    );
    assert_eq!(
        narrow[1..5],
        [
            "2026-11-21 11:44:02  revert a\\x1b",
            "      started  (user 1000: llctl revert…",
            "2026-11-21 11:44:02  revert a\\x1b",
            "      (2 files, 1.5 ms; user 1000:",
        ]
    );
}
