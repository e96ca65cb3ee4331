//! A snapshot before one process removes many files.
//!
//! Whether a removal is the first of many is not known when it comes. So before a process's first one a snapshot is taken, not synced and at
//! the cost of one record: the *mark*. When that process has removed enough it stays and is made durable; if the process stops before, it is given
//! up. Processes that begin within the same moment share one. What is younger than a second or so is a program's temporary file, as a rule:
//! it begins nothing and does not count. Renaming removes nothing: what was moved is still there.
//!
//! A loop that starts a program for each file is many processes with one parent: the parent counts each child that removes
//! something as one.
//!
//! A handler that takes the mark waits for nobody who may wait for the kernel: where a snapshot or a revert is under way there is none.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use imbl::ordmap::DiffItem;
use llctl::protocol::SnapMeta;
use parking_lot::Mutex;

use super::authors::Family;
use super::{Engine, unchanged};
use crate::relay;
use crate::tree::{
    At, BLOCK, Dentry, Ino, Meta, Record, Root, Src, State, StateId, Time, numbering,
};

/// A process has stopped removing when it removed nothing for so long,
const GAP: Duration = Duration::from_secs(2);
/// and after this it begins anew.
const LONGEST: Duration = Duration::from_secs(60);
/// A mark that is so old is none for a process that begins.
const FRESH: Duration = Duration::from_millis(200);
/// Processes that are counted at the same time; the one that was silent for longest is forgotten for another.
const REMOVERS_MAX: usize = 128;
/// Differences that are looked at for the space that a mark held.
const COUNTED: usize = 10_000;
/// A parent with this number or a smaller one started everything, and stands for nothing.
const INIT: u32 = 1;

/// What a mark says of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    pub message: String,
    pub meta: SnapMeta,
}

/// Removals, as far as somebody wants to know.
#[derive(Default)]
pub(super) struct Bulk {
    /// So many are a bulk; 0: nobody wants to know.
    limit: AtomicU32,
    /// Inodes whose numbers were given from this turn on are young.
    young: AtomicU64,
    /// Held by who takes a mark, before all other locks: who comes meanwhile shares it, rather than removing something without one.
    taking: Mutex<()>,
    /// A leaf lock, but for the authors' own.
    going_on: Mutex<GoingOn>,
}

#[derive(Default)]
struct GoingOn {
    removers: Vec<Remover>,
    /// Oldest first.
    marks: Vec<Mark>,
    /// Marks that turned out to be worth keeping, and were not told yet.
    kept: Vec<StateId>,
    /// Marks that did not.
    stale: Vec<StateId>,
    said: Said,
}

/// A process that removes files.
struct Remover {
    pid: u32,
    /// None: there was a snapshot of the state before, which is not for this to give up.
    mark: Option<StateId>,
    /// What had this number or a greater one then does not count.
    young: u64,
    begun: Instant,
    last: Instant,
    removed: u32,
}

struct Mark {
    id: StateId,
    taken: Instant,
    young: u64,
    kept: bool,
}

impl Remover {
    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.last) >= GAP || now.duration_since(self.begun) >= LONGEST
    }
}

impl GoingOn {
    /// What has stopped is forgotten, and so are the marks that nobody needs.
    fn settle(&mut self, now: Instant) {
        self.removers.retain(|remover| !remover.is_over(now));
        self.drop_unneeded();
    }

    fn drop_unneeded(&mut self) {
        let Self {
            removers,
            marks,
            stale,
            ..
        } = self;
        marks.retain(|mark| {
            let needed = removers.iter().any(|r| r.mark == Some(mark.id));
            if !needed && !mark.kept {
                stale.push(mark.id);
            }
            needed
        });
    }

    /// The process, if it is removing already.
    fn find(&mut self, pid: u32, now: Instant) -> Option<&mut Remover> {
        let found = self.removers.iter_mut().find(|r| r.pid == pid);
        found.filter(|remover| !remover.is_over(now))
    }

