//! What git is in the middle of: a revert that would end it is refused.
//!
//! Git notes a merge, a rebase and so on in files of the repository's own directory. If that is in the mount, a revert brings back
//! a state that fits together, whatever was in progress then; what the user can lose is the operation of now. So what
//! matters is whether the revert takes such a file away or puts another in its place. One that both states have, because the snapshot
//! was taken in the same merge, is none of it. A repository's directory outside of the mount is the client's to look at.

use std::path::PathBuf;

use super::Engine;
use super::snapshot::Refusal;
use crate::tree::diff::Changes;
use crate::tree::{At, Dentry, FIRST_INO, Ino, Root};

/// Files of git's directory, and what git does while they are there.
const MARKS: [(&[u8], &str); 6] = [
    (b"MERGE_HEAD", "merge"),
    (b"CHERRY_PICK_HEAD", "cherry-pick"),
    (b"REVERT_HEAD", "revert"),
    (b"rebase-merge", "rebase"),
    (b"rebase-apply", "rebase"),
    (b"BISECT_LOG", "bisect"),
];

impl Engine {
    /// Refuses a revert from `old` to `new` that ends what git is in the middle of.
    ///
    /// # Errors
    /// [`Refusal::Underway`].
    pub(super) fn refuse_underway(
        &self,
        old: &Root,
        new: &Root,
        changes: &Changes,
    ) -> Result<(), Refusal> {
        for slot in changes.names.values().flatten() {
            let mark = MARKS.iter().find(|(name, _)| *name == slot.name.as_bytes());
            let Some((_, what)) = mark else { continue };
            let was = self.meaning(old, slot.at());
            if was.is_none()
                || was == self.meaning(new, slot.at())
                || self.meaning(old, At(slot.parent, b"HEAD")).is_none()
            {
                continue;
            }
            // Not an old one that was left behind in a directory that is gone.
            if old.inode(slot.parent).is_some_and(|dir| dir.nlink == 0) {
                continue;
            }
            let path = self.path_of(slot).unwrap_or_else(|| PathBuf::from(".git"));
            let at = path.parent().map(PathBuf::from).unwrap_or_default();
            return Err(Refusal::Underway { what, at });
        }
        Ok(())
    }

    /// The inode that a name means in a state.
    fn meaning(&self, root: &Root, at: At<'_>) -> Option<Ino> {
        match root.dentry(at) {
            Some(Dentry::Here(ino, _)) => Some(ino),
            Some(Dentry::Whiteout) => None,
            None if at.0 >= FIRST_INO => None,
            None => self.base.lookup(at.0, at.1).ok().map(|stat| stat.ino),
        }
    }
}
