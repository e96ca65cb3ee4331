//! Going on behind a damage of the journal, when the user said so: what lies before it counts, what lies
//! behind it is set aside.

use super::disk::Disk;
use super::error::{Damage, Naming, OpenError};
use super::journal::segment;
use std::path::Path;

/// Renames the segments behind the damage, so that they are no segments any more; the newest first,
/// so that a cut leaves a run that is damaged at the same place. Deletes nothing.
pub(super) fn set_aside(disk: &dyn Disk, damage: &Damage) -> Result<(), OpenError> {
    let numbers = segment::list(disk).naming(segment::DIR)?;
    for &number in numbers.iter().rev() {
        let behind = number > damage.segment || (number == damage.segment && damage.offset == 0);
        if !behind {
            break;
        }
        let path = segment::path(number);
        let aside = path.with_extension("log.damaged");
        disk.rename(&path, &aside).naming(&path)?;
        disk.sync_dir(Path::new(segment::DIR))
            .naming(segment::DIR)?;
        tracing::warn!(segment = number, "a journal segment was set aside");
    }
    Ok(())
}
