//! `llctl history`, and saying why.

use llctl::protocol::{Act, Deal, ErrorKind, HistoryQuery, Request, Response};

use super::fake::{Fake, WHEN};

pub fn acts() -> Vec<Response> {
    let snap = Act {
        at: WHEN,
        what: Deal::Snap,
        targets: vec!["a".to_owned()],
        more: 0,
        steps: None,
        why: Some("two\nlines".to_owned()),
        uid: 1000,
        pid: 42,
        command: "llctl snap a".to_owned(),
        took_us: 1500,
        files: None,
        bytes: None,
        error: None,
        error_kind: None,
    };
    let renamed = Act {
        what: Deal::Rename,
        targets: vec!["a".to_owned(), "b\x1b".to_owned()],
        why: None,
        ..snap.clone()
    };
    let undone = Act {
        what: Deal::Undo,
        targets: Vec::new(),
        steps: Some(3),
        files: Some(2),
        why: None,
        ..snap.clone()
    };
    let failed = Act {
        what: Deal::Delete,
        more: 4,
        error: Some("there is no such snapshot".to_owned()),
        error_kind: Some(ErrorKind::NotFound),
        command: String::new(),
        why: None,
        ..snap.clone()
    };
    vec![
        Response::Acts(vec![snap, renamed]),
        Response::Acts(vec![undone, failed]),
        Response::ActsEnd,
    ]
}

#[test]
fn history_is_a_few_lines_an_act() {
    let fake = Fake::new(acts());
    assert_eq!(
        fake.output(&["history"]),
        "\
2026-11-21 11:44:02  snap a  (1.5 ms)
    by user 1000: llctl snap a (pid 42)
    why: two
2026-11-21 11:44:02  rename a to b\\x1b  (1.5 ms)
    by user 1000: llctl snap a (pid 42)
2026-11-21 11:44:02  undo 3 steps  (2 files, 1.5 ms)
    by user 1000: llctl snap a (pid 42)
2026-11-21 11:44:02  delete a and 4 more  (1.5 ms)
    by user 1000: a process (pid 42)
    failed: there is no such snapshot
"
    );
    let json: serde_json::Value =
        serde_json::from_str(&fake.output(&["history", "--json"])).unwrap();
    assert_eq!(json["acts"].as_array().unwrap().len(), 4);
    assert_eq!(json["acts"][3]["error_kind"], "not_found");
}

#[test]
fn filters_are_asked_for() {
    let fake = Fake::new(acts());
    let args = [
        "history",
        "a",
        "--what",
        "revert",
        "--what",
        "undo",
        "--uid",
        "0",
        "--since",
        "2026-11-21T11:44:02Z",
        "--failed",
        "-n",
        "5",
    ];
    fake.output(&args);
    let query = HistoryQuery {
        what: vec![Deal::Revert, Deal::Undo],
        target: Some("a".to_owned()),
        uid: Some(0),
        since: Some(WHEN),
        until: None,
        failed: true,
        limit: Some(5),
    };
    assert_eq!(fake.requests(), [Request::History { query }]);
    for bad in [["--what", "dance"], ["--since", "later"]] {
        assert_eq!(fake.run(&["history", bad[0], bad[1]]).code, 2);
    }
}
