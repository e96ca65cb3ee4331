//! The first two messages. They keep their form for ever, so that any two versions can at least
//! tell each other which they are.

use serde::{Deserialize, Serialize};

use super::{BytePath, ErrorKind};

/// What [`Hello::magic`] says.
pub const MAGIC: &str = "llfs-control";

/// The version of everything after the handshake. Peers of different versions do not talk.
pub const PROTOCOL_VERSION: u32 = 2;

/// The client's first message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Always [`MAGIC`].
    pub magic: String,
    /// The client's [`PROTOCOL_VERSION`].
    pub version: u32,
    /// The client's program and version, for the daemon's log, such as `llctl 0.1.0`.
    pub client: String,
    /// A number that the client has made up for all its connections, to tell it from others; 0: none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub id: u64,
    /// The number of the first request on this connection; each has the next one. A request that comes again under its
    /// number, because the daemon's worker died before it was answered, is not carried out twice.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub next: u64,
    /// Why what is asked for on this connection is asked for, for the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Hello {
    /// The greeting of this version of the library.
    pub fn new(client: impl Into<String>) -> Self {
        Self {
            magic: MAGIC.to_owned(),
            version: PROTOCOL_VERSION,
            client: client.into(),
            id: 0,
            next: 0,
            why: None,
        }
    }

    /// The same for a client that numbers its requests.
    #[must_use]
    pub fn numbered(mut self, id: u64, next: u64) -> Self {
        (self.id, self.next) = (id, next);
        self
    }
}

/// The daemon's answer to [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HelloReply {
    /// Requests may follow.
    Welcome(Welcome),
    /// The connection is closed after this.
    Refused(Refused),
}

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The daemon's [`PROTOCOL_VERSION`].
    pub version: u32,
    /// The daemon's own version, such as `0.1.0`.
    pub daemon: String,
    /// The daemon's process id.
    pub pid: u32,
    /// The absolute path that is mounted.
    pub mountpoint: BytePath,
    /// The absolute path of the store.
    pub store: BytePath,
    /// A number that no other mount has, and that it keeps whoever serves it; 0: not known. A mount that is made anew after the
    /// death of all of its daemon has another one, and knows nothing of what was asked before.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mount: u64,
}

/// Why the daemon does not talk to this client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// [`ErrorKind::Unsupported`] for a version, `Busy` for too many clients, `Permission` for a stranger, `Invalid`
    /// for what is no greeting.
    pub kind: ErrorKind,
    /// The reason, for people.
    pub why: String,
    /// The daemon's [`PROTOCOL_VERSION`].
    pub server_version: u32,
    /// The daemon's own version, such as `0.1.0`.
    pub daemon: String,
}
