//! A service without a file system.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use parking_lot::Mutex;

use llctl::client::{Snapped, VerifyEvent};
use llctl::config::Retention;
use llctl::protocol::{
    Act, ApplyDone, ApplyPlan, BytePath, Change, ChangeCounts, ChangeKind, ConfigInfo, Content,
    Deal, ErrorKind, Event, Failure, FileType, Finding, FindingKind, Happening, HistoryQuery,
    ListQuery, Listing, LogEntry, MetaEdit, MetricsInfo, OnConflict, Part, Patch, Progress,
    ProgressUnit, PruneInfo, RevertCheck, RevertInfo, Side, SnapDetail, SnapInfo, SnapMeta,
    StatusInfo, UnixNanos, VerifySummary, Welcome,
};
use llctl::{SnapName, StateRef};

use crate::control::{Feed, Service, Sink};

/// Remembers what it was asked, and answers as its fields say.
#[derive(Default)]
pub struct Fake {
    /// Each call, in order.
    pub calls: Mutex<Vec<String>>,
    /// What was told to begin.
    pub begun: Mutex<Vec<Deal>>,
    /// Writing here rings the last watcher's bell.
    pub ring: Mutex<Option<std::os::unix::net::UnixStream>>,
    /// What was written down.
    pub acts: Mutex<Vec<Act>>,
    /// What `list` gives.
    pub listing: Listing,
    /// How many changes `diff` sends; `u64::MAX` for ever.
    pub changes: u64,
    /// Bytes of content in each change.
    pub content: usize,
    /// What everything that can fail fails with.
    pub failure: Option<Failure>,
    /// The first worker dies where it would begin to stop.
    pub dies: AtomicBool,
    /// How many greetings were answered.
    pub welcomes: AtomicU32,
}

impl Fake {
    fn call(&self, text: String) -> Result<(), Failure> {
        self.calls.lock().push(text);
        self.failure.clone().map_or(Ok(()), Err)
    }

    /// Whether this was called.
    pub fn was_called(&self, text: &str) -> bool {
        self.calls.lock().iter().any(|call| call == text)
    }
}

pub fn snap_info(name: &str) -> SnapInfo {
    SnapInfo {
        name: name.to_owned(),
        id: 1,
        created: UnixNanos(5),
        message: None,
        changed: Some(2),
        bytes: None,
        shared: None,
        hash: None,
        meta: SnapMeta::default(),
    }
}

fn reverted(to: &str) -> RevertInfo {
    RevertInfo {
        to: to.to_owned(),
        changed: 3,
        discarded: Some(4),
        unsaved: None,
        at_least: false,
        took_us: 5,
    }
}

fn progress() -> Progress {
    Progress {
        what: "x".to_owned(),
        done: 1,
        total: None,
        unit: ProgressUnit::Items,
    }
}

impl Service for Fake {
    fn welcome(&self) -> Welcome {
        self.welcomes.fetch_add(1, Ordering::SeqCst);
        Welcome {
            version: llctl::protocol::PROTOCOL_VERSION,
            daemon: "0.0.1".to_owned(),
            pid: 42,
            mountpoint: BytePath::from("/m"),
            store: BytePath::from("/s"),
            mount: 0,
        }
    }

    fn snap(
        &self,
        name: Option<&SnapName>,
        message: Option<&str>,
        _: &SnapMeta,
    ) -> Result<SnapInfo, Failure> {
        self.call(format!("snap {name:?} {message:?}"))?;
        Ok(snap_info(name.map_or("made", SnapName::as_str)))
    }

    fn snap_if_changed(
        &self,
        name: Option<&SnapName>,
        message: Option<&str>,
        _: &SnapMeta,
    ) -> Result<Snapped, Failure> {
        self.call(format!("snap if changed {name:?} {message:?}"))?;
        Ok(Snapped::Unchanged(snap_info("before")))
    }

    fn list(&self, _: &ListQuery) -> Result<Listing, Failure> {
        self.call("list".to_owned())?;
        Ok(self.listing.clone())
    }

    fn show(&self, name: &SnapName) -> Result<SnapDetail, Failure> {
        self.call(format!("show {name}"))?;
        let snapshot = snap_info(name.as_str());
        Ok(SnapDetail {
            snapshot,
            previous: None,
            since_previous: None,
            to_live: None,
            archived: None,
            config: None,
        })
    }

