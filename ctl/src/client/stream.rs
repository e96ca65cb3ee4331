//! Answers of many messages, which may be longer than the life of the worker that gives them.
//!
//! The next worker is asked from the beginning. What it says again is not handed on a second time: a diff must begin
//! with just what was handed on, findings are known by what they say, and an apply is finished, not repeated.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::time::Instant;

use super::{ApplyEvent, Client, ClientError, Result, VerifyEvent};
use crate::name::{SnapName, StateRef};
use crate::protocol::{
    ApplyDone, ArchiveInfo, BytePath, Change, ChangeCounts, OnConflict, Part, Progress, Request,
    Response, UnixNanos, VerifySummary,
};

/// The beginning of a stream: how long it is, and its hash.
#[derive(Default)]
struct Beginning {
    length: u64,
    hasher: DefaultHasher,
}

/// How far an operation was said to be.
#[derive(Default)]
struct Reached {
    done: u64,
    doing: HashSet<String>,
}

impl Reached {
    /// Whether it is further than it ever was.
    fn further(&mut self, progress: &Progress) -> bool {
        let new = self.doing.insert(progress.what.clone()) | (progress.done > self.done);
        self.done = self.done.max(progress.done);
        new
    }
}

impl Beginning {
    fn add(&mut self, change: &Change) {
        change.hash(&mut self.hasher);
        self.length += 1;
    }
}

impl Client {
    /// What differs between two states, each change handed to `each` as it arrives. Without `from`, the last snapshot;
    /// without `paths`, everything; with `patch`, contents too. An error from `each` ends the connection.
    ///
    /// # Errors
    /// [`ClientError::Overtaken`]: the worker died meanwhile, and the states are not what they were. Those of every request.
    pub fn diff(
        &mut self,
        from: Option<StateRef>,
        to: StateRef,
        paths: Vec<BytePath>,
        patch: bool,
        mut each: impl FnMut(Change) -> io::Result<()>,
    ) -> Result<ChangeCounts> {
        let request = Request::Diff {
            from,
            to,
            paths,
            patch,
        };
        self.changes(&request, &mut each)
    }

    /// What [`Client::revert_part`] would change, each path handed to `each`, with contents if `patch`. An error from
    /// `each` ends the connection.
    ///
    /// # Errors
    /// Those of [`Client::diff`], and the conflicts that would stop the revert.
    pub fn preview_part(
        &mut self,
        part: Part,
        on_conflict: OnConflict,
        patch: bool,
        mut each: impl FnMut(Change) -> io::Result<()>,
    ) -> Result<ChangeCounts> {
        let request = Request::PreviewPart {
            part,
            on_conflict,
            patch,
        };
        self.changes(&request, &mut each)
    }

    fn changes(
        &mut self,
        request: &Request,
        each: &mut impl FnMut(Change) -> io::Result<()>,
    ) -> Result<ChangeCounts> {
        let mut handed_on = Beginning::default();
        self.repeatedly(|client| client.diff_once(request, &mut handed_on, each))
    }

    fn diff_once(
        &mut self,
        request: &Request,
        handed_on: &mut Beginning,
        each: &mut impl FnMut(Change) -> io::Result<()>,
    ) -> Result<ChangeCounts> {
        self.send(request)?;
        let mut again = Beginning::default();
        loop {
            match self.receive()? {
                Response::Change(change) if again.length < handed_on.length => {
                    again.add(&change);
                    if again.length == handed_on.length
                        && again.hasher.finish() != handed_on.hasher.finish()
                    {
                        return self.overtaken();
                    }
                }
                Response::Change(change) => {
                    handed_on.add(&change);
                    again.length += 1;
                    let done = each(change);
                    self.sink(done)?;
                }
                Response::DiffEnd(_) if again.length < handed_on.length => return self.overtaken(),
                Response::DiffEnd(counts) => return Ok(counts),
                other => return self.unexpected(other),
            }
        }
    }

    /// Reads and checks everything stored. An error from `each` ends the connection. After the death of a worker the next one goes
    /// on, however many die as long as that gets further, and what was found before is not told again.
    ///
    /// # Errors
    /// Those of every request.
    pub fn verify(
        &mut self,
        mut each: impl FnMut(VerifyEvent) -> io::Result<()>,
    ) -> Result<VerifySummary> {
        let begun = Instant::now();
        let (mut told, mut reached) = (HashSet::new(), Reached::default());
        let mut workers = 0;
        let mut done = self.repeatedly(|client| {
            workers += 1;
            client.verify_once(&mut told, &mut reached, &mut each)
        })?;
        if workers > 1 {
            done.took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        }
        Ok(done)
    }