    /// A process begins, behind this mark.
    fn begin(&mut self, pid: u32, mark: Option<StateId>, young: u64, now: Instant) {
        self.removers.retain(|remover| remover.pid != pid);
        if self.removers.len() >= REMOVERS_MAX {
            let silent = self.removers.iter().enumerate().min_by_key(|(_, r)| r.last);
            if let Some((at, _)) = silent {
                self.removers.swap_remove(at);
            }
        }
        self.removers.push(Remover {
            pid,
            mark,
            young,
            begun: now,
            last: now,
            removed: 0,
        });
    }

    /// One more; whether that made it many.
    fn count(&mut self, pid: u32, ino: Ino, limit: u32) -> Option<u32> {
        let remover = self.removers.iter_mut().find(|r| r.pid == pid)?;
        if numbering::turn(ino) >= remover.young {
            return None;
        }
        remover.removed += 1;
        let removed = remover.removed;
        if removed >= limit
            && let Some(id) = remover.mark
            && let Some(mark) = self.marks.iter_mut().find(|m| m.id == id && !m.kept)
        {
            mark.kept = true;
            self.kept.push(id);
        }
        Some(removed)
    }

    /// Keeps a mark, if this is one.
    fn keep(&mut self, id: StateId) {
        self.stale.retain(|stale| *stale != id);
        if let Some(mark) = self.marks.iter_mut().find(|mark| mark.id == id) {
            mark.kept = true;
        }
    }

    fn is_undecided(&self, id: StateId) -> bool {
        self.marks.iter().any(|m| m.id == id && !m.kept) || self.stale.contains(&id)
    }

    fn undecided(&self) -> BTreeSet<StateId> {
        let marks = self.marks.iter().filter(|m| !m.kept).map(|m| m.id);
        marks.chain(self.stale.iter().copied()).collect()
    }
}

impl Engine {
    /// From here on there is a mark before `limit` removals; 0: no more.
    pub(super) fn mark_bulk(&self, limit: u32, said: Said) {
        let mut going_on = self.bulk.going_on.lock();
        going_on.said = said;
        if limit == 0 {
            going_on.removers.clear();
            going_on.drop_unneeded();
        }
        self.bulk.limit.store(limit, Relaxed);
    }

    /// What is made from here on is young. To be called now and then.
    pub(super) fn grow_up(&self) {
        let next = self.state.read().next_turn;
        self.bulk.young.store(next, Relaxed);
    }

    /// A name is about to be removed. By whom, for [`Engine::removed`]; none: nobody wants to know.
    pub(super) fn before_removal(&self, parent: Ino, name: &[u8]) -> Option<Family> {
        if self.bulk.limit.load(Relaxed) == 0 {
            return None;
        }
        let who = self.authors.family();
        let now = Instant::now();
        if let Some(remover) = self.bulk.going_on.lock().find(who.pid, now) {
            remover.last = now;
            return Some(who);
        }
        self.mark_before(parent, name, who);
        Some(who)
    }

    /// The same for a process that begins.
    fn mark_before(&self, parent: Ino, name: &[u8], who: Family) {
        let young = self.bulk.young.load(Relaxed);
        let there = self.state.read().head.dentry(At(parent, name));
        if let Some(Dentry::Here(ino, _)) = there
            && numbering::turn(ino) >= young
        {
            return;
        }
        let _taking = self.bulk.taking.lock();
        if self.share_mark(who) {
            return;
        }
        // Who has the turn may wait for the kernel, and the kernel for this removal.
        let Some(_turn) = self.turn.try_lock() else {
            return;
        };
        // The record is no part of the request that this thread carries out.
        if let Some(mark) = relay::aside(|| self.take_mark(young)) {
            let mut going_on = self.bulk.going_on.lock();
            begin(&mut going_on, who, mark, young);
        }
    }

    /// Begins behind the newest mark, if that is of this moment.
    fn share_mark(&self, who: Family) -> bool {
        let mut going_on = self.bulk.going_on.lock();
        going_on.settle(Instant::now());
        let newest = going_on.marks.last().map(|m| (m.id, m.young, m.taken));
        let Some((id, young, taken)) = newest else {
            return false;
        };
        let fresh = taken.elapsed() < FRESH;
        if fresh {
            begin(&mut going_on, who, Some(id), young);
        }
        fresh
    }

