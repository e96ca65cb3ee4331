//! From a request to its answer.

use std::io::{self, BufWriter, Write};
use std::os::unix::net::UnixStream;

use llctl::client::{Snapped, VerifyEvent};
use llctl::codec::{self, CodecError, REPLY_MAX};
use llctl::protocol::{ErrorKind, Failure, Listing, MESSAGE_MAX, Request, Response};
use llctl::{SnapName, StateRef};

use super::Service;
use super::account::Account;
use super::watch;

/// Snapshots in one message of a list; with the longest names and messages 1.1 MiB.
const LIST_CHUNK: usize = 256;

/// Acts in one message of a history; with the longest texts 6 MiB.
const ACTS_CHUNK: usize = 1024;

/// The answer to one request, on its way to the client.
pub(super) struct Reply<'a> {
    out: BufWriter<&'a UnixStream>,
    /// Set at the first error. A message may have been sent in part: nothing can follow it.
    broken: Option<CodecError>,
    /// What is to be written down of the request, once its end is known.
    account: Option<Written<'a>>,
}

/// An account, and who keeps it.
pub(super) struct Written<'a> {
    pub account: Account,
    pub service: &'a dyn Service,
    /// The number of the event of its beginning.
    pub started: Option<u64>,
    /// A worker before this one did it.
    pub again: bool,
}

impl<'a> Reply<'a> {
    pub(super) fn new(stream: &'a UnixStream) -> Self {
        Self {
            out: BufWriter::with_capacity(64 << 10, stream),
            broken: None,
            account: None,
        }
    }

    /// Where it goes.
    pub(super) fn stream(&self) -> &'a UnixStream {
        self.out.get_ref()
    }

    /// What the answer turns out to be is written down before it is sent.
    pub(super) fn account(&mut self, account: Written<'a>) {
        self.account = Some(account);
    }

    /// Sends a message that others follow. The error is for the operation that makes them, so that it stops.
    fn part(&mut self, response: &Response) -> io::Result<()> {
        if self.broken.is_some() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let urgent = matches!(
            response,
            Response::Progress(_) | Response::Finding(_) | Response::Plan(_)
        );
        let mut sent = codec::write(&mut self.out, response, REPLY_MAX);
        if urgent && sent.is_ok() {
            sent = self.out.flush().map_err(CodecError::from);
        }
        sent.map_err(|error| {
            let told = io::Error::new(io::ErrorKind::BrokenPipe, error.to_string());
            self.broken = Some(error);
            told
        })
    }

    /// Sends the message that ends the answer.
    pub(super) fn last(&mut self, response: &Response) -> Result<(), CodecError> {
        if let Some(written) = self.account.take()
            && let Some(act) = written.account.close(response)
        {
            written.service.note(act, written.started, written.again);
        }
        if self.broken.is_none() && self.part(response).is_ok() {
            return Ok(self.out.flush()?);
        }
        match self.broken.take() {
            // Nothing of it was sent: the client can be told.
            Some(error @ CodecError::TooLong { .. }) => {
                let failure = Failure::new(
                    ErrorKind::Internal,
                    format!("the answer cannot be sent: {error}"),
                );
                codec::write(&mut self.out, &Response::Error(failure), REPLY_MAX)?;
                Ok(self.out.flush()?)
            }
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    pub(super) fn end<T>(
        &mut self,
        result: Result<T, Failure>,
        wrap: impl FnOnce(T) -> Response,
    ) -> Result<(), CodecError> {
        let response = match result {
            Ok(value) => wrap(value),
            Err(failure) => Response::Error(failure),
        };
        self.last(&response)
    }
}

impl Drop for Reply<'_> {
    /// What is left is the rest of a broken answer, and a `BufWriter` that is dropped would send it.
    fn drop(&mut self) {
        let stream = *self.out.get_ref();
        let rest =
            std::mem::replace(&mut self.out, BufWriter::with_capacity(0, stream)).into_parts();
        drop(rest);
    }
}

