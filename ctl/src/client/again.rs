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
use crate::protocol::{Hello, Welcome};

/// How long workers may die before they have greeted.
const PATIENCE: Duration = Duration::from_secs(30);
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
/// that dies before it has greeted is followed by another.
pub(super) fn connect(place: &Place, id: u64, next: u64) -> Result<(UnixStream, Welcome)> {
    let hello = Hello::new(concat!("llctl ", env!("CARGO_PKG_VERSION"))).numbered(id, next);
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
