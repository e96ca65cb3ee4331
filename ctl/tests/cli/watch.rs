//! `llctl watch`

use llctl::protocol::{
    Act, Deal, ErrorKind, Event, EventKind, Happening, Request, Response, Room, Stage,
};

use super::fake::{Fake, WHEN};

fn event(what: Happening, seq: u64) -> Event {
    Event {
        seq,
        at: WHEN,
        ..Event::own(what)
    }
}

pub fn answer() -> Vec<Response> {
    let act = Act {
        at: WHEN,
        what: Deal::Revert,
        targets: vec!["a\x1b".to_owned()],
        more: 0,
        steps: None,
        why: None,
        uid: 1000,
        pid: 42,
        command: "llctl revert a".to_owned(),
        took_us: 1500,
        files: Some(2),
        bytes: None,
        error: None,
        error_kind: None,
    };
    let failed = Act {
        error: Some("it is damaged".to_owned()),
        error_kind: Some(ErrorKind::Damaged),
        files: None,
        ..act.clone()
    };
    let started = Event {
        seq: 11,
        at: WHEN,
        ..Event::started(act.clone())
    };
    let finished = Event {
        seq: 12,
        at: WHEN,
        hash: Some("01ab".to_owned()),
        ..Event::ended(act, Some(11))
    };
    let failed = Event {
        seq: 13,
        at: WHEN,
        ..Event::ended(failed, None)
    };
    let low = Event {
        text: Some("only 3 MiB left".to_owned()),
        space: Some(Room {
            free: 3 << 20,
            store: None,
            limit: None,
        }),
        ..event(Happening::LowSpace, 15)
    };
    let gap = Event {
        missed: Some(3),
        ..event(Happening::Gap, 13)
    };
    let restarted = Event {
        restarts: Some(1),
        ..event(Happening::Restarted, 14)
    };
    let events = [
        event(Happening::Watching, 10),
        started,
        finished,
        failed,
        gap,
        restarted,
        low,
        event(Happening::SpaceBack, 16),
        event(Happening::ReadOnly, 17),
        event(Happening::Unmounting, 18),
    ];
    let mut all: Vec<_> = events.into_iter().map(Response::Event).collect();
    all.push(Response::WatchEnd);
    all
}

#[test]
fn an_event_is_a_line() {
    let fake = Fake::new(answer());
    let expected = "\
2026-11-21 11:44:02  watching after 10
2026-11-21 11:44:02  revert a\\x1b started  (user 1000: llctl revert a)
2026-11-21 11:44:02  revert a\\x1b  (2 files, 1.5 ms; user 1000: llctl revert a)
2026-11-21 11:44:02  revert a\\x1b failed: it is damaged  (1.5 ms)
2026-11-21 11:44:02  3 events missing here
2026-11-21 11:44:02  the daemon's worker died, the next one serves
2026-11-21 11:44:02  space is scarce: only 3 MiB left
2026-11-21 11:44:02  there is space again
2026-11-21 11:44:02  the mount is read-only
2026-11-21 11:44:02  the mount ends
";
    assert_eq!(fake.output(&["watch"]), expected);
}

#[test]
fn json_is_an_object_a_line() {
    let fake = Fake::new(answer());
    let text = fake.output(&["watch", "--json", "--after", "9"]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        r#"{"seq":10,"at":"2026-11-21T11:44:02Z","event":"watching"}"#
    );
    assert_eq!(
        lines[2],
        "{\"seq\":12,\"at\":\"2026-11-21T11:44:02Z\",\"event\":\"revert\",\"stage\":\"finished\",\"started\":11,\
         \"act\":{\"at\":\"2026-11-21T11:44:02Z\",\"what\":\"revert\",\"targets\":[\"a\\u001b\"],\"why\":null,\
         \"uid\":1000,\"pid\":42,\"command\":\"llctl revert a\",\"took_us\":1500,\"files\":2,\"bytes\":null,\"error\":null},\
         \"hash\":\"01ab\"}"
    );
    assert_eq!(
        lines[4],
        r#"{"seq":13,"at":"2026-11-21T11:44:02Z","event":"gap","missed":3}"#
    );
    assert_eq!(
        lines[6],
        "{\"seq\":15,\"at\":\"2026-11-21T11:44:02Z\",\"event\":\"low_space\",\"space\":{\"free\":3145728},\
         \"text\":\"only 3 MiB left\"}"
    );
    let event: Event = serde_json::from_str(lines[2]).unwrap();
    assert_eq!(event.event, EventKind::Act(Deal::Revert));
    assert_eq!(event.stage, Some(Stage::Finished));
    assert_eq!(fake.requests(), [Request::Watch { after: Some(9) }]);
}

#[test]
fn kinds_can_be_chosen_and_counted() {
    let fake = Fake::new(answer());
    let text = fake.output(&["watch", "--event", "low_space", "--event", "unmounting"]);
    let words: Vec<&str> = text.lines().map(|line| &line[21..29]).collect();
    assert_eq!(words, ["watching", "3 events", "space is", "the moun"]);
    let text = fake.output(&["watch", "--event", "revert", "-n", "2"]);
    assert_eq!(text.lines().count(), 3);
    let wrong = fake.run(&["watch", "--event", "dance"]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.stderr.contains("snap, revert"), "{}", wrong.stderr);
}

#[test]
fn too_many_watchers_are_refused() {
    let fake = Fake::failing(ErrorKind::Busy);
    assert_eq!(fake.run(&["watch"]).code, 6);
}
