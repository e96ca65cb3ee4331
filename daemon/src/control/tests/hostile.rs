//! Clients that are broken, slow, foreign or malicious. After each, the server serves others as before.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use llctl::codec::{self, CodecError, HELLO_MAX, REPLY_MAX, REQUEST_MAX};
use llctl::protocol::{ErrorKind, Hello, HelloReply, PROTOCOL_VERSION, Refused, Request, Response};
use proptest::prelude::*;

use super::fake::Fake;
use super::{PATIENCE, Served, until};
use crate::control::connection::Limits;

fn refusal(stream: &mut UnixStream) -> Refused {
    match codec::read(stream, HELLO_MAX).unwrap() {
        HelloReply::Refused(refused) => refused,
        welcome => panic!("not refused: {welcome:?}"),
    }
}

/// Nothing comes any more. Where the server left bytes unread, that is a reset.
fn assert_closed(stream: &mut UnixStream) {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => assert_eq!(rest, b"", "more than an error came"),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
}

fn assert_invalid(stream: &mut UnixStream) {
    match codec::read::<Response>(stream, REPLY_MAX).unwrap() {
        Response::Error(failure) => assert_eq!(failure.kind, ErrorKind::Invalid, "{failure}"),
        other => panic!("no error: {other:?}"),
    }
}

fn hasty() -> Limits {
    Limits {
        handshake: Duration::from_secs(1),
        request: Duration::from_millis(300),
        ..Limits::default()
    }
}

#[test]
fn another_version_is_told_both_versions() {
    let served = Served::new();
    for version in [0, PROTOCOL_VERSION + 1, u32::MAX] {
        let mut stream = served.raw();
        codec::write(
            &mut stream,
            &Hello {
                version,
                ..Hello::new("old")
            },
            HELLO_MAX,
        )
        .unwrap();
        let refused = refusal(&mut stream);
        assert_eq!(
            (refused.kind, refused.server_version),
            (ErrorKind::Unsupported, PROTOCOL_VERSION)
        );
        assert!(
            refused.why.contains(&version.to_string()),
            "{}",
            refused.why
        );
        assert_closed(&mut stream);
    }
    served.client().ping().unwrap();
}

#[test]
fn another_magic_is_no_greeting() {
    let served = Served::new();
    let mut stream = served.raw();
    codec::write(
        &mut stream,
        &Hello {
            magic: "http".to_owned(),
            ..Hello::new("x")
        },
        HELLO_MAX,
    )
    .unwrap();
    assert_eq!(refusal(&mut stream).kind, ErrorKind::Invalid);
    assert_closed(&mut stream);
}

#[test]
fn oversized_messages_are_refused_before_they_are_sent() {
    let served = Served::new();
    let mut stream = served.raw();
    stream.write_all(&(HELLO_MAX + 1).to_le_bytes()).unwrap();
    assert_eq!(refusal(&mut stream).kind, ErrorKind::Invalid);
    assert_closed(&mut stream);
    let mut stream = served.greeted();
    stream.write_all(&(REQUEST_MAX + 1).to_le_bytes()).unwrap();
    assert_invalid(&mut stream);
    assert_closed(&mut stream);
    served.client().ping().unwrap();
}

