//! `llctl run`: what it asks the daemon, what it says, and how it exits.

use std::time::{Duration, Instant};

use llctl::protocol::{ErrorKind, Failure, Request, Response, RevertInfo};
use llctl::{SnapName, StateRef};

use super::fake::{Fake, snap};

/// A daemon that snapshots and reverts; the latter changes so many files.
fn daemon(changed: u64) -> Fake {
    Fake::answering(move |request| {
        vec![match request {
            Request::Snap { .. } => Response::Snap(snap("before")),
            Request::Revert { .. } => Response::Reverted(RevertInfo {
                to: "before".to_owned(),
                changed,
                discarded: (changed > 0).then_some(9),
                unsaved: None,
                at_least: false,
                took_us: 1_500,
            }),
            Request::Delete { .. } => Response::Deleted(vec!["before".to_owned()]),
            other => panic!("{other:?}"),
        }]
    })
}

fn reverted(fake: &Fake) -> bool {
    let to = StateRef::from(SnapName::new("before").unwrap());
    fake.requests()
        .contains(&Request::Revert { to, force: true })
}

#[test]
fn a_command_that_succeeds_is_kept() {
    let fake = daemon(1);
    let run = fake.run(&["run", "--", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "out\n"));
    assert_eq!(
        run.stderr,
        "err\nllctl: the command exited with 0; its changes are kept. `llctl revert before` takes them back.\n"
    );
    assert!(!reverted(&fake));
    let Request::Snap {
        name: None,
        message,
        meta,
        ..
    } = &fake.requests()[0]
    else {
        panic!("{:?}", fake.requests());
    };
    assert_eq!(
        message.as_deref(),
        Some("before: sh -c 'echo out; echo err >&2'")
    );
    assert_eq!(meta.reason.as_deref(), Some("pre-change"));
}

#[test]
fn a_command_that_fails_is_reverted() {
    let fake = daemon(2);
    let run = fake.run(&["run", "--", "sh", "-c", "exit 3"]);
    assert_eq!((run.code, run.stdout.as_str()), (3, ""));
    assert_eq!(
        run.stderr,
        "llctl: the command exited with 3; reverted to before: 2 files changed, in 1.5 ms. `llctl undo` takes the revert back.\n"
    );
    assert!(reverted(&fake));
    let run = daemon(0).run(&["run", "--", "false"]);
    assert_eq!(
        (run.code, run.stderr.as_str()),
        (
            1,
            "llctl: the command exited with 1; it had changed nothing since before\n"
        )
    );
}

#[test]
fn a_killed_command_has_the_code_that_a_shell_gives() {
    let fake = daemon(2);
    let run = fake.run(&["run", "--", "sh", "-c", "kill -9 $$"]);
    assert_eq!(run.code, 137);
    assert!(
        run.stderr.contains("was ended by SIGKILL; reverted"),
        "{}",
        run.stderr
    );
    assert!(reverted(&fake));
}

#[test]
fn a_command_that_takes_too_long_is_ended() {
    let fake = daemon(2);
    let begun = Instant::now();
    let run = fake.run(&["run", "--timeout", "0.2", "--", "sleep", "300"]);
    assert_eq!(run.code, 124, "{}", run.stderr);
    assert!(
        run.stderr
            .contains("took longer than 200.0 ms and was ended; reverted"),
        "{}",
        run.stderr
    );
    assert!(reverted(&fake));
    assert!(begun.elapsed() < Duration::from_secs(250));
}

#[test]
fn what_the_user_wants_kept_is_kept() {
    for args in [
        &["--on-failure", "keep"][..],
        &["--keep-on", "7,3"],
        &["--keep-on", "1", "--keep-on", "3"],
    ] {
        let fake = daemon(2);
        let run = fake.run(&[&["run"], args, &["--", "sh", "-c", "exit 3"]].concat());
        assert_eq!(run.code, 3);
        assert!(
            run.stderr.contains("its changes are kept"),
            "{}",
            run.stderr
        );
        assert!(!reverted(&fake), "{args:?}");
    }
    let fake = daemon(2);
    let run = fake.run(&["run", "--keep-on", "2", "--", "sh", "-c", "exit 3"]);
    assert_eq!(run.code, 3);
    assert!(reverted(&fake));
}

#[test]
fn a_check_decides() {
    let fake = daemon(2);
    let run = fake.run(&["run", "--verify", "echo checking; true", "--", "true"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "checking\n"));
    assert!(!reverted(&fake));
    let run = fake.run(&["run", "--verify", "exit 5", "--", "true"]);
    assert_eq!(run.code, 5);
    assert!(
        run.stderr.contains("the check exited with 5; reverted"),
        "{}",
        run.stderr
    );
    assert!(reverted(&fake));
    // What failed already is not checked.
    let run = fake.run(&["run", "--verify", "echo checking", "--", "false"]);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""));
}

#[test]
fn json_is_the_last_line() {
    let run = daemon(2).run(&["--json", "run", "--", "sh", "-c", "echo out; kill -TERM $$"]);
    assert_eq!(run.code, 143);
    let (first, last) = run.stdout.trim_end().split_once('\n').unwrap();
    assert_eq!(first, "out");
    let mut report: serde_json::Value = serde_json::from_str(last).unwrap();
    assert!(report["run"]["took_ms"].take().is_u64());
    assert_eq!(
        report.to_string(),
        r#"{"run":{"check":null,"end":{"how":"signaled","signal":15},"left_running":false,"reverted":{"changed":2,"discarded":9,"to":"before","took_us":1500},"snapshot":"before","took_ms":null}}"#
    );
}

#[test]
fn a_command_that_does_not_exist_leaves_no_snapshot() {
    let fake = daemon(0);
    let run = fake.run(&["run", "--", "./no-such-program"]);
    assert_eq!((run.code, run.stdout.as_str()), (127, ""));
    assert_eq!(
        run.stderr,
        "llctl: error: ./no-such-program cannot be run: No such file or directory (os error 2)\n"
    );
    // This one, and no other of its name.
    let deleted = Request::Delete {
        names: vec![SnapName::new("before").unwrap()],
        shown: Some(vec![super::fake::snap("before").id]),
    };
    assert_eq!(fake.requests().last(), Some(&deleted));
    let run = fake.run(&["run", "--", "/"]);
    assert_eq!(run.code, 126, "{}", run.stderr);
}

#[test]
fn failures_of_its_own_have_a_code_of_their_own() {
    let fake = Fake::failing(ErrorKind::NoSpace);
    let marker = fake.dir.join("ran");
    let run = fake.run(&["run", "--", "touch", marker.to_str().unwrap()]);
    assert_eq!((run.code, run.stdout.as_str()), (125, ""));
    assert_eq!(
        run.stderr,
        "llctl: error: the command was not run, for no snapshot could be taken: it did not work\nhint: do something else\n"
    );
    assert!(!marker.exists(), "it was run without a snapshot");
    let run = daemon(1).run(&["run", "--on-failure", "ask", "--", "true"]);
    assert_eq!(run.code, 125);
    assert!(run.stderr.contains("nobody can be asked"), "{}", run.stderr);
    let fake = Fake::answering(|request| match request {
        Request::Snap { .. } => vec![Response::Snap(snap("before"))],
        _ => vec![Response::Error(Failure::new(ErrorKind::Io, "bad disk"))],
    });
    let run = fake.run(&["run", "--", "false"]);
    assert_eq!(run.code, 125);
    assert_eq!(
        run.stderr,
        "llctl: error: the command failed, and so did the revert to before: bad disk\nhint: everything is as the command left it; `llctl revert before` tries again\n"
    );
}
