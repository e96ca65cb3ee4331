//! Finding the socket that answers, and the handshake.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::geteuid;

use super::{ClientError, Result};
use crate::codec::{self, HELLO_MAX};
use crate::locate::{Mount, socket_candidates, socket_path};
use crate::protocol::{ErrorKind, Hello, HelloReply, PROTOCOL_VERSION, Welcome};

/// How long the daemon may take for each read of the handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Tries each place where the socket of `mount` may be.
pub(super) fn mount(mount: &Mount, hello: &Hello) -> Result<(UnixStream, Welcome)> {
    let owner = mount.uid.unwrap_or_else(|| geteuid().as_raw());
    let mut error = ClientError::Unreachable {
        socket: socket_path(&mount.mountpoint),
        source: nix::errno::Errno::ENOENT.into(),
    };
    for path in socket_candidates(mount) {
        match socket(&path, Some(owner), hello) {
            Err(ClientError::Unreachable { socket, source }) => {
                // A socket that exists but does not answer says more than one that does not exist.
                if source.kind() != io::ErrorKind::NotFound {
                    error = ClientError::Unreachable { socket, source };
                }
            }
            answered => return answered,
        }
    }
    Err(error)
}

/// Connects to `path`. With `owner`, only a daemon of that user, of this user or of root is talked to.
pub(super) fn socket(
    path: &Path,
    owner: Option<u32>,
    hello: &Hello,
) -> Result<(UnixStream, Welcome)> {
    socket_within(HANDSHAKE_TIMEOUT, path, owner, hello)
}

/// The same, if each part of the handshake takes no longer than `time`.
fn socket_within(
    time: Duration,
    path: &Path,
    owner: Option<u32>,
    hello: &Hello,
) -> Result<(UnixStream, Welcome)> {
    let unreachable = |source| ClientError::Unreachable {
        socket: path.to_path_buf(),
        source,
    };
    let mut stream = UnixStream::connect(path).map_err(unreachable)?;
    if let Some(owner) = owner {
        let peer = getsockopt(&stream, PeerCredentials)
            .map_err(|errno| unreachable(errno.into()))?
            .uid();
        if peer != 0 && peer != owner && peer != geteuid().as_raw() {
            return Err(ClientError::Stranger {
                socket: path.to_path_buf(),
                uid: peer,
            });
        }
    }
    stream.set_read_timeout(Some(time)).map_err(unreachable)?;
    stream.set_write_timeout(Some(time)).map_err(unreachable)?;
    let welcome = greet(&mut stream, hello)?;
    // From here on the daemon may take its time: a verify of a large store has long silences.
    stream.set_read_timeout(None).map_err(unreachable)?;
    stream.set_write_timeout(None).map_err(unreachable)?;
    Ok((stream, welcome))
}

fn greet(stream: &mut UnixStream, hello: &Hello) -> Result<Welcome> {
    // A daemon that has no room says so and closes without reading: its answer is worth more than the broken pipe.
    let sent = codec::write(stream, hello, HELLO_MAX);
    let reply = match codec::read(stream, HELLO_MAX) {
        Ok(reply) => reply,
        Err(error) => return Err(ClientError::Lost(sent.err().unwrap_or(error))),
    };
    match reply {
        HelloReply::Welcome(welcome) if welcome.version == PROTOCOL_VERSION => Ok(welcome),
        HelloReply::Welcome(welcome) => Err(version_error(welcome.version, welcome.daemon)),
        HelloReply::Refused(refused)
            if refused.kind == ErrorKind::Unsupported
                && refused.server_version != PROTOCOL_VERSION =>
        {
            Err(version_error(refused.server_version, refused.daemon))
        }
        HelloReply::Refused(refused) => Err(ClientError::Refused(refused)),
    }
}

fn version_error(server: u32, daemon: String) -> ClientError {
    ClientError::Version {
        client: PROTOCOL_VERSION,
        server,
        daemon,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;
    use std::sync::mpsc;
    use std::thread;

    use super::super::greet::greet;
    use super::*;

    /// Who listens is who was the user then.
    #[test]
    fn a_daemon_of_a_stranger_is_not_talked_to() {
        if !geteuid().is_root() {
            return;
        }
        let dir = std::env::temp_dir().join(format!("llctl-stranger-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o777)).unwrap();
        let path = dir.join("sock");
        let at = path.clone();
        let theirs = thread::spawn(move || {
            // SAFETY: the raw call changes the ids of this thread only, which ends with the closure, and takes numbers.
            let done = unsafe { nix::libc::syscall(nix::libc::SYS_setresuid, 4321, 4321, 4321) };
            assert_eq!(done, 0);
            UnixListener::bind(at).unwrap()
        });
        let theirs = theirs.join().unwrap();
        // Nothing is even said to it: it would have to be answered.
        match socket(&path, Some(1234), &Hello::new("test")) {
            Err(ClientError::Stranger { uid, .. }) => assert_eq!(uid, 4321),
            other => panic!("{other:?}"),
        }
        theirs.set_nonblocking(true).unwrap();
        let (mut stream, _) = theirs.accept().unwrap();
        let mut said = Vec::new();
        std::io::Read::read_to_end(&mut stream, &mut said).unwrap();
        assert!(said.is_empty());
        std::fs::remove_dir_all(dir).unwrap();
    }

    /// Something listens, such as a daemon that was stopped, and says nothing.
    #[test]
    fn a_daemon_that_does_not_greet_is_not_waited_for_for_ever() {
        let path = std::env::temp_dir().join(format!("llctl-mute-{}", std::process::id()));
        let mute = UnixListener::bind(&path).unwrap();
        let (tell, told) = mpsc::channel();
        let at = path.clone();
        thread::spawn(move || {
            let time = Duration::from_millis(50);
            tell.send(socket_within(time, &at, None, &Hello::new("test")))
        });
        let told = told.recv_timeout(HANDSHAKE_TIMEOUT);
        match told.expect("it is waited for") {
            Err(ClientError::Lost(error)) => assert!(error.is_timeout(), "{error}"),
            other => panic!("{other:?}"),
        }
        drop(mute);
        std::fs::remove_file(path).unwrap();
    }

    /// What was asked may take as long as it takes.
    #[test]
    fn behind_the_handshake_there_is_no_hurry() {
        let path = std::env::temp_dir().join(format!("llctl-slow-{}", std::process::id()));
        let slow = UnixListener::bind(&path).unwrap();
        let time = Duration::from_secs(5);
        let daemon = thread::spawn(move || greet(&mut slow.accept().unwrap().0));
        let (stream, _) = socket_within(time, &path, None, &Hello::new("test")).unwrap();
        assert_eq!(stream.read_timeout().unwrap(), None);
        assert_eq!(stream.write_timeout().unwrap(), None);
        daemon.join().unwrap();
        std::fs::remove_file(path).unwrap();
    }
}