    fn verify_once(
        &mut self,
        told: &mut HashSet<u64>,
        reached: &mut Reached,
        each: &mut impl FnMut(VerifyEvent) -> io::Result<()>,
    ) -> Result<VerifySummary> {
        self.send(&Request::Verify)?;
        loop {
            let event = match self.receive()? {
                Response::Progress(progress) => {
                    // As long as it goes on, it does not matter how many workers that takes.
                    if reached.further(&progress) {
                        self.losses = 0;
                    }
                    VerifyEvent::Progress(progress)
                }
                Response::Finding(finding) => {
                    let mut hasher = DefaultHasher::new();
                    finding.hash(&mut hasher);
                    if !told.insert(hasher.finish()) {
                        continue;
                    }
                    VerifyEvent::Finding(finding)
                }
                Response::Verified(mut summary) => {
                    summary.findings = summary.findings.max(told.len() as u64);
                    return Ok(summary);
                }
                other => return self.unexpected(other),
            };
            let done = each(event);
            self.sink(done)?;
        }
    }

    /// Compresses the data of these snapshots, and of those taken at `until` or before, in place; without `yes` says what there is to be
    /// done. If the worker dies meanwhile, the next one goes on with it. An error from `each` ends it; what is done stays so.
    ///
    /// # Errors
    /// No such snapshot; the disk. Those of every request.
    pub fn archive(
        &mut self,
        names: Vec<SnapName>,
        until: Option<UnixNanos>,
        yes: bool,
        mut each: impl FnMut(Progress) -> io::Result<()>,
    ) -> Result<ArchiveInfo> {
        let request = Request::Archive { names, until, yes };
        self.repeatedly(|client| {
            client.send(&request)?;
            loop {
                match client.receive()? {
                    Response::Progress(progress) => {
                        let taken = each(progress);
                        client.sink(taken)?;
                    }
                    Response::Archived(info) => return Ok(info),
                    other => return client.unexpected(other),
                }
            }
        })
    }

    /// Writes the tree into the base. An error from `each` ends the connection, but not the apply. If a worker dies of it or
    /// meanwhile, the next one finishes it, or does it if nothing of it was done.
    ///
    /// # Errors
    /// Those of every request.
    pub fn apply(&mut self, each: impl FnMut(ApplyEvent) -> io::Result<()>) -> Result<ApplyDone> {
        self.apply_shown(None, each)
    }

    /// The same, if what would be written is still what had this number in a plan ([`crate::protocol::ApplyPlan::shown`]).
    ///
    /// # Errors
    /// Those of every request.
    pub fn apply_shown(
        &mut self,
        shown: Option<u64>,
        mut each: impl FnMut(ApplyEvent) -> io::Result<()>,
    ) -> Result<ApplyDone> {
        let begun = Instant::now();
        let (mut workers, mut planned) = (0, false);
        let mut done = self.repeatedly(|client| {
            workers += 1;
            client.apply_once(shown, &mut planned, &mut each)
        })?;
        if workers > 1 {
            done.took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        }
        Ok(done)
    }

    fn apply_once(
        &mut self,
        shown: Option<u64>,
        planned: &mut bool,
        each: &mut impl FnMut(ApplyEvent) -> io::Result<()>,
    ) -> Result<ApplyDone> {
        self.send(&Request::Apply { yes: true, shown })?;
        loop {
            let event = match self.receive()? {
                Response::Plan(_) if *planned => continue,
                Response::Plan(plan) => {
                    *planned = true;
                    ApplyEvent::Plan(plan)
                }
                Response::Progress(progress) => ApplyEvent::Progress(progress),
                Response::Applied(done) => return Ok(done),
                other => return self.unexpected(other),
            };
            let done = each(event);
            self.sink(done)?;
        }
    }

    /// Stops the daemon; with `apply`, the tree is written into the base before. When this returns, the daemon has
    /// agreed and is about to unmount; it may not be gone yet.
    ///
    /// # Errors
    /// Those of every request.
    pub fn shutdown(
        &mut self,
        apply: bool,
        mut each: impl FnMut(Progress) -> io::Result<()>,
    ) -> Result<()> {
        self.repeatedly(|client| {
            client.send(&Request::Shutdown { apply })?;
            loop {
                match client.receive()? {
                    Response::Progress(progress) => {
                        let done = each(progress);
                        client.sink(done)?;
                    }
                    Response::ShuttingDown => return Ok(()),
                    other => return client.unexpected(other),
                }
            }
        })
    }

    /// Asks with `ask`, and again after each death of a worker.
    pub(super) fn repeatedly<T>(
        &mut self,
        mut ask: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<T> {
        self.losses = 0;
        loop {
            match ask(self) {
                Err(error) => self.go_on(error)?,
                done => return done,
            }
        }
    }

    pub(super) fn overtaken<T>(&mut self) -> Result<T> {
        self.close();
        Err(ClientError::Overtaken)
    }
}

#[cfg(test)]
mod tests {
    use super::super::again::LOSSES_MAX;
    use super::super::greet::Daemon;
    use super::*;
    use crate::protocol::{
        Act, ApplyPlan, ChangeKind, Deal, Finding, FindingKind, HistoryQuery, ProgressUnit,
    };

    fn change(path: &str) -> Response {
        Response::Change(Change {
            path: BytePath::from(path),
            kind: ChangeKind::Added,
            from: None,
            old: None,
            new: None,
            patch: None,
        })
    }

    fn diff(client: &mut Client) -> (Result<ChangeCounts>, Vec<String>) {
        let mut paths = Vec::new();
        let done = client.diff(None, StateRef::Live, Vec::new(), false, |change| {
            paths.push(change.path.to_string());
            Ok(())
        });
        (done, paths)
    }

