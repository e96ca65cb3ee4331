//! `llctl prune` and `llctl phase`.

use llctl::config::{AppliesTo, Config, Retention, Size, Span};
use llctl::protocol::{ConfigInfo, FileState, PruneInfo, Pruned, Request, Response};

use super::fake::{Fake, WHEN, snap};

fn fake(count: usize) -> Fake {
    telling(vec![None; count])
}

/// Snapshots with these numbers would go.
fn telling(ids: Vec<Option<u64>>) -> Fake {
    Fake::answering(move |request| {
        vec![match request {
            Request::Config => Response::Config(ConfigInfo {
                rules: Config::default(),
                text: None,
                hash: None,
                trusted: None,
                file: FileState::None,
                error: None,
                automatic: true,
            }),
            Request::Prune { yes, .. } => Response::Pruned(PruneInfo {
                snapshots: (ids.iter().enumerate())
                    .map(|(n, id)| Pruned {
                        name: format!("auto-{n}"),
                        created: WHEN,
                        id: *id,
                    })
                    .collect(),
                frees: Some(3 << 20),
                kept: 7,
                done: *yes,
            }),
            Request::Phase { .. } => Response::Snap(snap("auto-x")),
            Request::Session { .. } => Response::Unchanged(snap("auto-x")),
            other => panic!("{other:?}"),
        }]
    })
}

#[test]
fn what_would_go_is_shown_and_nothing_goes_without_a_yes() {
    let fake = fake(2);
    let shown = fake.output(&["prune", "--dry-run"]);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(
        lines[0].starts_with("would give up auto-0, of 2026-11-21"),
        "{shown}"
    );
    assert_eq!(
        lines[2],
        "Would give up 2 snapshots, which would free 3.0 MiB; 7 stay."
    );
    let run = fake.run(&["prune"]);
    assert_eq!(run.code, 6);
    assert!(run.stderr.contains("needs a yes"), "{}", run.stderr);
    let done = |r: &Request| matches!(r, Request::Prune { yes: true, .. });
    assert!(!fake.requests().iter().any(done));
    assert_eq!(
        fake.output(&["prune", "--yes"]),
        "Gave up 2 snapshots, which frees 3.0 MiB; 7 stay.\n"
    );
    assert_eq!(
        fake.output(&["prune", "--yes", "--json"]),
        "{\"snapshots\":[{\"name\":\"auto-0\",\"created\":\"2026-11-21T11:44:02Z\"},{\"name\":\"auto-1\",\"created\":\"2026-11-21T11:44:02Z\"}],\"frees\":3145728,\"kept\":7,\"done\":true}\n"
    );
}

/// While somebody thinks about it others may come, or be pinned: only what was shown may go.
#[test]
fn a_yes_is_to_what_was_shown() {
    let with = |ids: [Option<u64>; 2]| {
        let fake = telling(ids.to_vec());
        let (code, text) = fake.with_a_yes(&["prune"]);
        assert_eq!(code, 0, "{text}");
        match fake.requests().pop() {
            Some(Request::Prune {
                yes: true, shown, ..
            }) => shown,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(with([Some(3), Some(9)]), Some(vec![3, 9]));
    assert_eq!(with([None, None]), None, "an older daemon");
}

#[test]
fn nothing_to_give_up_needs_no_yes() {
    let fake = fake(0);
    assert_eq!(fake.output(&["prune"]), "Nothing to give up: all 7 stay.\n");
}

#[test]
fn rules_of_ones_own_replace_those_in_force() {
    let asked = |args: &[&str]| {
        let fake = fake(0);
        fake.output(&[&["prune", "-n"], args].concat());
        match fake.requests().pop() {
            Some(Request::Prune {
                rules, yes: false, ..
            }) => rules,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(asked(&[]), None);
    let own = Retention {
        keep_last: 3,
        keep_for: Some(Span::from_secs(86400)),
        ..Retention::nothing()
    };
    assert_eq!(asked(&["--keep-last", "3", "--keep-for", "1d"]), Some(own));
    let in_force = Retention {
        max_size: Some(Size(1 << 30)),
        applies_to: AppliesTo::All,
        ..Retention::default()
    };
    assert_eq!(asked(&["--all", "--max-size", "1G"]), Some(in_force));
}

#[test]
fn a_phase_is_said_with_its_session() {
    let fake = fake(0);
    assert_eq!(
        fake.output(&["phase", "review", "--session", "s"]),
        "Snapshot auto-x taken.\n"
    );
    assert_eq!(
        fake.requests(),
        [Request::Phase {
            name: "review".to_owned(),
            session: Some("s".to_owned()),
        }]
    );
}

#[test]
fn a_session_is_said_and_none_is_empty() {
    let fake = fake(0);
    assert_eq!(
        fake.output(&["session", "s-18"]),
        "Nothing has changed since auto-x: no snapshot was taken.\n"
    );
    let said: serde_json::Value =
        serde_json::from_str(&fake.output(&["session", "s-18", "--json"])).unwrap();
    assert_eq!(said["unchanged"]["name"], "auto-x");
    let id = || "s-18".to_owned();
    assert_eq!(
        fake.requests(),
        [Request::Session { id: id() }, Request::Session { id: id() }]
    );
}
