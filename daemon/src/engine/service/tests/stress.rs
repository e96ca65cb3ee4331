//! Programs, clients, and what the daemon does by itself, all at once: nothing is damaged, link counts are those of the names, what is in a
//! file was written to it, and what a snapshot holds stays what it was.
//!
//! `LLFS_CASES` is how many rounds there are, each of a second or so. `LLFS_SEED` is the seed of the first one, which says what each
//! thread does; not in which order.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use crossbeam_channel::bounded;
use llctl::config::{AppliesTo, Retention};
use llctl::protocol::{ErrorKind, Failure, OnConflict, Part, PartOf};
use nix::errno::Errno;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::super::states::View;
use super::part::linked_with;
use super::random::NAMES;
use super::*;
use crate::engine::Answer;
use crate::engine::service::digest;

/// Threads that change the tree, and changes of each.
const PROGRAMS: usize = 3;
const CHANGES: usize = 1500;
/// Steps of each thread that has to do with states.
const STEPS: usize = 60;
const BLOCK: usize = 4096;
/// Nothing takes so long.
const PATIENCE: Duration = Duration::from_secs(120);

/// Numbers from a seed (SplitMix64 by Sebastiano Vigna, <https://prng.di.unimi.it/splitmix64.c>).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn path(&mut self) -> Vec<&'static str> {
        (0..=self.below(3)).map(|_| NAMES[self.below(4)]).collect()
    }
}

/// A program that looks everything up, as the kernel would for it, and forgets it again.
struct Program<'a> {
    engine: &'a Engine,
    dice: Dice,
    held: Vec<Ino>,
}

/// The bytes that the block of a file may have, zeros but for that.
fn block(ino: Ino) -> Vec<u8> {
    ino.to_le_bytes().repeat(BLOCK / 8)
}

fn check_bytes(ino: Ino, bytes: &[u8], whence: &str) {
    let right = ino.to_le_bytes();
    for word in bytes.as_chunks::<8>().0 {
        assert!(
            *word == right || *word == [0; 8],
            "{whence}: the file {ino} has {word:?}, not {right:?}"
        );
    }
}

/// What may happen to a program whose files others rename, remove and revert.
fn lost(errno: Errno) -> bool {
    use Errno::{EEXIST, EISDIR, ENOENT, ENOTDIR, ENOTEMPTY, EPERM, ESTALE};
    matches!(
        errno,
        EEXIST | EISDIR | ENOENT | ENOTDIR | ENOTEMPTY | EPERM | ESTALE
    )
}

