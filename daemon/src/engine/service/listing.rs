//! Lists of snapshots, and what is said of one.

use std::collections::BTreeSet;

use llctl::StateRef;
use llctl::protocol::{
    ChangeCounts, DiscardedInfo, Failure, ListQuery, Listing, SnapDetail, SnapInfo, SortBy,
    UnixNanos,
};
use nix::errno::Errno;

use super::diff::Peeks;
use super::states::View;
use super::{diff, failure};
use crate::engine::Engine;
use crate::engine::reclaim::live as reachable;
use crate::tree::diff::Changes;
use crate::tree::{
    BASE_STATE, BLOCK, Dentry, Ino, Kind, Root, Slot, Snapshot, State, StateId, Time, piles,
};

/// Differences that a list looks at before it leaves the rest of the counts out.
const BUDGET: usize = 200_000;

/// Pairs of states of which the count of differences is remembered: 5 MB.
const COUNTED_MAX: usize = 1 << 17;

/// Differences that are looked at by path: ten milliseconds.
const SOON: usize = 2_000;

/// The same where a revert has been done already and only its number is waited for.
const AT_ONCE: usize = 1_000;

/// Nanoseconds since 1970; times that don't fit become the nearest that does.
pub(super) fn nanos(time: Time) -> UnixNanos {
    let nanos = i128::from(time.sec) * 1_000_000_000 + i128::from(time.nsec);
    UnixNanos(i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX }))
}

fn plain(id: StateId, snapshot: &Snapshot) -> SnapInfo {
    SnapInfo {
        name: snapshot.name.clone(),
        id,
        created: nanos(snapshot.at),
        message: (!snapshot.message.is_empty()).then(|| snapshot.message.clone()),
        changed: None,
        bytes: None,
        shared: None,
        hash: snapshot.digest.map(|digest| digest.to_string()),
        meta: (*snapshot.meta).clone(),
    }
}

/// A snapshot by its number, without what it takes time to know.
pub(super) fn brief(engine: &Engine, id: StateId) -> Result<SnapInfo, Failure> {
    let found = engine.state.read().snapshots.get(&id).map(|s| plain(id, s));
    found.ok_or_else(|| failure::unknown(engine, &id.to_string()))
}

/// A snapshot by its number, with what changed in it.
pub(super) fn info(engine: &Engine, id: StateId) -> Result<SnapInfo, Failure> {
    let found = {
        let state = engine.state.read();
        (state.snapshots.get(&id)).map(|snapshot| {
            let before = View::before(&state, id).root;
            (plain(id, snapshot), before, snapshot.root.clone())
        })
    };
    let (mut info, before, after) =
        found.ok_or_else(|| failure::unknown(engine, &id.to_string()))?;
    info.changed = Some(changed(engine, &before, &after).0);
    Ok(info)
}

/// A snapshot by its name, with what changed in it.
pub(super) fn info_by_name(engine: &Engine, name: &str) -> Result<SnapInfo, Failure> {
    let id = find(engine, name)?;
    info(engine, id)
}

fn find(engine: &Engine, name: &str) -> Result<StateId, Failure> {
    let found = engine.state.read().snapshot(name).map(|(id, _)| id);
    found.ok_or_else(|| failure::unknown(engine, name))
}

/// A snapshot, and the one before it by age.
struct Row<'a> {
    id: StateId,
    snapshot: &'a Snapshot,
    before: (StateId, &'a Root),
}

impl Row<'_> {
    fn between(&self) -> (StateId, StateId) {
        (self.before.0, self.id)
    }
}