    /// The mark, with the turn held; within, none if there is a snapshot of this state. None: it failed.
    fn take_mark(&self, young: u64) -> Option<Option<StateId>> {
        let said = self.bulk.going_on.lock().said.clone();
        let meta: Meta = self.stamped(said.meta).into();
        let _gate = self.gate.write();
        let mut state = self.state.write();
        let mark = |id| Mark {
            id,
            taken: Instant::now(),
            young,
            kept: false,
        };
        if let Some(id) = unchanged::since(&state) {
            let mut going_on = self.bulk.going_on.lock();
            // It may be a mark that nobody needed any more.
            if let Some(at) = going_on.stale.iter().position(|stale| *stale == id) {
                going_on.stale.swap_remove(at);
                going_on.marks.push(mark(id));
            }
            let is_mark = going_on.marks.iter().any(|m| m.id == id);
            return Some(is_mark.then_some(id));
        }
        let id = state.next_state;
        let exists = |n: &str| state.snapshot(n).is_some();
        let record = Record::Snap {
            id,
            name: llctl::SnapName::automatic(exists).into(),
            message: said.message,
            at: Time::now(),
            meta,
        };
        if let Err(error) = self.commit(&mut state, &record) {
            tracing::debug!(%error, "no snapshot before a removal");
            return None;
        }
        self.seal_written();
        self.bulk.going_on.lock().marks.push(mark(id));
        Some(Some(id))
    }

    /// An inode lost a name, by whom [`Engine::before_removal`] said.
    pub(super) fn removed(&self, ino: Ino, who: Option<Family>) {
        let limit = self.bulk.limit.load(Relaxed);
        let Some(who) = who.filter(|_| limit != 0) else {
            return;
        };
        let mut going_on = self.bulk.going_on.lock();
        // The first of a child counts for its parent.
        if going_on.count(who.pid, ino, limit) == Some(1) && who.parent > INIT {
            going_on.count(who.parent, ino, limit);
        }
    }

    /// Somebody relies on a snapshot, which may be a mark. With the state held, so that it is not given up before.
    pub(super) fn keep_mark(&self, id: StateId) {
        self.bulk.going_on.lock().keep(id);
    }

    /// The snapshot that is there only until it is known whether many files are removed.
    pub(super) fn is_mark(&self, id: StateId) -> bool {
        self.bulk.going_on.lock().is_undecided(id)
    }

    /// The state, and the snapshots of it that are there only until it is known whether many files are removed.
    pub(super) fn state_and_marks(&self) -> (State, BTreeSet<StateId>) {
        // Both at once: a mark that goes in between would be taken for a snapshot like others.
        let state = self.state.read();
        let going_on = self.bulk.going_on.lock();
        (state.clone(), going_on.undecided())
    }

    /// The tree is another one, of which the marks say nothing: who goes on removing begins anew. With the state held.
    pub(super) fn mark_anew(&self) {
        let mut going_on = self.bulk.going_on.lock();
        going_on.removers.clear();
        going_on.drop_unneeded();
    }

    /// Whether somebody removes files, or has just stopped.
    pub(super) fn has_mark(&self) -> bool {
        let going_on = self.bulk.going_on.lock();
        !going_on.removers.is_empty() || !going_on.stale.is_empty() || !going_on.kept.is_empty()
    }

    /// Gives marks up that nobody needs, and tells those that stay.
    pub(super) fn settle_marks(&self) -> Vec<StateId> {
        let (kept, stale) = {
            let mut going_on = self.bulk.going_on.lock();
            going_on.settle(Instant::now());
            (
                std::mem::take(&mut going_on.kept),
                // Nobody sees them before they are gone.
                going_on.stale.clone(),
            )
        };
        for id in stale {
            if let Err(error) = self.drop_mark(id) {
                tracing::debug!(%error, "a mark stays");
            }
            let mut going_on = self.bulk.going_on.lock();
            going_on.stale.retain(|stale| *stale != id);
        }
        kept
    }

