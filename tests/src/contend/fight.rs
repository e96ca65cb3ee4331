//! Names in two directories that everybody changes. Whoever loses gets an error, nobody gets a broken directory.

use std::fs::{self, File};
use std::io;
use std::io::Write;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::line;
use crate::dice::Random;

/// Bytes of each line in these files: it is written whole, over another or at the end.
const LENGTH: usize = 256;

/// The two directories.
pub const DIRS: [&str; 2] = ["names", "names/sub"];

/// Makes the directories.
pub(super) fn prepare(dir: &Path) -> io::Result<()> {
    DIRS.iter()
        .try_for_each(|name| fs::create_dir(dir.join(name)))
}

/// One change.
///
/// # Errors
/// What the filesystem says: many errors are those of whoever came second.
pub fn step(dir: &Path, slot: usize, number: u64, random: &mut Random) -> io::Result<()> {
    let pick = |random: &mut Random| {
        dir.join(DIRS[random.below(2)])
            .join(format!("n{}", random.below(7)))
    };
    let (one, two) = (pick(random), pick(random));
    let text = line::line(slot, number, LENGTH);
    let rename = |flags| Ok(renameat2(AT_FDCWD, &one, AT_FDCWD, &two, flags)?);
    match random.below(16) {
        0 | 1 => File::create_new(&one)?.write_all_at(&text, 0),
        2 => File::create(&one)?.write_all_at(&text, 0),
        3 => File::options().append(true).open(&one)?.write_all(&text),
        4 => File::options()
            .write(true)
            .open(&one)?
            .write_all_at(&text, 0),
        5 => File::options().write(true).open(&one)?.set_len(0),
        6 | 7 => rename(RenameFlags::empty()),
        8 => rename(RenameFlags::RENAME_NOREPLACE),
        9 => rename(RenameFlags::RENAME_EXCHANGE),
        10 => fs::hard_link(&one, &two),
        11 => symlink("../names", &one),
        12 => fs::create_dir(&one),
        13 => fs::remove_dir(&one),
        14 => fs::remove_file(&one),
        _ => fs::read(&one).map(drop),
    }
}
