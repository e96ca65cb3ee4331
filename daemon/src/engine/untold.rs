//! Names that a switch of the head changed, and of which the kernel may still know the old meaning.
//!
//! The kernel does not learn of the switch at once: it is told name by name. What removes or renames a name meanwhile would
//! be carried out here with the new meaning and in the kernel's cache with the old one, and what the kernel then
//! knows under another name nobody would ever tell it to forget. Such a request is answered ESTALE: the kernel
//! looks the names up anew and tries once more (`retry_estale` of Linux), unseen by the program.

use std::collections::BTreeSet;
use std::sync::Arc;

use nix::errno::Errno;

use super::{Answer, Engine};
use crate::tree::diff::Changes;
use crate::tree::{Ino, Slot};

/// The names of one switch.
pub(super) struct Untold {
    changes: Arc<Changes>,
    /// Those that the kernel was told to forget since, or has looked up.
    told: BTreeSet<Slot>,
}

impl Untold {
    /// The kernel knows nothing of these changes.
    pub fn new(changes: Arc<Changes>) -> Self {
        Untold {
            changes,
            told: BTreeSet::new(),
        }
    }

    /// The slot, if the switch changed its name.
    fn changed(&self, parent: Ino, name: &[u8]) -> Option<&Slot> {
        // In the order of the map they come from.
        let slots = self.changes.names.get(&parent)?;
        let at = slots.binary_search_by(|slot| slot.name.as_bytes().cmp(name));
        at.ok().map(|at| &slots[at])
    }
}

impl Engine {
    /// The kernel knows what a name means from now on. To be called with the gate held by whoever has found out what it
    /// means, so that no switch comes in between.
    pub(super) fn tell(&self, parent: Ino, name: &[u8]) {
        if self.untold.read().is_none() {
            return;
        }
        if let Some(untold) = &mut *self.untold.write()
            && let Some(slot) = untold.changed(parent, name).cloned()
        {
            untold.told.insert(slot);
        }
    }

    /// Whether the kernel knows what a name means, which is asked with the gate held.
    ///
    /// # Errors
    /// `ESTALE` when it may not.
    pub(super) fn known_to_kernel(&self, parent: Ino, name: &[u8]) -> Answer<()> {
        let untold = self.untold.read();
        let slot = untold
            .as_ref()
            .and_then(|u| Some((u, u.changed(parent, name)?)));
        match slot {
            Some((untold, slot)) if !untold.told.contains(slot) => Err(Errno::ESTALE),
            _ => Ok(()),
        }
    }
}