/// Does what `request` asks and sends the whole answer. An error means that the connection is no more use.
pub(super) fn answer(
    service: &dyn Service,
    request: Request,
    reply: &mut Reply<'_>,
) -> Result<(), CodecError> {
    match request {
        Request::Ping => reply.last(&Response::Pong),
        Request::Snap {
            name,
            message,
            meta,
            only_if_changed: false,
        } => {
            let taken = checked_message(message.as_deref())
                .and_then(|message| service.snap(name.as_ref(), message, &meta));
            reply.end(taken, Response::Snap)
        }
        Request::Snap {
            name,
            message,
            meta,
            only_if_changed: true,
        } => {
            let taken = checked_message(message.as_deref())
                .and_then(|message| service.snap_if_changed(name.as_ref(), message, &meta));
            reply.end(taken, snapped)
        }
        Request::Phase { name, session } => {
            let taken = service.phase(&name, session.as_deref());
            reply.end(taken, snapped)
        }
        Request::Session { id } => reply.end(service.session(&id), snapped),
        Request::Config => reply.end(service.config(), Response::Config),
        Request::Trust { text } => reply.end(service.trust(&text), Response::Config),
        Request::Prune { rules, yes, shown } => {
            let pruned = service.prune(rules.as_ref(), yes, shown.as_deref());
            reply.end(pruned, Response::Pruned)
        }
        Request::Archive { names, until, yes } => {
            let archived = service.archive(&names, until, yes, &mut |progress| {
                reply.part(&Response::Progress(progress))
            });
            reply.end(archived, Response::Archived)
        }
        Request::List { query } => match service.list(&query) {
            Ok(listing) => list(listing, reply),
            Err(failure) => reply.last(&Response::Error(failure)),
        },
        Request::Show { name } => reply.end(service.show(&name), Response::Show),
        Request::Diff {
            from,
            to,
            paths,
            patch,
        } => {
            let sent = service.diff(from.as_ref(), &to, &paths, patch, &mut |change| {
                reply.part(&Response::Change(change))
            });
            reply.end(sent, Response::DiffEnd)
        }
        Request::Log { path, limit } => {
            let told = service.log(&path, limit, &mut |entry| {
                reply.part(&Response::LogEntry(entry))
            });
            reply.end(told, |()| Response::LogEnd)
        }
        Request::Stat { state, path } => reply.end(service.stat(&state, &path), Response::Stat),
        Request::Cat { state, path, from } => {
            let sent = service.cat(&state, &path, from, &mut |bytes| {
                reply.part(&Response::Content(bytes.into()))
            });
            reply.end(sent, |()| Response::ContentEnd)
        }
        Request::Revert { to, force } => {
            let done = match &to {
                StateRef::Live => Err(Failure::new(
                    ErrorKind::Invalid,
                    "the tree is @live already",
                )),
                StateRef::Undo => service.undo(1),
                StateRef::Redo => service.redo(1),
                StateRef::Base | StateRef::At(_) | StateRef::Snapshot(_) => {
                    service.revert(&to, force)
                }
            };
            reply.end(done, Response::Reverted)
        }
        Request::CanRevert { to } => reply.end(service.can_revert(&to), Response::CanRevert),
        Request::RevertPart {
            part,
            on_conflict,
            force,
        } => reply.end(
            service.revert_part(&part, on_conflict, force),
            Response::Reverted,
        ),
        Request::PreviewPart {
            part,
            on_conflict,
            patch,
        } => {
            let sent = service.preview_part(&part, on_conflict, patch, &mut |change| {
                reply.part(&Response::Change(change))
            });
            reply.end(sent, Response::DiffEnd)
        }
        Request::Undo { steps } => reply.end(service.undo(steps.max(1)), Response::Reverted),
        Request::Redo { steps } => reply.end(service.redo(steps.max(1)), Response::Reverted),
        Request::Delete { names, shown } => {
            let deleted = delete(service, names, shown.as_deref());
            reply.end(deleted, Response::Deleted)
        }
        Request::Rename { from, to } => reply.end(service.rename(&from, &to), Response::Renamed),
        Request::Describe { name, edit } => {
            let changed = checked_message(edit.message.as_deref())
                .and_then(|_| service.describe(&name, &edit));
            reply.end(changed, Response::Described)
        }
        Request::History { query } => match service.history(&query) {
            Ok(acts) => {
                for part in acts.chunks(ACTS_CHUNK) {
                    if reply.part(&Response::Acts(part.to_vec())).is_err() {
                        break;
                    }
                }
                reply.last(&Response::ActsEnd)
            }
            Err(failure) => reply.last(&Response::Error(failure)),
        },
        Request::Watch { after } => match service.watch(after) {
            Ok(mut feed) => watch::send(&mut *feed, reply),
            Err(failure) => reply.last(&Response::Error(failure)),
        },
        Request::Metrics => reply.end(service.metrics(), |m| Response::Metrics(Box::new(m))),
        Request::Status => reply.end(service.status(), |status| {
            Response::Status(Box::new(status))
        }),
        Request::Verify => {
            let verified = service.verify(&mut |event| {
                reply.part(&match event {
                    VerifyEvent::Progress(progress) => Response::Progress(progress),
                    VerifyEvent::Finding(finding) => Response::Finding(finding),
                })
            });
            reply.end(verified, Response::Verified)
        }
        Request::Export {
            names,
            from,
            skip,
            skipped,
        } => {
            let sent = service.export(&names, from.as_ref(), (skip, skipped), &mut |block| {
                reply.part(&Response::Content(block.into()))
            });
            reply.end(sent, |()| Response::ContentEnd)
        }
        Request::ImportBegin { import, names } => {
            reply.end(service.import_begin(import, &names), Response::Importing)
        }
        Request::ImportBlock {
            import,
            number,
            before,
            block,
        } => reply.end(
            service.import_block(import, (number, before), &block),
            Response::Importing,
        ),
        Request::ImportEnd {
            import,
            blocks,
            sum,
        } => reply.end(
            service.import_end(import, (blocks, sum)),
            Response::Imported,
        ),
        Request::ImportDrop { import } => {
            reply.end(service.import_drop(import), |()| Response::Pong)
        }
        Request::Apply { yes, shown } => apply(service, yes, shown, reply),
        Request::Shutdown { apply } => shutdown(service, apply, reply),
    }
}

