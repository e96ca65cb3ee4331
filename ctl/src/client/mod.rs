//! A typed, blocking client: one method a request.
//!
//! ```no_run
//! # fn main() -> Result<(), llctl::ClientError> {
//! use llctl::{Client, SnapName, StateRef};
//! let mut client = Client::connect("./repo".as_ref())?;
//! let name = SnapName::new("before").expect("a valid name");
//! client.snap(Some(name.clone()), None)?;
//! client.revert(StateRef::from(name))?;
//! # Ok(())
//! # }
//! ```
mod again;
mod browse;
mod connect;
mod error;
/// Whether what was asked of the one is known to the other.
fn is_same_mount(one: &Welcome, other: &Welcome) -> bool {
    match (one.mount, other.mount) {
        (0, _) | (_, 0) => one.pid == other.pid,
        (one, other) => one == other,
    }
}

#[cfg(test)]
mod greet;
mod stream;
#[cfg(test)]
mod tests;
mod transfer;
mod watch;

use std::io::{self, BufRead};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

pub use connect::HANDSHAKE_TIMEOUT;
pub use error::ClientError;
pub use transfer::Known;

use again::Place;

use crate::codec::{self, CodecError};
use crate::config::Retention;
use crate::locate::{self, Mount};
use crate::name::{SnapName, StateRef};
use crate::protocol::{
    Act, ApplyPlan, ConfigInfo, Finding, HistoryQuery, ListQuery, Listing, MetaEdit, MetricsInfo,
    OnConflict, Part, Progress, PruneInfo, Request, Response, RevertCheck, RevertInfo, SnapDetail,
    SnapInfo, SnapMeta, StatusInfo, Welcome,
};

/// What a request came to.
pub type Result<T> = std::result::Result<T, ClientError>;

/// A connection to the daemon of one mount, with the handshake done.
///
/// Requests go one after the other. If the worker that does one dies, the next one goes on with it (`again.rs`,
/// `stream.rs`). After [`ClientError::Lost`], [`ClientError::Unexpected`] or
/// [`ClientError::Sink`] the connection is closed and every further request fails.
#[derive(Debug)]
pub struct Client {
    reader: io::BufReader<UnixStream>,
    welcome: Welcome,
    place: Place,
    /// Why requests are made, for the history.
    why: Option<String>,
    /// Made up at random, see [`Hello::id`].
    id: u64,
    /// The number of the last request.
    number: u64,
    /// How often the connection broke since the present request was first sent.
    losses: u32,
}

/// What became of the wish for a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Snapped {
    /// It was taken.
    Taken(SnapInfo),
    /// Nothing has changed since this one.
    Unchanged(SnapInfo),
}

/// What verify reports while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerifyEvent {
    /// How far it is.
    Progress(Progress),
    /// Something that is wrong.
    Finding(Finding),
}

/// What apply reports while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApplyEvent {
    /// What is going to be done; the first event.
    Plan(ApplyPlan),
    /// How far it is.
    Progress(Progress),
}

impl Client {
    /// Connects to the daemon of the mount that holds `dir`.
    pub fn connect(dir: &Path) -> Result<Self> {
        Self::connect_mount(&locate::locate(Some(dir))?)
    }

    /// Connects to the daemon of `mount`, wherever its socket is.
    pub fn connect_mount(mount: &Mount) -> Result<Self> {
        Self::connect_to(Place::Mount(mount.clone()))
    }

    /// Connects to the daemon that listens at `socket`, whoever that is.
    pub fn connect_socket(socket: &Path) -> Result<Self> {
        Self::connect_to(Place::Socket(socket.to_path_buf()))
    }

    fn connect_to(place: Place) -> Result<Self> {
        let id = again::made_up();
        let (stream, welcome) = again::connect(&place, id, 1, None, Duration::ZERO)?;
        Ok(Self {
            reader: io::BufReader::new(stream),
            welcome,
            place,
            why: None,
            id,
            number: 0,
            losses: 0,
        })
    }

