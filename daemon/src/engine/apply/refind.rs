//! Finding objects of the base whose only known name is gone, though they have others that nobody ever asked for.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;

use super::super::Answer;
use super::area::names_in;
use super::hand::{Spot, is_dir};
use crate::tree::{Ino, ROOT};

/// Told the number of an object, that of its directory, and its name there.
pub(super) type Found<'a> = &'a mut dyn FnMut(Ino, Ino, &[u8]) -> Answer<()>;

/// Walks the whole base until all of `wanted` are found, and tells a directory and a name of each.
pub(super) fn refind(root: &Rc<OwnedFd>, mut wanted: BTreeSet<Ino>, tell: Found<'_>) -> Answer<()> {
    // Descriptors are open on one path down only: what is still to be entered is a name in one of them.
    let mut stack = vec![Spot::new(root, b".")?];
    while let Some(spot) = stack.pop() {
        if wanted.is_empty() {
            return Ok(());
        }
        let dir = Rc::new(spot.open(OFlag::O_PATH | OFlag::O_DIRECTORY)?);
        let names = match names_in(&dir) {
            // Who keeps us out is not asked for anything either.
            Err(Errno::EACCES) => continue,
            names => names?,
        };
        let is_root = spot.name.as_bytes() == b".";
        let ino = if is_root {
            ROOT
        } else {
            fstat(dir.as_fd())?.st_ino
        };
        for name in names {
            let child = Spot::new(&dir, name.as_bytes())?;
            match child.stat()? {
                Some(stat) if is_dir(&stat) => stack.push(child),
                Some(stat) if wanted.remove(&stat.st_ino) => {
                    tell(stat.st_ino, ino, name.as_bytes())?
                }
                _ => {}
            }
        }
    }
    Ok(())
}
