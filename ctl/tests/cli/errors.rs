//! Failures: what is printed, and the exit code of each kind.

use llctl::protocol::{ErrorKind, PROTOCOL_VERSION, Response};

use super::fake::{Fake, finish, llctl};

#[test]
fn each_kind_has_its_exit_code() {
    let codes = [
        (ErrorKind::NotFound, 4),
        (ErrorKind::Exists, 5),
        (ErrorKind::Invalid, 1),
        (ErrorKind::Busy, 6),
        (ErrorKind::ReadOnly, 8),
        (ErrorKind::NoSpace, 8),
        (ErrorKind::Io, 1),
        (ErrorKind::Damaged, 7),
        (ErrorKind::Unsupported, 1),
        (ErrorKind::Underway, 9),
        (ErrorKind::Conflict, 10),
        (ErrorKind::Permission, 6),
        (ErrorKind::Internal, 1),
    ];
    for (kind, code) in codes {
        let run = Fake::failing(kind).run(&["snap"]);
        assert_eq!((run.code, run.stdout.as_str()), (code, ""), "{kind:?}");
        assert_eq!(
            run.stderr,
            "llctl: error: it did not work\nhint: do something else\n"
        );
    }
}

#[test]
fn every_command_reports_a_failure() {
    let fake = Fake::failing(ErrorKind::NotFound);
    let commands: [&[&str]; 11] = [
        &["snap"],
        &["list"],
        &["show", "a"],
        &["diff"],
        &["revert", "a"],
        &["undo"],
        &["delete", "-y", "a"],
        &["rename", "a", "b"],
        &["status"],
        &["verify"],
        &["apply", "--yes"],
    ];
    for command in commands {
        let run = fake.run(command);
        assert_eq!(
            (run.code, run.stdout.as_str()),
            (4, ""),
            "{command:?}: {}",
            run.stderr
        );
        let run = fake.run(&[command, &["--json"]].concat());
        assert_eq!(run.code, 4);
        assert_eq!(
            run.stdout,
            "{\"error\":{\"kind\":\"not_found\",\"message\":\"it did not work\",\"hint\":\"do something else\"}}\n"
        );
    }
}

#[test]
fn outside_of_a_mount_there_is_a_hint() {
    let mut command = llctl();
    command.arg("status").current_dir("/");
    let run = finish(command);
    assert_eq!((run.code, run.stdout.as_str()), (3, ""));
    assert_eq!(
        run.stderr,
        "llctl: error: / is not inside an llfs mount\nhint: go into one, or name it with -C DIR or LLFS_MOUNT; `llfs mount DIR` makes one\n"
    );
    let mut command = llctl();
    command
        .args(["status", "--json"])
        .env("LLFS_MOUNT", "/proc")
        .current_dir("/");
    let run = finish(command);
    assert_eq!(run.code, 3);
    assert!(
        run.stdout
            .starts_with("{\"error\":{\"kind\":\"no_mount\",\"message\":\"/proc is not"),
        "{}",
        run.stdout
    );
    let mut command = llctl();
    command.args(["-C", "/no/such/dir", "status"]);
    let run = finish(command);
    assert_eq!(run.code, 3);
    assert!(run.stderr.contains("/no/such/dir"), "{}", run.stderr);
}

#[test]
fn a_daemon_that_is_gone_has_its_exit_code() {
    let fake = Fake::new(Vec::new());
    let mut command = llctl();
    command
        .arg("--socket")
        .arg(fake.dir.join("none"))
        .arg("status");
    let run = finish(command);
    assert_eq!(run.code, 3);
    assert!(
        run.stderr.contains("no llfs daemon answers at") && run.stderr.contains("llfs mount DIR"),
        "{}",
        run.stderr
    );
}

#[test]
fn a_daemon_of_another_version_is_named_with_both_versions() {
    let newer = PROTOCOL_VERSION + 1;
    let run = Fake::refusing(ErrorKind::Unsupported, "no", newer).run(&["status"]);
    assert_eq!(run.code, 6);
    let text = format!(
        "speaks protocol version {PROTOCOL_VERSION}, but the daemon (llfs 9.0.0) speaks version {newer}"
    );
    assert!(run.stderr.contains(&text), "{}", run.stderr);
    assert!(
        run.stderr
            .contains("hint: use the llctl that was installed with the daemon"),
        "{}",
        run.stderr
    );
}

#[test]
fn a_refusal_says_why() {
    let run = Fake::refusing(
        ErrorKind::Busy,
        "64 clients are connected",
        PROTOCOL_VERSION,
    )
    .run(&["status"]);
    assert_eq!(run.code, 6);
    assert_eq!(
        run.stderr,
        "llctl: error: the daemon refused the connection: 64 clients are connected\nhint: try again in a moment\n"
    );
}

#[test]
fn an_answer_to_another_question_is_an_error() {
    let run = Fake::new(vec![Response::Pong]).run(&["status"]);
    assert_eq!(run.code, 1);
    assert!(
        run.stderr.contains("unexpected answer: Pong"),
        "{}",
        run.stderr
    );
}

#[test]
fn wrong_usage_is_told_before_anything_is_asked() {
    let fake = Fake::new(Vec::new());
    let wrong: [&[&str]; 10] = [
        &[],
        &["snap", "../x"],
        &["snap", "a/b"],
        &["snap", "@live"],
        &["snap", "a\nb"],
        &["revert"],
        &["revert", "@head"],
        &["delete"],
        &["diff", "--patch", "--stat"],
        &["frobnicate"],
    ];
    for args in wrong {
        let run = fake.run(args);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{args:?}");
        assert!(!run.stderr.is_empty());
    }
    assert!(fake.requests().is_empty());
}

#[test]
fn help_explains_exit_codes_and_the_version_is_there() {
    let mut command = llctl();
    command.arg("--help");
    let run = finish(command);
    assert_eq!(run.code, 0);
    assert!(run.stdout.contains(llctl::exit::TABLE), "{}", run.stdout);
    let mut command = llctl();
    command.arg("--version");
    assert_eq!(
        finish(command).stdout,
        format!("llctl {}\n", env!("CARGO_PKG_VERSION"))
    );
}
