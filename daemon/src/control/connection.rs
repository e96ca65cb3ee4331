//! One client: its handshake, then its requests, each within its limits.

use std::cell::Cell;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use llctl::codec::{self, CodecError, HELLO_MAX, REQUEST_MAX};
use llctl::protocol::{
    ErrorKind, Failure, Hello, HelloReply, MAGIC, PROTOCOL_VERSION, Refused, Request, Response,
};

use super::Service;
use super::account::{Account, Peer};
use super::answer::{self, Reply, Written};

thread_local! {
    static PEER: Cell<Option<u32>> = const { Cell::new(None) };
}

/// The process of the client that this thread serves, if it serves one.
pub fn peer_pid() -> Option<u32> {
    PEER.get()
}

/// What a client may take.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    /// The user whose clients are served, besides root.
    pub uid: u32,
    /// Clients at the same time.
    pub clients: usize,
    /// For the whole greeting.
    pub handshake: Duration,
    /// From the first byte of a request to its last.
    pub request: Duration,
    /// From one request to the next.
    pub idle: Duration,
    /// For a client to read something of what is sent to it. Long: it may be writing into a pager.
    pub write: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            uid: nix::unistd::geteuid().as_raw(),
            clients: 64,
            handshake: Duration::from_secs(5),
            request: Duration::from_secs(10),
            idle: Duration::from_secs(600),
            write: Duration::from_secs(600),
        }
    }
}

/// Tells a client why it is not served, without waiting for anything it may send.
pub(super) fn refuse(stream: &UnixStream, service: &dyn Service, kind: ErrorKind, why: String) {
    let told = stream
        .set_nonblocking(true)
        .map_err(CodecError::from)
        .and_then(|()| codec::write(&mut &*stream, &refused(service, kind, why), HELLO_MAX));
    if let Err(error) = told {
        tracing::debug!(%error, "a refused control client could not be told why");
    }
}

fn refused(service: &dyn Service, kind: ErrorKind, why: String) -> HelloReply {
    HelloReply::Refused(Refused {
        kind,
        why,
        server_version: PROTOCOL_VERSION,
        daemon: service.welcome().daemon,
    })
}

/// Serves one client until it leaves, misbehaves or is cut off.
pub(super) fn serve(stream: &UnixStream, service: &dyn Service, limits: &Limits) {
    if let Err(error) = converse(stream, service, limits) {
        tracing::debug!(%error, "a control client was lost");
    }
}

fn converse(stream: &UnixStream, service: &dyn Service, limits: &Limits) -> Result<(), CodecError> {
    stream.set_write_timeout(Some(limits.handshake))?;
    let Some(hello) = greeted(stream, service, limits)? else {
        return Ok(());
    };
    let mut number = hello.next;
    let peer = Peer::of(stream, hello.why);
    PEER.set(peer.pid());
    stream.set_write_timeout(Some(limits.write))?;
    loop {
        let mut reader = Timed::new(stream, limits.idle, limits.request);
        let request = match codec::read::<Request>(&mut reader, REQUEST_MAX) {
            Ok(request) => request,
            Err(CodecError::Closed) => return Ok(()),
            Err(error) if error.is_timeout() && !reader.begun => return Ok(()),
            // Where the next request begins is not known any more.
            Err(error) => {
                let failure = Failure::new(
                    ErrorKind::Invalid,
                    format!("the request was not understood: {error}"),
                );
                return Reply::new(stream).last(&Response::Error(failure));
            }
        };
        let mut reply = Reply::new(stream);
        let done_before = match hello.id {
            0 => None,
            id => service.begin(id, number, &request),
        };
        if let Some(account) = Account::open(&peer, &request) {
            let again = done_before.is_some();
            let started = match again {
                false if account.is_told_early() => service.begun(account.act()),
                _ => None,
            };
            reply.account(Written {
                account,
                service,
                started,
                again,
            });
        }
        let sent = match done_before {
            Some(answer) => reply.end(answer, |response| response),
            None => answer::answer(service, request, &mut reply),
        };
        service.end();
        sent?;
        number += 1;
    }
}

/// The greeting of a client that may go on; if not, it was told why.
fn greeted(
    stream: &UnixStream,
    service: &dyn Service,
    limits: &Limits,
) -> Result<Option<Hello>, CodecError> {
    let mut reader = Timed::new(stream, limits.handshake, limits.handshake);
    let mut welcome = None;
    let reply = match codec::read::<Hello>(&mut reader, HELLO_MAX) {
        Ok(hello) if hello.magic != MAGIC => refused(
            service,
            ErrorKind::Invalid,
            "this is the control socket of llfs, and that was no greeting".to_owned(),
        ),
        Ok(hello) if hello.version != PROTOCOL_VERSION => {
            tracing::info!(client = %llctl::escape::escaped(hello.client.as_bytes()), version = hello.version, "a control client of another version");
            let why = format!(
                "the client speaks protocol version {}, this daemon speaks version {PROTOCOL_VERSION}",
                hello.version
            );
            refused(service, ErrorKind::Unsupported, why)
        }
        Ok(hello) => {
            welcome = Some(hello);
            HelloReply::Welcome(service.welcome())
        }
        Err(CodecError::Closed) => return Ok(None),
        Err(error) => refused(
            service,
            ErrorKind::Invalid,
            format!("the greeting was not understood: {error}"),
        ),
    };
    codec::write(&mut &*stream, &reply, HELLO_MAX)?;
    Ok(welcome)
}

/// Reads with a deadline for the whole message, so that a byte now and then does not keep a client alive.
struct Timed<'a> {
    stream: &'a UnixStream,
    deadline: Instant,
    /// What is left for the message once its first byte is there.
    message: Duration,
    begun: bool,
}

impl<'a> Timed<'a> {
    fn new(stream: &'a UnixStream, idle: Duration, message: Duration) -> Self {
        Self {
            stream,
            deadline: Instant::now() + idle,
            message,
            begun: false,
        }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        let count = (&mut &*self.stream).read(buffer)?;
        if count > 0 && !self.begun {
            self.begun = true;
            self.deadline = self.deadline.min(Instant::now() + self.message);
        }
        Ok(count)
    }
}
