//! Why the client could not do what it was asked.

use std::io;
use std::path::PathBuf;

use crate::codec::CodecError;
use crate::escape::Shown;
use crate::locate::{LocateError, MOUNT_VAR};
use crate::protocol::{ErrorKind, Failure, Refused};

/// Every way in which a request can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no mount to talk about.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// No daemon answers at the socket.
    #[error("no llfs daemon answers at {}: {source}", .socket.shown())]
    Unreachable {
        /// The socket that was tried.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Client and daemon speak different versions.
    #[error(
        "this llctl {} speaks protocol version {client}, but the daemon (llfs {}) speaks version {server}",
        env!("CARGO_PKG_VERSION"), crate::escape::escaped(.daemon.as_bytes())
    )]
    Version {
        /// The client's protocol version.
        client: u32,
        /// The daemon's protocol version.
        server: u32,
        /// The daemon's own version.
        daemon: String,
    },
    /// The daemon does not talk to this client.
    #[error("the daemon refused the connection: {}", .0.why)]
    Refused(Refused),
    /// The socket is served by somebody who has nothing to do with the mount.
    #[error("the socket {} is served by the user {uid}, who does not own the mount", .socket.shown())]
    Stranger {
        /// The socket.
        socket: PathBuf,
        /// Who serves it.
        uid: u32,
    },
    /// The daemon could not do it.
    #[error(transparent)]
    Failure(Failure),
    /// The connection broke, or the daemon sent what is no message.
    #[error("the connection to the daemon broke: {0}")]
    Lost(CodecError),
    /// The daemon's worker died in the middle of an answer, and what the next one would say does not go on from there.
    #[error("the daemon's worker died in the middle of the answer, and the tree has changed since")]
    Overtaken,
    /// The daemon sent a message that does not belong to the request.
    #[error("the daemon sent an unexpected answer: {0}")]
    Unexpected(String),
    /// The receiver of a stream failed.
    #[error(transparent)]
    Sink(io::Error),
}

impl ClientError {
    /// What the user can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Locate(LocateError::NoMount { .. }) => Some(format!(
                "go into one, or name it with -C DIR or {MOUNT_VAR}; `llfs mount DIR` makes one"
            )),
            Self::Unreachable { .. } => Some(
                "if its daemon died, `llfs mount DIR` brings the mount back with everything in it"
                    .to_owned(),
            ),
            Self::Version { client, server, .. } if client < server => {
                Some("use the llctl that was installed with the daemon".to_owned())
            }
            Self::Version { .. } => {
                Some("unmount and mount again to start the newer daemon".to_owned())
            }
            Self::Refused(refused) if refused.kind == ErrorKind::Busy => {
                Some("try again in a moment".to_owned())
            }
            Self::Refused(refused) if refused.kind == ErrorKind::Permission => {
                Some("only root and the user who mounted it may do that".to_owned())
            }
            Self::Failure(failure) => failure.hint.clone(),
            Self::Lost(error) if error.is_timeout() => {
                Some("the daemon is there but does not answer".to_owned())
            }
            Self::Lost(_) => {
                Some("run `llctl status` to see whether the daemon is back".to_owned())
            }
            Self::Overtaken => Some("what was shown is incomplete: run it again".to_owned()),
            _ => None,
        }
    }

    /// The kind, as programs see it in `llctl --json`: that of the failure, or `no_mount`, `unreachable`, `version`,
    /// `refused`, `connection`, `output`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Locate(LocateError::NoMount { .. }) => "no_mount",
            Self::Locate(_) => "invalid",
            Self::Unreachable { .. } => "unreachable",
            Self::Version { .. } => "version",
            Self::Refused(_) | Self::Stranger { .. } => "refused",
            Self::Failure(failure) => failure.kind.as_str(),
            Self::Lost(_) | Self::Overtaken | Self::Unexpected(_) => "connection",
            Self::Sink(_) => "output",
        }
    }
}