impl Program<'_> {
    fn look(&mut self, dir: Ino, name: &str) -> Answer<Ino> {
        let found = self.engine.lookup(dir, name.as_bytes())?;
        let ino = found.ok_or(Errno::ENOENT)?.attr.ino;
        self.held.push(ino);
        Ok(ino)
    }

    fn walk(&mut self, path: &[&str]) -> Answer<Ino> {
        path.iter().try_fold(ROOT, |at, name| self.look(at, name))
    }

    /// A directory, and a name that is in it or may be.
    fn slot(&mut self) -> Answer<(Ino, &'static str)> {
        let path = self.dice.path();
        let (name, above) = path.split_last().unwrap();
        Ok((self.walk(above)?, name))
    }

    fn file(&mut self) -> Answer<Ino> {
        let path = self.dice.path();
        let ino = self.walk(&path)?;
        match self.engine.getattr(ino)?.kind {
            Kind::File => Ok(ino),
            _ => Err(Errno::EISDIR),
        }
    }

    fn make(&mut self, kind: Kind) -> Answer<()> {
        let (dir, name) = self.slot()?;
        let make = Make {
            kind,
            perm: 0o755,
            umask: 0,
            rdev: 0,
            target: b"",
        };
        let made = self.engine.make(dir, name.as_bytes(), &make, &me())?;
        self.held.push(made.attr.ino);
        if kind == Kind::File {
            self.write(made.attr.ino)?;
        }
        Ok(())
    }

    fn write(&mut self, ino: Ino) -> Answer<()> {
        let at = self.dice.below(3) * BLOCK;
        let len = (1 + self.dice.below(BLOCK / 8)) * 8;
        let how = WriteHow::default();
        self.engine.write(ino, at as u64, &block(ino)[..len], how)?;
        Ok(())
    }

    fn step(&mut self) -> Answer<()> {
        let engine = self.engine;
        match self.dice.below(24) {
            0..=3 => self.make(Kind::File),
            4..=6 => self.make(Kind::Dir),
            7..=10 => {
                let ino = self.file()?;
                self.write(ino)
            }
            11..=13 => {
                let (from, to) = (self.slot()?, self.slot()?);
                let flags = [0, 0, 2][self.dice.below(3)];
                engine.rename(from.0, from.1.as_bytes(), to.0, to.1.as_bytes(), flags)
            }
            14 | 15 => {
                let (ino, (dir, name)) = (self.file()?, self.slot()?);
                let linked = engine.link(ino, dir, name.as_bytes())?;
                self.held.push(linked.attr.ino);
                Ok(())
            }
            16 | 17 => {
                let (dir, name) = self.slot()?;
                engine.unlink(dir, name.as_bytes())
            }
            18 => {
                let (dir, name) = self.slot()?;
                engine.rmdir(dir, name.as_bytes())
            }
            19 => {
                let ino = self.file()?;
                let set = SetAttr {
                    perm: Some(self.dice.below(0o1000) as u16),
                    size: (self.dice.below(2) == 0).then(|| self.dice.below(20_000) as u64 / 8 * 8),
                    ..SetAttr::default()
                };
                engine.setattr(ino, &set, &me()).map(drop)
            }
            20 => {
                let (dir, _) = self.slot()?;
                let mut after = 0;
                engine.readdir(dir, 0, true, &mut |entry| {
                    if entry.entry.is_some() {
                        self.held.push(entry.ino);
                    }
                    after = entry.cookie;
                    false
                })
            }
            _ => {
                let ino = self.file()?;
                let mut bytes = vec![0; 4 * BLOCK];
                let n = engine.read(ino, 0, &mut bytes, true)?;
                check_bytes(ino, &bytes[..n], "a program");
                Ok(())
            }
        }
    }

    fn run(mut self) {
        for _ in 0..CHANGES {
            match self.step() {
                Err(errno) if !lost(errno) => panic!("a program met {errno}"),
                _ => {}
            }
            if self.held.len() > 200 {
                self.let_go();
            }
        }
        self.let_go();
    }

    fn let_go(&mut self) {
        for ino in self.held.drain(..) {
            self.engine.forget(ino, 1);
        }
    }
}

/// A client that does with states what clients do.
struct Client<'a> {
    b: &'a Bench,
    dice: Dice,
    taken: &'a AtomicUsize,
    /// What snapshots held when they were seen first.
    holds: &'a parking_lot::Mutex<BTreeMap<u64, crate::tree::Digest>>,
}

/// What others may have made impossible.
fn lost_to_others(failure: &Failure) -> bool {
    matches!(
        failure.kind,
        ErrorKind::NotFound | ErrorKind::Exists | ErrorKind::Conflict | ErrorKind::Busy
    )
}

