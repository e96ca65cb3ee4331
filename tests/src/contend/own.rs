//! Names that only one thread uses, in directories that all share: each answer is known before it is given.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::statfs::{FUSE_SUPER_MAGIC, statfs};

use super::line;
use crate::dice::Random;

/// The two directories.
pub const DIRS: [&str; 2] = ["own-a", "own-b"];
/// Names that a slot has in each of them.
const NAMES: usize = 6;

/// Bytes of a line: none crosses the end of a page, so that each is written at once.
const LENGTH: usize = 128;

/// Makes the directories.
pub(super) fn prepare(dir: &Path) -> io::Result<()> {
    DIRS.iter()
        .try_for_each(|name| fs::create_dir(dir.join(name)))
}

/// What a name of the thread's means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Thing {
    /// The file of this number.
    File(u64),
    /// An empty directory.
    Dir,
}

/// One thread's names, and what they have to be.
#[derive(Debug)]
pub struct Own {
    dir: PathBuf,
    slot: usize,
    /// Nothing goes back: what is expected is what happens.
    exact: bool,
    fuse: bool,
    names: BTreeMap<PathBuf, Thing>,
    contents: BTreeMap<u64, Vec<u8>>,
    next: u64,
}

/// What a change has to do, or the errno with which it has to fail.
type Expected = Result<(), Errno>;

impl Own {
    /// A thread that has no names yet.
    #[must_use]
    pub fn new(dir: &Path, slot: usize, exact: bool) -> Own {
        Own {
            dir: dir.to_path_buf(),
            slot,
            exact,
            fuse: statfs(dir).is_ok_and(|found| found.filesystem_type() == FUSE_SUPER_MAGIC),
            names: BTreeMap::new(),
            contents: BTreeMap::new(),
            next: 0,
        }
    }

    fn pick(&self, random: &mut Random) -> PathBuf {
        let name = format!("s{}-{}", self.slot, random.below(NAMES));
        self.dir.join(DIRS[random.below(2)]).join(name)
    }

    /// One change, or a look at all of it.
    ///
    /// # Errors
    /// What is not as it has to be.
    pub fn step(&mut self, random: &mut Random) -> Result<(), String> {
        let (one, two) = (self.pick(random), self.pick(random));
        let kind = random.below(16);
        let (expected, found) = match kind {
            0..=2 => self.create(&one),
            3 => (self.mkdir(&one), fs::create_dir(&one)),
            4 => (self.rmdir(&one), fs::remove_dir(&one)),
            5 | 6 => (self.unlink(&one), fs::remove_file(&one)),
            7 | 8 => {
                let expected = self.link(&one, &two);
                (expected, self.really_link(&one, &two, expected))
            }
            9 => self.append(&one),
            10 | 11 => self.rename(&one, &two, RenameFlags::empty()),
            12 => self.rename(&one, &two, RenameFlags::RENAME_NOREPLACE),
            13 => self.rename(&one, &two, RenameFlags::RENAME_EXCHANGE),
            14 => return if self.exact { self.look(&one) } else { Ok(()) },
            _ => return if self.exact { self.list() } else { Ok(()) },
        };
        let found = found.map_err(|e| e.raw_os_error().map_or(Errno::EIO, Errno::from_raw));
        match (expected, found) {
            (Err(a), Err(b)) if a == b => Ok(()),
            (Ok(()), Ok(())) => Ok(()),
            _ if !self.exact => Ok(()),
            (expected, found) => Err(format!(
                "own: kind {kind} on {one:?}, {two:?}: {found:?} instead of {expected:?}"
            )),
        }
    }

    fn create(&mut self, path: &Path) -> (Expected, io::Result<()>) {
        self.next += 1;
        let text = line::line(self.slot, self.next, LENGTH);
        let found = File::create_new(path).and_then(|mut file| file.write_all(&text));
        if self.names.contains_key(path) {
            return (Err(Errno::EEXIST), found);
        }
        self.names
            .insert(path.to_path_buf(), Thing::File(self.next));
        self.contents.insert(self.next, text);
        (Ok(()), found)
    }

    fn append(&mut self, path: &Path) -> (Expected, io::Result<()>) {
        self.next += 1;
        let text = line::line(self.slot, self.next, LENGTH);
        let open = File::options().append(true).open(path);
        let found = open.and_then(|mut file| file.write_all(&text));
        let expected = match self.names.get(path) {
            None => Err(Errno::ENOENT),
            Some(Thing::Dir) => Err(Errno::EISDIR),
            Some(Thing::File(number)) => {
                self.contents.entry(*number).or_default().extend(text);
                Ok(())
            }
        };
        (expected, found)
    }

    fn mkdir(&mut self, path: &Path) -> Expected {
        if self.names.contains_key(path) {
            return Err(Errno::EEXIST);
        }
        self.names.insert(path.to_path_buf(), Thing::Dir);
        Ok(())
    }

    fn rmdir(&mut self, path: &Path) -> Expected {
        match self.names.get(path) {
            None => Err(Errno::ENOENT),
            Some(Thing::File(_)) => Err(Errno::ENOTDIR),
            Some(Thing::Dir) => self.forget(path),
        }
    }

