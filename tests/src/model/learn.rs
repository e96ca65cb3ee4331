//! Learning from the real tree what no model can know, and holding it to the rest.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Id, Model};

/// A point in time: seconds and nanoseconds since 1970.
pub type Moment = (i64, i64);

/// The kernel may stamp with the time of its last tick.
const TICK: Duration = Duration::from_millis(20);

/// The time now, moved back by a tick: no stamp of a later operation is earlier.
#[must_use]
pub fn before() -> Moment {
    moment(SystemTime::now() - TICK)
}

fn after() -> Moment {
    moment(SystemTime::now() + TICK)
}

fn moment(time: SystemTime) -> Moment {
    let age = time
        .duration_since(UNIX_EPOCH)
        .expect("the clock is past 1970");
    (age.as_secs().cast_signed(), i64::from(age.subsec_nanos()))
}

impl Model {
    /// The time just before an operation, to be given to [`Model::learn`] after it.
    #[must_use]
    pub fn begin() -> Moment {
        before()
    }

    /// Looks at what the last operation touched in the real tree at `root`: times must be in the
    /// operation's time, inode numbers of new objects must be new.
    pub fn learn(&mut self, root: &Path, begin: Moment) -> Result<(), String> {
        let touched = std::mem::take(&mut self.touched);
        for &id in &touched.new {
            self.learn_one(root, id, |model, found| {
                if let Some(spent) = &mut model.spent
                    && !spent.insert(found.ino())
                {
                    return Err(format!("inode number {} was used before", found.ino()));
                }
                model.head.node_mut(id).ino = found.ino();
                Ok(())
            })?;
        }
        let end = after();
        for (&id, optional) in touched
            .must
            .iter()
            .chain(&touched.new)
            .map(|id| (id, false))
            .chain(touched.may.iter().map(|id| (id, true)))
        {
            self.learn_one(root, id, |model, found| {
                let seen = (found.mtime(), found.mtime_nsec());
                let node = model.head.node_mut(id);
                if (begin..=end).contains(&seen) || optional && seen == node.mtime {
                    node.mtime = seen;
                    return Ok(());
                }
                Err(format!(
                    "mtime {seen:?}, was {:?}, not in {begin:?}..{end:?}",
                    node.mtime
                ))
            })?;
        }
        Ok(())
    }

    /// Learns the root's inode number alone: a mount's root has another one than its base.
    pub fn learn_root_inode(&mut self, root: &Path) {
        let found = root.symlink_metadata().expect("the root can be looked at");
        self.head.node_mut(super::state::ROOT).ino = found.ino();
    }

    /// Learns everything about the root itself, which was there before the model.
    pub fn learn_root(&mut self, root: &Path) {
        let found = root.symlink_metadata().expect("the root can be looked at");
        let node = self.head.node_mut(super::state::ROOT);
        node.ino = found.ino();
        node.mtime = (found.mtime(), found.mtime_nsec());
        node.mode = found.mode() & 0o7777;
        node.uid = found.uid();
        node.gid = found.gid();
    }

    /// Looks at one object by a path that leads to it, if one does.
    fn learn_one(
        &mut self,
        root: &Path,
        id: Id,
        look: impl FnOnce(&mut Model, &std::fs::Metadata) -> Result<(), String>,
    ) -> Result<(), String> {
        let Some(spot) = self
            .head
            .nodes
            .contains_key(&id)
            .then(|| self.head.path_of(id))
            .flatten()
        else {
            return Ok(());
        };
        let found = spot.below(root).symlink_metadata();
        found
            .map_err(|error| error.to_string())
            .and_then(|found| look(self, &found))
            .map_err(|why| format!("{spot:?}: {why}"))
    }
}