fn snapped(taken: Snapped) -> Response {
    match taken {
        Snapped::Taken(info) => Response::Snap(info),
        Snapped::Unchanged(info) => Response::Unchanged(info),
    }
}

fn checked_message(message: Option<&str>) -> Result<Option<&str>, Failure> {
    match message {
        Some(text) if text.len() > MESSAGE_MAX => Err(Failure::new(
            ErrorKind::Invalid,
            format!(
                "a message has at most {MESSAGE_MAX} bytes, this one has {}",
                text.len()
            ),
        )),
        other => Ok(other),
    }
}

fn list(mut listing: Listing, reply: &mut Reply<'_>) -> Result<(), CodecError> {
    let mut discarded = std::mem::take(&mut listing.discarded)
        .into_iter()
        .peekable();
    let mut snapshots = listing.snapshots.into_iter().peekable();
    while snapshots.peek().is_some() || discarded.peek().is_some() {
        let part = Listing {
            snapshots: snapshots.by_ref().take(LIST_CHUNK).collect(),
            discarded: discarded.by_ref().take(LIST_CHUNK).collect(),
        };
        if reply.part(&Response::List(part)).is_err() {
            break;
        }
    }
    reply.last(&Response::ListEnd)
}

fn delete(
    service: &dyn Service,
    mut names: Vec<SnapName>,
    shown: Option<&[u64]>,
) -> Result<Vec<String>, Failure> {
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    service.delete(&names, shown)
}

fn apply(
    service: &dyn Service,
    yes: bool,
    shown: Option<u64>,
    reply: &mut Reply<'_>,
) -> Result<(), CodecError> {
    let plan = match service.plan_apply() {
        Ok(plan) => Response::Plan(plan),
        Err(failure) => return reply.last(&Response::Error(failure)),
    };
    if !yes {
        return reply.last(&plan);
    }
    // A client that asked with `yes` and left has still asked; the reply remembers that it is broken.
    if let Err(error) = reply.part(&plan) {
        tracing::info!(%error, "applying for a client that has left");
    }
    let done = service.apply(shown, &mut |progress| {
        reply.part(&Response::Progress(progress))
    });
    if let Err(failure) = &done {
        tracing::error!(%failure, "apply failed");
    }
    reply.end(done, Response::Applied)
}

fn shutdown(service: &dyn Service, apply: bool, reply: &mut Reply<'_>) -> Result<(), CodecError> {
    let prepared = service.prepare_shutdown(apply, &mut |progress| {
        reply.part(&Response::Progress(progress))
    });
    // Whoever is told so can rely on it, also if this worker dies now. What is being answered is answered before the end.
    if prepared.is_ok() {
        service.begin_shutdown();
    }
    reply.end(prepared, |()| Response::ShuttingDown)
}
