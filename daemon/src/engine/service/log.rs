//! What happened to a file, state by state, and which programs did it.
//!
//! Each snapshot is compared with the state that it came from, so that a revert is not taken for changes, and what changed is
//! what the programs of that time did. A rename is followed back to the name before it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use llctl::StateRef;
use llctl::protocol::{Author, BytePath, ChangeCounts, Deed, ErrorKind, Failure, LogEntry};
use nix::errno::Errno;

use super::diff::{Item, Names, Peeks, one, touched};
use super::listing::nanos;
use super::states::{View, name_of};
use crate::control::Sink;
use crate::engine::authors::{Batch, Did, Process};
use crate::engine::{Answer, Engine};
use crate::tree::extent::extents_in;
use crate::tree::{Ino, Kind, ROOT, Root, Slot, State, StateId, Time};

/// An entry whose authors are not known yet.
struct Found {
    entry: LogEntry,
    /// Under which numbers is written who did it.
    states: Vec<StateId>,
    /// The inodes that it is about.
    inos: BTreeSet<Ino>,
}

/// Sends what each state changed of `path`, newest first.
pub(super) fn send(
    engine: &Engine,
    path: &BytePath,
    limit: Option<u64>,
    sink: Sink<'_, LogEntry>,
) -> Result<(), Failure> {
    let state = engine.state.read().clone();
    let limit = limit.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let mut all = find(engine, &state, &path.0, limit)
        .map_err(|errno| Failure::errno(format!("the history of {path} cannot be read"), errno))?;
    if all.is_empty() && !exists(engine, &state, &path.0) {
        return Err(Failure::new(
            ErrorKind::NotFound,
            format!("no snapshot and no state has {path}"),
        )
        .with_hint("paths are relative to the current directory"));
    }
    add_authors(engine, &mut all);
    for found in all {
        if sink(found.entry).is_err() {
            break;
        }
    }
    Ok(())
}

fn exists(engine: &Engine, state: &State, path: &[u8]) -> bool {
    let there = |view: &View| {
        let peeks = Peeks::new(engine);
        matches!(resolve(&Names::new(&peeks, view), path), Ok(Some(_)))
    };
    there(&View::live(state)) || there(&View::base())
}

fn find(engine: &Engine, state: &State, path: &[u8], limit: usize) -> Answer<Vec<Found>> {
    // Where the file is in states that are still to come, if it was renamed since.
    let mut names: HashMap<StateId, Vec<u8>> = HashMap::new();
    let mut all = Vec::new();
    let live = std::iter::once(state.next_state);
    // What was imported is no part of what happened here.
    let taken = (state.snapshots.iter()).filter(|(_, s)| s.meta.imported.is_none());
    for id in live.chain(taken.rev().map(|(id, _)| *id)) {
        if all.len() >= limit {
            break;
        }
        let before = state.came_from(id);
        let is_live = id == state.next_state;
        let new = match is_live {
            true => View::live(state),
            false => View::kept(state, id),
        };
        let old = View::kept(state, before);
        let path = names.remove(&id).unwrap_or_else(|| path.to_vec());
        let compared = compare(engine, &old, &new, &path)?;
        let earlier = compared.as_ref().and_then(|c| c.from.clone());
        names
            .entry(before)
            .or_insert(earlier.unwrap_or_else(|| path.clone()));
        let Some(compared) = compared else { continue };
        let snapshot = state.snapshots.get(&id);
        let message = snapshot.map(|s| s.message.clone()).unwrap_or_default();
        all.push(Found {
            entry: LogEntry {
                state: match is_live {
                    true => StateRef::Live.to_string(),
                    false => name_of(state, id),
                },
                id: snapshot.map(|_| id),
                created: snapshot.map(|s| nanos(s.at)),
                message: (!message.is_empty()).then_some(message),
                since: name_of(state, before),
                path: BytePath(path),
                from: compared.from.map(BytePath),
                kind: compared.kind,
                below: compared.below,
                by: Vec::new(),
            },
            states: state.led_to(id),
            inos: compared.inos,
        });
    }
    Ok(all)
}

/// How a path differs between two states.
struct Compared {
    from: Option<Vec<u8>>,
    kind: Option<llctl::protocol::ChangeKind>,
    below: Option<ChangeCounts>,
    inos: BTreeSet<Ino>,
}

