//! Reverting a part of the tree: some paths, or what some snapshots did, while everything else stays.
//!
//! What is undone is given as steps, each a pair of states: what `after` has and `before` has not is taken back. For paths there is one,
//! from the head to the snapshot; for what snapshots did, one a snapshot, the newest first, from it to the one before it.
//! The differences of a step fall into [`groups`], which are taken back whole or not at all. A group that is only partly
//! selected, or of which something was changed by others since, is a conflict: nothing is done, unless the user says which
//! side wins.
//!
//! The new head is the old one with inodes and names as other states have them: no data is copied, and one record says it.

mod back;
mod conflicts;
mod groups;
mod merge;
mod whole;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use llctl::StateRef;
use llctl::config::AUTOMATIC;
use llctl::globs::Globs;
use llctl::protocol::{ErrorKind, Failure, OnConflict, Part, PartOf};
use nix::errno::Errno;

use super::diff::{Names, Peeks};
use super::linked::linked;
use super::states::{View, Which};
use super::{cat, failure};
use crate::engine::reclaim::Lent;
use crate::engine::snapshot::{Conflict, Refusal, Switched, Turned};
use crate::engine::{Answer, Engine};
use crate::tree::diff::Changes;
use crate::tree::{
    BASE_STATE, Ino, Inode, Kind, ROOT, Record, Root, Slot, State, StateId, Take, Time,
};
use merge::Merge;

/// Inodes and names in one record: a name takes 300 bytes at most, a frame 16 MiB.
const MOST: usize = 40_000;

/// What `after` has and `before` has not is to be taken back.
struct Step {
    after: View,
    before: View,
    /// The number of `before`.
    from: StateId,
}

/// Another head, and what is said of it.
struct Planned {
    /// What was to be taken back, of which head.
    steps: Vec<Step>,
    old: View,
    head: Root,
    to: StateId,
    takes: Vec<Take>,
    set: Vec<(Ino, Box<Inode>)>,
    hidden: Vec<Slot>,
}

/// Reverts a part.
pub(super) fn revert(
    engine: &Engine,
    part: &Part,
    on_conflict: OnConflict,
    force: bool,
) -> Result<Switched, Failure> {
    let globs = globs(part)?;
    let _turn = engine.turn.lock();
    let begun = Instant::now();
    // Let go of what it holds only when the gate is open again.
    let peeks = Peeks::new(engine);
    // Unknown names are told before anything is flushed, and the base is walked while nobody waits.
    let (_, ahead) = steps(engine, part)?;
    look_ahead(&peeks, &ahead).map_err(|errno| failure::failed(engine, "the base", errno))?;
    let looked = RefCell::new(ahead);
    let turn = |kept| {
        let found = steps(engine, part).map_err(|f| Refusal::NotThere(f.message))?;
        let planned = plan(engine, &peeks, part, found, &globs, on_conflict)?;
        looked.replace(planned.steps);
        let record = Record::Merge {
            kept,
            at: Time::now(),
            takes: planned.takes,
            set: planned.set,
            hidden: planned.hidden,
        };
        Ok(Turned {
            to: planned.to,
            head: planned.head,
            record,
        })
    };
    let mut done = engine.turn_head(begun, force, &turn);
    if let Err(Refusal::Failed {
        errno: Errno::EAGAIN,
        ..
    }) = done
    {
        // A file with several names in the base differs only since the look. Nothing was done, and now they are looked for.
        linked(engine).map_err(|errno| failure::failed(engine, "the base", errno))?;
        done = engine.turn_head(begun, force, &turn);
    }
    let done = done.map_err(|refusal| failure::failure(engine, &refusal))?;
    if done.kept.is_none() {
        choose_something(engine, part, &globs, &looked.into_inner())?;
    }
    Ok(done)
}