#[test]
fn a_message_cut_off_anywhere_is_an_error() {
    let served = Served::new();
    let frame = codec::encode(
        &Request::List {
            query: Default::default(),
        },
        REQUEST_MAX,
    )
    .unwrap();
    for cut in 1..frame.len() {
        let mut stream = served.greeted();
        stream.write_all(&frame[..cut]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_invalid(&mut stream);
        assert_closed(&mut stream);
    }
    assert!(served.fake.calls.lock().is_empty());
    served.client().ping().unwrap();
}

#[test]
fn a_greeting_byte_by_byte_does_not_keep_a_client_alive() {
    let served = Served::with(Fake::default(), hasty());
    let mut stream = served.raw();
    stream.write_all(&HELLO_MAX.to_le_bytes()).unwrap();
    let mut cut_off = false;
    for _ in 0..PATIENCE.as_millis() / 10 {
        std::thread::sleep(Duration::from_millis(10));
        if stream.write_all(b"x").is_err() {
            cut_off = true;
            break;
        }
    }
    assert!(cut_off, "bytes now and then kept the connection open");
    assert_eq!(refusal(&mut stream).kind, ErrorKind::Invalid);
}

#[test]
fn a_request_byte_by_byte_does_not_keep_a_client_alive() {
    let served = Served::with(Fake::default(), hasty());
    let mut stream = served.greeted();
    stream.write_all(&REQUEST_MAX.to_le_bytes()).unwrap();
    let cut_off = (0..PATIENCE.as_millis() / 10).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        stream.write_all(b"x").is_err()
    });
    assert!(cut_off, "bytes now and then kept the connection open");
    assert_invalid(&mut stream);
    assert!(served.fake.calls.lock().is_empty());
}

#[test]
fn a_silent_client_is_cut_off() {
    let served = Served::with(Fake::default(), hasty());
    let mut silent = served.raw();
    assert_eq!(refusal(&mut silent).kind, ErrorKind::Invalid);
    assert_closed(&mut silent);
    let mut half = served.greeted();
    half.write_all(&[1]).unwrap();
    assert_invalid(&mut half);
    assert_closed(&mut half);
}

#[test]
fn between_requests_a_client_may_wait_longer_than_within_one() {
    let served = Served::with(Fake::default(), hasty());
    let mut client = served.client();
    std::thread::sleep(Duration::from_millis(600));
    client.ping().unwrap();
}

#[test]
fn a_client_that_asks_nothing_more_is_let_go() {
    let limits = Limits {
        idle: Duration::from_millis(200),
        ..Limits::default()
    };
    let served = Served::with(Fake::default(), limits);
    // Its reads end after `PATIENCE`.
    assert_closed(&mut served.greeted());
}

#[test]
fn a_client_too_many_is_told_so_until_another_leaves() {
    let served = Served::with(
        Fake::default(),
        Limits {
            clients: 3,
            ..Limits::default()
        },
    );
    let mut clients: Vec<_> = (0..3).map(|_| served.client()).collect();
    for _ in 0..5 {
        assert_eq!(refusal(&mut served.raw()).kind, ErrorKind::Busy);
    }
    for client in &mut clients {
        client.ping().unwrap();
    }
    clients.pop();
    until("a place", || {
        llctl::Client::connect_socket(&served.scratch.socket()).is_ok()
    });
}

#[test]
fn a_thousand_connections_leave_no_trace() {
    let served = Served::new();
    for round in 0..1000 {
        let mut stream = served.raw();
        if round % 3 == 0 {
            // It may have been refused and closed already.
            drop(stream.write_all(b"\x05\x00\x00\x00x"));
        }
    }
    until("a free place", || {
        llctl::Client::connect_socket(&served.scratch.socket()).is_ok_and(|mut c| c.ping().is_ok())
    });
}

/// Both ends of a thousand connections are in this process.
fn allow_many_descriptors() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let wanted = 4096.min(hard);
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).unwrap();
    }
}

#[test]
fn of_a_thousand_clients_at_once_a_few_are_served_and_the_others_told() {
    allow_many_descriptors();
    let served = Served::new();
    let limit = Limits::default().clients;
    let mut streams: Vec<_> = (0..1000).map(|_| served.raw()).collect();
    let (mut welcome, mut busy) = (Vec::new(), 0);
    for mut stream in streams.drain(..) {
        // A refused one may be closed already.
        drop(codec::write(&mut stream, &Hello::new("x"), HELLO_MAX));
        match codec::read(&mut stream, HELLO_MAX).unwrap() {
            HelloReply::Welcome(_) => welcome.push(stream),
            HelloReply::Refused(refused) => {
                assert_eq!(refused.kind, ErrorKind::Busy);
                busy += 1;
            }
        }
    }
    assert_eq!((welcome.len(), busy), (limit, 1000 - limit));
    for stream in &mut welcome {
        codec::write(stream, &Request::Ping, REQUEST_MAX).unwrap();
        let answer = codec::read::<Response>(stream, REPLY_MAX).unwrap();
        assert_eq!(answer, Response::Pong);
    }
    drop(welcome);
    until("a free place", || {
        llctl::Client::connect_socket(&served.scratch.socket()).is_ok_and(|mut c| c.ping().is_ok())
    });
}

