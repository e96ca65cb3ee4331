//! What differs between two states, by path, at the cost of what differs.
//!
//! Roots are compared as maps ([`Changes`]); what that names are inodes and slots. [`Names`] tells what a slot
//! means and where a directory is in each of the two states, for a directory of the base may have moved in one
//! of them. From there: [`moves`] finds which names each inode lost and gained (looking into directories of the base that
//! only one of the states has), [`pairs`] makes removals, additions and renames of them, and [`compare`] says how what both
//! states have differs.
//!
//! Of directories, changes of nothing but their times are not told.
//!
//! A hard-linked file that changed is told under each of its names; those that only the base has are looked for in all of it, once
//! (`service/linked.rs`).

mod compare;
mod content;
mod moves;
mod names;
mod pairs;

use std::collections::BTreeSet;

use llctl::protocol::{BytePath, Change, ChangeCounts, ChangeKind, Failure, Side, selected};
use nix::errno::Errno;

use super::states::View;
use crate::control::Sink;
use crate::engine::{Answer, Engine};
use crate::tree::Ino;
use crate::tree::diff::Changes;
use compare::Comparison;
pub(super) use compare::xattrs;
pub(super) use content::target;
pub(super) use names::{Names, Object, Peeks, join};
pub(super) use pairs::{Item, links, slots_of_changed};

/// How the root directory is shown.
const TOP: &[u8] = b".";

/// Sends what differs from `old` to `new`; see [`crate::control::Service::diff`].
pub(super) fn send(
    engine: &Engine,
    old: &View,
    new: &View,
    paths: &[BytePath],
    patch: bool,
    sink: Sink<'_, Change>,
) -> Result<ChangeCounts, Failure> {
    let peeks = Peeks::new(engine);
    let names = (Names::new(&peeks, old), Names::new(&peeks, new));
    let failed = |errno| failed(old, new, errno);
    let (changes, items) = plan(&names.0, &names.1).map_err(failed)?;
    let comparison = Comparison::new(engine, (&names.0, &names.1), &changes, true);
    let mut counts = ChangeCounts::default();
    for item in items {
        let from = item.from.as_deref();
        if !selected(paths, &item.path) && !from.is_some_and(|from| selected(paths, from)) {
            continue;
        }
        let Some(mut change) = comparison.change(&item).map_err(failed)? else {
            continue;
        };
        if patch {
            change.patch = content::patch(engine, (&names.0, &names.1), &item, &comparison)?;
        }
        if change.path.0.is_empty() {
            change.path = BytePath::from(TOP);
        }
        counts.count(change.kind);
        if sink(change).is_err() {
            break;
        }
    }
    Ok(counts)
}

/// How many paths differ. Does not look at contents: a file that was rewritten with what it held counts.
pub(super) fn count(engine: &Engine, old: &View, new: &View) -> Result<ChangeCounts, Failure> {
    count_with(&Peeks::new(engine), old, new).map_err(|errno| failed(old, new, errno))
}

/// The same as far as `peeks` may look.
pub(super) fn count_with(peeks: &Peeks<'_>, old: &View, new: &View) -> Answer<ChangeCounts> {
    let names = (Names::new(peeks, old), Names::new(peeks, new));
    let (changes, items) = plan(&names.0, &names.1)?;
    let comparison = Comparison::new(peeks.engine, (&names.0, &names.1), &changes, false);
    let mut counts = ChangeCounts::default();
    for item in &items {
        if let Some(kind) = comparison.kind(item)? {
            counts.count(kind);
        }
    }
    Ok(counts)
}

/// How many paths differ at and below `paths`, and the inodes that these are.
pub(super) fn touched(
    engine: &Engine,
    old: &View,
    new: &View,
    paths: &[BytePath],
) -> Answer<(ChangeCounts, BTreeSet<Ino>)> {
    let peeks = Peeks::new(engine);
    let names = (Names::new(&peeks, old), Names::new(&peeks, new));
    let (changes, items) = plan(&names.0, &names.1)?;
    let comparison = Comparison::new(engine, (&names.0, &names.1), &changes, true);
    let mut counts = ChangeCounts::default();
    let mut inos = BTreeSet::new();
    for item in &items {
        let from = item.from.as_deref();
        if !selected(paths, &item.path) && !from.is_some_and(|from| selected(paths, from)) {
            continue;
        }
        if let Some(kind) = comparison.kind(item)? {
            counts.count(kind);
            inos.extend(item.old.iter().chain(&item.new));
        }
    }
    Ok((counts, inos))
}

/// What an object is in a state.
pub(super) fn side(names: &Names<'_>, ino: Ino) -> Answer<Side> {
    Ok(compare::Look::at(names, ino)?.side())
}

/// What happened at one path; `None` if nothing differs there that anybody can see.
pub(super) fn one(
    engine: &Engine,
    names: (&Names<'_>, &Names<'_>),
    item: &Item,
) -> Answer<Option<ChangeKind>> {
    // Contents are compared whatever the maps say.
    let changes = Changes {
        data: item.old.iter().copied().collect(),
        ..Changes::default()
    };
    Comparison::new(engine, names, &changes, true).kind(item)
}

/// What may differ, in the byte order of paths.
fn plan(old: &Names<'_>, new: &Names<'_>) -> Result<(Changes, Vec<Item>), Errno> {
    let changes = Changes::between(&old.view.root, &new.view.root);
    let moves = moves::find(old, new, &changes)?;
    let mut items = pairs::pair(old, new, moves);
    items.extend(pairs::in_place(old, new, &changes)?);
    items.sort_by(|a, b| (&a.path, &a.from).cmp(&(&b.path, &b.from)));
    Ok((changes, items))
}

fn failed(old: &View, new: &View, errno: Errno) -> Failure {
    Failure::errno(
        format!("{} and {} cannot be compared", old.name, new.name),
        errno,
    )
}
