//! Who asked, and what became of it: the act that the history keeps of a request.

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use llctl::protocol::{Act, Deal, Request, Response, TARGETS_MAX, UnixNanos, WHY_MAX};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

/// Bytes of a command line that are kept.
const COMMAND_MAX: u64 = 200;

/// The process at the other end of a connection.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    uid: u32,
    pid: u32,
    /// Why, as the greeting says.
    why: Option<String>,
}

impl Peer {
    /// The process, if it can be seen from here.
    pub(super) fn pid(&self) -> Option<u32> {
        Some(self.pid).filter(|pid| *pid != 0)
    }

    pub(super) fn of(stream: &UnixStream, why: Option<String>) -> Self {
        let (uid, pid) = match getsockopt(stream, PeerCredentials) {
            Ok(peer) => (peer.uid(), peer.pid().try_into().unwrap_or(0)),
            Err(_) => (u32::MAX, 0),
        };
        let why = why.map(|text| shortened(&text, WHY_MAX));
        Peer { uid, pid, why }
    }
}

/// A request that changes something, while it is carried out.
pub(super) struct Account {
    act: Act,
    begun: Instant,
}

impl Account {
    /// Nothing for a request that only looks.
    pub(super) fn open(peer: &Peer, request: &Request) -> Option<Account> {
        let name = |name: &llctl::SnapName| name.as_str().to_owned();
        let (what, targets, steps) = match request {
            Request::Snap { name: given, .. } => {
                (Deal::Snap, given.iter().map(name).collect(), None)
            }
            Request::Revert { to, .. } => (Deal::Revert, vec![to.to_string()], None),
            // What came of it says of what it was a part.
            Request::RevertPart { .. } => (Deal::Revert, Vec::new(), None),
            Request::Undo { steps, .. } => (Deal::Undo, Vec::new(), Some((*steps).max(1))),
            Request::Redo { steps, .. } => (Deal::Redo, Vec::new(), Some((*steps).max(1))),
            Request::Delete { names, .. } => (Deal::Delete, names.iter().map(name).collect(), None),
            Request::Rename { from, to } => (Deal::Rename, vec![name(from), name(to)], None),
            Request::Describe { name: of, .. } => (Deal::Describe, vec![name(of)], None),
            Request::Phase { .. } | Request::Session { .. } => (Deal::Snap, Vec::new(), None),
            Request::Prune { yes: true, .. } => (Deal::Prune, Vec::new(), None),
            Request::Apply { yes: true, .. } | Request::Shutdown { apply: true } => {
                (Deal::Apply, Vec::new(), None)
            }
            Request::Archive { yes: true, .. } => (Deal::Archive, Vec::new(), None),
            Request::ImportEnd { .. } => (Deal::Import, Vec::new(), None),
            _ => return None,
        };
        let said = match request {
            Request::Snap { message, .. } => message.as_deref(),
            _ => None,
        };
        let act = Act {
            at: UnixNanos::now(),
            what,
            targets,
            more: 0,
            steps,
            why: (peer.why.clone()).or_else(|| said.map(|text| shortened(text, WHY_MAX))),
            uid: peer.uid,
            pid: peer.pid,
            command: command(peer.pid),
            took_us: 0,
            files: None,
            bytes: None,
            error: None,
            error_kind: None,
        };
        let begun = Instant::now();
        Some(Account { act, begun })
    }

    /// Whether its beginning is worth an event: whoever watches may want to keep out of the way.
    pub(super) fn is_told_early(&self) -> bool {
        use Deal::{Apply, Redo, Revert, Undo};
        matches!(self.act.what, Revert | Undo | Redo | Apply)
    }

    /// What is known of it so far.
    pub(super) fn act(&self) -> &Act {
        &self.act
    }

    /// What became of it. A snapshot that was not taken, for nothing had changed, is no act, nor is a prune or an archive of nothing.
    pub(super) fn close(self, response: &Response) -> Option<Act> {
        let nothing = match response {
            Response::Unchanged(_) => true,
            Response::Pruned(done) => done.snapshots.is_empty(),
            Response::Archived(done) => done.files == 0,
            _ => false,
        };
        if nothing {
            return None;
        }
        let mut act = self.act;
        act.at = UnixNanos::now();
        act.took_us = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        match response {
            Response::Snap(info) => act.targets = vec![info.name.clone()],
            Response::Reverted(info) => {
                act.files = Some(info.changed);
                if act.what == Deal::Revert && act.targets.is_empty() {
                    act.targets = vec![info.to.clone()];
                }
            }
            Response::Pruned(done) => {
                act.targets = done.snapshots.iter().map(|s| s.name.clone()).collect();
                act.bytes = done.frees;
            }
            Response::Archived(done) => {
                act.bytes = done.after.map(|after| done.before.saturating_sub(after));
                act.targets.clone_from(&done.snapshots);
            }
            Response::Imported(all) => {
                act.targets = all.iter().map(|s| s.name.clone()).collect();
            }
            Response::Applied(done) => {
                act.files = Some(done.changes.total());
                act.bytes = Some(done.bytes);
            }
            Response::Error(failure) => {
                act.error = Some(shortened(&failure.message, 4 * WHY_MAX));
                act.error_kind = Some(failure.kind);
            }
            _ => {}
        }
        for target in &mut act.targets {
            *target = shortened(target, WHY_MAX);
        }
        act.more = act.targets.len().saturating_sub(TARGETS_MAX) as u64;
        act.targets.truncate(TARGETS_MAX);
        Some(act)
    }
}

/// The beginning of a process's command line. The process waits for its answer, so
/// it is there, unless it has left.
fn command(pid: u32) -> String {
    let mut line = Vec::new();
    if pid != 0
        && let Ok(file) = fs::File::open(format!("/proc/{pid}/cmdline"))
        && file.take(COMMAND_MAX).read_to_end(&mut line).is_err()
    {
        line.clear();
    }
    llctl::escape::command_line_of(&line)
}

fn shortened(text: &str, max: usize) -> String {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
