//! `llctl do`: what is shown before it is done, and what is not done.

use llctl::StateRef;
use llctl::protocol::{Request, Response, RevertInfo, SnapDetail};

use super::fake::{Fake, snap};

fn daemon(session: Option<&'static str>) -> Fake {
    Fake::answering(move |request| {
        vec![match request {
            Request::Show { .. } => {
                let mut snapshot = snap("dor-checkpoint");
                snapshot.meta.session = session.map(str::to_owned);
                Response::Show(SnapDetail {
                    snapshot,
                    previous: None,
                    since_previous: None,
                    to_live: None,
                    archived: None,
                    config: None,
                })
            }
            Request::Revert { .. } => Response::Reverted(RevertInfo {
                to: "dor-checkpoint".to_owned(),
                changed: 0,
                discarded: None,
                unsaved: None,
                at_least: false,
                took_us: 1,
            }),
            Request::Snap { .. } => Response::Snap(snap("x")),
            other => panic!("{other:?}"),
        }]
    })
}

const SENTENCES: [&str; 3] = [
    "rollback to checkpoint dor-checkpoint session feature-auth-001",
    "rollback session feature-auth-001 to dor-checkpoint",
    "rollback dor-checkpoint",
];

#[test]
fn a_sentence_is_shown_as_a_command_and_done() {
    for sentence in SENTENCES {
        let fake = daemon(Some("feature-auth-001"));
        let run = fake.run(&["do", sentence]);
        assert_eq!(
            (run.code, run.stdout.as_str(), run.stderr.as_str()),
            (
                0,
                "Everything is as in dor-checkpoint already.\n",
                "llctl: llctl revert dor-checkpoint\n"
            ),
            "{sentence}"
        );
        let to: StateRef = "dor-checkpoint".parse().unwrap();
        assert_eq!(
            fake.requests().last(),
            Some(&Request::Revert { to, force: false })
        );
    }
    // Unquoted, and as JSON.
    let run = daemon(None).run(&["--json", "do", "take", "a", "snapshot", "named", "x"]);
    assert_eq!(
        (run.code, run.stderr.as_str()),
        (0, "llctl: llctl snap x\n")
    );
    assert!(run.stdout.starts_with("{\"name\":\"x\""), "{}", run.stdout);
}

#[test]
fn a_snapshot_of_another_session_is_not_reverted_to() {
    for sentence in &SENTENCES[..2] {
        let fake = daemon(Some("other"));
        let run = fake.run(&["do", sentence]);
        assert_eq!((run.code, run.stdout.as_str()), (4, ""));
        assert!(
            run.stderr
                .contains("dor-checkpoint is a snapshot of session other, not of feature-auth-001"),
            "{}",
            run.stderr
        );
        assert_eq!(fake.requests().len(), 1, "only looked at");
    }
}

#[test]
fn only_shown_is_not_done() {
    let fake = daemon(None);
    let run = fake.run(&["do", "-n", "checkpoint x saying \"it's fine\""]);
    assert_eq!(
        (run.code, run.stderr.as_str()),
        (0, "llctl: llctl snap x --message 'it'\\''s fine'\n")
    );
    assert_eq!(
        fake.run(&["do", "-n", "undo 2", "--json"]).stdout,
        "{\"command\":[\"undo\",\"2\"]}\n"
    );
    assert!(fake.requests().is_empty());
}

#[test]
fn what_is_not_understood_says_what_would_be() {
    let fake = daemon(None);
    let run = fake.run(&["do", "delete everything"]);
    assert_eq!((run.code, run.stdout.as_str()), (2, ""));
    assert!(
        run.stderr.starts_with(
            "llctl: error: \"delete everything\" is not understood: no command begins with \"delete\"\n\
             hint: these are understood:\nrollback to checkpoint NAME"
        ),
        "{}",
        run.stderr
    );
    assert!(fake.requests().is_empty());
}