    #[test]
    fn a_diff_goes_on_where_it_was_cut() {
        let counts = ChangeCounts {
            added: 3,
            ..Default::default()
        };
        let end = Response::DiffEnd(counts);
        let daemon = Daemon::new(
            "cut",
            vec![
                vec![change("a"), change("b")],
                vec![change("a")],
                vec![change("a"), change("b"), change("c"), end],
            ],
        );
        let (done, paths) = diff(&mut daemon.client());
        assert_eq!(done.unwrap(), counts);
        assert_eq!(paths, ["a", "b", "c"]);
    }

    #[test]
    fn a_history_whose_worker_dies_is_told_whole() {
        let act = |command: &str| Act {
            at: UnixNanos(1),
            what: Deal::Snap,
            targets: Vec::new(),
            more: 0,
            steps: None,
            why: None,
            uid: 0,
            pid: 1,
            command: command.to_owned(),
            took_us: 1,
            files: None,
            bytes: None,
            error: None,
            error_kind: None,
        };
        let part = |command| Response::Acts(vec![act(command)]);
        let daemon = Daemon::new(
            "acts",
            vec![
                vec![part("one")],
                vec![part("one"), part("two"), Response::ActsEnd],
            ],
        );
        let acts = daemon.client().history(HistoryQuery::default()).unwrap();
        assert_eq!(acts, [act("one"), act("two")]);
    }

    #[test]
    fn a_diff_that_would_be_of_two_states_is_an_error() {
        for (name, then) in [
            ("other", vec![change("a"), change("x"), change("b")]),
            (
                "shorter",
                vec![change("a"), Response::DiffEnd(ChangeCounts::default())],
            ),
        ] {
            let daemon = Daemon::new(name, vec![vec![change("a"), change("b")], then]);
            let mut client = daemon.client();
            let (done, paths) = diff(&mut client);
            assert!(matches!(done, Err(ClientError::Overtaken)), "{done:?}");
            assert_eq!(paths, ["a", "b"]);
            assert!(client.ping().is_err(), "the connection is closed");
        }
    }

    #[test]
    fn findings_are_told_once() {
        let finding = |what: &str| {
            Response::Finding(Finding {
                kind: FindingKind::Content,
                what: what.to_owned(),
                path: None,
                states: Vec::new(),
            })
        };
        let end = Response::Verified(VerifySummary {
            files: 9,
            bytes: 9,
            snapshots: 1,
            findings: 2,
            took_ms: 1,
        });
        let daemon = Daemon::new(
            "findings",
            vec![
                vec![finding("one")],
                vec![finding("one"), finding("two"), end],
            ],
        );
        let mut told = Vec::new();
        let summary = daemon.client().verify(|event| {
            if let VerifyEvent::Finding(finding) = event {
                told.push(finding.what);
            }
            Ok(())
        });
        assert_eq!(summary.unwrap().findings, 2);
        assert_eq!(told, ["one", "two"]);
    }

    #[test]
    fn a_verification_that_gets_further_outlives_any_number_of_workers() {
        let progress = |done, what: &str| {
            Response::Progress(Progress {
                what: what.to_owned(),
                done,
                total: None,
                unit: ProgressUnit::Bytes,
            })
        };
        let end = || {
            Response::Verified(VerifySummary {
                files: 9,
                bytes: 9,
                snapshots: 1,
                findings: 0,
                took_ms: 1,
            })
        };
        let many = u64::from(LOSSES_MAX) + 5;
        for name in ["bytes", "steps"] {
            let further = |n| match name {
                "bytes" => progress(n, "reading"),
                _ => progress(0, &format!("state {n}")),
            };
            let mut answers: Vec<_> = (1..=many).map(|n| vec![further(n)]).collect();
            answers.push(vec![end()]);
            let daemon = Daemon::new(name, answers);
            assert_eq!(daemon.client().verify(|_| Ok(())).unwrap().files, 9);
        }
        // One that stays where it is kills every worker.
        let answers = (0..=many).map(|_| vec![progress(1, "reading")]).collect();
        let daemon = Daemon::new("stands", answers);
        let done = daemon.client().verify(|_| Ok(()));
        assert!(matches!(done, Err(ClientError::Lost(_))), "{done:?}");
    }

    #[test]
    fn an_apply_that_the_next_worker_finished_is_done() {
        let plan = || Response::Plan(ApplyPlan::default());
        let done = ApplyDone {
            changes: ChangeCounts::default(),
            bytes: 5,
            took_ms: 1,
        };
        let daemon = Daemon::new(
            "apply",
            vec![
                Vec::new(),
                vec![plan()],
                vec![plan()],
                vec![Response::Applied(done.clone())],
            ],
        );
        let mut plans = 0;
        let applied = daemon.client().apply(|event| {
            plans += usize::from(matches!(event, ApplyEvent::Plan(_)));
            Ok(())
        });
        assert_eq!(applied.unwrap().bytes, 5);
        assert_eq!(plans, 1);
    }
}