    /// What the daemon said about itself.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// Says why what is asked for from here on is asked for: the history keeps it. Connects anew.
    pub fn because(&mut self, why: Option<String>) -> Result<()> {
        let next = self.number + 1;
        let (stream, welcome) =
            again::connect(&self.place, self.id, next, why.as_deref(), Duration::ZERO)?;
        self.reader = io::BufReader::new(stream);
        self.welcome = welcome;
        self.why = why;
        Ok(())
    }

    /// What was done, oldest first.
    pub fn history(&mut self, query: HistoryQuery) -> Result<Vec<Act>> {
        let request = Request::History { query };
        self.repeatedly(|client| {
            client.send(&request)?;
            let mut all = Vec::new();
            loop {
                match client.receive()? {
                    Response::Acts(acts) => all.extend(acts),
                    Response::ActsEnd => return Ok(all),
                    other => return client.unexpected(other),
                }
            }
        })
    }

    /// Takes a snapshot; without a name the daemon makes one.
    pub fn snap(&mut self, name: Option<SnapName>, message: Option<String>) -> Result<SnapInfo> {
        self.snap_with(name, message, SnapMeta::default())
    }

    /// Takes a snapshot that says more of itself. The git repository of a directory is read by [`crate::git::read`].
    pub fn snap_with(
        &mut self,
        name: Option<SnapName>,
        message: Option<String>,
        meta: SnapMeta,
    ) -> Result<SnapInfo> {
        let request = Request::Snap {
            name,
            message,
            meta,
            only_if_changed: false,
        };
        match self.ask(&request)? {
            Response::Snap(info) => Ok(info),
            other => self.unexpected(other),
        }
    }

    /// The same, unless nothing that a user could see has changed since there was a snapshot: never an empty one.
    pub fn snap_if_changed(
        &mut self,
        name: Option<SnapName>,
        message: Option<String>,
        meta: SnapMeta,
    ) -> Result<Snapped> {
        let request = Request::Snap {
            name,
            message,
            meta,
            only_if_changed: true,
        };
        match self.ask(&request)? {
            Response::Snap(info) => Ok(Snapped::Taken(info)),
            Response::Unchanged(info) => Ok(Snapped::Unchanged(info)),
            other => self.unexpected(other),
        }
    }

    /// All snapshots and discarded states.
    pub fn list(&mut self) -> Result<Listing> {
        self.list_some(ListQuery::default())
    }

    /// Some snapshots, in some order; discarded states too where all are asked for.
    pub fn list_some(&mut self, query: ListQuery) -> Result<Listing> {
        let request = Request::List { query };
        self.losses = 0;
        loop {
            let mut all = Listing::default();
            let mut next = self.ask_on(&request)?;
            let lost = loop {
                match next {
                    Response::List(part) => {
                        all.snapshots.extend(part.snapshots);
                        all.discarded.extend(part.discarded);
                    }
                    Response::ListEnd => return Ok(all),
                    other => return self.unexpected(other),
                }
                next = match self.receive() {
                    Ok(next) => next,
                    Err(error) => break error,
                };
            };
            self.go_on(lost)?;
        }
    }

    /// All about one snapshot.
    pub fn show(&mut self, name: SnapName) -> Result<SnapDetail> {
        match self.ask(&Request::Show { name })? {
            Response::Show(detail) => Ok(detail),
            other => self.unexpected(other),
        }
    }

    /// Makes the tree what `to` was.
    pub fn revert(&mut self, to: StateRef) -> Result<RevertInfo> {
        self.revert_with(to, false)
    }

    /// The same; with `force`, although it ends what git is in the middle of.
    pub fn revert_with(&mut self, to: StateRef, force: bool) -> Result<RevertInfo> {
        self.reverted(&Request::Revert { to, force })
    }

    /// Undoes a part and keeps the rest. Where changes that are to be kept are in the way, nothing is done and
    /// [`crate::Failure::conflicts`] names them, unless `on_conflict` says which side wins.
    pub fn revert_part(
        &mut self,
        part: Part,
        on_conflict: OnConflict,
        force: bool,
    ) -> Result<RevertInfo> {
        self.reverted(&Request::RevertPart {
            part,
            on_conflict,
            force,
        })
    }

