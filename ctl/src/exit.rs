//! The exit codes of `llctl`.

use crate::client::ClientError;
use crate::protocol::ErrorKind;

/// Success. For `diff` also when there are differences, without `--exit-code`.
pub const OK: u8 = 0;
/// The operation failed; with `diff --exit-code` also: there are differences.
pub const FAILED: u8 = 1;
/// The command line makes no sense.
pub const USAGE: u8 = 2;
/// There is no llfs mount here, or its daemon cannot be reached.
pub const NO_MOUNT: u8 = 3;
/// There is no such snapshot, state or path.
pub const NOT_FOUND: u8 = 4;
/// A snapshot of that name exists.
pub const EXISTS: u8 = 5;
/// Refused: not permitted, busy, of another version, or it needs `--yes`.
pub const REFUSED: u8 = 6;
/// Damage was found.
pub const DAMAGED: u8 = 7;
/// The store is read-only or full.
pub const NO_WRITE: u8 = 8;

/// Git is in the middle of something that the revert would end; `--force` does it anyway.
pub const UNDERWAY: u8 = 9;
/// Changes that are to be kept are in the way of reverting a part.
pub const CONFLICT: u8 = 10;
/// A hook that runs before it failed, so nothing was done.
pub const HOOK: u8 = 11;
/// `run`: the command took longer than its `--timeout`, as timeout(1) has it.
pub const TIMED_OUT: u8 = 124;
/// `run`: llctl itself failed, so the code is none of the command's.
pub const RUN_FAILED: u8 = 125;
/// `run`: the command is there and cannot be started.
pub const RUN_NOT_STARTED: u8 = 126;
/// `run`: there is no such command.
pub const RUN_NOT_FOUND: u8 = 127;

/// The table as `llctl --help` prints it.
pub const TABLE: &str = "\
Exit codes:
  0  success (diff: whether or not there are differences)
  1  the operation failed (diff --exit-code: there are differences)
  2  wrong usage
  3  no llfs mount here, or its daemon cannot be reached
  4  no such snapshot, state or path
  5  a snapshot of that name exists
  6  refused: not permitted, busy, another protocol version, or it needs --yes
  7  damage was found
  8  the store is read-only or out of space
  9  git is in the middle of something that the revert would end (--force does it anyway)
  10 changes that are to be kept are in the way of reverting a part
  11 a hook of llfs.toml that runs before it failed, so nothing was done
`llctl run` exits as the command does (128 and the signal's number if it was killed), and with
  124  it took longer than its --timeout
  125  llctl itself failed
  126  the command cannot be started
  127  there is no such command";

/// The exit code for a failure of this kind.
pub fn of_kind(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::NotFound => NOT_FOUND,
        ErrorKind::Exists => EXISTS,
        ErrorKind::Busy | ErrorKind::Permission => REFUSED,
        ErrorKind::Damaged => DAMAGED,
        ErrorKind::ReadOnly | ErrorKind::NoSpace => NO_WRITE,
        ErrorKind::Underway => UNDERWAY,
        ErrorKind::Conflict => CONFLICT,
        ErrorKind::Hook => HOOK,
        ErrorKind::Invalid
        | ErrorKind::Io
        | ErrorKind::Unsupported
        | ErrorKind::Internal
        | ErrorKind::Unknown => FAILED,
    }
}

/// The exit code for an error of the client.
pub fn of_client(error: &ClientError) -> u8 {
    match error {
        ClientError::Locate(_) | ClientError::Unreachable { .. } => NO_MOUNT,
        ClientError::Version { .. } | ClientError::Refused(_) | ClientError::Stranger { .. } => {
            REFUSED
        }
        ClientError::Failure(failure) => of_kind(failure.kind),
        ClientError::Lost(_)
        | ClientError::Overtaken
        | ClientError::Unexpected(_)
        | ClientError::Sink(_) => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_every_code_once() {
        let codes = [
            OK, FAILED, USAGE, NO_MOUNT, NOT_FOUND, EXISTS, REFUSED, DAMAGED, NO_WRITE, UNDERWAY,
            CONFLICT, HOOK,
        ];
        let of_run = [TIMED_OUT, RUN_FAILED, RUN_NOT_STARTED, RUN_NOT_FOUND];
        let listed: Vec<u8> = TABLE
            .lines()
            .filter_map(|l| l.split_whitespace().next()?.parse().ok())
            .collect();
        assert_eq!(listed, [&codes[..], &of_run[..]].concat());
    }
}
