//! Files and directories that change places, and nothing else: each is there exactly once at every moment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::dice::Random;

/// Tokens in each of the two directories.
const EACH: usize = 8;

fn place(dir: &Path, number: usize) -> PathBuf {
    dir.join(["tokens/a", "tokens/b"][number / EACH])
        .join(format!("t{}", number % EACH))
}

/// Makes the tokens: files in one directory, directories with a file in the other.
pub(super) fn prepare(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir.join("tokens/a"))?;
    fs::create_dir_all(dir.join("tokens/b"))?;
    for number in 0..2 * EACH {
        let path = place(dir, number);
        if number < EACH {
            fs::write(path, number.to_string())?;
        } else {
            fs::create_dir(&path)?;
            fs::write(path.join("token"), number.to_string())?;
        }
    }
    Ok(())
}

/// How long a directory may be stale after a revert has moved it.
const STALE: Duration = Duration::from_secs(5);

/// Exchanges two.
///
/// While a revert moves directories (`exact` is false), Linux answers ESTALE for one that it still knows at
/// its old place and cannot move in its cache, because another rename goes on (`__d_unalias`).
///
/// # Errors
/// What the filesystem says; there is no other reason why it should.
pub fn step(dir: &Path, random: &mut Random, exact: bool) -> io::Result<()> {
    let (one, two) = (random.below(2 * EACH), random.below(2 * EACH));
    let (one, two) = (place(dir, one), place(dir, two));
    let begun = Instant::now();
    loop {
        match renameat2(AT_FDCWD, &one, AT_FDCWD, &two, RenameFlags::RENAME_EXCHANGE) {
            Err(Errno::ESTALE) if !exact && begun.elapsed() < STALE => {
                for path in [&one, &two] {
                    match path.symlink_metadata() {
                        Err(error) if error.raw_os_error() != Some(libc::ESTALE) => {
                            return Err(error);
                        }
                        _ => {}
                    }
                }
            }
            done => return Ok(done?),
        }
    }
}

/// Which tokens are not there once, and what is there that should not be.
#[must_use]
pub fn problems(dir: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    let mut found = BTreeMap::new();
    for number in 0..2 * EACH {
        let path = place(dir, number);
        let text = match path.symlink_metadata() {
            Ok(known) if known.is_dir() => fs::read_to_string(path.join("token")),
            _ => fs::read_to_string(&path),
        };
        match text.map(|text| text.parse::<usize>()) {
            Ok(Ok(token)) => *found.entry(token).or_insert(0) += 1,
            other => problems.push(format!("tokens: {}: {other:?}", path.display())),
        }
    }
    if !found.keys().copied().eq(0..2 * EACH) {
        problems.push(format!("tokens: not each once: {found:?}"));
    }
    for name in ["tokens/a", "tokens/b"] {
        let listed = fs::read_dir(dir.join(name)).map(Iterator::count);
        if !matches!(listed, Ok(EACH)) {
            problems.push(format!("{name}: {listed:?} entries"));
        }
    }
    problems
}
