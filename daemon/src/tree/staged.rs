//! States that come from elsewhere: how the journal tells them.
//!
//! A state may be too big for one record. So it is told in several, on the side ([`Stage`]): what they say counts only once an
//! `Import` makes snapshots of what was staged, and until then nothing else of the state depends on it. What is staged when the
//! journal ends was never imported.

use imbl::ordmap::DiffItem;
use serde::{Deserialize, Serialize};

use super::extent::{self, Extent, FileBlock};
use super::root::{Contradiction, check_ino};
use super::{
    BASE_STATE, Dentry, Digest, Ino, Inode, InodeRef, Meta, Root, Slot, State, StateId, Time,
};

/// One step of telling states.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// One begins as what this state is (0: the base; none: the one told last). If it is the first, what was staged before is
    /// given up.
    Begin {
        /// Whether it is the first.
        first: bool,
        /// The state.
        from: Option<StateId>,
    },
    /// The last one differs in this.
    Differ(Vec<Difference>),
}

/// What of a root is not as it was; `None`: it says nothing of that any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Difference {
    /// An inode.
    Inode(Ino, Option<Box<Inode>>),
    /// A name.
    Dentry(Slot, Option<Dentry>),
    /// The extent of a file that begins at this block.
    Extent(Ino, u64, Option<Extent>),
}

/// A snapshot that something staged becomes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// Its number.
    pub id: StateId,
    /// Its name, unique among the snapshots.
    pub name: String,
    /// What was said of it.
    pub message: String,
    /// When it was taken, where it was.
    pub at: Time,
    /// What else it says of itself.
    pub meta: Meta,
    /// The checksum of what it holds.
    pub digest: Digest,
}

/// Tells what makes `new` of `old`.
///
/// # Errors
/// What `put` says.
pub fn differences<E>(
    old: &Root,
    new: &Root,
    put: &mut dyn FnMut(Difference) -> Result<(), E>,
) -> Result<(), E> {
    for item in old.inodes.diff(&new.inodes) {
        put(match item {
            DiffItem::Add(k, v) | DiffItem::Update { new: (k, v), .. } => {
                Difference::Inode(*k, Some(Box::new((**v).clone())))
            }
            DiffItem::Remove(k, _) => Difference::Inode(*k, None),
        })?;
    }
    for item in old.dentries.diff(&new.dentries) {
        put(match item {
            DiffItem::Add(k, v) | DiffItem::Update { new: (k, v), .. } => {
                Difference::Dentry(k.clone(), Some(v.get()))
            }
            DiffItem::Remove(k, _) => Difference::Dentry(k.clone(), None),
        })?;
    }
    for item in old.extents.diff(&new.extents) {
        put(match item {
            DiffItem::Add(k, v) | DiffItem::Update { new: (k, v), .. } => {
                Difference::Extent(k.ino(), k.block(), Some(*v))
            }
            DiffItem::Remove(k, _) => Difference::Extent(k.ino(), k.block(), None),
        })?;
    }
    Ok(())
}

impl Root {
    /// Takes a difference in.
    ///
    /// # Errors
    /// No file has such blocks.
    pub(super) fn differ(&mut self, difference: Difference) -> Result<(), Contradiction> {
        match difference {
            Difference::Inode(ino, None) => {
                self.inodes.remove(&ino);
                self.orphans.remove(&ino);
            }
            Difference::Inode(ino, Some(inode)) => {
                check_ino(ino)?;
                if inode.nlink == 0 {
                    self.orphans.insert(ino);
                } else {
                    self.orphans.remove(&ino);
                }
                self.inodes.insert(ino, InodeRef::new(*inode));
            }
            Difference::Dentry(slot, None) => {
                self.dentries.remove(&slot);
            }
            Difference::Dentry(slot, Some(dentry)) => {
                if let Dentry::Here(ino, _) = dentry {
                    check_ino(ino)?;
                }
                self.share(&slot, dentry);
                self.dentries.insert(slot, dentry.into());
            }
            Difference::Extent(ino, block, extent) => {
                let (len, src) = match extent {
                    Some(extent) => (u64::from(extent.len), Some(extent.src())),
                    None => (1, None),
                };
                if len == 0 || !extent::makes_sense(block, len, src) {
                    return Err(Contradiction(format!(
                        "inode {ino} has no {len} blocks from {block} on"
                    )));
                }
                let at = FileBlock::new(ino, block);
                match extent {
                    Some(extent) => self.extents.insert(at, extent),
                    None => self.extents.remove(&at),
                };
            }
        }
        Ok(())
    }

    /// Lets the inode that remembers this name share its bytes with the entry.
    fn share(&mut self, slot: &Slot, dentry: Dentry) {
        if let Dentry::Here(ino, _) = dentry
            && let Some(inode) = self.inodes.get_mut(&ino)
            && inode.home.as_ref() == Some(slot)
        {
            InodeRef::make_mut(inode).home = Some(slot.clone());
        }
    }
}

impl State {
    /// Carries out one step of telling states.
    pub(super) fn stage(&mut self, step: &Stage) -> Result<(), Contradiction> {
        match step {
            Stage::Begin { first, from } => {
                if *first {
                    self.staged.clear();
                }
                let root = match from {
                    Some(id) => self.root_or_base(*id)?,
                    None => self.last_staged()?.clone(),
                };
                self.staged.push(root);
            }
            Stage::Differ(differences) => {
                for difference in differences {
                    self.note_difference(difference)?;
                    self.last_staged()?.differ(difference.clone())?;
                }
            }
        }
        Ok(())
    }

    fn last_staged(&mut self) -> Result<&mut Root, Contradiction> {
        let none = || Contradiction("nothing is staged".to_owned());
        self.staged.last_mut().ok_or_else(none)
    }

    /// Makes snapshots of all that is staged.
    pub(super) fn import(&mut self, all: &[Imported]) -> Result<(), Contradiction> {
        let staged = std::mem::take(&mut self.staged);
        if staged.len() != all.len() {
            return Err(Contradiction(format!(
                "{} states are staged and {} are imported",
                staged.len(),
                all.len()
            )));
        }
        for (root, imported) in staged.into_iter().zip(all) {
            self.number(imported.id)?;
            // It is compared with what there was here.
            let older = self
                .snapshot_before(StateId::MAX)
                .map_or(BASE_STATE, |(id, _)| id);
            let snapshot = super::Snapshot {
                name: imported.name.clone(),
                message: imported.message.clone(),
                at: imported.at,
                meta: imported.meta.clone(),
                digest: Some(imported.digest),
                line: super::Line::since(older),
                root,
            };
            self.insert(imported.id, snapshot);
        }
        Ok(())
    }
}