impl Client<'_> {
    /// One that was taken here: of those from elsewhere files have other numbers than are written in them.
    fn name(&mut self) -> Result<SnapName, Failure> {
        let mut names = self.b.engine.snapshot_names();
        names.retain(|name| name.starts_with('s'));
        if names.is_empty() {
            return Err(Failure::new(ErrorKind::NotFound, "no snapshot"));
        }
        Ok(SnapName::new(&names[self.dice.below(names.len())]).unwrap())
    }

    fn new_name(&self, first: char) -> SnapName {
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        SnapName::new(format!("{first}{number}")).unwrap()
    }

    fn part(&mut self) -> Result<Part, Failure> {
        let globs = (0..=self.dice.below(2)).map(|_| self.dice.path().join("/"));
        let mut globs: Vec<String> = globs.collect();
        let of = match self.dice.below(6) {
            0 => PartOf::To(StateRef::Base),
            1 | 2 => {
                if self.dice.below(2) == 0 {
                    globs.clear();
                }
                PartOf::Snapshots(vec![self.name()?, self.name()?])
            }
            _ => PartOf::To(StateRef::Snapshot(self.name()?)),
        };
        Ok(Part {
            of,
            globs,
            there: Vec::new(),
        })
    }

    /// Notes what a snapshot holds.
    fn note(&self, id: u64) {
        let view = match self.b.engine.state.read() {
            state if state.snapshots.contains_key(&id) => View::kept(&state, id),
            _ => return,
        };
        match digest::of_whole(&self.b.engine, &view) {
            Ok(digest) => {
                let recorded = self
                    .b
                    .engine
                    .state
                    .read()
                    .snapshots
                    .get(&id)
                    .and_then(|s| s.digest);
                assert_eq!(
                    recorded.unwrap_or(digest),
                    digest,
                    "{} as recorded",
                    view.name
                );
                let first = *self.holds.lock().entry(id).or_insert(digest);
                assert_eq!(first, digest, "{}", view.name);
            }
            Err(Errno::ESTALE) => {}
            Err(errno) => panic!("{} cannot be read: {errno}", view.name),
        }
    }

    fn step(&mut self) -> Result<(), Failure> {
        let host = &self.b.host;
        let winner = [OnConflict::Stop, OnConflict::Keep, OnConflict::Revert][self.dice.below(3)];
        match self.dice.below(26) {
            0..=6 => {
                let meta = SnapMeta {
                    reason: (self.dice.below(2) == 0).then(|| "automatic".to_owned()),
                    ..SnapMeta::default()
                };
                let taken = host.snap(Some(&self.new_name('s')), None, &meta)?;
                self.note(taken.id);
                Ok(())
            }
            7..=9 => {
                let to = StateRef::Snapshot(self.name()?);
                host.revert(&to, false).map(drop)
            }
            10 => host.revert(&StateRef::Base, false).map(drop),
            11..=14 => host.revert_part(&self.part()?, winner, false).map(drop),
            15 => host.export(&[self.name()?], None, (0, 0), &mut |_| Ok(())),
            16 | 17 => host.undo(1 + self.dice.below(2) as u32).map(drop),
            18 => host.redo(1).map(drop),
            19 => host.delete(&[self.name()?], None).map(drop),
            20 => {
                let rules = Retention {
                    keep_last: 3,
                    applies_to: AppliesTo::Automatic,
                    ..Retention::nothing()
                };
                host.prune(Some(&rules), true, None).map(drop)
            }
            21 => self.transfer(),
            22 => host.rename(&self.name()?, &self.new_name('s')).map(drop),
            23 => {
                let from = match self.dice.below(3) {
                    0 => StateRef::Base,
                    _ => StateRef::Snapshot(self.name()?),
                };
                let to = match self.dice.below(2) {
                    0 => StateRef::Live,
                    _ => StateRef::Snapshot(self.name()?),
                };
                (host.diff(Some(&from), &to, &[], true, &mut |_| Ok(()))).map(drop)
            }
            24 => {
                self.b.engine.reclaim().unwrap();
                self.b.engine.write_image().unwrap();
                Ok(())
            }
            _ => {
                let (name, path) = (self.name()?, self.dice.path().join("/"));
                let path = path.as_str().into();
                let state = StateRef::Snapshot(name);
                host.cat(&state, &path, 0, &mut |_| Ok(()))
                    .or_else(|failure| {
                        // What is no file cannot be shown.
                        match failure.kind {
                            ErrorKind::Invalid => Ok(()),
                            _ => Err(failure),
                        }
                    })
            }
        }
    }

    /// Exports a snapshot and takes it in again, which makes the same of it.
    fn transfer(&mut self) -> Result<(), Failure> {
        let (b, name) = (self.b, self.name()?);
        let mut blocks = Vec::new();
        let mut keep = |block| {
            blocks.push(block);
            Ok(())
        };
        b.host.export(&[name], None, (0, 0), &mut keep)?;
        let number = self.dice.next();
        b.host.import_begin(number, &[self.new_name('i')])?;
        let mut sum = 0;
        for (nth, block) in (0..).zip(&blocks) {
            b.host.import_block(number, (nth, sum), block)?;
            sum = xxh3_64_with_seed(block, sum);
        }
        let made = b.host.import_end(number, (blocks.len() as u64, sum))?;
        made.iter().for_each(|info| self.note(info.id));
        if self.dice.below(2) == 0 {
            b.engine.delete(&[made[0].name.clone()]).unwrap();
        }
        Ok(())
    }

    fn run(mut self) {
        for _ in 0..STEPS {
            if let Err(failure) = self.step()
                && !lost_to_others(&failure)
            {
                panic!("a client met {:?}: {failure}", failure.kind);
            }
        }
    }
}

