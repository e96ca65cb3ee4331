//! The paths of a state, and those at which two states may differ.

use std::collections::{BTreeMap, HashSet};

use nix::errno::Errno;

use super::Stop;
use crate::engine::service::diff::{Names, Peeks, join, slots_of_changed};
use crate::engine::service::states::View;
use crate::engine::{Answer, Engine};
use crate::tree::diff::Changes;
use crate::tree::{Ino, Kind, ROOT, Slot};

/// Paths and what is there.
pub(in crate::engine::service) type Paths = BTreeMap<Vec<u8>, Ino>;

/// Told of a path and what is there.
pub(in crate::engine::service) type Each<'a> =
    &'a mut dyn FnMut(&Names<'_>, &[u8], Ino) -> Answer<()>;

/// Directories that a walk has entered. Each is in one place: one that is come to again has two, or is below itself, and what would be
/// told of it has no end.
#[derive(Default)]
struct Entered(HashSet<Ino>);

impl Entered {
    fn enter(&mut self, dir: Ino) -> Answer<()> {
        if self.0.insert(dir) {
            return Ok(());
        }
        tracing::error!(
            dir,
            "a directory is in two places; `llctl verify` names them"
        );
        Err(Errno::EIO)
    }
}

/// A directory that is being walked.
struct Level<'a> {
    /// What it has, held for as long as what is below may be asked for.
    peeks: Peeks<'a>,
    left: std::vec::IntoIter<(Slot, Ino, Kind)>,
    path: Vec<u8>,
}

/// Gives each path of a state to `each`, a directory before what is in it, names in order. What is remembered is one directory a level, and a number
/// for each.
pub(in crate::engine::service) fn all(
    engine: &Engine,
    view: &View,
    stop: &Stop,
    each: Each<'_>,
) -> Answer<()> {
    let mut entered = Entered::default();
    let mut enter = |dir: Ino, path: Vec<u8>| -> Answer<Level<'_>> {
        stop.check()?;
        entered.enter(dir)?;
        let peeks = Peeks::new(engine);
        let mut children = Names::new(&peeks, view).children(dir)?;
        children.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(Level {
            peeks,
            left: children.into_iter(),
            path,
        })
    };
    let mut levels = vec![enter(ROOT, Vec::new())?];
    if let Some(top) = levels.last() {
        each(&Names::new(&top.peeks, view), b"", ROOT)?;
    }
    while let Some(level) = levels.last_mut() {
        let Some((slot, ino, kind)) = level.left.next() else {
            levels.pop();
            continue;
        };
        let path = join(level.path.clone(), slot.name.as_bytes());
        each(&Names::new(&level.peeks, view), &path, ino)?;
        if kind == Kind::Dir {
            levels.push(enter(ino, path)?);
        }
    }
    Ok(())
}

/// The paths at which the two may differ, in each of them: where a path is in one of these, and the other state has anything
/// there, it is in the other one too.
pub(in crate::engine::service) fn apart(
    old: &Names<'_>,
    new: &Names<'_>,
    stop: &Stop,
) -> Answer<(Paths, Paths)> {
    let changes = Changes::between(&old.view.root, &new.view.root);
    let (mut was, mut is) = (Paths::new(), Paths::new());
    for slot in changes.names.values().flatten() {
        stop.check()?;
        let meanings = [old, new].map(|names| match names.has_dir(slot.parent) {
            // Of a directory that is not there, the overlay may still have something to say, which means nothing.
            false => Ok(None),
            true => names.meaning(slot),
        });
        let [before, after] = meanings;
        let (before, after) = (before?, after?);
        if before == after {
            continue;
        }
        for (names, meaning, paths) in [(old, before, &mut was), (new, after, &mut is)] {
            if let (Some((ino, kind)), Some(path)) = (meaning, names.path(slot)) {
                below(names, path, (ino, kind), stop, paths)?;
            }
        }
    }
    in_place(old, new, &changes, stop, &mut was, &mut is)?;
    Ok((was, is))
}

/// Notes a path and all below it.
fn below(
    names: &Names<'_>,
    path: Vec<u8>,
    (ino, kind): (Ino, Kind),
    stop: &Stop,
    paths: &mut Paths,
) -> Answer<()> {
    let mut left = vec![(path, ino, kind)];
    let mut entered = Entered::default();
    while let Some((path, ino, kind)) = left.pop() {
        // What is there already is there with all below it.
        if paths.insert(path.clone(), ino).is_some() || kind != Kind::Dir {
            continue;
        }
        stop.check()?;
        entered.enter(ino)?;
        for (slot, ino, kind) in names.children(ino)? {
            left.push((join(path.clone(), slot.name.as_bytes()), ino, kind));
        }
    }
    Ok(())
}

/// Notes the inodes that changed, under all their names.
fn in_place(
    old: &Names<'_>,
    new: &Names<'_>,
    changes: &Changes,
    stop: &Stop,
    was: &mut Paths,
    is: &mut Paths,
) -> Answer<()> {
    for (ino, slots) in slots_of_changed(old, new, changes)? {
        stop.check()?;
        if ino == ROOT {
            was.insert(Vec::new(), ROOT);
            is.insert(Vec::new(), ROOT);
            continue;
        }
        for slot in slots {
            for (names, paths) in [(old, &mut *was), (new, &mut *is)] {
                if names.means(&slot, ino)?
                    && let Some(path) = names.path(&slot)
                {
                    paths.entry(path).or_insert(ino);
                }
            }
        }
    }
    Ok(())
}
