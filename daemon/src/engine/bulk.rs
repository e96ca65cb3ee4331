//! A snapshot before many files are removed.
//!
//! Whether a removal is the first of many is not known when it comes. So before the first one of a burst a snapshot is taken, not synced and at
//! the cost of one record: the *mark*. When enough was removed it stays and is made durable; if the burst ends before, it is given
//! up. What is younger than a second or so is a program's temporary file, as a rule: it begins no burst and does not count.
//!
//! A handler that takes the mark waits for nobody who may wait for the kernel: where a snapshot or a revert is under way there is none.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use imbl::ordmap::DiffItem;
use llctl::protocol::SnapMeta;
use parking_lot::Mutex;

use super::{Engine, unchanged};
use crate::relay;
use crate::tree::{At, BLOCK, Dentry, Ino, Meta, Record, Root, Src, StateId, Time};

/// A burst ends when nothing is removed for so long,
const GAP: Duration = Duration::from_secs(2);
/// or when it is so old.
const LONGEST: Duration = Duration::from_secs(60);
/// Differences that are looked at for the space that a mark held.
const COUNTED: usize = 10_000;

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
    /// Inodes from this number on are young.
    young: AtomicU64,
    burst: Mutex<Burst>,
}

#[derive(Default)]
struct Burst {
    mark: Option<Mark>,
    /// Marks that turned out to be worth keeping.
    kept: Vec<StateId>,
    /// Marks that did not.
    stale: Vec<StateId>,
    said: Said,
}

struct Mark {
    /// None: the state was one that there is a snapshot of.
    id: Option<StateId>,
    /// What had this number or a greater one then does not count.
    young: Ino,
    begun: Instant,
    last: Instant,
    removed: u32,
    kept: bool,
}

impl Burst {
    /// The burst is over: its mark stays if it was worth it.
    fn end(&mut self) {
        if let Some(mark) = self.mark.take()
            && !mark.kept
        {
            self.stale.extend(mark.id);
        }
    }
}

impl Engine {
    /// From here on there is a mark before `limit` removals; 0: no more.
    pub(super) fn mark_bulk(&self, limit: u32, said: Said) {
        let mut burst = self.bulk.burst.lock();
        burst.said = said;
        if limit == 0 {
            burst.end();
        }
        self.bulk.limit.store(limit, Relaxed);
    }

    /// What is made from here on is young. To be called now and then.
    pub(super) fn grow_up(&self) {
        let next = self.state.read().next_ino;
        self.bulk.young.store(next, Relaxed);
    }

    /// A name is about to be removed.
    pub(super) fn before_removal(&self, parent: Ino, name: &[u8]) {
        if self.bulk.limit.load(Relaxed) == 0 {
            return;
        }
        let now = Instant::now();
        let young = self.bulk.young.load(Relaxed);
        {
            let mut burst = self.bulk.burst.lock();
            if let Some(mark) = &mut burst.mark
                && now.duration_since(mark.last) < GAP
                && now.duration_since(mark.begun) < LONGEST
            {
                mark.last = now;
                return;
            }
            burst.end();
        }
        let there = self.state.read().head.dentry(At(parent, name));
        if let Some(Dentry::Here(ino, _)) = there
            && ino >= young
        {
            return;
        }
        // Who has the turn may wait for the kernel, and the kernel for this removal.
        let Some(_turn) = self.turn.try_lock() else {
            return;
        };
        // The record is no part of the request that this thread carries out.
        let id = relay::aside(|| self.take_mark());
        let Some(id) = id else {
            return;
        };
        self.bulk.burst.lock().mark = Some(Mark {
            id,
            young,
            begun: now,
            last: now,
            removed: 0,
            kept: false,
        });
    }

    /// The mark, with the turn held; within, none if there is a snapshot of this state. None: it failed.
    fn take_mark(&self) -> Option<Option<StateId>> {
        let said = self.bulk.burst.lock().said.clone();
        let meta: Meta = self.stamped(said.meta).into();
        let _gate = self.gate.write();
        let mut state = self.state.write();
        if unchanged::since(&state).is_some() {
            return Some(None);
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
        self.authors.hold(id);
        self.seal_written();
        Some(Some(id))
    }

    /// An inode lost a name.
    pub(super) fn removed(&self, ino: Ino) {
        let limit = self.bulk.limit.load(Relaxed);
        if limit == 0 {
            return;
        }
        let mut burst = self.bulk.burst.lock();
        let Burst { mark, kept, .. } = &mut *burst;
        if let Some(mark) = mark
            && ino < mark.young
            && !mark.kept
        {
            mark.removed += 1;
            if mark.removed >= limit {
                mark.kept = true;
                kept.extend(mark.id);
            }
        }
    }

    /// Somebody relies on a snapshot, which may be a mark.
    pub(super) fn keep_mark(&self, id: StateId) {
        if let Some(mark) = &mut self.bulk.burst.lock().mark
            && mark.id == Some(id)
            && !mark.kept
        {
            mark.kept = true;
            self.authors.settle(true);
        }
    }

    /// The snapshot that is there only until it is known whether many files are removed.
    pub(super) fn is_mark(&self, id: StateId) -> bool {
        let burst = self.bulk.burst.lock();
        let mark = burst.mark.as_ref().filter(|mark| !mark.kept);
        mark.and_then(|mark| mark.id) == Some(id) || burst.stale.contains(&id)
    }

    /// Whether a burst is under way, or one has just ended.
    pub(super) fn has_mark(&self) -> bool {
        let burst = self.bulk.burst.lock();
        burst.mark.is_some() || !burst.stale.is_empty() || !burst.kept.is_empty()
    }

    /// Gives marks up that nobody needs, and tells those that stay.
    pub(super) fn settle_marks(&self) -> Vec<StateId> {
        let (kept, stale) = {
            let mut burst = self.bulk.burst.lock();
            let now = Instant::now();
            let over = burst.mark.as_ref().is_some_and(|mark| {
                now.duration_since(mark.last) >= GAP || now.duration_since(mark.begun) >= LONGEST
            });
            if over {
                burst.end();
            }
            (
                std::mem::take(&mut burst.kept),
                // Nobody sees them before they are gone.
                burst.stale.clone(),
            )
        };
        if !kept.is_empty() {
            self.authors.settle(true);
        }
        for id in stale {
            self.hand_on_authors(id);
            if let Err(error) = self.drop_mark(id) {
                tracing::debug!(%error, "a mark stays");
            }
            self.bulk.burst.lock().stale.retain(|stale| *stale != id);
        }
        kept
    }

    fn drop_mark(&self, id: StateId) -> Result<(), super::snapshot::Refusal> {
        let (root, head) = {
            let state = self.state.read();
            // A revert went there meanwhile.
            if state.discarded.values().any(|d| d.became == id) {
                return Ok(());
            }
            match state.snapshots.get(&id) {
                Some(snapshot) => (snapshot.root.clone(), state.head.clone()),
                None => return Ok(()),
            }
        };
        let untouched = |s: &crate::tree::Snapshot| !s.meta.pinned && s.meta.tags.is_empty();
        let held = held(&root, &head);
        drop((root, head));
        self.give_up(&[id].into(), &untouched, held).map(drop)
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
        .filter(|extent| matches!(extent.src, Src::Layer { .. }))
        .map(|extent| u64::from(extent.len));
    blocks.sum::<u64>() * BLOCK
}