    fn log(
        &self,
        path: &BytePath,
        limit: Option<u64>,
        sink: Sink<'_, LogEntry>,
    ) -> Result<(), Failure> {
        self.call(format!("log {path:?} {limit:?}"))?;
        for number in 0..self.changes {
            let sent = sink(LogEntry {
                state: format!("s{number}"),
                id: Some(number),
                created: Some(UnixNanos(5)),
                message: None,
                since: "@base".to_owned(),
                path: path.clone(),
                from: None,
                kind: Some(ChangeKind::Modified),
                below: None,
                by: Vec::new(),
            });
            if sent.is_err() {
                break;
            }
        }
        Ok(())
    }

    fn stat(&self, state: &StateRef, path: &BytePath) -> Result<Side, Failure> {
        self.call(format!("stat {state} {path:?}"))?;
        Ok(Side {
            file_type: FileType::File,
            size: 1,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: UnixNanos(5),
        })
    }

    fn cat(
        &self,
        state: &StateRef,
        path: &BytePath,
        from: u64,
        sink: Sink<'_, Vec<u8>>,
    ) -> Result<(), Failure> {
        self.call(format!("cat {state} {path:?} {from}"))?;
        for _ in 0..self.changes {
            if sink(vec![b'x'; self.content]).is_err() {
                break;
            }
        }
        Ok(())
    }

    fn diff(
        &self,
        from: Option<&StateRef>,
        to: &StateRef,
        paths: &[BytePath],
        patch: bool,
        sink: Sink<'_, Change>,
    ) -> Result<ChangeCounts, Failure> {
        self.call(format!("diff {from:?} {to} {paths:?} {patch}"))?;
        let content = || Content::Bytes(vec![b'x'; self.content].into());
        for number in 0..self.changes {
            let sent = sink(Change {
                path: BytePath::from(format!("{number}").as_str()),
                kind: ChangeKind::Modified,
                from: None,
                old: None,
                new: None,
                patch: (self.content > 0).then(|| Patch {
                    old: content(),
                    new: content(),
                }),
            });
            if let Err(error) = sent {
                self.calls.lock().push("diff cut short".to_owned());
                return Err(Failure::io("diff", &error));
            }
        }
        Ok(ChangeCounts {
            modified: self.changes,
            ..Default::default()
        })
    }

    fn revert(&self, to: &StateRef, force: bool) -> Result<RevertInfo, Failure> {
        let forced = if force { " by force" } else { "" };
        self.call(format!("revert {to}{forced}"))?;
        Ok(reverted(&to.to_string()))
    }

    fn can_revert(&self, to: &StateRef) -> Result<RevertCheck, Failure> {
        self.call(format!("can revert {to}"))?;
        Ok(RevertCheck {
            to: to.to_string(),
            changed: 1,
            unsaved: 2,
            underway: None,
            damage: Vec::new(),
            format: 3,
        })
    }

    fn revert_part(
        &self,
        part: &Part,
        on_conflict: OnConflict,
        force: bool,
    ) -> Result<RevertInfo, Failure> {
        self.call(format!("revert part {part} {on_conflict:?} {force}"))?;
        Ok(reverted(&part.to_string()))
    }

    fn preview_part(
        &self,
        part: &Part,
        on_conflict: OnConflict,
        patch: bool,
        sink: Sink<'_, Change>,
    ) -> Result<ChangeCounts, Failure> {
        self.call(format!("preview part {part} {on_conflict:?}"))?;
        self.diff(None, &StateRef::Live, &[], patch, sink)
    }

    fn undo(&self, steps: u32) -> Result<RevertInfo, Failure> {
        self.call(format!("undo {steps}"))?;
        Ok(reverted("@undo"))
    }

    fn redo(&self, steps: u32) -> Result<RevertInfo, Failure> {
        self.call(format!("redo {steps}"))?;
        Ok(reverted("@redo"))
    }

    fn describe(&self, name: &SnapName, edit: &MetaEdit) -> Result<SnapInfo, Failure> {
        self.call(format!("describe {name} {:?}", edit.message))?;
        Ok(snap_info(name.as_str()))
    }

    fn delete(&self, names: &[SnapName], _: Option<&[u64]>) -> Result<Vec<String>, Failure> {
        self.call(format!("delete {names:?}"))?;
        Ok(names.iter().map(SnapName::to_string).collect())
    }

    fn rename(&self, from: &SnapName, to: &SnapName) -> Result<SnapInfo, Failure> {
        self.call(format!("rename {from} {to}"))?;
        Ok(snap_info(to.as_str()))
    }

    fn note(&self, act: Act, _: Option<u64>, _: bool) {
        self.acts.lock().push(act);
    }

    fn begun(&self, act: &Act) -> Option<u64> {
        self.begun.lock().push(act.what);
        Some(self.begun.lock().len() as u64)
    }

