//! An import, from block to block. There is one at a time; it survives its client, which can go on with it, and not the worker.

use std::time::{Duration, Instant};

use llctl::SnapName;
use llctl::protocol::{BytePath, ErrorKind, Failure, MESSAGE_MAX, SnapInfo};
use llctl::transfer::item::{self, Head, Item};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::adopt::{self, Built};
use super::build::{Building, Inos, Origin, Refused};
use crate::engine::Engine;
use crate::engine::service::{digest, failure};
use crate::tree::{Digest, Root, StateId};

/// An import nobody goes on with is given up for another one after this time.
const ABANDONED: Duration = Duration::from_secs(60);
/// And when space is taken back, after this time.
const STALE: Duration = Duration::from_secs(3600);

/// What is there of an import.
pub(in crate::engine) struct Import {
    number: u64,
    /// Blocks that were taken in.
    blocks: u64,
    /// Their checksum.
    sum: u64,
    /// What the snapshots are to be called.
    names: Vec<SnapName>,
    touched: Instant,
    /// Which base it was begun on.
    base: u64,
    done: Vec<Built>,
    now: Option<Building>,
    inos: Inos,
}

/// Begins an import, or goes on with it.
pub(in crate::engine::service) fn begin(
    engine: &Engine,
    number: u64,
    names: &[SnapName],
) -> Result<u64, Failure> {
    if let Some(why) = engine.store.is_readonly() {
        tracing::debug!(why, "no import");
        return Err(failure::failed(
            engine,
            "nothing can be imported",
            nix::errno::Errno::EROFS,
        ));
    }
    let mut import = engine.import.lock();
    if let Some(there) = &mut *import {
        if there.number == number
            && there.names == names
            && there.base == engine.digests.which_base()
        {
            there.touched = Instant::now();
            return Ok(there.blocks);
        }
        if there.number != number && there.touched.elapsed() < ABANDONED {
            return Err(
                Failure::new(ErrorKind::Busy, "another import is under way").with_hint(
                    "wait until it is done; one that was broken off is given up after a minute",
                ),
            );
        }
    }
    drop_built(engine, &mut import);
    *import = Some(Import {
        number,
        blocks: 0,
        sum: 0,
        names: names.to_vec(),
        touched: Instant::now(),
        base: engine.digests.which_base(),
        done: Vec::new(),
        now: None,
        inos: Inos::default(),
    });
    Ok(0)
}

/// Takes a block in.
pub(in crate::engine::service) fn block(
    engine: &Engine,
    number: u64,
    (nth, before): (u64, u64),
    block: &[u8],
) -> Result<u64, Failure> {
    let mut slot = engine.import.lock();
    let import = current(engine, &mut slot, number)?;
    // It comes again, for the answer was lost.
    if nth < import.blocks {
        return Ok(import.blocks);
    }
    let taken = match nth == import.blocks {
        true if before == import.sum => import.take(engine, block),
        true => Err(other_than_before()),
        false => Err(Failure::new(ErrorKind::Invalid, "a block is missing")),
    };
    match taken {
        Ok(()) => {
            import.blocks += 1;
            import.sum = xxh3_64_with_seed(block, import.sum);
            Ok(import.blocks)
        }
        Err(failure) => {
            drop_built(engine, &mut slot);
            Err(failure)
        }
    }
}

/// Makes snapshots of an import.
pub(in crate::engine::service) fn end(
    engine: &Engine,
    number: u64,
    (blocks, sum): (u64, u64),
) -> Result<Vec<SnapInfo>, Failure> {
    let mut slot = engine.import.lock();
    let import = current(engine, &mut slot, number)?;
    let done = match import.whole(blocks, sum) {
        Ok(()) => adopt::adopt(engine, std::mem::take(&mut import.done), import.base),
        Err(failure) => Err(failure),
    };
    match done {
        // The snapshots have the blocks now.
        Ok(_) => {
            *slot = None;
            engine.built.lock().clear();
        }
        Err(_) => drop_built(engine, &mut slot),
    }
    done
}

/// Gives an import up.
pub(in crate::engine::service) fn give_up(engine: &Engine, number: u64) {
    let mut import = engine.import.lock();
    if import.as_ref().is_some_and(|i| i.number == number) {
        drop_built(engine, &mut import);
    }
}

fn drop_built(engine: &Engine, import: &mut Option<Import>) {
    if import.take().is_some() {
        engine.built.lock().clear();
        engine.freed_much();
    }
}

fn current<'a>(
    engine: &Engine,
    import: &'a mut Option<Import>,
    number: u64,
) -> Result<&'a mut Import, Failure> {
    let base = engine.digests.which_base();
    match import {
        Some(there) if there.number == number && there.base == base => {
            there.touched = Instant::now();
            Ok(there)
        }
        _ => Err(Failure::new(
            ErrorKind::Conflict,
            "the daemon knows nothing of this import any more",
        )
        .with_hint("import it again")),
    }
}

impl Engine {
    /// Gives up an import that nobody goes on with, for its space.
    pub(in crate::engine) fn drop_stale_import(&self) {
        if let Some(mut import) = self.import.try_lock()
            && (import.as_ref()).is_some_and(|import| import.touched.elapsed() > STALE)
        {
            *import = None;
            self.built.lock().clear();
        }
    }
}

impl Import {
    /// Whether it can become snapshots, if so many blocks with this checksum were all.
    fn whole(&self, blocks: u64, sum: u64) -> Result<(), Failure> {
        if (self.blocks, self.sum) != (blocks, sum) {
            return Err(other_than_before());
        }
        if self.now.is_some() || self.done.is_empty() {
            return Err(invalid("the export ends before a snapshot is complete"));
        }
        if self.names.len() > self.done.len() {
            return Err(invalid("there are more names than snapshots in the export"));
        }
        Ok(())
    }