    /// What speaks against a revert to a state, without doing it.
    pub fn can_revert(&mut self, to: StateRef) -> Result<RevertCheck> {
        match self.ask(&Request::CanRevert { to })? {
            Response::CanRevert(check) => Ok(check),
            other => self.unexpected(other),
        }
    }

    /// Brings back what the last revert discarded.
    pub fn undo(&mut self) -> Result<RevertInfo> {
        self.undo_steps(1)
    }

    /// Takes back the last `steps` reverts, all or none.
    pub fn undo_steps(&mut self, steps: u32) -> Result<RevertInfo> {
        self.reverted(&Request::Undo { steps })
    }

    /// Takes back the last `steps` undos, all or none.
    pub fn redo_steps(&mut self, steps: u32) -> Result<RevertInfo> {
        self.reverted(&Request::Redo { steps })
    }

    fn reverted(&mut self, request: &Request) -> Result<RevertInfo> {
        match self.ask(request)? {
            Response::Reverted(info) => Ok(info),
            other => self.unexpected(other),
        }
    }

    /// Deletes snapshots, all or none; gives back the names that are gone.
    pub fn delete(&mut self, names: Vec<SnapName>) -> Result<Vec<String>> {
        self.delete_shown(names, None)
    }

    /// The same, if the names still mean the snapshots of these numbers.
    pub fn delete_shown(
        &mut self,
        names: Vec<SnapName>,
        shown: Option<Vec<u64>>,
    ) -> Result<Vec<String>> {
        match self.ask(&Request::Delete { names, shown })? {
            Response::Deleted(names) => Ok(names),
            other => self.unexpected(other),
        }
    }

    /// Gives a snapshot another name.
    pub fn rename(&mut self, from: SnapName, to: SnapName) -> Result<SnapInfo> {
        match self.ask(&Request::Rename { from, to })? {
            Response::Renamed(info) => Ok(info),
            other => self.unexpected(other),
        }
    }

    /// Changes what a snapshot says of itself.
    pub fn describe(&mut self, name: SnapName, edit: MetaEdit) -> Result<SnapInfo> {
        match self.ask(&Request::Describe { name, edit })? {
            Response::Described(info) => Ok(info),
            other => self.unexpected(other),
        }
    }

    /// The rules in force, and how the file in the tree compares with them.
    pub fn config(&mut self) -> Result<ConfigInfo> {
        self.configured(&Request::Config)
    }

    /// Puts what an `llfs.toml` of this text says in force; the empty one brings back the defaults.
    pub fn trust(&mut self, text: String) -> Result<ConfigInfo> {
        self.configured(&Request::Trust { text })
    }

    fn configured(&mut self, request: &Request) -> Result<ConfigInfo> {
        match self.ask(request)? {
            Response::Config(info) => Ok(info),
            other => self.unexpected(other),
        }
    }

    /// What these rules (without any, those in force) do not keep; with `yes`, gives it up.
    pub fn prune(&mut self, rules: Option<Retention>, yes: bool) -> Result<PruneInfo> {
        self.pruned(&Request::Prune {
            rules,
            yes,
            shown: None,
        })
    }

    /// Gives up those snapshots that `plan` names, and no others, if these rules still keep none of them.
    pub fn prune_shown(&mut self, rules: Option<Retention>, plan: &PruneInfo) -> Result<PruneInfo> {
        self.pruned(&Request::Prune {
            rules,
            yes: true,
            // An older daemon tells no numbers.
            shown: plan.snapshots.iter().map(|gone| gone.id).collect(),
        })
    }

    fn pruned(&mut self, request: &Request) -> Result<PruneInfo> {
        match self.ask(request)? {
            Response::Pruned(info) => Ok(info),
            other => self.unexpected(other),
        }
    }

    /// Says that another phase of the work begins, which takes a snapshot if anything has changed.
    pub fn phase(&mut self, name: String, session: Option<String>) -> Result<Snapped> {
        self.begin(&Request::Phase { name, session })
    }

    /// Says that another session of the work begins, which takes a snapshot if anything has changed.
    pub fn session(&mut self, id: String) -> Result<Snapped> {
        self.begin(&Request::Session { id })
    }