    fn drop_mark(&self, id: StateId) -> Result<(), super::snapshot::Refusal> {
        let (root, head) = {
            let state = self.state.read();
            match state.snapshots.get(&id) {
                Some(snapshot) => (snapshot.root.clone(), state.head.clone()),
                None => return Ok(()),
            }
        };
        let held = held(&root, &head);
        drop((root, head));
        let needless = |_: &State, s: &crate::tree::Snapshot| {
            let wanted = s.meta.pinned || !s.meta.tags.is_empty();
            // Somebody may have begun to rely on it.
            !wanted && self.bulk.going_on.lock().stale.contains(&id)
        };
        self.give_up(&[id].into(), &needless, held).map(drop)
    }
}

/// A process begins, and counts for its parent.
fn begin(going_on: &mut GoingOn, who: Family, mark: Option<StateId>, young: u64) {
    let now = Instant::now();
    going_on.begin(who.pid, mark, young, now);
    if who.parent <= INIT {
        return;
    }
    match going_on.find(who.parent, now) {
        Some(parent) => parent.last = now,
        None => going_on.begin(who.parent, mark, young, now),
    }
}

/// Bytes about that the first root has and the second does not.
fn held(root: &Root, head: &Root) -> u64 {
    let only = |item| match item {
        DiffItem::Remove(_, extent) => Some(extent),
        DiffItem::Update {
            old: (_, extent), ..
        } => Some(extent),
        DiffItem::Add(..) => None,
    };
    let differs = root.extents.diff(&head.extents).take(COUNTED);
    let blocks = differs
        .filter_map(only)
        .filter(|extent| matches!(extent.src(), Src::Layer { .. }))
        .map(|extent| u64::from(extent.len));
    blocks.sum::<u64>() * BLOCK
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Option<StateId> = Some(7);

    fn marked(now: Instant) -> GoingOn {
        let mut going_on = GoingOn::default();
        going_on.marks.push(Mark {
            id: 7,
            taken: now,
            young: 100,
            kept: false,
        });
        going_on
    }

    #[test]
    fn each_process_counts_for_itself() {
        let now = Instant::now();
        let mut going_on = marked(now);
        for pid in [10, 11] {
            going_on.begin(pid, MARK, 100, now);
        }
        for ino in 0..19 {
            for pid in [10, 11] {
                going_on.count(pid, ino, 20);
            }
        }
        // What is young does not count.
        going_on.count(10, numbering::number(100), 20);
        assert!(going_on.kept.is_empty());
        going_on.count(11, 50, 20);
        assert_eq!(going_on.kept, [7]);
        going_on.count(11, 51, 20);
        going_on.count(10, 50, 20);
        assert_eq!(going_on.kept, [7], "once");
        going_on.settle(now + GAP);
        assert!(going_on.stale.is_empty() && going_on.marks.is_empty());
    }

    #[test]
    fn a_mark_stays_as_long_as_one_process_needs_it() {
        let now = Instant::now();
        let mut going_on = marked(now);
        going_on.begin(10, MARK, 100, now);
        going_on.begin(11, MARK, 100, now);
        going_on.find(11, now).unwrap().last = now + GAP;
        going_on.settle(now + GAP);
        assert_eq!((going_on.removers.len(), going_on.stale.len()), (1, 0));
        assert!(going_on.is_undecided(7));
        // A process that goes on for ever begins anew.
        going_on.find(11, now).unwrap().last = now + LONGEST;
        going_on.settle(now + LONGEST);
        assert_eq!(going_on.stale, [7]);
        going_on.keep(7);
        assert!(!going_on.is_undecided(7), "somebody relies on it");
    }

    #[test]
    fn a_thousand_processes_are_not_remembered() {
        let now = Instant::now();
        let mut going_on = marked(now);
        let mut begin = |pid, at| begin_at(&mut going_on, pid, at);
        for n in 0..1000 {
            begin(1000 + n, now + Duration::from_micros(u64::from(n)));
        }
        assert_eq!(going_on.removers.len(), REMOVERS_MAX);
        assert!(going_on.find(1999, now).is_some() && going_on.find(1000, now).is_none());
    }

    fn begin_at(going_on: &mut GoingOn, pid: u32, at: Instant) {
        going_on.begin(pid, MARK, 100, at);
    }
}