    fn take(&mut self, engine: &Engine, block: &[u8]) -> Result<(), Failure> {
        let items = item::decode(block);
        let items = items.map_err(|e| Failure::new(ErrorKind::Invalid, e.to_string()))?;
        for item in items {
            match item {
                Item::State(head) => self.begin(engine, head)?,
                Item::End => self.complete(engine)?,
                item => self.tell(engine, item)?,
            }
        }
        Ok(())
    }

    fn tell(&mut self, engine: &Engine, item: Item) -> Result<(), Failure> {
        let Some(now) = &mut self.now else {
            return Err(invalid("something is told of no snapshot"));
        };
        let taken = match item {
            Item::Gone(path) => now.gone(engine, &path.0),
            Item::Entry(entry) => now.entry(engine, &mut self.inos, *entry),
            Item::Data { at, bytes } => {
                let others: Vec<Root> = self.done.iter().map(|done| done.root.clone()).collect();
                now.data(engine, &others, at, &bytes)
            }
            Item::State(_) | Item::End => Ok(()),
        };
        taken.map_err(|refused| match refused {
            Refused::Wrong(path, what) if path.is_empty() => {
                invalid(&format!("the export makes no sense: {what}"))
            }
            Refused::Wrong(path, what) => {
                let path = BytePath(path);
                invalid(&format!("the export makes no sense at {path}: {what}"))
            }
            Refused::Failed(errno) => {
                failure::failed(engine, "the export cannot be imported", errno)
            }
        })
    }

    fn begin(&mut self, engine: &Engine, mut head: Box<Head>) -> Result<(), Failure> {
        if self.now.is_some() {
            return Err(invalid("a snapshot begins within another one"));
        }
        let name = match self.names.get(self.done.len()) {
            Some(name) => name.clone(),
            None => SnapName::new(head.name.as_str())
                .map_err(|why| invalid(&format!("a snapshot cannot be called so: {why}")))?,
        };
        head.name = name.as_str().to_owned();
        head.meta
            .check()
            .map_err(|why| invalid(&format!("{name} cannot say that of itself: {why}")))?;
        if head.message.len() > MESSAGE_MAX || head.hash.len() != 32 {
            return Err(invalid(&format!("{name} cannot say that of itself")));
        }
        let taken = (self.done.iter()).any(|done| done.head.name == head.name);
        if taken || engine.state.read().snapshot(name.as_str()).is_some() {
            return Err(adopt::exists(name.as_str()));
        }
        let (from, root) = {
            // No blocks are taken back in between: the snapshot that it is told from may be deleted before anything is told.
            let _gate = engine.gate.read();
            let origin = self.origin(engine, &head)?;
            engine.built.lock().push(origin.1.clone());
            origin
        };
        let begun = Building::new(engine, head, from, root)
            .map_err(|errno| failure::failed(engine, "the import cannot begin", errno))?;
        self.now = Some(begun);
        Ok(())
    }

    /// What a state is told from.
    fn origin(&self, engine: &Engine, head: &Head) -> Result<(Origin, Root), Failure> {
        let Some(wanted) = &head.from else {
            return Ok((Origin::Nothing, Root::default()));
        };
        if let Some(last) = self.done.last()
            && last.head.hash == *wanted
        {
            return Ok((Origin::Last, last.root.clone()));
        }
        let state = engine.state.read();
        let has = |digest: &Digest| digest.0 == wanted.as_slice();
        let mut newest_first = state.snapshots.iter().rev();
        let found = newest_first.find(|(_, s)| s.digest.as_ref().is_some_and(has));
        match found {
            Some((id, snapshot)) => Ok((Origin::Kept(*id), snapshot.root.clone())),
            None => Err(missing(head)),
        }
    }

    /// A state is told: it must be the one that was exported.
    fn complete(&mut self, engine: &Engine) -> Result<(), Failure> {
        let Some(now) = self.now.take() else {
            return Err(invalid("a snapshot ends and none began"));
        };
        let name = &now.head.name;
        let found = digest::of_whole(engine, &now.view()).map_err(|errno| {
            let what = format!("{name} cannot be read back");
            failure::failed(engine, &what, errno)
        })?;
        if found.0 != now.head.hash.as_slice() {
            return Err(Failure::new(
                ErrorKind::Damaged,
                format!("what was imported as {name} is not what was exported"),
            )
            .with_hint("nothing of it was kept; export it again"));
        }
        self.done.push(Built {
            head: now.head,
            from: now.from,
            root: now.root,
            relied: now.relied,
            digest: found,
        });
        Ok(())
    }
}

fn missing(head: &Head) -> Failure {
    let hash = head.from.as_deref().map(|bytes| bytes.as_slice());
    let hash: String = (hash.unwrap_or_default().iter().take(32))
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Failure::new(
        ErrorKind::NotFound,
        format!(
            "{} is told from another snapshot, of the hash {hash}, which is not here",
            head.name
        ),
    )
    .with_hint("import that one first, or export this one whole; `llctl show NAME` tells hashes")
}

fn other_than_before() -> Failure {
    let what = "an export that begins like this one was not imported to its end";
    Failure::new(ErrorKind::Conflict, what).with_hint("it is given up: import again")
}

fn invalid(why: &str) -> Failure {
    Failure::new(ErrorKind::Invalid, why)
}

/// The states on which the import relies, for its commit.
pub(super) fn first_of(from: Origin) -> Option<StateId> {
    match from {
        Origin::Nothing => Some(crate::tree::BASE_STATE),
        Origin::Kept(id) => Some(id),
        Origin::Last => None,
    }
}