/// Snapshots and discarded states, with counts as far as they are cheap.
pub(super) fn some(engine: &Engine, query: &ListQuery) -> Listing {
    let (state, marks) = engine.state_and_marks();
    let alone = engine.spans.lock().alone(&state);
    let held = |id| alone.as_ref().and_then(|alone| alone.of(id));
    let mut left = BUDGET;
    let mut count = |old: &Root, new: &Root| {
        if left == 0 {
            return None;
        }
        let (paths, cost) = changed(engine, old, new);
        left = left.saturating_sub(cost + 1);
        Some(paths)
    };
    let none = Root::default();
    let mut before = (BASE_STATE, &none);
    let mut wanted: Vec<Row<'_>> = (state.snapshots.iter())
        .map(|(id, snapshot)| {
            let older = before;
            // What was imported is none of those that were taken here.
            if snapshot.meta.imported.is_none() {
                before = (*id, &snapshot.root);
            }
            Row {
                id: *id,
                snapshot,
                before: older,
            }
        })
        // What may be gone in a moment is not shown.
        .filter(|row| query.selects(nanos(row.snapshot.at), &row.snapshot.meta))
        .filter(|row| !marks.contains(&row.id))
        .collect();
    // What is not shown need not be counted, unless the order depends on it.
    let early = match query.sort {
        SortBy::Created => true,
        SortBy::Name => {
            wanted.sort_by(|a, b| a.snapshot.name.cmp(&b.snapshot.name));
            true
        }
        SortBy::Changed | SortBy::Alone => false,
    };
    if early {
        if query.reverse {
            wanted.reverse();
        }
        query.page(&mut wanted);
    }
    // The newest interest most: what is far back is left out first.
    let mut by_age: Vec<usize> = (0..wanted.len()).collect();
    by_age.sort_unstable_by_key(|at| std::cmp::Reverse(wanted[*at].id));
    let mut listed: Vec<SnapInfo> = (wanted.iter())
        .map(|row| SnapInfo {
            bytes: held(row.id),
            ..plain(row.id, row.snapshot)
        })
        .collect();
    {
        let counted = engine.counted.lock();
        for (info, row) in listed.iter_mut().zip(&wanted) {
            info.changed = counted.get(&row.between()).copied();
        }
    }
    by_age.retain(|at| listed[*at].changed.is_none());
    for at in by_age {
        let row = &wanted[at];
        let Some(paths) = count(row.before.1, &row.snapshot.root) else {
            break;
        };
        listed[at].changed = Some(paths);
        let mut counted = engine.counted.lock();
        if counted.len() >= COUNTED_MAX {
            counted.clear();
        }
        counted.insert(row.between(), paths);
    }
    if !early {
        query.sort(&mut listed);
        query.page(&mut listed);
    }
    if !query.is_all() {
        return Listing {
            snapshots: listed,
            discarded: Vec::new(),
        };
    }
    let newest = piles::top(&state.discarded, false);
    let discarded = (state.discarded.iter())
        .map(|(id, d)| {
            let became = state.root(d.became).filter(|_| d.became != *id).cloned();
            let became = became.or((d.became == BASE_STATE).then(Root::default));
            DiscardedInfo {
                id: *id,
                discarded: nanos(d.at),
                reverted_to: match d.became == *id {
                    true => PART.to_owned(),
                    false => became_name(&state, d.became),
                },
                changed: became.and_then(|root| count(&root, &d.root)),
                bytes: held(*id),
                undo: Some(*id) == newest,
                redo: d.redo,
            }
        })
        .collect();
    Listing {
        snapshots: listed,
        discarded,
    }
}

/// What is shown where only a part was reverted.
const PART: &str = "@part";

/// What the tree was reverted to. A state that is neither a snapshot nor the base was brought back by an undo, or
/// is a snapshot that was deleted since.
fn became_name(state: &State, id: StateId) -> String {
    match state.snapshots.get(&id) {
        Some(snapshot) => snapshot.name.clone(),
        None if id == BASE_STATE => StateRef::Base.to_string(),
        None => StateRef::Undo.to_string(),
    }
}

/// All about a snapshot.
pub(super) fn detail(engine: &Engine, name: &str) -> Result<SnapDetail, Failure> {
    let id = find(engine, name)?;
    let mut snapshot = info(engine, id)?;
    let (previous, before, this, live) = {
        let state = engine.state.read();
        let previous = state.snapshot_before(id);
        (
            previous.map(|(_, s)| s.name.clone()),
            View::before(&state, id),
            View::kept(&state, id),
            View::live(&state),
        )
    };
    let since = diff::count(engine, &before, &this)?;
    snapshot.changed = Some(since.total());
    let config = (snapshot.meta.config.as_deref()).and_then(|hash| engine.trusted_text(hash));
    let state = engine.state.read().clone();
    let alone = engine.spans.lock().alone(&state);
    snapshot.bytes = alone.and_then(|alone| alone.of(id));
    let layers = reachable(std::slice::from_ref(&this.root));
    let runs = layers.values().flatten();
    let held = runs.map(|run| u64::from(run.end - run.start)).sum::<u64>() * BLOCK;
    snapshot.shared = snapshot.bytes.map(|alone| held.saturating_sub(alone));
    Ok(SnapDetail {
        snapshot,
        previous,
        since_previous: Some(since),
        to_live: Some(diff::count(engine, &this, &live)?),
        archived: super::archive::archived(engine, &layers),
        config,
    })
}