/// A pattern that chooses nothing in any of the states is a mistake, unlike one of which nothing has changed.
fn choose_something(
    engine: &Engine,
    part: &Part,
    globs: &Globs,
    steps: &[Step],
) -> Result<(), Failure> {
    if globs.is_all() {
        return Ok(());
    }
    let peeks = Peeks::new(engine);
    for step in steps {
        for view in [&step.after, &step.before] {
            let any = any_chosen(&Names::new(&peeks, view), globs);
            if any.map_err(|errno| failure::failed(engine, "the tree", errno))? {
                return Ok(());
            }
        }
    }
    let patterns = part.globs.join(" or ");
    Err(
        Failure::new(ErrorKind::NotFound, format!("nothing is called {patterns}")).with_hint(
            "`*` stays within one directory, `**` does not; a pattern is relative to the current directory, with a `/` before it to the mount's root",
        ),
    )
}

fn any_chosen(names: &Names<'_>, globs: &Globs) -> Answer<bool> {
    if globs.matches(b"") {
        return Ok(true);
    }
    let mut dirs = vec![ROOT];
    let mut entered = BTreeSet::new();
    while let Some(dir) = dirs.pop() {
        // In a damaged state one may be below itself.
        if !entered.insert(dir) {
            continue;
        }
        for (slot, ino, kind) in names.children(dir)? {
            if names.path(&slot).is_some_and(|path| globs.matches(&path)) {
                return Ok(true);
            }
            if kind == Kind::Dir {
                dirs.push(ino);
            }
        }
    }
    Ok(false)
}

/// Finds the names that changed files have in the base. With the gate closed a walk there could not end, so from here on there is
/// none.
fn look_ahead(peeks: &Peeks<'_>, steps: &[Step]) -> Answer<()> {
    for step in steps {
        let changes = Changes::between(&step.before.root, &step.after.root);
        let inos = changes.inodes.union(&changes.data).copied();
        peeks.links_of_base(&inos.collect())?;
    }
    peeks.walk_no_more();
    Ok(())
}

/// The tree as it is, and as [`revert`] would make it, whatever of this is given up meanwhile.
pub(super) fn preview<'a>(
    engine: &'a Engine,
    part: &Part,
    on_conflict: OnConflict,
) -> Result<(View, View, Lent<'a>), Failure> {
    let globs = globs(part)?;
    let peeks = Peeks::new(engine);
    let (found, lent) = engine.lend(|| {
        // Unknown names are told as such.
        let (head, steps) = steps(engine, part)?;
        let befores = steps.iter().map(|step| step.before.root.clone());
        let roots = befores.chain([head.clone()]).collect();
        Ok(((head, steps), roots))
    })?;
    let planned = plan(engine, &peeks, part, found, &globs, on_conflict)
        .map_err(|refusal| failure::failure(engine, &refusal))?;
    if planned.takes.is_empty() {
        choose_something(engine, part, &globs, &planned.steps)?;
    }
    let new = View {
        which: Which::Made,
        root: planned.head,
        name: "the revert".to_owned(),
    };
    Ok((planned.old, new, lent))
}

fn globs(part: &Part) -> Result<Globs, Failure> {
    Globs::new(&part.globs).map_err(|e| Failure::new(ErrorKind::Invalid, e.to_string()))
}

fn plan(
    engine: &Engine,
    peeks: &Peeks<'_>,
    part: &Part,
    (head, steps): (Root, Vec<Step>),
    globs: &Globs,
    on_conflict: OnConflict,
) -> Result<Planned, Refusal> {
    let old = View {
        which: Which::Live,
        root: head.clone(),
        name: StateRef::Live.to_string(),
    };
    for step in &steps {
        let names = Names::new(peeks, &step.before);
        for path in &part.there {
            cat::find(&names, path).map_err(|f| Refusal::NotThere(f.message))?;
        }
    }
    let mut merge = Merge::new(engine, head, globs, on_conflict);
    for step in &steps {
        let undone = merge.undo(peeks, step);
        undone.map_err(Refusal::failed("the revert could not be planned"))?;
    }
    let counted = merge.count_links(peeks, &steps, &old);
    counted.map_err(Refusal::failed("the revert could not be planned"))?;
    if matches!(part.of, PartOf::Snapshots(_)) && merge.conflicts.is_empty() {
        let checked = merge.check_whole(peeks, &steps, &old);
        checked.map_err(Refusal::failed("the revert could not be planned"))?;
    }
    if !merge.conflicts.is_empty() {
        return Err(Refusal::Conflicts(merge.conflicts.into_iter().collect()));
    }
    let many = merge.inodes.len() + merge.slots.len() + merge.set.len() + merge.hidden.len();
    if many > MOST {
        return Err(Refusal::TooMany(many));
    }
    let to = steps.last().map_or(BASE_STATE, |step| step.from);
    let (head, takes, set, hidden) = merge.said();
    Ok(Planned {
        steps,
        old,
        head,
        to,
        takes,
        set,
        hidden,
    })
}

