//! Each request reaches the service and its answer the client.

use llctl::client::{ApplyEvent, ClientError, VerifyEvent};
use llctl::protocol::{BytePath, DiscardedInfo, ErrorKind, Failure, Listing, UnixNanos};
use llctl::{SnapName, StateRef};

use super::Served;
use super::fake::{Fake, snap_info};
use crate::control::connection::Limits;

fn name(text: &str) -> SnapName {
    SnapName::new(text).unwrap()
}

#[test]
fn requests_arrive_and_answers_come_back() {
    let served = Served::with(
        Fake {
            changes: 3,
            ..Fake::default()
        },
        Limits::default(),
    );
    let mut client = served.client();
    assert_eq!(
        (client.welcome().pid, client.welcome().daemon.as_str()),
        (42, "0.0.1")
    );
    client.ping().unwrap();
    assert_eq!(
        client.snap(None, Some("why".to_owned())).unwrap().name,
        "made"
    );
    assert_eq!(client.snap(Some(name("a")), None).unwrap(), snap_info("a"));
    assert_eq!(client.show(name("a")).unwrap().snapshot, snap_info("a"));
    let mut paths = Vec::new();
    let counts = client
        .diff(
            Some(StateRef::Base),
            StateRef::Live,
            vec![BytePath::from("src")],
            true,
            |change| {
                paths.push(change.path);
                Ok(())
            },
        )
        .unwrap();
    assert_eq!(
        (counts.modified, paths),
        (3, ["0", "1", "2"].map(BytePath::from).to_vec())
    );
    assert_eq!(client.revert(name("a").into()).unwrap().to, "a");
    assert_eq!(client.revert(StateRef::Base).unwrap().to, "@base");
    assert_eq!(client.undo().unwrap().to, "@undo");
    assert_eq!(client.revert(StateRef::Undo).unwrap().to, "@undo");
    assert_eq!(
        client
            .delete(vec![name("a"), name("b"), name("a")])
            .unwrap(),
        ["a", "b"]
    );
    assert_eq!(client.rename(name("a"), name("b")).unwrap().name, "b");
    let mut events = Vec::new();
    let summary = client
        .verify(|event| {
            events.push(matches!(event, VerifyEvent::Finding(_)));
            Ok(())
        })
        .unwrap();
    assert_eq!((summary.findings, events), (1, vec![false, true]));
    assert_eq!(client.plan_apply().unwrap().snapshots_lost, 5);
    let mut plans = 0;
    let done = client
        .apply(|event| {
            plans += usize::from(matches!(event, ApplyEvent::Plan(_)));
            Ok(())
        })
        .unwrap();
    assert_eq!((done.took_ms, plans), (2, 1));
    client.shutdown(true, |_| Ok(())).unwrap();
    assert_eq!(
        *served.fake.calls.lock(),
        [
            "snap None Some(\"why\")",
            "snap Some(SnapName(\"a\")) None",
            "show a",
            "diff Some(Base) @live [\"src\"] true",
            "revert a",
            "revert @base",
            "undo 1",
            "undo 1",
            "delete [SnapName(\"a\"), SnapName(\"b\")]",
            "rename a b",
            "verify",
            "plan",
            "plan",
            "applied",
            "prepare true",
            "begin",
        ]
    );
}

/// Whoever is told that the daemon stops need not look whether it does.
#[test]
fn a_daemon_that_says_that_it_stops_has_begun_to() {
    let served = Served::with(
        Fake {
            dies: true.into(),
            ..Fake::default()
        },
        Limits::default(),
    );
    served.client().shutdown(false, |_| Ok(())).unwrap();
    assert!(served.fake.was_called("begin"));
}

#[test]
fn a_failure_arrives_whole_and_the_connection_goes_on() {
    let failure = Failure::new(ErrorKind::Exists, "a is there").with_hint("take b");
    let served = Served::with(
        Fake {
            failure: Some(failure.clone()),
            ..Fake::default()
        },
        Limits::default(),
    );
    let mut client = served.client();
    let error = client.snap(Some(name("a")), None).unwrap_err();
    assert!(
        matches!(&error, ClientError::Failure(told) if *told == failure),
        "{error:?}"
    );
    assert!(matches!(
        client.shutdown(false, |_| Ok(())),
        Err(ClientError::Failure(_))
    ));
    client.ping().unwrap();
    assert!(
        !served.fake.was_called("begin"),
        "nobody agreed to that shutdown"
    );
}

#[test]
fn what_makes_no_sense_does_not_reach_the_service() {
    let served = Served::new();
    let mut client = served.client();
    for result in [
        client.revert(StateRef::Live).map(drop),
        client.snap(None, Some("m".repeat(5000))).map(drop),
    ] {
        assert!(
            matches!(&result, Err(ClientError::Failure(f)) if f.kind == ErrorKind::Invalid),
            "{result:?}"
        );
    }
    client.ping().unwrap();
    assert!(served.fake.calls.lock().is_empty());
}

#[test]
fn a_long_list_comes_in_parts_and_arrives_in_order() {
    let mut listing = Listing::default();
    for number in 0..5000 {
        let mut info = snap_info(&format!("{number:0>128}"));
        info.message = Some("m".repeat(4096));
        listing.snapshots.push(info);
    }
    for id in 0..300 {
        listing.discarded.push(DiscardedInfo {
            id,
            discarded: UnixNanos(0),
            reverted_to: "x".to_owned(),
            changed: None,
            bytes: None,
            undo: false,
            redo: false,
        });
    }
    let served = Served::with(
        Fake {
            listing: listing.clone(),
            ..Fake::default()
        },
        Limits::default(),
    );
    assert!(
        served.client().list().unwrap() == listing,
        "a part is missing or out of order"
    );
}

#[test]
fn an_answer_that_is_too_long_is_an_error_and_the_connection_goes_on() {
    let served = Served::with(
        Fake {
            changes: 2,
            content: 9 << 20,
            ..Fake::default()
        },
        Limits::default(),
    );
    let mut client = served.client();
    let result = client.diff(None, StateRef::Live, Vec::new(), true, |_| Ok(()));
    assert!(
        matches!(&result, Err(ClientError::Failure(f)) if f.kind == ErrorKind::Internal),
        "{result:?}"
    );
    client.ping().unwrap();
}