#[test]
fn a_client_that_does_not_read_is_given_up() {
    let fake = Fake {
        changes: u64::MAX,
        ..Fake::default()
    };
    let limits = Limits {
        write: Duration::from_millis(100),
        ..Limits::default()
    };
    let served = Served::with(fake, limits);
    let mut stream = served.greeted();
    let request = Request::Diff {
        from: None,
        to: Default::default(),
        paths: Vec::new(),
        patch: false,
    };
    codec::write(&mut stream, &request, REQUEST_MAX).unwrap();
    until("the end of the diff", || {
        served.fake.was_called("diff cut short")
    });
}

#[test]
fn a_client_that_leaves_stops_its_diff_but_not_its_apply() {
    let served = Served::with(
        Fake {
            changes: u64::MAX,
            ..Fake::default()
        },
        Limits::default(),
    );
    for request in [
        Request::Diff {
            from: None,
            to: Default::default(),
            paths: Vec::new(),
            patch: false,
        },
        Request::Apply {
            yes: true,
            shown: None,
        },
    ] {
        let mut stream = served.greeted();
        codec::write(&mut stream, &request, REQUEST_MAX).unwrap();
        codec::read::<Response>(&mut stream, REPLY_MAX).unwrap();
    }
    until("the end of the diff", || {
        served.fake.was_called("diff cut short")
    });
    until("the end of the apply", || served.fake.was_called("applied"));
}

#[test]
fn another_user_is_refused() {
    let me = nix::unistd::geteuid();
    let limits = if me.is_root() {
        Limits::default()
    } else {
        Limits {
            uid: me.as_raw() + 1,
            ..Limits::default()
        }
    };
    let served = Served::with(Fake::default(), limits);
    let socket = served.scratch.socket();
    if me.is_root() {
        // The mode keeps others out before the server does; here it is the server's turn.
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).unwrap();
    }
    let stranger = std::thread::spawn(move || {
        if me.is_root() {
            // SAFETY: the raw call changes the ids of this thread only, which ends with the closure, and takes numbers.
            let done = unsafe { nix::libc::syscall(nix::libc::SYS_setresuid, 65534, 65534, 65534) };
            assert_eq!(done, 0);
        }
        let mut stream = super::raw(&socket);
        // It may have been refused and closed already.
        drop(codec::write(&mut stream, &Hello::new("x"), HELLO_MAX));
        refusal(&mut stream)
    });
    assert_eq!(stranger.join().unwrap().kind, ErrorKind::Permission);
    assert!(served.fake.calls.lock().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn garbage_is_answered_and_the_server_lives(
        greeted: bool,
        framed: bool,
        bytes in proptest::collection::vec(any::<u8>(), 1..300),
    ) {
        let served = Served::new();
        let mut stream = if greeted { served.greeted() } else { served.raw() };
        let mut wire = if framed { (bytes.len() as u32).to_le_bytes().to_vec() } else { Vec::new() };
        wire.extend_from_slice(&bytes);
        stream.write_all(&wire).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        loop {
            match codec::read_frame(&mut stream, REPLY_MAX) {
                Ok(_) => {}
                Err(CodecError::Closed) => break,
                Err(CodecError::Io(error)) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
                Err(error) => return Err(TestCaseError::fail(format!("{error}"))),
            }
        }
        served.client().ping().unwrap();
    }
}