/// The head, and what is to be taken back of it, the newest first.
fn steps(engine: &Engine, part: &Part) -> Result<(Root, Vec<Step>), Failure> {
    match &part.of {
        PartOf::To(to) => {
            let before = View::of(engine, to)?;
            let from = match before.which {
                Which::Kept(id) => id,
                Which::Base => BASE_STATE,
                Which::Live | Which::Made => return Err(failure::no_target(to)),
            };
            let state = engine.state.read();
            let after = View::live(&state);
            let head = after.root.clone();
            let step = Step {
                after,
                before,
                from,
            };
            Ok((head, vec![step]))
        }
        PartOf::Snapshots(names) => {
            let state = engine.state.read();
            let mut ids = BTreeSet::new();
            for name in names {
                match state.snapshot(name.as_str()) {
                    Some((id, _)) => ids.insert(id),
                    None => {
                        drop(state);
                        return Err(failure::unknown(engine, name.as_str()));
                    }
                };
            }
            let steps = ids.into_iter().rev().map(|id| {
                let from = began_with(&state, id);
                Step {
                    after: View::kept(&state, id),
                    before: View::kept(&state, from),
                    from,
                }
            });
            Ok((state.head.clone(), steps.collect()))
        }
    }
}

/// The state with which the work of a snapshot began. One that took itself in the middle of it does not divide it.
fn began_with(state: &State, id: StateId) -> StateId {
    let automatic = |id: StateId| {
        let snapshot = state.snapshots.get(&id);
        snapshot.is_some_and(|s| s.meta.reason.as_deref() == Some(AUTOMATIC))
    };
    let mut from = state.came_from(id);
    while !automatic(id) && automatic(from) {
        from = state.came_from(from);
    }
    from
}

/// A head, and what a record says of it.
type Said = (Root, Vec<Take>, Vec<(Ino, Box<Inode>)>, Vec<Slot>);

impl Merge<'_> {
    fn said(self) -> Said {
        let mut takes: BTreeMap<StateId, Take> = BTreeMap::new();
        let of = |from| Take {
            from,
            ..Take::default()
        };
        for (ino, from) in self.inodes {
            takes
                .entry(from)
                .or_insert_with(|| of(from))
                .inodes
                .push(ino);
        }
        for (slot, from) in self.slots {
            takes
                .entry(from)
                .or_insert_with(|| of(from))
                .slots
                .push(slot);
        }
        let set = self.set.into_iter();
        (
            self.root,
            takes.into_values().collect(),
            set.map(|(ino, inode)| (ino, Box::new(inode))).collect(),
            self.hidden.into_iter().collect(),
        )
    }
}

/// A conflict at a path.
fn conflict(path: Vec<u8>, why: impl Into<String>) -> Conflict {
    Conflict {
        path,
        why: why.into(),
    }
}

/// Where the overlay has nothing to say, the base's own inode.
fn inode_in(names: &super::diff::Names<'_>, ino: Ino) -> Result<Option<Inode>, Errno> {
    if !groups::alive(names, ino)? {
        return Ok(None);
    }
    match names.view.root.inode(ino) {
        Some(inode) => Ok(Some((**inode).clone())),
        None => names.peeks.engine.base_inode(ino).map(Some),
    }
}