    fn unlink(&mut self, path: &Path) -> Expected {
        match self.names.get(path) {
            None => Err(Errno::ENOENT),
            Some(Thing::Dir) => Err(Errno::EISDIR),
            Some(Thing::File(_)) => self.forget(path),
        }
    }

    fn forget(&mut self, path: &Path) -> Expected {
        self.names.remove(path);
        Ok(())
    }

    fn link(&mut self, one: &Path, two: &Path) -> Expected {
        let thing = *self.names.get(one).ok_or(Errno::ENOENT)?;
        if self.names.contains_key(two) {
            return Err(Errno::EEXIST);
        }
        if thing == Thing::Dir {
            return Err(Errno::EPERM);
        }
        self.names.insert(two.to_path_buf(), thing);
        Ok(())
    }

    /// Linux's FUSE client may count a removed name twice, when another process asks for the file's attributes at that moment;
    /// it takes the file for one without a name then until its attributes are asked for again.
    fn really_link(&self, one: &Path, two: &Path, expected: Expected) -> io::Result<()> {
        match fs::hard_link(one, two) {
            Err(error)
                if self.fuse && expected.is_ok() && error.kind() == io::ErrorKind::NotFound =>
            {
                one.symlink_metadata()?;
                fs::hard_link(one, two)
            }
            done => done,
        }
    }

    fn rename(&mut self, one: &Path, two: &Path, flags: RenameFlags) -> (Expected, io::Result<()>) {
        let found = renameat2(AT_FDCWD, one, AT_FDCWD, two, flags).map_err(io::Error::from);
        (self.renamed(one, two, flags), found)
    }

    fn renamed(&mut self, one: &Path, two: &Path, flags: RenameFlags) -> Expected {
        let from = *self.names.get(one).ok_or(Errno::ENOENT)?;
        let to = self.names.get(two).copied();
        if flags == RenameFlags::RENAME_EXCHANGE {
            let to = to.ok_or(Errno::ENOENT)?;
            self.names.insert(one.to_path_buf(), to);
            self.names.insert(two.to_path_buf(), from);
            return Ok(());
        }
        match (from, to) {
            (_, Some(_)) if flags == RenameFlags::RENAME_NOREPLACE => return Err(Errno::EEXIST),
            _ if one == two => return Ok(()),
            // Two names of one file: nothing happens.
            (Thing::File(a), Some(Thing::File(b))) if a == b => return Ok(()),
            (Thing::File(_), Some(Thing::Dir)) => return Err(Errno::EISDIR),
            (Thing::Dir, Some(Thing::File(_))) => return Err(Errno::ENOTDIR),
            _ => {}
        }
        self.names.remove(one);
        self.names.insert(two.to_path_buf(), from);
        Ok(())
    }

    /// One name is what it has to be: type, bytes, number of names.
    fn look(&self, path: &Path) -> Result<(), String> {
        let found = path.symlink_metadata();
        let Some(thing) = self.names.get(path) else {
            return match found {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                found => Err(format!("own: {path:?} should not be there: {found:?}")),
            };
        };
        let found = found.map_err(|error| format!("own: {path:?} is lost: {error}"))?;
        let Thing::File(number) = thing else {
            let right = found.is_dir() && found.nlink() <= 2;
            return right
                .then_some(())
                .ok_or(format!("own: {path:?} is no directory"));
        };
        let links = self.names.values().filter(|other| *other == thing).count();
        if found.nlink() != links as u64 {
            return Err(format!(
                "own: {path:?} has {} links, not {links}",
                found.nlink()
            ));
        }
        match (fs::read(path), self.contents.get(number)) {
            (Ok(bytes), Some(wanted)) if bytes == *wanted => Ok(()),
            (found, wanted) => Err(format!(
                "own: {path:?} is {:?} instead of {:?}",
                found.map(|bytes| line::lines(&bytes)),
                wanted.map(|bytes| line::lines(bytes))
            )),
        }
    }

    /// The listings have each of the thread's names once, whatever the others do meanwhile, and no other.
    fn list(&self) -> Result<(), String> {
        let prefix = format!("s{}-", self.slot);
        for name in DIRS {
            let dir = self.dir.join(name);
            let mut found = BTreeSet::new();
            for entry in fs::read_dir(&dir).map_err(|error| format!("{name}: {error}"))? {
                let entry = entry.map_err(|error| format!("{name}: {error}"))?;
                let mine = entry.file_name().to_string_lossy().starts_with(&prefix);
                if mine && !found.insert(entry.path()) {
                    return Err(format!("own: {:?} is listed twice", entry.path()));
                }
            }
            let wanted: BTreeSet<_> = self
                .names
                .keys()
                .filter(|path| path.starts_with(&dir))
                .cloned()
                .collect();
            if found != wanted {
                let (lost, extra) = (&wanted - &found, &found - &wanted);
                return Err(format!(
                    "own: {name} lists too much {extra:?}, too little {lost:?}"
                ));
            }
        }
        Ok(())
    }

    /// All of it is as it has to be.
    ///
    /// # Errors
    /// The first thing that is not.
    pub fn settle(&self) -> Result<(), String> {
        if !self.exact {
            return Ok(());
        }
        self.list()?;
        self.names.keys().try_for_each(|path| self.look(path))
    }
}
