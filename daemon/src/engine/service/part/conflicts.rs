//! What others did since to what is to be taken back.

use std::collections::BTreeMap;

use super::super::diff::Names;
use super::groups::{Group, alive, meaning};
use super::{conflict, inode_in};
use crate::engine::Answer;
use crate::engine::snapshot::Conflict;
use crate::tree::{Ino, Inode, Kind, Slot, Xattrs};

/// A step, and the tree as it is now.
pub(super) struct Since<'a> {
    /// What the step led to.
    pub after: &'a Names<'a>,
    /// What it began with.
    pub before: &'a Names<'a>,
    /// What it has become.
    pub now: &'a Names<'a>,
}

/// Notes what is in the way of a group: in `soft` what is lost if the group is taken back all the same, in `hard` what makes that
/// impossible.
pub(super) fn find(
    since: &Since<'_>,
    group: &Group,
    soft: &mut Vec<Conflict>,
    hard: &mut Vec<Conflict>,
) -> Answer<()> {
    let mut links: BTreeMap<Ino, i64> = BTreeMap::new();
    for slot in &group.slots {
        let is = meaning(since.now, slot)?.map(|m| m.0);
        let became = meaning(since.after, slot)?.map(|m| m.0);
        let was = meaning(since.before, slot)?.map(|m| m.0);
        if let Some(ino) = is {
            *links.entry(ino).or_default() -= 1;
        }
        if is != became && is != was {
            let what = match is {
                None => "was deleted or renamed since",
                Some(_) => "was replaced since",
            };
            soft.push(conflict(path(since, group, slot), what));
        }
        let lacks_dir = was.is_some() && is != was && !since.now.has_dir(slot.parent);
        if lacks_dir && !group.inodes.contains(&slot.parent) {
            let what = "is in a directory that was removed since";
            hard.push(conflict(path(since, group, slot), what));
        }
    }
    for ino in &group.inodes {
        let (is, became, was) = (
            inode_in(since.now, *ino)?,
            inode_in(since.after, *ino)?,
            inode_in(since.before, *ino)?,
        );
        let kind = [&is, &became, &was].into_iter().flatten().next();
        match kind.map(|inode| inode.kind) {
            Some(Kind::Dir) => dir(since, group, *ino, (&is, &became, &was), soft),
            Some(_) => {
                let data = |a: &Names<'_>, b: &Names<'_>| a.view.root.same_data(&b.view.root, *ino);
                let same = |a: (&Option<Inode>, &Names<'_>), b: (&Option<Inode>, &Names<'_>)| {
                    a.0.as_ref().map(content) == b.0.as_ref().map(content) && data(a.1, b.1)
                };
                let now = (&is, since.now);
                let untouched = same((&became, since.after), (&was, since.before));
                let fits = same(now, (&became, since.after)) || same(now, (&was, since.before));
                if is.is_none() && was.is_some() && became.is_some() && !untouched {
                    let slot = since.before.bound(*ino)?.into_iter().next();
                    match slot.map(|slot| is_free(since.now, &slot)).transpose()? {
                        Some(true) => soft.push(conflict(group.path(), "was deleted since")),
                        _ => hard.push(conflict(
                            group.path(),
                            "was deleted since, and nothing can be at its place now",
                        )),
                    }
                } else if is.is_some() && !untouched && !fits {
                    soft.push(conflict(name(since, group, *ino), "was changed since"));
                }
                let left = is.as_ref().map_or(0, |i| i64::from(i.nlink));
                let left = left + links.get(ino).copied().unwrap_or(0);
                if was.is_none() && is.is_some() && left > 0 {
                    let what = "got another name since, under which it would be lost";
                    hard.push(conflict(name(since, group, *ino), what));
                }
            }
            None => {}
        }
    }
    Ok(())
}

/// The same for a directory.
fn dir(
    since: &Since<'_>,
    group: &Group,
    ino: Ino,
    (is, became, was): (&Option<Inode>, &Option<Inode>, &Option<Inode>),
    soft: &mut Vec<Conflict>,
) {
    match (became, was, is) {
        (Some(became), Some(was), Some(is)) => {
            let fits = attributes(is) == attributes(became) || attributes(is) == attributes(was);
            if attributes(became) != attributes(was) && !fits {
                soft.push(conflict(name(since, group, ino), "was changed since"));
            }
        }
        (Some(became), None, Some(is)) if attributes(is) != attributes(became) => {
            soft.push(conflict(name(since, group, ino), "was changed since"));
        }
        (Some(became), Some(was), None) if attributes(became) != attributes(was) => {
            soft.push(conflict(group.path(), "was deleted since"));
        }
        _ => {}
    }
}

/// Whether something can be put there.
pub(super) fn is_free(now: &Names<'_>, slot: &Slot) -> Answer<bool> {
    Ok(now.has_dir(slot.parent) && meaning(now, slot)?.is_none())
}

/// What is compared of a directory.
pub(super) fn attributes(inode: &Inode) -> (u16, u32, u32, &Option<Xattrs>) {
    (inode.perm, inode.uid, inode.gid, &inode.xattrs)
}

/// What is compared of anything else: not its names, and no times.
fn content(inode: &Inode) -> impl PartialEq {
    (
        (inode.kind, inode.perm, inode.uid, inode.gid, inode.rdev),
        (inode.size, inode.base_len),
        (inode.xattrs.clone(), inode.target.clone()),
    )
}

fn path(since: &Since<'_>, group: &Group, slot: &Slot) -> Vec<u8> {
    let names = [since.now, since.after, since.before];
    let path = names.into_iter().find_map(|names| names.path(slot));
    path.unwrap_or_else(|| group.path())
}

fn name(since: &Since<'_>, group: &Group, ino: Ino) -> Vec<u8> {
    let names = [since.now, since.after, since.before];
    let slot = names
        .into_iter()
        .filter(|names| alive(names, ino).unwrap_or(false))
        .find_map(|names| names.bound(ino).ok()?.into_iter().next());
    slot.map_or_else(|| group.path(), |slot| path(since, group, &slot))
}
