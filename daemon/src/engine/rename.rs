//! Renaming: one record, whatever is moved.

use nix::errno::Errno;

use super::authors::Did;
use super::change::{Probe, Tx};
use super::circle::Circle;
use super::namespace::{alive, check};
use super::seed::Seed;
use super::{Answer, Engine};
use crate::tree::{Ino, Kind, ROOT, Slot};

/// Fail if the new name exists (`linux/fs.h`).
const NOREPLACE: u32 = 1;
/// Swap the two.
const EXCHANGE: u32 = 2;

/// One of the two names of a rename.
struct Side {
    slot: Slot,
    probe: Probe,
    dir_seed: Seed,
    /// What the name means, and the seed of that.
    object: Option<(Ino, Kind, Seed)>,
}

impl Engine {
    /// Renames, without copying anything.
    ///
    /// # Errors
    /// `ENOENT`, `EEXIST`, `ENOTEMPTY`, `EISDIR`, `ENOTDIR`, `EINVAL` for unknown flags, `ENAMETOOLONG`, `ENOSPC`, `ESTALE`
    /// for what the kernel asks since it does not know yet what a revert changed, or what the base says.
    pub fn rename(
        &self,
        parent: Ino,
        name: &[u8],
        new_parent: Ino,
        new_name: &[u8],
        flags: u32,
    ) -> Answer<()> {
        check(new_name)?;
        if flags & !(NOREPLACE | EXCHANGE) != 0 || flags == NOREPLACE | EXCHANGE {
            return Err(Errno::EINVAL);
        }
        self.with_room(|| self.rename_once((parent, name), (new_parent, new_name), flags))
    }

    fn rename_once(&self, from: (Ino, &[u8]), to: (Ino, &[u8]), flags: u32) -> Answer<()> {
        let _names = self.names.lock();
        self.writable(from.0, from.1)?;
        self.writable(to.0, to.1)?;
        self.known_to_kernel(from.0, from.1)?;
        self.known_to_kernel(to.0, to.1)?;
        let from = self.side(from.0, from.1)?;
        let to = self.side(to.0, to.1)?;
        let Some((ino, kind, _)) = &from.object else {
            return Err(Errno::ENOENT);
        };
        self.not_below_itself(&from, &to)?;
        if flags == EXCHANGE {
            self.not_below_itself(&to, &from)?;
            return self.exchange(&from, &to);
        }
        let mut below = Vec::new();
        if let Some((target, target_kind, _)) = &to.object {
            if flags == NOREPLACE {
                return Err(Errno::EEXIST);
            }
            if target == ino {
                return Ok(());
            }
            match (*kind, *target_kind) {
                (Kind::Dir, Kind::Dir) => {
                    below = self.below(*target)?;
                    self.held.lock().dying(*target);
                }
                (Kind::Dir, _) => return Err(Errno::ENOTDIR),
                (_, Kind::Dir) => return Err(Errno::EISDIR),
                _ => {}
            }
        }
        self.change(|tx| self.replace(tx, &from, &to, &below))?;
        self.did(*ino, Did::NAMED);
        if let Some((target, target_kind, _)) = &to.object {
            if *target_kind == Kind::Dir {
                self.held.lock().retire(*target);
            }
            self.did(*target, Did::REMOVED);
            self.let_go(*target);
        }
        Ok(())
    }

    /// The kernel refuses to move a directory below itself, by what it knows of the tree. A revert may have moved one of the directories
    /// since, none of whose names are those of the rename.
    ///
    /// # Errors
    /// `ESTALE`: the kernel looks up anew what it is about, as in [`super::untold`].
    fn not_below_itself(&self, from: &Side, to: &Side) -> Answer<()> {
        let Some((dir, Kind::Dir, _)) = from.object else {
            return Ok(());
        };
        let mut at = to.slot.parent;
        // What stays where it is stays below what it is below.
        let mut circle = Circle::default();
        while at != ROOT && at != from.slot.parent {
            if at == dir || circle.closes(at) {
                return Err(Errno::ESTALE);
            }
            match self.place_in_head(at) {
                Some(place) => at = place.parent,
                None => break,
            }
        }
        Ok(())
    }

    fn side(&self, parent: Ino, name: &[u8]) -> Answer<Side> {
        let dir_seed = self.seed_dir(parent)?;
        let probe = self.probe(parent, name)?;
        let object = match self.find(parent, name, &probe) {
            Some((ino, kind)) => Some((ino, kind, self.seed(ino)?)),
            None => None,
        };
        Ok(Side {
            slot: Slot::new(parent, name),
            probe,
            dir_seed,
            object,
        })
    }

    fn replace(&self, tx: &mut Tx<'_>, from: &Side, to: &Side, below: &[Vec<u8>]) -> Answer<()> {
        let (ino, kind, seed) = from.object.as_ref().ok_or(Errno::ENOENT)?;
        alive(&tx.inode(to.slot.parent, &to.dir_seed)?)?;
        // Directories that each of the two parents has more afterwards.
        let mut came = i32::from(*kind == Kind::Dir);
        let left = -came;
        if let Some((target, target_kind, target_seed)) = &to.object {
            if *target_kind == Kind::Dir {
                self.bury_dir(tx, *target, target_seed, below)?;
                came -= 1;
            } else {
                tx.drop_link(*target, target_seed)?;
            }
        }
        tx.touch(*ino, seed, None, false)?;
        tx.unlink(&from.slot, from.probe.0.is_some());
        tx.link(&to.slot, *ino, *kind);
        if from.slot.parent == to.slot.parent {
            return self.touch_dir(tx, to.slot.parent, &to.dir_seed, left + came);
        }
        self.touch_dir(tx, from.slot.parent, &from.dir_seed, left)?;
        self.touch_dir(tx, to.slot.parent, &to.dir_seed, came)
    }

    fn exchange(&self, from: &Side, to: &Side) -> Answer<()> {
        let (Some((a, a_kind, a_seed)), Some((b, b_kind, b_seed))) = (&from.object, &to.object)
        else {
            return Err(Errno::ENOENT);
        };
        if a == b {
            return Ok(());
        }
        self.change(|tx| {
            tx.touch(*a, a_seed, None, false)?;
            tx.touch(*b, b_seed, None, false)?;
            tx.link(&to.slot, *a, *a_kind);
            tx.link(&from.slot, *b, *b_kind);
            let dirs = |k: &Kind| i32::from(*k == Kind::Dir);
            if from.slot.parent == to.slot.parent {
                return self.touch_dir(tx, from.slot.parent, &from.dir_seed, 0);
            }
            let moved = dirs(a_kind) - dirs(b_kind);
            self.touch_dir(tx, from.slot.parent, &from.dir_seed, -moved)?;
            self.touch_dir(tx, to.slot.parent, &to.dir_seed, moved)
        })?;
        self.did(*a, Did::NAMED);
        self.did(*b, Did::NAMED);
        Ok(())
    }
}
