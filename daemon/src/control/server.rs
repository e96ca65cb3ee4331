//! Taking connections, and stopping.

use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use parking_lot::{Condvar, Mutex};

use llctl::protocol::ErrorKind;

use super::connection::{self, Limits};
use super::{Listener, Service};

/// How long to leave the listener alone when accepting fails, for example for want of descriptors.
const ACCEPT_PAUSE_MS: u16 = 100;

/// A running control server: one thread that accepts, and one for each client.
///
/// Dropping it stops it as [`Server::stop`] does, without grace.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
    /// Closing this end wakes the acceptor.
    wake: Option<UnixStream>,
}

/// What the acceptor, the clients' threads and the handle share. `clients` is a leaf lock: nothing else is taken under it,
/// and no I/O that could block is done.
#[derive(Debug, Default)]
struct Shared {
    clients: Mutex<HashMap<u64, Arc<UnixStream>>>,
    /// Signalled when a client's thread is done.
    left: Condvar,
    stopping: AtomicBool,
}

impl Server {
    /// Serves `service` at `listener` until the handle is stopped.
    pub fn start(listener: Listener, service: Arc<dyn Service>) -> io::Result<Self> {
        Self::start_with(listener, service, Limits::default())
    }

    pub(super) fn start_with(
        listener: Listener,
        service: Arc<dyn Service>,
        limits: Limits,
    ) -> io::Result<Self> {
        let (wake, woken) = UnixStream::pair()?;
        let shared = Arc::new(Shared::default());
        let acceptor = Acceptor {
            listener,
            service,
            limits,
            shared: Arc::clone(&shared),
            next: 0,
        };
        let acceptor = thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || acceptor.run(&woken))?;
        Ok(Self {
            shared,
            acceptor: Some(acceptor),
            wake: Some(wake),
        })
    }

    /// Stops accepting, lets requests that are running end for at most `grace`, then cuts their connections and waits
    /// for at most `grace` again. Says whether every thread has ended.
    ///
    /// The socket's file is gone when this returns. Must not be called from a client's thread.
    pub fn stop(mut self, grace: Duration) -> bool {
        self.halt(grace)
    }

    fn halt(&mut self, grace: Duration) -> bool {
        let Some(acceptor) = self.acceptor.take() else {
            return true;
        };
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.wake = None;
        if acceptor.join().is_err() {
            tracing::error!("the control server's acceptor panicked");
        }
        self.shared.cut(Shutdown::Read);
        if self.shared.wait(grace) {
            return true;
        }
        self.shared.cut(Shutdown::Both);
        self.shared.wait(grace)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.halt(Duration::ZERO);
    }
}

impl Shared {
    fn cut(&self, how: Shutdown) {
        for stream in self.clients.lock().values() {
            // The only error is that the peer closed it already, which is what this is for.
            drop(stream.shutdown(how));
        }
    }

    fn wait(&self, grace: Duration) -> bool {
        let deadline = Instant::now() + grace;
        let mut clients = self.clients.lock();
        while !clients.is_empty() {
            if self.left.wait_until(&mut clients, deadline).timed_out() {
                return clients.is_empty();
            }
        }
        true
    }
}

/// Takes a client out of the table when its thread ends, however that comes.
struct Seat {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.shared.clients.lock().remove(&self.id);
        self.shared.left.notify_all();
    }
}

struct Acceptor {
    listener: Listener,
    service: Arc<dyn Service>,
    limits: Limits,
    shared: Arc<Shared>,
    next: u64,
}

impl Acceptor {
    fn run(mut self, woken: &UnixStream) {
        while !self.shared.stopping.load(Ordering::SeqCst) {
            let mut fds = [
                PollFd::new(woken.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
            ];
            if let Err(errno) = poll(&mut fds, PollTimeout::NONE) {
                tracing::debug!(%errno, "the wait for clients was interrupted");
                continue;
            }
            match self.listener.socket.accept() {
                Ok((stream, _)) => self.admit(stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    tracing::warn!(%error, "a control client could not be accepted");
                    let mut only = [PollFd::new(woken.as_fd(), PollFlags::POLLIN)];
                    if let Err(errno) = poll(&mut only, PollTimeout::from(ACCEPT_PAUSE_MS)) {
                        tracing::debug!(%errno, "the pause was interrupted");
                    }
                }
            }
        }
    }

    /// Refuses the client, or gives it a thread.
    fn admit(&mut self, stream: UnixStream) {
        let uid = match getsockopt(&stream, PeerCredentials) {
            Ok(peer) => peer.uid(),
            Err(errno) => {
                tracing::warn!(%errno, "a control client without credentials");
                return;
            }
        };
        if uid != 0 && uid != self.limits.uid {
            tracing::warn!(uid, "a control client of another user was refused");
            let why = format!("the user {uid} does not own this mount");
            return connection::refuse(&stream, &*self.service, ErrorKind::Permission, why);
        }
        if has_left(&stream) {
            return;
        }
        if self.shared.clients.lock().len() >= self.limits.clients {
            let why = format!(
                "{} clients are connected, and there may be no more",
                self.limits.clients
            );
            return connection::refuse(&stream, &*self.service, ErrorKind::Busy, why);
        }
        let id = self.next;
        self.next += 1;
        let stream = Arc::new(stream);
        self.shared.clients.lock().insert(id, Arc::clone(&stream));
        let seat = Seat {
            shared: Arc::clone(&self.shared),
            id,
        };
        let (service, limits) = (Arc::clone(&self.service), self.limits.clone());
        let spawned = thread::Builder::new()
            .name(format!("control-{id}"))
            .spawn(move || {
                connection::serve(&stream, &*service, &limits);
                drop(seat);
            });
        if let Err(error) = spawned {
            // The closure was dropped, and with it the seat and the connection.
            tracing::warn!(%error, "no thread for a control client");
        }
    }
}

/// Whether a client is gone already: while nobody accepted, it has waited for too long, and may wait behind this one again.
fn has_left(stream: &UnixStream) -> bool {
    let mut fds = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    let seen = |fd: &PollFd<'_>| fd.revents().unwrap_or(PollFlags::empty());
    poll(&mut fds, PollTimeout::ZERO).is_ok() && seen(&fds[0]).contains(PollFlags::POLLHUP)
}
