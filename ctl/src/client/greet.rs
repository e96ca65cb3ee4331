//! What a daemon of the tests says first.

use std::os::unix::net::UnixStream;

use crate::codec::{self, HELLO_MAX};
use crate::protocol::{BytePath, Hello, HelloReply, PROTOCOL_VERSION, Welcome};

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