/// What changed since the last snapshot (or, without one, since the base): how many paths, and by kind if that is known soon.
pub(super) fn since_last(engine: &Engine) -> (u64, Option<ChangeCounts>) {
    let last = View::last(engine);
    let live = View::live(&engine.state.read());
    by_kind(engine, &last, &live)
}

/// How many paths differ between two roots, as a diff tells them; of very many about.
pub(super) fn paths(engine: &Engine, old: &Root, new: &Root) -> u64 {
    by_kind(engine, &rooted(old), &rooted(new)).0
}

/// The same for somebody who waits; whether there are more, which to count would have taken too long.
pub(super) fn paths_soon(engine: &Engine, old: &Root, new: &Root) -> (u64, bool) {
    let (paths, cost) = changed(engine, old, new);
    if cost > AT_ONCE {
        return (paths, false);
    }
    let peeks = Peeks::few(engine, AT_ONCE);
    match diff::count_with(&peeks, &rooted(old), &rooted(new)) {
        Ok(counts) => (counts.total(), false),
        // So many entries were looked at, each of which the other state has not, or has elsewhere, where it was looked at again.
        Err(Errno::E2BIG) => (paths.max(AT_ONCE as u64 / 2), true),
        Err(Errno::EAGAIN) => (paths, true),
        Err(_) => (paths, false),
    }
}

fn rooted(root: &Root) -> View {
    View {
        root: root.clone(),
        ..View::base()
    }
}

fn by_kind(engine: &Engine, old: &View, new: &View) -> (u64, Option<ChangeCounts>) {
    let (paths, cost) = changed(engine, &old.root, &new.root);
    if cost > SOON {
        return (paths, None);
    }
    // What is not to be read is counted by the maps alone.
    match diff::count(engine, old, new) {
        Ok(counts) => (counts.total(), Some(counts)),
        Err(_) => (paths, None),
    }
}

/// About how many paths differ between two roots, at the cost of what differs in them, and that cost. What is
/// below a removed directory of the base counts only as far as it was removed name by name.
fn changed(engine: &Engine, old: &Root, new: &Root) -> (u64, usize) {
    let changes = Changes::between(old, new);
    let names: usize = changes.names.values().map(Vec::len).sum();
    let cost = names + changes.inodes.len() + changes.data.len();
    let mut bound = BTreeSet::new();
    let mut bare: BTreeSet<&Slot> = BTreeSet::new();
    for slot in changes.names.values().flatten() {
        let inos = [old, new].map(|root| match root.dentry(slot.at()) {
            Some(Dentry::Here(ino, _)) => Some(ino),
            _ => None,
        });
        if inos == [None, None] {
            bare.insert(slot);
        }
        bound.extend(inos.into_iter().flatten());
    }
    // A renamed object of the base counts by its new name only.
    for place in bound.iter().filter_map(|ino| engine.base.place_of(*ino)) {
        bare.remove(&Slot::new(place.parent, &place.name));
    }
    let here = |root: &Root, ino: &Ino| root.inode(*ino).is_none_or(|i| i.nlink > 0);
    let others = (changes.inodes.union(&changes.data))
        .filter(|ino| !bound.contains(*ino))
        .filter(|ino| here(old, ino) && here(new, ino))
        // A directory whose entries changed is not itself what changed.
        .filter(|ino| {
            let dir = new
                .inode(**ino)
                .or(old.inode(**ino))
                .is_some_and(|i| i.kind == Kind::Dir);
            !(dir && changes.names.contains_key(*ino))
        })
        .count();
    ((bound.len() + bare.len() + others) as u64, cost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_out_of_range_are_the_nearest() {
        assert_eq!(
            nanos(Time {
                sec: -1,
                nsec: 999_999_999
            }),
            UnixNanos(-1)
        );
        assert_eq!(
            nanos(Time {
                sec: i64::MAX,
                nsec: 0
            }),
            UnixNanos(i64::MAX)
        );
        assert_eq!(
            nanos(Time {
                sec: i64::MIN,
                nsec: 0
            }),
            UnixNanos(i64::MIN)
        );
    }
}