    fn begin(&mut self, request: &Request) -> Result<Snapped> {
        match self.ask(request)? {
            Response::Snap(info) => Ok(Snapped::Taken(info)),
            Response::Unchanged(info) => Ok(Snapped::Unchanged(info)),
            other => self.unexpected(other),
        }
    }

    /// The mount, its store and their health.
    pub fn status(&mut self) -> Result<StatusInfo> {
        match self.ask(&Request::Status)? {
            Response::Status(info) => Ok(*info),
            other => self.unexpected(other),
        }
    }

    /// What the mount has counted.
    pub fn metrics(&mut self) -> Result<MetricsInfo> {
        match self.ask(&Request::Metrics)? {
            Response::Metrics(metrics) => Ok(*metrics),
            other => self.unexpected(other),
        }
    }

    /// What [`Client::apply`] would do.
    pub fn plan_apply(&mut self) -> Result<ApplyPlan> {
        let request = Request::Apply {
            yes: false,
            shown: None,
        };
        match self.ask(&request)? {
            Response::Plan(plan) => Ok(plan),
            other => self.unexpected(other),
        }
    }

    /// Asks whether anybody is there.
    pub fn ping(&mut self) -> Result<()> {
        match self.ask(&Request::Ping)? {
            Response::Pong => Ok(()),
            other => self.unexpected(other),
        }
    }

    /// Sends a request, and gives the first message of its answer. If the worker that was asked dies, the next one is asked
    /// under the same number.
    fn ask(&mut self, request: &Request) -> Result<Response> {
        self.losses = 0;
        self.ask_on(request)
    }

    fn ask_on(&mut self, request: &Request) -> Result<Response> {
        loop {
            let answer = self.send(request).and_then(|()| self.receive());
            match answer {
                Err(error) => self.go_on(error)?,
                answer => return answer,
            }
        }
    }

    /// After the connection broke because the worker died: there is another to the next worker, on which the last request
    /// can be sent again.
    fn go_on(&mut self, error: ClientError) -> Result<()> {
        self.go_on_with(error, false)
    }

    /// The same, also with the worker of another daemon if it may be `any`.
    fn go_on_with(&mut self, error: ClientError, any: bool) -> Result<()> {
        let broken = matches!(&error, ClientError::Lost(why) if again::is_death(why));
        if !broken || self.losses == again::LOSSES_MAX {
            return Err(error);
        }
        self.losses += 1;
        match again::connect(
            &self.place,
            self.id,
            self.number,
            self.why.as_deref(),
            again::RECOVERY,
        ) {
            // Another mount knows nothing of what this one was asked.
            Ok((stream, welcome)) if any || is_same_mount(&welcome, &self.welcome) => {
                self.reader = io::BufReader::new(stream);
                self.welcome = welcome;
                self.number -= 1;
                Ok(())
            }
            _ => Err(error),
        }
    }

    fn send(&mut self, request: &Request) -> Result<()> {
        self.number += 1;
        let sent = codec::write(self.reader.get_mut(), request, codec::REQUEST_MAX);
        self.checked(sent)
    }

    /// The next message; a failure of the request becomes an error.
    fn receive(&mut self) -> Result<Response> {
        let received = codec::read(&mut self.reader, codec::REPLY_MAX);
        match self.checked(received)? {
            Response::Error(failure) => Err(ClientError::Failure(failure)),
            response => Ok(response),
        }
    }

    fn checked<T>(&mut self, result: std::result::Result<T, CodecError>) -> Result<T> {
        result.map_err(|error| {
            self.close();
            ClientError::Lost(error)
        })
    }

    fn unexpected<T>(&mut self, response: Response) -> Result<T> {
        self.close();
        Err(ClientError::Unexpected(
            format!("{response:?}").chars().take(80).collect(),
        ))
    }

    fn sink(&mut self, done: io::Result<()>) -> Result<()> {
        done.map_err(|error| {
            self.close();
            ClientError::Sink(error)
        })
    }

    /// What comes after an error would be taken for the answer to the next request: nothing may come.
    fn close(&mut self) {
        // The peer may have closed it before; either way it is closed now.
        drop(self.reader.get_ref().shutdown(Shutdown::Both));
        let buffered = self.reader.buffer().len();
        self.reader.consume(buffered);
    }
}
