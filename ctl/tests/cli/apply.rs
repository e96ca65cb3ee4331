//! `llctl apply`: it never does it unasked.

use llctl::protocol::{
    ApplyDone, ApplyPlan, ChangeCounts, Progress, ProgressUnit, Request, Response,
};

use super::fake::Fake;

fn answer(added: u64) -> Vec<Response> {
    let changes = ChangeCounts {
        added,
        ..Default::default()
    };
    vec![
        Response::Plan(ApplyPlan {
            changes,
            bytes: 2048,
            bytes_needed: 4096,
            bytes_free: 1 << 30,
            snapshots_kept: 0,
            snapshots_lost: 2,
            snapshots_note: "Snapshots rely on the directory that changes.".to_owned(),
            shown: Some(17),
        }),
        Response::Progress(Progress {
            what: "x".to_owned(),
            done: 1,
            total: None,
            unit: ProgressUnit::Items,
        }),
        Response::Applied(ApplyDone {
            changes,
            bytes: 2048,
            took_ms: 3,
        }),
    ]
}

const PLAN: &str = "\
To be written into the directory below the mount: 2 added.
Content to write: 2.0 KiB; space needed meanwhile: 4.0 KiB; free: 1.0 GiB.
Snapshots: 0 kept, 2 lost.
Snapshots rely on the directory that changes.
";

#[test]
fn without_a_yes_nothing_is_applied() {
    let fake = Fake::new(answer(2));
    let run = fake.run(&["apply"]);
    assert_eq!((run.code, run.stdout.as_str()), (6, PLAN));
    assert_eq!(
        run.stderr,
        "llctl: error: apply changes the directory for good and needs a yes\nhint: `llctl apply --yes` does it without asking\n"
    );
    assert_eq!(fake.output(&["apply", "--dry-run"]), PLAN);
    let run = fake.run(&["apply", "--json"]);
    assert_eq!((run.code, run.stdout.lines().count()), (6, 2));
    assert!(
        run.stdout
            .lines()
            .nth(1)
            .unwrap()
            .starts_with("{\"error\":{\"kind\":\"refused\""),
        "{}",
        run.stdout
    );
    assert_eq!(
        fake.requests(),
        vec![
            Request::Apply {
                yes: false,
                shown: None
            };
            3
        ]
    );
}

#[test]
fn with_a_yes_it_is() {
    let fake = Fake::new(answer(2));
    assert_eq!(
        fake.output(&["apply", "--yes"]),
        format!("{PLAN}Applied: 2 added, 2.0 KiB written in 3.0 ms.\n")
    );
    assert_eq!(
        fake.requests(),
        [Request::Apply {
            yes: true,
            shown: None
        }]
    );
    let json = fake.output(&["apply", "--yes", "--json"]);
    let lines: Vec<serde_json::Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (&lines[0]["plan"]["bytes"], &lines[1]["applied"]["took_ms"]),
        (&2048.into(), &3.into())
    );
}

/// Programs go on while somebody thinks about it.
#[test]
fn a_yes_is_to_what_was_shown() {
    let fake = Fake::new(answer(2));
    let (code, text) = fake.with_a_yes(&["apply"]);
    assert_eq!(code, 0, "{text}");
    let applied = Request::Apply {
        yes: true,
        shown: Some(17),
    };
    assert_eq!(fake.requests().pop(), Some(applied));
}

#[test]
fn nothing_to_apply_needs_no_yes() {
    let fake = Fake::new(answer(0));
    assert_eq!(
        fake.output(&["apply"]),
        "There is nothing to apply: the directory below holds everything already.\n"
    );
}
