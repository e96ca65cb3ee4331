//! A daemon of the tests, and what it says first.

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use super::Client;
use crate::codec::{self, HELLO_MAX, REPLY_MAX, REQUEST_MAX};
use crate::protocol::{BytePath, Hello, HelloReply, PROTOCOL_VERSION, Request, Response, Welcome};

/// Reads the client's greeting and welcomes it.
pub(super) fn greet(stream: &mut UnixStream) {
    greet_as(stream, 0);
}

/// The same, as the daemon of the mount with this number.
pub(super) fn greet_as(stream: &mut UnixStream, mount: u64) {
    codec::read::<Hello>(stream, HELLO_MAX).unwrap();
    let welcome = Welcome {
        version: PROTOCOL_VERSION,
        daemon: "1".to_owned(),
        pid: 7,
        mountpoint: BytePath::from("/m"),
        store: BytePath::from("/s"),
        mount,
    };
    codec::write(stream, &HelloReply::Welcome(welcome), HELLO_MAX).unwrap();
}

/// A daemon of which each worker gives one of these answers, whole or not, and dies.
pub(super) struct Daemon(PathBuf);

impl Daemon {
    pub(super) fn new(name: &str, answers: Vec<Vec<Response>>) -> Daemon {
        let file = format!("llctl-stream-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(file);
        let listener = UnixListener::bind(&path).unwrap();
        // Ends with the answers.
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                greet(&mut stream);
                codec::read::<Request>(&mut stream, REQUEST_MAX).unwrap();
                for part in answer {
                    codec::write(&mut stream, &part, REPLY_MAX).unwrap();
                }
            }
        });
        Daemon(path)
    }

    pub(super) fn client(&self) -> Client {
        Client::connect_socket(&self.0).unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}
