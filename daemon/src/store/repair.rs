//! Going on behind a damage, when the user said so: what lies before it counts, what lies behind it is set aside under
//! another name. Nothing is destroyed.

use super::disk::{Disk, OpenHow};
use super::error::{Damage, Naming, OpenError};
use super::images;
use super::journal::segment;
use super::superblock;
use std::io;
use std::path::{Path, PathBuf};

/// Bytes that are copied at a time.
const CHUNK: usize = 1 << 20;

/// Sets aside what the damage cuts off: a copy of the damaged segment, of which the sound part stays in use, and the segments behind
/// it. These are renamed, so that they are no segments any more; the newest first, so that a cut leaves a run that is
/// damaged at the same place.
pub(super) fn set_aside(disk: &dyn Disk, damage: &Damage) -> Result<(), OpenError> {
    let numbers = segment::list(disk).naming(segment::DIR)?;
    if damage.offset > 0 && numbers.contains(&damage.segment) {
        let path = segment::path(damage.segment);
        copy_aside(disk, &path).naming(&path)?;
    }
    for &number in numbers.iter().rev() {
        let behind = number > damage.segment || (number == damage.segment && damage.offset == 0);
        if !behind {
            break;
        }
        let path = segment::path(number);
        rename_aside(disk, &path).naming(&path)?;
        tracing::warn!(segment = number, "a journal segment was set aside");
    }
    Ok(())
}

/// Sets damaged images aside, which nobody can use and which hold up the deletion of older ones.
pub(super) fn set_images_aside(disk: &dyn Disk, numbers: &[u32]) -> Result<(), OpenError> {
    for &number in numbers {
        let path = images::path(number);
        rename_aside(disk, &path).naming(&path)?;
        tracing::warn!(image = number, "a damaged image was set aside");
    }
    Ok(())
}

/// Copies what is there of a superblock.
pub(super) fn keep_superblock(disk: &dyn Disk) -> io::Result<()> {
    match copy_aside(disk, Path::new(superblock::PATH)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        answer => answer,
    }
}

/// A name that is free, such as `journal/00000007.log.damaged`. Numbers of segments come again after a repair.
fn free_name(disk: &dyn Disk, path: &Path) -> io::Result<PathBuf> {
    let taken = disk.list(path.parent().unwrap_or(Path::new("")))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut aside = format!("{name}.damaged");
    for count in 2.. {
        if !taken.iter().any(|taken| *taken == *aside) {
            break;
        }
        aside = format!("{name}.damaged-{count}");
    }
    Ok(path.with_file_name(aside))
}

fn rename_aside(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    disk.rename(path, &free_name(disk, path)?)?;
    disk.sync_dir(path.parent().unwrap_or(Path::new("")))
}

fn copy_aside(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let aside = free_name(disk, path)?;
    // Under this extension it is removed at the next start if it is not finished.
    let temporary = path.with_extension("tmp");
    let from = disk.open(path, OpenHow::Read)?;
    let to = disk.open(&temporary, OpenHow::Replace)?;
    let mut bytes = vec![0; CHUNK];
    let mut at = 0;
    loop {
        let read = from.read_at(&mut bytes, at)?;
        if read == 0 {
            break;
        }
        to.write_at(&bytes[..read], at)?;
        at += read as u64;
    }
    to.sync_data()?;
    disk.rename(&temporary, &aside)?;
    disk.sync_dir(path.parent().unwrap_or(Path::new("")))
}
