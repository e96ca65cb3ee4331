//! What was imported becomes snapshots: told to the journal on the side, and then by one record all at once.

use llctl::protocol::{ErrorKind, Failure, SnapInfo, UnixNanos};
use llctl::transfer::item::Head;
use nix::errno::Errno;

use super::build::{Origin, Relied};
use super::import::first_of;
use crate::engine::Engine;
use crate::engine::service::states::time;
use crate::engine::service::{failure, listing};
use crate::relay::Passed;
use crate::tree::staged::differences;
use crate::tree::{
    Apply, Delta, Difference, Digest, Imported, Meta, Record, Root, Stage, State, StateId,
};

/// Bytes of differences that one record tells, about.
const RECORD: usize = 1 << 20;
/// Bytes of one difference, but for names and attributes.
const PLAIN: usize = 256;

/// A state that is to become a snapshot.
pub(super) struct Built {
    pub head: Box<Head>,
    pub from: Origin,
    pub root: Root,
    pub relied: Vec<Relied>,
    pub digest: Digest,
}

/// There is a snapshot of that name.
pub(super) fn exists(name: &str) -> Failure {
    Failure::new(
        ErrorKind::Exists,
        format!("there is a snapshot named {name:?} already"),
    )
    .with_hint("give it another name here with --as NAME")
}

/// Makes snapshots of all of them, or of none.
pub(super) fn adopt(
    engine: &Engine,
    built: Vec<Built>,
    base: u64,
) -> Result<Vec<SnapInfo>, Failure> {
    // What counts is the last record of many.
    let errand = engine.relay().pass_errand();
    let _turn = engine.turn.lock();
    let ids = stage(engine, &built).and_then(|()| commit(engine, &built, base, errand));
    let ids = match ids {
        Ok(ids) => ids,
        Err(failure) => {
            engine.state.write().staged.clear();
            return Err(failure);
        }
    };
    let synced = engine.store.sync();
    synced.map_err(|error| Failure::io("the import was not made durable", &error))?;
    engine.views_changed();
    engine.house.poke_later();
    ids.iter().map(|id| listing::brief(engine, *id)).collect()
}

/// Tells the journal what they are. Nobody sees that, and others go on between two records.
fn stage(engine: &Engine, built: &[Built]) -> Result<(), Failure> {
    let failed = |errno| failure::failed(engine, "the import was not written", errno);
    let mut before = Root::default();
    for (nth, one) in built.iter().enumerate() {
        let from = first_of(one.from);
        let places = one.relied.iter().map(|(ino, slot, fact)| Delta::Place {
            ino: *ino,
            slot: slot.clone(),
            fact: *fact,
        });
        let places: Vec<Delta> = places.collect();
        if !places.is_empty() {
            let record = Record::Change(places);
            write(engine, &record, &|_| Ok(())).map_err(failed)?;
        }
        // A state that is gone would be a contradiction, after which the store takes nothing any more.
        let is_there = |state: &State| match from {
            Some(id) if id != crate::tree::BASE_STATE && state.root(id).is_none() => {
                Err(Errno::ESTALE)
            }
            _ => Ok(()),
        };
        let begin = Stage::Begin {
            first: nth == 0,
            from,
        };
        write(engine, &Record::Stage(begin), &is_there).map_err(|errno| match errno {
            Errno::ESTALE => Failure::new(
                ErrorKind::NotFound,
                format!("what {} is told from was deleted meanwhile", one.head.name),
            ),
            errno => failed(errno),
        })?;
        if let Some(id) = from {
            let kept = engine.state.read().root(id).cloned();
            before = kept.unwrap_or_default();
        }
        tell(engine, &before, &one.root).map_err(failed)?;
        before = one.root.clone();
    }
    Ok(())
}

fn tell(engine: &Engine, before: &Root, root: &Root) -> Result<(), Errno> {
    let (mut some, mut bytes) = (Vec::new(), 0);
    let send = |some: &mut Vec<Difference>| {
        let record = Record::Stage(Stage::Differ(std::mem::take(some)));
        write(engine, &record, &|_| Ok(()))
    };
    differences(before, root, &mut |difference| {
        bytes += weight(&difference);
        some.push(difference);
        if bytes < RECORD {
            return Ok(());
        }
        bytes = 0;
        send(&mut some)
    })?;
    match some.is_empty() {
        true => Ok(()),
        false => send(&mut some),
    }
}

fn weight(difference: &Difference) -> usize {
    let more = match difference {
        Difference::Inode(_, Some(inode)) => {
            let xattrs = inode.xattrs.iter().flat_map(|all| all.iter());
            let xattrs: usize = xattrs.map(|(name, value)| name.len() + value.len()).sum();
            xattrs + inode.target.as_ref().map_or(0, |target| target.len())
        }
        _ => 0,
    };
    PLAIN + more
}

fn write(
    engine: &Engine,
    record: &Record,
    check: &dyn Fn(&State) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let _gate = engine.gate.read();
    let mut state = engine.state.write();
    check(&state)?;
    engine.commit(&mut state, record)
}

/// Makes snapshots of what is staged. What they hold is final from here on.
fn commit(
    engine: &Engine,
    built: &[Built],
    base: u64,
    errand: Option<Passed>,
) -> Result<Vec<StateId>, Failure> {
    let now = UnixNanos::now();
    let _gate = engine.gate.write();
    let mut state = engine.state.write();
    if engine.digests.which_base() != base || state.applying == Some(Apply::Staged) {
        return Err(failure::other_base().with_hint("import again"));
    }
    if let Some(one) = built
        .iter()
        .find(|b| state.snapshot(&b.head.name).is_some())
    {
        return Err(exists(&one.head.name));
    }
    let imported = built.iter().zip(state.next_state..).map(|(one, id)| {
        let mut meta = one.head.meta.clone();
        meta.imported = Some(now);
        Imported {
            id,
            name: one.head.name.clone(),
            message: one.head.message.clone(),
            at: time(one.head.created),
            meta: Meta::from(meta),
            digest: one.digest,
        }
    });
    let imported: Vec<Imported> = imported.collect();
    let ids: Vec<StateId> = imported.iter().map(|one| one.id).collect();
    if let (Some(errand), Ok(answer)) = (errand, rmp_serde::to_vec(&ids)) {
        engine.relay().carry_out(errand, answer);
    }
    (engine.commit_reserved(&mut state, &Record::Import(imported)))
        .map_err(|errno| failure::failed(engine, "the import was not written", errno))?;
    engine.seal_written();
    Ok(ids)
}
