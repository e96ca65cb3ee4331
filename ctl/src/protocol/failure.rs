//! Why a request failed.

use std::fmt;
use std::io;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::Conflict;

/// The kind of a failure, for programs; decides the exit code of `llctl` (see [`crate::exit`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// No such snapshot, state or path.
    NotFound,
    /// The name is taken.
    Exists,
    /// The request makes no sense: a bad name, an impossible pair of states.
    Invalid,
    /// Something else is going on: too many clients, an apply, a shutdown, or the operation needs a confirmation.
    Busy,
    /// The store is read-only, because it was mounted so or because an earlier fsync failed.
    ReadOnly,
    /// No space in the store or in the base.
    NoSpace,
    /// The disk returned an error.
    Io,
    /// Stored bytes are not what was written.
    Damaged,
    /// This daemon or this store cannot do that.
    Unsupported,
    /// Git is in the middle of something that a revert would end.
    Underway,
    /// A part cannot be reverted without changes that were to be kept; see [`Failure::conflicts`].
    Conflict,
    /// A hook that runs before it failed.
    Hook,
    /// The peer may not do that.
    Permission,
    /// A bug in the daemon.
    Internal,
    /// A kind that this client does not know; never sent.
    #[serde(other)]
    Unknown,
}

impl ErrorKind {
    /// The kind as it is written on the socket and in JSON, such as `not_found`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Exists => "exists",
            Self::Invalid => "invalid",
            Self::Busy => "busy",
            Self::ReadOnly => "read_only",
            Self::NoSpace => "no_space",
            Self::Io => "io",
            Self::Damaged => "damaged",
            Self::Unsupported => "unsupported",
            Self::Underway => "underway",
            Self::Conflict => "conflict",
            Self::Hook => "hook",
            Self::Permission => "permission",
            Self::Internal => "internal",
            Self::Unknown => "unknown",
        }
    }
}

/// A request that failed: what, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The kind, for programs.
    pub kind: ErrorKind,
    /// What failed, on which name or path, for people; one sentence without a full stop.
    pub message: String,
    /// What the user can do; one sentence.
    #[serde(default)]
    pub hint: Option<String>,
    /// The paths in the way, for [`ErrorKind::Conflict`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<Conflict>,
}

impl Failure {
    /// A failure without a hint.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
            conflicts: Vec::new(),
        }
    }

    /// The same failure with a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The failure for `errno`, which stopped what `context` says.
    pub fn errno(context: impl fmt::Display, errno: Errno) -> Self {
        let kind = match errno {
            Errno::ENOENT | Errno::ENOTDIR => ErrorKind::NotFound,
            Errno::EEXIST => ErrorKind::Exists,
            Errno::EINVAL | Errno::ENAMETOOLONG => ErrorKind::Invalid,
            Errno::EBUSY | Errno::EAGAIN => ErrorKind::Busy,
            Errno::EROFS => ErrorKind::ReadOnly,
            Errno::ENOSPC | Errno::EDQUOT => ErrorKind::NoSpace,
            Errno::ENOSYS | Errno::EOPNOTSUPP => ErrorKind::Unsupported,
            Errno::EACCES | Errno::EPERM => ErrorKind::Permission,
            _ => ErrorKind::Io,
        };
        Self::new(kind, format!("{context}: {}", errno.desc()))
    }

    /// The failure for an I/O error, which stopped what `context` says.
    pub fn io(context: impl fmt::Display, error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(code) => Self::errno(context, Errno::from_raw(code)),
            None => Self::new(ErrorKind::Io, format!("{context}: {error}")),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_from_a_newer_daemon_is_unknown_not_an_error() {
        let packed = rmp_serde::to_vec_named("quantum").unwrap();
        assert_eq!(
            rmp_serde::from_slice::<ErrorKind>(&packed).unwrap(),
            ErrorKind::Unknown
        );
    }

    #[test]
    fn errnos_get_their_kinds() {
        assert_eq!(Failure::errno("x", Errno::ENOSPC).kind, ErrorKind::NoSpace);
        assert_eq!(
            Failure::io("x", &io::Error::from_raw_os_error(libc_erofs())).kind,
            ErrorKind::ReadOnly
        );
        assert_eq!(Failure::io("x", &io::Error::other("y")).message, "x: y");
    }

    fn libc_erofs() -> i32 {
        Errno::EROFS as i32
    }
}
