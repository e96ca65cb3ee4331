//! Binding, starting and stopping.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use llctl::codec::{self, HELLO_MAX, REPLY_MAX, REQUEST_MAX};
use llctl::protocol::{Hello, Request, Response};
use llctl::{Client, ClientError};

use super::fake::Fake;
use super::{PATIENCE, Scratch, Served};
use crate::control::connection::Limits;
use crate::control::{BindError, Listener, Server};

#[test]
fn the_socket_is_private_and_goes_with_the_server() {
    let mut served = Served::new();
    let socket = served.scratch.socket();
    let mode = fs::symlink_metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert_eq!(
        fs::read_dir(&served.scratch.0).unwrap().count(),
        1,
        "nothing else is left in the directory"
    );
    assert!(served.stop(PATIENCE));
    assert!(!socket.exists());
}

#[test]
fn a_socket_where_nobody_answers_is_replaced() {
    let scratch = Scratch::new();
    drop(UnixListener::bind(scratch.socket()).unwrap());
    assert!(
        scratch.socket().exists(),
        "a daemon that was killed leaves its socket behind"
    );
    let listener = Listener::bind(&scratch.socket()).unwrap();
    let server = Server::start(listener, Arc::new(Fake::default())).unwrap();
    Client::connect_socket(&scratch.socket())
        .unwrap()
        .ping()
        .unwrap();
    drop(server);
    assert!(!scratch.socket().exists());
}

/// Clients wait for the next worker for so long, leave and come again. Those that have left take no seats of those that are there.
#[test]
fn who_has_left_before_there_was_a_worker_has_no_seat() {
    let scratch = Scratch::new();
    let listener = Listener::bind(&scratch.socket()).unwrap();
    for _ in 0..20 {
        let mut stream = UnixStream::connect(scratch.socket()).unwrap();
        codec::write(&mut stream, &Hello::new("test"), HELLO_MAX).unwrap();
    }
    let at = scratch.socket();
    let client = std::thread::spawn(move || Client::connect_socket(&at).unwrap().ping());
    let fake = Arc::new(Fake::default());
    let server = Server::start(listener, fake.clone()).unwrap();
    client.join().unwrap().unwrap();
    assert!(server.stop(PATIENCE));
    assert_eq!(fake.welcomes.load(Ordering::SeqCst), 1);
}

#[test]
fn a_daemon_that_answers_keeps_its_socket() {
    let served = Served::new();
    let error = Listener::bind(&served.scratch.socket()).unwrap_err();
    assert!(matches!(error, BindError::InUse(_)), "{error}");
    served.client().ping().unwrap();
}

#[test]
fn the_socket_of_a_successor_stays() {
    let mut served = Served::new();
    let socket = served.scratch.socket();
    fs::remove_file(&socket).unwrap();
    let successor = Listener::bind(&socket).unwrap();
    assert!(served.stop(PATIENCE));
    assert!(socket.exists());
    drop(successor);
    assert!(!socket.exists());
}

#[test]
fn an_adopted_socket_outlives_the_server() {
    let scratch = Scratch::new();
    let kept = UnixListener::bind(scratch.socket()).unwrap();
    for _ in 0..2 {
        let ours = OwnedFd::from(kept.try_clone().unwrap());
        let listener = Listener::adopt(ours, &scratch.socket()).unwrap();
        let server = Server::start(listener, Arc::new(Fake::default())).unwrap();
        Client::connect_socket(&scratch.socket())
            .unwrap()
            .ping()
            .unwrap();
        assert!(server.stop(PATIENCE));
        assert!(scratch.socket().exists());
    }
}

#[test]
fn stopping_ends_idle_clients_at_once() {
    let mut served = Served::new();
    let mut client = served.client();
    client.ping().unwrap();
    assert!(served.stop(PATIENCE));
    assert!(matches!(client.ping(), Err(ClientError::Lost(_))));
}

#[test]
fn stopping_cuts_what_does_not_end() {
    let mut served = Served::with(
        Fake {
            changes: u64::MAX,
            ..Fake::default()
        },
        Limits::default(),
    );
    let mut stream = served.greeted();
    let request = Request::Diff {
        from: None,
        to: Default::default(),
        paths: Vec::new(),
        patch: false,
    };
    codec::write(&mut stream, &request, REQUEST_MAX).unwrap();
    // The diff is running, and then stands still because nobody reads it.
    codec::read::<Response>(&mut stream, REPLY_MAX).unwrap();
    assert!(served.stop(Duration::from_millis(100)) || served.fake.was_called("diff cut short"));
    super::until("the end of the diff", || {
        served.fake.was_called("diff cut short")
    });
}
