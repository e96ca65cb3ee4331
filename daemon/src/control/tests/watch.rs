//! Clients that watch.

use std::io::Write;
use std::time::{Duration, Instant};

use llctl::codec::{self, REPLY_MAX, REQUEST_MAX};
use llctl::protocol::{Deal, EventKind, Happening, Request, Response};
use llctl::{SnapName, StateRef};

use super::fake::Fake;
use super::{PATIENCE, Served};
use crate::control::connection::Limits;

fn with_events(count: u64) -> Served {
    let fake = Fake {
        changes: count,
        ..Fake::default()
    };
    Served::with(fake, Limits::default())
}

fn ask(stream: &mut std::os::unix::net::UnixStream, request: &Request) {
    codec::write(stream, request, REQUEST_MAX).unwrap();
}

fn next(stream: &mut std::os::unix::net::UnixStream) -> Response {
    codec::read(stream, REPLY_MAX).unwrap()
}

fn seq(response: &Response) -> Option<u64> {
    match response {
        Response::Event(event) => Some(event.seq),
        _ => None,
    }
}

#[test]
fn a_watch_begins_with_where_it_begins_and_ends_with_the_next_request() {
    let served = with_events(2);
    let mut stream = served.greeted();
    ask(&mut stream, &Request::Watch { after: Some(7) });
    let first = next(&mut stream);
    let Response::Event(event) = &first else {
        panic!("{first:?}");
    };
    assert_eq!(event.event, EventKind::Own(Happening::Watching));
    assert_eq!(seq(&first), Some(7));
    assert_eq!(seq(&next(&mut stream)), Some(8));
    assert_eq!(seq(&next(&mut stream)), Some(9));
    ask(&mut stream, &Request::Ping);
    assert_eq!(next(&mut stream), Response::WatchEnd);
    assert_eq!(next(&mut stream), Response::Pong);
}

#[test]
fn a_watcher_that_does_not_read_holds_up_nobody() {
    let mut served = with_events(u64::MAX);
    let mut stuck = served.greeted();
    ask(&mut stuck, &Request::Watch { after: None });
    assert_eq!(seq(&next(&mut stuck)), Some(0), "it has begun");
    served.client().ping().unwrap();
    let begun = Instant::now();
    assert!(served.stop(PATIENCE));
    // Far from the patience that a stuck client could cost.
    assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
}

#[test]
fn a_watcher_is_told_that_the_server_stops() {
    let mut served = with_events(1);
    let mut stream = served.greeted();
    ask(&mut stream, &Request::Watch { after: None });
    assert_eq!(seq(&next(&mut stream)), Some(0));
    assert_eq!(seq(&next(&mut stream)), Some(1));
    assert!(served.stop(Duration::from_secs(5)));
    assert_eq!(next(&mut stream), Response::WatchEnd);
}

#[test]
fn a_bell_that_rings_for_nothing_ends_nothing() {
    let served = with_events(1);
    let mut stream = served.greeted();
    ask(&mut stream, &Request::Watch { after: None });
    assert_eq!(seq(&next(&mut stream)), Some(0));
    let mut ring = served.fake.ring.lock().take().unwrap();
    ring.write_all(&[1]).unwrap();
    assert_eq!(seq(&next(&mut stream)), Some(1));
    ask(&mut stream, &Request::Ping);
    assert_eq!(next(&mut stream), Response::WatchEnd);
}

#[test]
fn what_takes_its_time_is_told_when_it_begins() {
    let served = Served::new();
    let mut client = served.client();
    client.snap(None, None).unwrap();
    client.revert(StateRef::Base).unwrap();
    client.undo().unwrap();
    client.redo_steps(1).unwrap();
    client.plan_apply().unwrap();
    client.apply(|_| Ok(())).unwrap();
    client.delete(vec![SnapName::new("a").unwrap()]).unwrap();
    let begun = served.fake.begun.lock().clone();
    assert_eq!(begun, [Deal::Revert, Deal::Undo, Deal::Redo, Deal::Apply]);
    assert_eq!(served.fake.acts.lock().len(), 6);
}
