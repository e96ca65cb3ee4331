//! What clients of all kinds do to the server, against a service that only remembers.
mod fake;
mod hostile;
mod requests;
mod serving;
mod watch;

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use llctl::Client;
use llctl::codec::{self, HELLO_MAX};
use llctl::protocol::{Hello, HelloReply};

use super::connection::Limits;
use super::{Listener, Server};
use fake::Fake;

/// Longer than anything here takes, and the end of a test that hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("llfs-control-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("mount.sock")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// A server with a fake behind it.
struct Served {
    server: Option<Server>,
    fake: Arc<Fake>,
    scratch: Scratch,
}

impl Served {
    fn new() -> Self {
        Self::with(Fake::default(), Limits::default())
    }

    fn with(fake: Fake, limits: Limits) -> Self {
        let scratch = Scratch::new();
        let fake = Arc::new(fake);
        let listener = Listener::bind(&scratch.socket()).unwrap();
        let server = Server::start_with(listener, Arc::clone(&fake) as _, limits).unwrap();
        Self {
            server: Some(server),
            fake,
            scratch,
        }
    }

    fn client(&self) -> Client {
        Client::connect_socket(&self.scratch.socket()).unwrap()
    }

    /// A connection without a greeting; reads fail rather than hang.
    fn raw(&self) -> UnixStream {
        raw(&self.scratch.socket())
    }

    /// A connection on which requests may be sent.
    fn greeted(&self) -> UnixStream {
        let mut stream = self.raw();
        codec::write(&mut stream, &Hello::new("test"), HELLO_MAX).unwrap();
        let reply: HelloReply = codec::read(&mut stream, HELLO_MAX).unwrap();
        assert!(matches!(reply, HelloReply::Welcome(_)), "{reply:?}");
        stream
    }

    fn stop(&mut self, grace: Duration) -> bool {
        self.server.take().expect("stopped once").stop(grace)
    }
}

fn raw(socket: &Path) -> UnixStream {
    let stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Waits until `done`, for what another thread does without telling.
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
