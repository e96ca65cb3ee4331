//! The files of the base that have several names there: which these are only a walk over all of it tells.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use nix::errno::Errno;

use super::diff::{Names, Peeks};
use super::digest::{Stop, all};
use super::states::View;
use crate::engine::{Answer, Engine};
use crate::tree::{FIRST_INO, Ino, Kind, ROOT, Slot};

/// All paths of each file of the base that has several.
pub(in crate::engine) type Linked = HashMap<Ino, Vec<Vec<u8>>>;

/// Found once, when a file that has several names differs somewhere; an apply makes it outdated.
///
/// # Errors
/// `ESTALE` if an apply changed the base meanwhile, or what the base says.
pub(super) fn linked(engine: &Engine) -> Answer<Arc<Linked>> {
    look(engine, &mut || ())
}

/// The same; `meanwhile` is called for each path.
pub(super) fn look(engine: &Engine, meanwhile: &mut dyn FnMut()) -> Answer<Arc<Linked>> {
    if let Some(known) = engine.linked.lock().clone() {
        return Ok(known);
    }
    let base = engine.digests.which_base();
    let mut found = Linked::new();
    let mut note = |names: &Names<'_>, path: &[u8], ino: Ino| {
        meanwhile();
        if names.is_linked(ino) {
            found.entry(ino).or_default().push(path.to_vec());
        }
        Ok(())
    };
    all(engine, &View::base(), &Stop::default(), &mut note)?;
    let found = Arc::new(found);
    let mut known = engine.linked.lock();
    // An apply says that there is another base before it takes away what was known of the one before.
    if engine.digests.which_base() != base {
        return Err(Errno::ESTALE);
    }
    *known = Some(found.clone());
    Ok(found)
}

impl Peeks<'_> {
    /// All files that have several names in the base.
    ///
    /// # Errors
    /// As [`Peeks::links_of_base`].
    pub fn linked(&self) -> Answer<Arc<Linked>> {
        let known = self.engine.linked.lock().clone();
        match known {
            Some(known) => Ok(known),
            None if self.is_hurried() || !self.may_walk() => Err(Errno::EAGAIN),
            None => linked(self.engine),
        }
    }

    /// The names in the base of those of `inos` that have several there.
    ///
    /// # Errors
    /// `EAGAIN`: only a walk over the base tells them, and there can be none now. Or what the base says.
    pub fn links_of_base(&self, inos: &BTreeSet<Ino>) -> Answer<BTreeMap<Ino, BTreeSet<Slot>>> {
        let mut all = BTreeMap::new();
        let base = View::base();
        let names = Names::new(self, &base);
        let several = |ino: &&Ino| **ino < FIRST_INO && names.is_linked(**ino);
        for ino in inos.iter().filter(several) {
            let paths = self.linked()?.get(ino).cloned().unwrap_or_default();
            let mut slots = BTreeSet::new();
            for path in paths {
                slots.extend(self.slot_of(&path)?);
            }
            all.insert(*ino, slots);
        }
        Ok(all)
    }

    /// Where a path of the base is; the directories on the way are held from here on.
    fn slot_of(&self, path: &[u8]) -> Answer<Option<Slot>> {
        let mut at = ROOT;
        let mut names = path.split(|b| *b == b'/').peekable();
        while let Some(name) = names.next() {
            let slot = Slot::new(at, name);
            if names.peek().is_none() {
                return Ok(Some(slot));
            }
            match self.lookup(at, name)? {
                Some(stat) if stat.kind == Kind::Dir => at = stat.ino,
                _ => return Ok(None),
            }
        }
        Ok(None)
    }
}