/// Link counts are those of the names, and of the subdirectories.
fn check_tree(b: &Bench) {
    b.counted().unwrap();
    let live = b.live();
    let mut seen = BTreeSet::new();
    for (path, what) in &live {
        let ino = b.find(path).unwrap();
        let attr = b.engine.getattr(ino).unwrap();
        let below = |other: &&Vec<u8>| {
            let rest = match path.is_empty() {
                true => Some(&other[..]),
                false => other
                    .strip_prefix(&path[..])
                    .and_then(|rest| rest.strip_prefix(b"/")),
            };
            rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(&b'/'))
        };
        if what.kind == Kind::Dir {
            assert!(seen.insert(ino), "a directory has two names");
            let dirs = live.keys().filter(below);
            let dirs = dirs.filter(|other| live[*other].kind == Kind::Dir).count();
            let right = attr.nlink < 2 || attr.nlink as usize == 2 + dirs;
            let path = String::from_utf8_lossy(path);
            assert!(
                right,
                "{path} has {dirs} directories and {} links",
                attr.nlink
            );
        } else {
            check_bytes(ino, &what.content, "at the end");
        }
    }
}

fn round(seed: u64) {
    let b = linked_with(&|place, path| {
        place.put(path, b"");
        let ino = std::fs::metadata(place.base(path)).unwrap().ino();
        place.put(path, &block(ino).repeat(2)[..BLOCK + 800]);
    });
    b.engine.compute_digests().unwrap();
    let (taken, holds) = (AtomicUsize::new(0), parking_lot::Mutex::default());
    let mut dice = Dice(seed);
    let (running, ended) = bounded::<()>(0);
    std::thread::scope(|scope| {
        for _ in 0..PROGRAMS {
            let program = Program {
                engine: &b.engine,
                dice: Dice(dice.next()),
                held: Vec::new(),
            };
            let running = running.clone();
            scope.spawn(move || {
                program.run();
                drop(running);
            });
        }
        for _ in 0..2 {
            let client = Client {
                b: &b,
                dice: Dice(dice.next()),
                taken: &taken,
                holds: &holds,
            };
            let running = running.clone();
            scope.spawn(move || {
                client.run();
                drop(running);
            });
        }
        drop(running);
        // Nobody sends anything: this is the end of all, or that of the patience.
        if let Err(crossbeam_channel::RecvTimeoutError::Timeout) = ended.recv_timeout(PATIENCE) {
            eprintln!("seed {seed}: something hangs");
            std::process::abort();
        }
    });
    check_tree(&b);
    let held = holds.into_inner();
    for (id, holds) in &held {
        let view = match b.engine.state.read() {
            state if state.snapshots.contains_key(id) => View::kept(&state, *id),
            _ => continue,
        };
        let now = digest::of_whole(&b.engine, &view).unwrap();
        assert_eq!(now, *holds, "{} is not what it was", view.name);
    }
    digest::compute_all(&b.engine);
    b.sound();
    let before = b.live();
    b.engine.digests.stop();
    let b = b.killed();
    assert_eq!(b.live(), before, "after a death");
    check_tree(&b);
    b.sound();
}

#[test]
fn programs_and_clients_all_at_once() {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse().ok());
    let first: u64 = number("LLFS_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.unwrap().as_nanos() as u64
    });
    for seed in (first..).take(number("LLFS_CASES").unwrap_or(2) as usize) {
        eprintln!("LLFS_SEED={seed}");
        round(seed);
    }
}
