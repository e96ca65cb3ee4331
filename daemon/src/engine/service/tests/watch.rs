//! The ring of events, as one who watches sees it.

use llctl::protocol::{Act, Deal, Event, EventKind, Happening, Stage, TARGETS_MAX, UnixNanos};

use super::*;
use crate::relay::EVENTS;

fn act(what: Deal) -> Act {
    Act {
        at: UnixNanos(1),
        what,
        targets: vec!["a".to_owned()],
        more: 0,
        steps: None,
        why: None,
        uid: 0,
        pid: 1,
        command: String::new(),
        took_us: 5,
        files: None,
        bytes: None,
        error: None,
        error_kind: None,
    }
}

/// All that is there to be told.
fn all(bench: &Bench, feed: &mut dyn crate::control::Feed) -> Vec<Event> {
    let mut all = Vec::new();
    loop {
        match feed.news() {
            news if news.is_empty() => return all,
            news => all.extend(news),
        }
        assert!(bench.engine.relay().last_event().0 >= feed.last());
    }
}

#[test]
fn events_have_one_number_after_the_other() {
    let bench = Place::new().open();
    let mut feed = bench.host.watch(None).unwrap();
    let before = feed.last();
    assert!(all(&bench, &mut *feed).is_empty());
    let started = bench.host.begun(&act(Deal::Revert));
    assert_eq!(started, Some(before + 1));
    bench.host.note(act(Deal::Revert), started, false);
    let mut failed = act(Deal::Snap);
    failed.error = Some("no".to_owned());
    bench.host.note(failed, None, false);
    let told = all(&bench, &mut *feed);
    let brief: Vec<_> = (told.iter())
        .map(|e| (e.seq - before, e.event.as_str(), e.stage, e.started))
        .collect();
    assert_eq!(
        brief,
        [
            (1, "revert", Some(Stage::Started), None),
            (2, "revert", Some(Stage::Finished), started),
            (3, "snap", Some(Stage::Failed), None),
        ]
    );
    assert_eq!(told[2].act.as_ref().unwrap().error.as_deref(), Some("no"));
    // Who was there is told the same again, from anywhere.
    let mut again = bench.host.watch(Some(before + 1)).unwrap();
    assert_eq!(all(&bench, &mut *again), told[1..]);
}

/// The house looks every few seconds, for as long as the mount lives.
#[test]
fn that_the_store_is_read_only_is_told_once() {
    let bench = Place::new().open();
    let mut feed = bench.host.watch(None).unwrap();
    bench.engine.warn_of_read_only();
    assert!(all(&bench, &mut *feed).is_empty());
    bench.engine.store.latch_readonly("a test says so");
    for _ in 0..3 {
        bench.engine.warn_of_read_only();
        bench.engine.store.latch_readonly("and says it again");
    }
    let told = all(&bench, &mut *feed);
    let brief: Vec<_> = told.iter().map(|e| (&e.event, e.text.as_deref())).collect();
    let once = EventKind::Own(Happening::ReadOnly);
    assert_eq!(brief, [(&once, Some("a test says so"))]);
    let why = bench.engine.store.is_readonly();
    assert_eq!(why.as_deref(), Some("a test says so"));
}

#[test]
fn a_gap_is_said_and_counted() {
    let bench = Place::new().open();
    let mut feed = bench.host.watch(None).unwrap();
    let before = feed.last();
    let more = 10;
    for _ in 0..EVENTS + more {
        bench.engine.announce(Event::own(Happening::SpaceBack));
    }
    let told = all(&bench, &mut *feed);
    assert_eq!(told.len() as u64, EVENTS + 1);
    assert_eq!(told[0].event, EventKind::Own(Happening::Gap));
    assert_eq!((told[0].seq, told[0].missed), (before + more, Some(more)));
    for (event, seq) in told[1..].iter().zip(before + more + 1..) {
        assert_eq!(event.seq, seq);
        assert_eq!(event.event, EventKind::Own(Happening::SpaceBack));
    }
    // Of another mount's events nobody knows how many there were.
    let mut old = bench.host.watch(Some(before - 1000)).unwrap();
    let first = old.news().remove(0);
    assert_eq!(first.event, EventKind::Own(Happening::Gap));
    assert_eq!(first.missed, None);
    // A number that was never given is no reason to wait for it.
    let mut future = bench.host.watch(Some(u64::MAX)).unwrap();
    bench.engine.announce(Event::own(Happening::SpaceBack));
    assert_eq!(all(&bench, &mut *future).len(), 1);
}

#[test]
fn the_longest_act_is_an_event_too() {
    let bench = Place::new().open();
    let mut feed = bench.host.watch(None).unwrap();
    let mut long = act(Deal::Delete);
    long.targets = vec!["ä".repeat(128); TARGETS_MAX];
    long.why = Some("ö".repeat(128));
    long.command = "\u{fffd}".repeat(200);
    long.error = Some("ü".repeat(512));
    bench.host.note(long, None, false);
    let told = all(&bench, &mut *feed);
    assert_eq!(told.len(), 1);
    let told = told[0].act.as_ref().unwrap();
    assert_eq!(told.what, Deal::Delete);
    assert_eq!(told.targets.len() as u64 + told.more, TARGETS_MAX as u64);
}

#[test]
fn watchers_leave_room_for_others() {
    let bench = Place::new().open();
    let mut feeds = Vec::new();
    let refused = loop {
        match bench.host.watch(None) {
            Ok(feed) => feeds.push(feed),
            Err(failure) => break failure,
        }
        assert!(feeds.len() < 64, "as many as there are clients");
    };
    assert_eq!(refused.kind, llctl::protocol::ErrorKind::Busy);
    feeds.pop();
    assert!(bench.host.watch(None).is_ok(), "one has left");
}

/// A client that asks again is in the history, and told, once: also if the one before it did the same.
#[test]
fn an_act_that_is_asked_for_again_is_told_once() {
    use llctl::protocol::{HistoryQuery, Request};
    let bench = Place::new().open();
    let mut feed = bench.host.watch(None).unwrap();
    let names = vec![SnapName::new("a").unwrap()];
    let request = Request::Delete {
        names: names.clone(),
        shown: None,
    };
    let ask = |number| bench.host.begin(7, number, &request);
    let done = |number| {
        bench.snap("a");
        assert!(ask(number).is_none());
        bench.host.delete(&names, None).unwrap();
    };
    let mut told = 0;
    let mut is_told = |times: usize, number: u64| {
        told += all(&bench, &mut *feed).len();
        let acts = bench.host.history(&HistoryQuery::default()).unwrap();
        assert_eq!((acts.len(), told), (times, times), "{number}");
    };
    let again = |number| {
        bench.host.end();
        assert!(matches!(ask(number), Some(Ok(_))));
        bench.host.note(act(Deal::Delete), None, true);
        bench.host.end();
    };
    done(1);
    bench.host.note(act(Deal::Delete), None, false);
    is_told(1, 1);
    again(1);
    is_told(1, 1);
    // It died before anything was said of it,
    done(2);
    again(2);
    is_told(2, 2);
    again(2);
    is_told(2, 2);
    // or between the two.
    done(3);
    bench.engine.note_act(&act(Deal::Delete));
    again(3);
    is_told(3, 3);
}
