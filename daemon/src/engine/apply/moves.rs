//! Putting objects where the head has them. Every step first looks whether it was done before the crash.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::super::Answer;
use super::error::{ApplyError, During, Trouble};
use super::hand::{Spot, is_dir, open_beneath};
use super::map::Map;
use crate::tree::{BLOCK, Dentry, FIRST_INO, Ino, Kind, ROOT, Slot};

/// First half: whatever must leave its place in the base, or is needed at another, goes into the staging area. Then all
/// places are free that the head fills anew, whichever names were swapped.
pub(super) fn park(map: &Map<'_>) -> Result<(), Trouble> {
    for (slot, dentry) in &map.head.dentries {
        if slot.parent < FIRST_INO {
            clear(map, slot, dentry.get()).during("move away", || map.path_of(slot.at()))?;
        }
    }
    // What was in a directory that is gone: nothing says any more that its old name means nothing.
    for ino in map.named().filter(|ino| *ino < FIRST_INO && *ino != ROOT) {
        fetch(map, ino).during("move", || map.path(ino))?;
    }
    Ok(())
}

/// Takes what the base has at a slot away, unless it belongs there.
fn clear(map: &Map<'_>, slot: &Slot, dentry: Dentry) -> Answer<()> {
    let Some(spot) = map.spot(slot.at())? else {
        return Ok(());
    };
    let Some(stat) = map.look(&spot)? else {
        return Ok(());
    };
    let belongs = match dentry {
        Dentry::Whiteout => false,
        Dentry::Here(ino, _) if ino < FIRST_INO => map.is(&stat, ino),
        // A new object that is not staged any more has been put in all of its places.
        Dentry::Here(ino, _) => match map.area.get(ino)? {
            Some((_, staged)) => staged.st_ino == stat.st_ino,
            None => true,
        },
    };
    if belongs {
        return Ok(());
    }
    match map.area.get(stat.st_ino)? {
        // Another name of it is there already.
        Some(_) => unlink(map, &spot),
        None => rename(map, &spot, &map.area.spot(stat.st_ino)?),
    }
}

/// Brings a base object that has names in the head into the staging area, unless it is at all of them.
fn fetch(map: &Map<'_>, ino: Ino) -> Answer<()> {
    if map.area.get(ino)?.is_some() {
        return Ok(());
    }
    let parked = map.area.spot(ino)?;
    let mut missing = false;
    for slot in map.names(ino) {
        missing |= !at(map, slot, ino)?;
    }
    if !missing {
        return Ok(());
    }
    // It is at one of its new places already, or still where the base had it.
    let Some(now) = map.object(ino)? else {
        return Err(Errno::ENOENT);
    };
    match now.stat()? {
        Some(stat) if is_dir(&stat) => rename(map, &now, &parked),
        // Its old name may still be good.
        _ => link(map, &now, &parked),
    }
}

/// Whether an object is at a place.
fn at(map: &Map<'_>, slot: &Slot, ino: Ino) -> Answer<bool> {
    let Some(spot) = map.spot(slot.at())? else {
        return Ok(false);
    };
    Ok(map.look(&spot)?.is_some_and(|s| map.is(&s, ino)))
}

/// Second half: everything that has a name in the overlay is put there.
pub(super) fn place(map: &Map<'_>, meter: &mut dyn FnMut(u64)) -> Result<(), ApplyError> {
    for ino in map.named().filter(|ino| *ino != ROOT) {
        let lost = put(map, ino)
            .during("put in place", || map.path(ino))
            .map_err(ApplyError::Halfway)?;
        if let Some(slot) = lost {
            let path = map.path_of(slot.at());
            return Err(ApplyError::Lost { path });
        }
        meter(map.names(ino).len() as u64 * BLOCK);
    }
    Ok(())
}

/// Puts an object in all of its places; one in which it is missing, if it is not staged.
fn put<'a>(map: &Map<'a>, ino: Ino) -> Answer<Option<&'a Slot>> {
    let staged = map.area.get(ino)?;
    let mut missing = Vec::new();
    for slot in map.names(ino) {
        let Some(spot) = map.spot(slot.at())? else {
            return Ok(Some(slot));
        };
        let there = map.look(&spot)?;
        let here = match &staged {
            Some((_, waiting)) => there.is_some_and(|s| s.st_ino == waiting.st_ino),
            None if ino < FIRST_INO => there.is_some_and(|s| map.is(&s, ino)),
            None => there.is_some_and(|s| map.kind(ino) == Kind::from_mode(s.st_mode)),
        };
        if !here {
            missing.push((*slot, spot));
        }
    }
    let Some((staged, _)) = staged else {
        return Ok(missing.first().map(|(slot, _)| *slot));
    };
    // The staged name is the sign that places are still missing: it goes with the last of them.
    if let Some((_, last)) = missing.pop() {
        for (_, spot) in &missing {
            link(map, &staged, spot)?;
        }
        rename(map, &staged, &last)?;
    }
    Ok(None)
}

fn rename(map: &Map<'_>, from: &Spot, to: &Spot) -> Answer<()> {
    match map.hand.rename(from, to) {
        Err(Errno::EACCES) if open_up(map, from, to)? => map.hand.rename(from, to),
        answer => answer,
    }
}

fn link(map: &Map<'_>, from: &Spot, to: &Spot) -> Answer<()> {
    match map.hand.link(from, to) {
        Err(Errno::EACCES) if open_up(map, from, to)? => map.hand.link(from, to),
        answer => answer,
    }
}

fn unlink(map: &Map<'_>, at: &Spot) -> Answer<()> {
    match map.hand.unlink(at) {
        Err(Errno::EACCES) if map.hand.open_up(at.dir.as_fd())? => map.hand.unlink(at),
        answer => answer,
    }
}

/// Lets the owner into both directories, and into the one that is moved: its `..` changes.
fn open_up(map: &Map<'_>, from: &Spot, to: &Spot) -> Answer<bool> {
    let mut any = map.hand.open_up(from.dir.as_fd())?;
    any |= map.hand.open_up(to.dir.as_fd())?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    if let Ok(dir) = open_beneath(from.dir.as_fd(), &from.name, flags) {
        any |= map.hand.open_up(dir.as_fd())?;
    }
    Ok(any)
}