    fn watch(&self, after: Option<u64>) -> Result<Box<dyn Feed>, Failure> {
        self.call(format!("watch {after:?}"))?;
        let (bell, ring) = std::os::unix::net::UnixStream::pair().unwrap();
        *self.ring.lock() = Some(ring);
        Ok(Box::new(Endless {
            next: after.unwrap_or(0),
            left: self.changes,
            bell,
        }))
    }

    fn history(&self, query: &HistoryQuery) -> Result<Vec<Act>, Failure> {
        let acts = self.acts.lock().clone();
        Ok(acts.into_iter().filter(|act| query.selects(act)).collect())
    }

    fn config(&self) -> Result<ConfigInfo, Failure> {
        Err(Failure::new(ErrorKind::Unsupported, "a fake has no rules"))
    }

    fn trust(&self, _: &str) -> Result<ConfigInfo, Failure> {
        Err(Failure::new(ErrorKind::Unsupported, "a fake has no rules"))
    }

    fn prune(
        &self,
        _: Option<&Retention>,
        _: bool,
        _: Option<&[u64]>,
    ) -> Result<PruneInfo, Failure> {
        Err(Failure::new(ErrorKind::Unsupported, "a fake has no rules"))
    }

    fn phase(&self, _: &str, _: Option<&str>) -> Result<Snapped, Failure> {
        Err(Failure::new(ErrorKind::Unsupported, "a fake has no rules"))
    }

    fn session(&self, _: &str) -> Result<Snapped, Failure> {
        Err(Failure::new(ErrorKind::Unsupported, "a fake has no rules"))
    }

    fn metrics(&self) -> Result<MetricsInfo, Failure> {
        self.call("metrics".to_owned())?;
        Ok(MetricsInfo::default())
    }

    fn status(&self) -> Result<StatusInfo, Failure> {
        self.call("status".to_owned())?;
        Err(Failure::new(ErrorKind::Unsupported, "a fake has no status"))
    }

    fn verify(&self, sink: Sink<'_, VerifyEvent>) -> Result<VerifySummary, Failure> {
        self.call("verify".to_owned())?;
        let finding = Finding {
            kind: FindingKind::Content,
            what: "bit".to_owned(),
            path: None,
            states: Vec::new(),
        };
        let sent: io::Result<()> = sink(VerifyEvent::Progress(progress()))
            .and_then(|()| sink(VerifyEvent::Finding(finding)));
        sent.map_err(|error| Failure::io("verify", &error))?;
        Ok(VerifySummary {
            files: 1,
            bytes: 2,
            snapshots: 3,
            findings: 1,
            took_ms: 4,
        })
    }

    fn plan_apply(&self) -> Result<ApplyPlan, Failure> {
        self.call("plan".to_owned())?;
        Ok(ApplyPlan {
            changes: ChangeCounts::default(),
            bytes: 1,
            bytes_needed: 2,
            bytes_free: 3,
            snapshots_kept: 4,
            snapshots_lost: 5,
            snapshots_note: String::new(),
            shown: None,
        })
    }

    fn apply(&self, _: Option<u64>, sink: Sink<'_, Progress>) -> Result<ApplyDone, Failure> {
        // Until the client is gone, if that is what `changes` asks for.
        for _ in 0..self.changes.max(1) {
            if sink(progress()).is_err() {
                break;
            }
        }
        self.call("applied".to_owned())?;
        Ok(ApplyDone {
            changes: ChangeCounts::default(),
            bytes: 1,
            took_ms: 2,
        })
    }

    fn prepare_shutdown(&self, apply: bool, sink: Sink<'_, Progress>) -> Result<(), Failure> {
        self.call(format!("prepare {apply}"))?;
        sink(progress()).map_err(|error| Failure::io("shutdown", &error))
    }

    fn begin_shutdown(&self) {
        if self.dies.swap(false, Ordering::SeqCst) {
            std::panic::resume_unwind(Box::new(()));
        }
        self.calls.lock().push("begin".to_owned());
    }
}

/// As many events as there are changes.
struct Endless {
    next: u64,
    left: u64,
    bell: std::os::unix::net::UnixStream,
}

impl Feed for Endless {
    fn last(&self) -> u64 {
        self.next
    }

    fn news(&mut self) -> Vec<Event> {
        if self.left == 0 {
            return Vec::new();
        }
        self.left -= 1;
        self.next += 1;
        vec![Event {
            seq: self.next,
            text: Some("x".repeat(1000)),
            ..Event::own(Happening::LowSpace)
        }]
    }

    fn bell(&self) -> std::os::fd::BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.bell)
    }

    fn heard(&self) {}
}
