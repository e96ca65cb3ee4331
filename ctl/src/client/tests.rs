//! Daemons that do not answer what was asked.

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread;

use super::greet::greet;
use super::*;
use crate::codec::{HELLO_MAX, REPLY_MAX, REQUEST_MAX};
use crate::protocol::{Hello, HelloReply, Listing};

/// A daemon that does `serve` with its one client; where it listens.
fn daemon(name: &str, serve: impl FnOnce(UnixStream) + Send + 'static) -> PathBuf {
    let path = std::env::temp_dir().join(format!("llctl-{name}-{}", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || serve(listener.accept().unwrap().0));
    path
}

/// What came behind a wrong answer is not the answer to the next question.
#[test]
fn after_a_wrong_answer_nothing_more_is_believed() {
    let path = daemon("wrong", |mut stream| {
        greet(&mut stream);
        codec::read::<Request>(&mut stream, REQUEST_MAX).unwrap();
        let mut both = Vec::new();
        for answer in [Response::List(Listing::default()), Response::Pong] {
            codec::write(&mut both, &answer, REPLY_MAX).unwrap();
        }
        // In one piece, so that the client has both.
        io::Write::write_all(&mut stream, &both).unwrap();
        // Until the client has gone.
        drop(io::Read::read_to_end(&mut stream, &mut Vec::new()));
    });
    let mut client = Client::connect_socket(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    let wrong = client.ping().unwrap_err();
    assert!(matches!(wrong, ClientError::Unexpected(_)), "{wrong}");
    let lost = client.ping().unwrap_err();
    assert!(matches!(lost, ClientError::Lost(_)), "{lost}");
}

/// Whatever a daemon of another version means by its welcome.
#[test]
fn a_welcome_of_another_version_is_none() {
    let path = daemon("newer", |mut stream| {
        codec::read::<Hello>(&mut stream, HELLO_MAX).unwrap();
        let welcome = Welcome {
            version: crate::protocol::PROTOCOL_VERSION + 1,
            daemon: "9.0.0".to_owned(),
            pid: 7,
            mountpoint: Path::new("/m").into(),
            store: Path::new("/s").into(),
            mount: 0,
        };
        codec::write(&mut stream, &HelloReply::Welcome(welcome), HELLO_MAX).unwrap();
    });
    let refused = Client::connect_socket(&path).map(drop).unwrap_err();
    assert!(
        matches!(&refused, ClientError::Version { daemon, .. } if daemon == "9.0.0"),
        "{refused}"
    );
    std::fs::remove_file(path).unwrap();
}

/// The numbers of what one mount was asked mean nothing to another: it would do, or say that it has done, something else.
#[test]
fn another_mount_behind_the_same_socket_is_not_asked_again() {
    for (mount, asked) in [(1, 2), (2, 1), (0, 2)] {
        let path = std::env::temp_dir().join(format!("llctl-other{mount}-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let daemon = thread::spawn(move || {
            let mut requests = 0;
            for mount in [1, mount] {
                let (mut stream, _) = listener.accept().unwrap();
                super::greet::greet_as(&mut stream, mount);
                // Dies of it, or hears that nobody asks.
                requests += usize::from(codec::read::<Request>(&mut stream, REQUEST_MAX).is_ok());
            }
            requests
        });
        let mut client = Client::connect_socket(&path).unwrap();
        let lost = client.ping().unwrap_err();
        assert!(matches!(lost, ClientError::Lost(_)), "{lost}");
        assert_eq!(daemon.join().unwrap(), asked, "of the mounts 1 and {mount}");
        std::fs::remove_file(path).unwrap();
    }
}
