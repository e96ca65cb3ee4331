//! Going on with the next worker of a daemon whose worker died.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use super::{ClientError, Result, connect};
use crate::codec::CodecError;
use crate::locate::Mount;
use crate::protocol::{ErrorKind, Hello, Welcome};

/// Workers that may die of one request, or meanwhile; after that it is not asked again.
pub(super) const LOSSES_MAX: u32 = 20;
/// How long workers may die before they have greeted.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a next worker may take to greet: it may have an apply to finish before it serves anybody.
pub(super) const RECOVERY: Duration = Duration::from_secs(600);
/// The pause after each.
const PAUSE: Duration = Duration::from_millis(10);

/// Where the daemon is.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// Behind one of the sockets of this mount.
    Mount(Mount),
    /// Behind this socket.
    Socket(PathBuf),
}

/// A number that no other client has.
pub(super) fn made_up() -> u64 {
    RandomState::new().build_hasher().finish().max(1)
}

/// Connects as the client `id`, whose next request has the number `next`. The socket outlives the workers behind it: one
/// that dies before it has greeted is followed by another. One that is silent is waited for during `silence`.
pub(super) fn connect(
    place: &Place,
    id: u64,
    next: u64,
    why: Option<&str>,
    silence: Duration,
) -> Result<(UnixStream, Welcome)> {
    let mut hello = Hello::new(concat!("llctl ", env!("CARGO_PKG_VERSION"))).numbered(id, next);
    hello.why = why.map(str::to_owned);
    let begun = Instant::now();
    let mut first = None;
    loop {
        let connected = match place {
            Place::Mount(mount) => connect::mount(mount, &hello),
            Place::Socket(path) => connect::socket(path, None, &hello),
        };
        match connected {
            Err(ClientError::Lost(error)) if is_death(&error) && begun.elapsed() < PATIENCE => {
                first.get_or_insert(error);
                thread::sleep(PAUSE);
            }
            Err(ClientError::Lost(error)) if error.is_timeout() && begun.elapsed() < silence => {}
            // All come at once after a worker's death, and had their seats before.
            Err(ClientError::Refused(refused))
                if refused.kind == ErrorKind::Busy && begun.elapsed() < silence =>
            {
                thread::sleep(PAUSE);
            }
            // Its supervisor is dead too. That it had been there says more.
            Err(ClientError::Unreachable { socket, source }) => {
                return Err(match first {
                    Some(error) => ClientError::Lost(error),
                    None => ClientError::Unreachable { socket, source },
                });
            }
            done => return done,
        }
    }
}

/// Whether the connection ended as one does whose peer dies.
pub(super) fn is_death(error: &CodecError) -> bool {
    match error {
        CodecError::Closed | CodecError::Truncated => true,
        CodecError::Io(error) => matches!(
            error.kind(),
            io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::ConnectionAborted
        ),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::greet::greet;
    use super::*;
    use crate::codec::{self, HELLO_MAX, REQUEST_MAX};
    use crate::protocol::{HelloReply, Listing, PROTOCOL_VERSION, Refused, Request, Response};
    use crate::{Client, ClientError, SnapName};
    use std::os::unix::net::UnixListener;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    /// A daemon that begins each answer with `part` and then dies; how often it was asked.
    fn dying(name: &str, part: Option<Response>) -> (PathBuf, Arc<AtomicU32>) {
        let path = std::env::temp_dir().join(format!("llctl-{name}-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let asked = Arc::new(AtomicU32::new(0));
        let count = asked.clone();
        // Ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                greet(&mut stream);
                if codec::read::<Request>(&mut stream, REQUEST_MAX).is_ok() {
                    count.fetch_add(1, Relaxed);
                    if let Some(part) = &part {
                        codec::write(&mut stream, part, codec::REPLY_MAX).unwrap();
                    }
                }
            }
        });
        (path, asked)
    }

    #[test]
    fn a_request_that_kills_every_worker_is_given_up() {
        let part = Response::List(Listing::default());
        for (name, part) in [("silent", None), ("begun", Some(part))] {
            let (path, asked) = dying(name, part);
            let mut client = Client::connect_socket(&path).unwrap();
            let error = client.list().unwrap_err();
            assert!(matches!(error, ClientError::Lost(_)), "{name}: {error}");
            assert_eq!(asked.load(Relaxed), 1 + LOSSES_MAX);
            std::fs::remove_file(path).unwrap();
        }
    }

    /// Who comes again after the death of a worker may find that all seats are taken for a moment.
    #[test]
    fn a_seat_at_the_next_worker_is_waited_for() {
        let path = std::env::temp_dir().join(format!("llctl-seat-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let daemon = thread::spawn(move || {
            let next = || listener.accept().unwrap().0;
            let mut first = next();
            greet(&mut first);
            codec::read::<Request>(&mut first, REQUEST_MAX).unwrap();
            drop(first);
            for _ in 0..2 {
                let refused = HelloReply::Refused(Refused {
                    kind: ErrorKind::Busy,
                    why: "64 clients are connected".to_owned(),
                    server_version: PROTOCOL_VERSION,
                    daemon: "1".to_owned(),
                });
                codec::write(&mut next(), &refused, HELLO_MAX).unwrap();
            }
            let mut last = next();
            greet(&mut last);
            codec::read::<Request>(&mut last, REQUEST_MAX).unwrap();
            codec::write(&mut last, &Response::Pong, codec::REPLY_MAX).unwrap();
        });
        let mut client = Client::connect_socket(&path).unwrap();
        client.ping().unwrap();
        daemon.join().unwrap();
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn each_request_has_its_own_tries() {
        let (path, asked) = dying("each", None);
        let mut client = Client::connect_socket(&path).unwrap();
        assert!(client.show(SnapName::new("n").unwrap()).is_err());
        assert_eq!(asked.load(Relaxed), 1 + LOSSES_MAX);
        // The first of these goes to a connection that is dead already.
        assert!(client.show(SnapName::new("n").unwrap()).is_err());
        assert_eq!(asked.load(Relaxed), 1 + 2 * LOSSES_MAX);
        std::fs::remove_file(path).unwrap();
    }
}
