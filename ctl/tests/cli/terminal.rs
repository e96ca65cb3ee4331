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