/// `None` if nothing differs.
fn compare(engine: &Engine, old: &View, new: &View, path: &[u8]) -> Answer<Option<Compared>> {
    let peeks = Peeks::new(engine);
    let names = (Names::new(&peeks, old), Names::new(&peeks, new));
    let is = resolve(&names.1, path)?;
    let mut was = resolve(&names.0, path)?;
    let mut from = None;
    if let (None, Some((ino, kind))) = (was, is) {
        // It may have had another name.
        let before = names.0.bound(ino)?.into_iter().next();
        from = before.and_then(|slot| names.0.path(&slot));
        was = from.as_ref().map(|_| (ino, kind));
    }
    let is_dir = |object: Option<(Ino, Kind)>| object.is_some_and(|(_, kind)| kind == Kind::Dir);
    let dir = is_dir(was) || is_dir(is);
    let inos = || was.iter().chain(&is).map(|(ino, _)| *ino);
    if inos().next().is_none() || !dir && was == is && from.is_none() && unchanged(old, new, inos())
    {
        return Ok(None);
    }
    let item = Item {
        path: path.to_vec(),
        from: from.clone(),
        old: was.map(|(ino, _)| ino),
        new: is.map(|(ino, _)| ino),
    };
    let kind = one(engine, (&names.0, &names.1), &item)?;
    let mut found = Compared {
        from,
        kind,
        below: None,
        inos: inos().collect(),
    };
    if dir {
        let mut paths = vec![BytePath(path.to_vec())];
        paths.extend(found.from.clone().map(BytePath));
        let (counts, inos) = touched(engine, old, new, &paths)?;
        found.inos.extend(inos);
        found.below = Some(counts);
    }
    let nothing = found.kind.is_none() && found.below.is_none_or(|counts| counts.total() == 0);
    Ok((!nothing).then_some(found))
}

/// Whether an object is the same in both states, as the overlay's maps tell.
fn unchanged(old: &View, new: &View, inos: impl Iterator<Item = Ino>) -> bool {
    let all =
        |root: &Root, ino| -> Vec<_> { extents_in(&root.extents, ino, 0, u64::MAX).collect() };
    inos.into_iter().all(|ino| {
        old.root.inode(ino) == new.root.inode(ino) && all(&old.root, ino) == all(&new.root, ino)
    })
}

/// What a path means in a state.
pub(super) fn resolve(names: &Names<'_>, path: &[u8]) -> Answer<Option<(Ino, Kind)>> {
    let mut at = (ROOT, Kind::Dir);
    for name in path
        .split(|b| *b == b'/')
        .filter(|n| !n.is_empty() && *n != b".")
    {
        if at.1 != Kind::Dir {
            return Ok(None);
        }
        match names.meaning(&Slot::new(at.0, name)) {
            Ok(Some(found)) => at = found,
            Ok(None) => return Ok(None),
            // No object can have such a name, or the path leads out of what was a directory.
            Err(Errno::EINVAL | Errno::ENAMETOOLONG | Errno::ENOTDIR) => return Ok(None),
            Err(e) => return Err(e),
        }
    }
    Ok(Some(at))
}

/// Adds to each entry the processes that did it, from one look at all that is recorded.
fn add_authors(engine: &Engine, all: &mut [Found]) {
    let mut wanted: HashMap<StateId, Vec<usize>> = HashMap::new();
    for (at, found) in all.iter().enumerate() {
        for id in &found.states {
            wanted.entry(*id).or_default().push(at);
        }
    }
    let mut deeds: Vec<Deeds> = all.iter().map(|_| Deeds::default()).collect();
    let read = engine.read_authors(&mut |batch| {
        for at in wanted.get(&batch.state).into_iter().flatten() {
            deeds[*at].add(&batch, &all[*at].inos);
        }
    });
    if let Err(error) = read {
        tracing::warn!(%error, "who changed what cannot be read");
    }
    for (found, deeds) in all.iter_mut().zip(deeds) {
        found.entry.by = deeds.authors();
    }
}

/// What each process did, and when it began to.
#[derive(Default)]
struct Deeds(BTreeMap<Process, (Time, u8)>);

impl Deeds {
    fn add(&mut self, batch: &Batch, inos: &BTreeSet<Ino>) {
        for entry in batch.entries.iter().filter(|e| inos.contains(&e.ino)) {
            let process = batch.processes[entry.process as usize].clone();
            let (at, did) = self.0.entry(process).or_insert((entry.at, 0));
            *at = entry.at.min(*at);
            *did |= entry.did;
        }
    }

    fn authors(self) -> Vec<Author> {
        let mut all: Vec<_> = self.0.into_iter().collect();
        all.sort_by_key(|(_, (at, _))| *at);
        let author = |(process, (at, did)): (Process, (Time, u8))| Author {
            command: process.command,
            line: process.line,
            pid: process.pid,
            uid: process.uid,
            did: words(did),
            at: nanos(at),
        };
        all.into_iter().map(author).collect()
    }
}

fn words(did: u8) -> Vec<Deed> {
    let all = [
        (Did::MADE, Deed::Made),
        (Did::WROTE, Deed::Wrote),
        (Did::ATTRS, Deed::Attributes),
        (Did::NAMED, Deed::Named),
        (Did::REMOVED, Deed::Removed),
    ];
    let done = all.into_iter().filter(|(bit, _)| did & bit.0 != 0);
    done.map(|(_, deed)| deed).collect()
}
