//! What the kernel is told of changes in `.llfs`. Called by no handler.

use std::collections::HashSet;

use super::node::{FIRST_SLOT, FIRST_VIEW, Node, VIEWS_DIR};
use crate::engine::Engine;
use crate::tree::{BASE_STATE, Ino, StateId};

impl Engine {
    /// There is another checkpoint, or one has another name. The listing that the kernel keeps is old; names are asked for
    /// each time.
    pub(in crate::engine) fn views_changed(&self) {
        if let Some(kernel) = self.kernel.get()
            && self.held.lock().holds(VIEWS_DIR)
        {
            kernel.forget_inode(VIEWS_DIR);
        }
    }

    /// These states are gone. Who stands in one of them, or has a file of it open, is not shown what was kept of it.
    pub(in crate::engine) fn views_gone(&self, states: &[StateId]) {
        let closed: HashSet<usize> = {
            let mut slots = self.views.lock();
            states.iter().filter_map(|id| slots.close(*id)).collect()
        };
        if let Some(kernel) = self.kernel.get()
            && self.held.lock().holds(VIEWS_DIR)
        {
            kernel.forget_inode(VIEWS_DIR);
            let gone = |number: Ino| match Node::of(number) {
                Node::Views => false,
                Node::Root(id) => states.contains(&id),
                Node::Below(slot, _) => closed.contains(&slot),
            };
            for number in self.views_held(gone) {
                kernel.forget_inode(number);
            }
        }
    }

    /// An apply made another base, and left no state: nothing in `.llfs` is what it was, not even what names below `@base`
    /// mean, which the kernel takes to last.
    pub(in crate::engine) fn views_anew(&self) {
        let mut all = self.views.lock().states();
        all.extend(self.views_held(|_| true).into_iter().filter_map(|number| {
            match Node::of(number) {
                Node::Root(id) => Some(id),
                _ => None,
            }
        }));
        all.sort_unstable();
        all.dedup();
        if all.contains(&BASE_STATE)
            && let Some(kernel) = self.kernel.get()
        {
            kernel.forget_name(VIEWS_DIR, llctl::StateRef::Base.to_string().as_bytes());
        }
        self.views_gone(&all);
    }

    /// Has the kernel let go of checkpoints that nobody is in.
    pub(in crate::engine) fn forget_views(&self) {
        let Some(kernel) = self.kernel.get() else {
            return;
        };
        for name in self.snapshot_names() {
            kernel.forget_name(VIEWS_DIR, name.as_bytes());
        }
    }

    /// The slots of which the kernel holds something.
    pub(super) fn slots_in_use(&self) -> HashSet<usize> {
        let held = self.views_held(|_| true);
        let slots = held
            .into_iter()
            .filter_map(|number| match Node::of(number) {
                Node::Below(slot, _) if slot >= FIRST_SLOT => Some(slot),
                _ => None,
            });
        slots.collect()
    }

    fn views_held(&self, which: impl Fn(Ino) -> bool) -> Vec<Ino> {
        let held = self.held.lock().all();
        let numbers = held.into_iter().map(|entry| entry.ino);
        numbers.filter(|n| *n >= FIRST_VIEW && which(*n)).collect()
    }
}
