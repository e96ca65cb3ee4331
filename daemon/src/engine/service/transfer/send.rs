//! A state, told path by path.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use llctl::SnapName;
use llctl::protocol::{BytePath, ErrorKind, Failure};
use llctl::transfer::item::{self, Entry, Head, Item};
use llctl::transfer::{BLOCK_MAX, DATA_MAX};
use nix::errno::Errno;
use serde_bytes::ByteBuf;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::base::Seek;
use crate::control::Sink;
use crate::engine::service::diff::{Names, Object, Peeks, links, target, xattrs};
use crate::engine::service::digest::{self, Stop, all, apart};
use crate::engine::service::failure;
use crate::engine::service::listing::nanos;
use crate::engine::service::states::View;
use crate::engine::{Answer, Engine};
use crate::tree::{BLOCK, Digest, Ino, Kind, Piece, Slot, Src, StateId, Time};

/// A snapshot that is exported.
struct State {
    view: View,
    head: Head,
}

/// Tells some snapshots; see [`crate::control::Service::export`].
pub(in crate::engine::service) fn export(
    engine: &Engine,
    names: &[SnapName],
    from: Option<&SnapName>,
    (skip, skipped): (u64, u64),
    sink: Sink<'_, Vec<u8>>,
) -> Result<(), Failure> {
    let mut out = Blocks {
        block: Vec::new(),
        number: 0,
        skip,
        skipped,
        sum: 0,
        sink,
    };
    let mut before = from.map(|name| find(engine, name)).transpose()?;
    for name in names {
        let state = find(engine, name)?;
        let failed = |(path, errno): (Vec<u8>, Errno)| unreadable(engine, name, &path, errno);
        tell(engine, before.as_ref(), &state, &mut out, &failed)?;
        before = Some(state);
    }
    out.flush()?;
    if out.number < skip {
        return Err(other_than_before());
    }
    Ok(())
}

/// The snapshot, and its checksum, which is computed now if it was not yet.
fn find(engine: &Engine, name: &SnapName) -> Result<State, Failure> {
    let (id, view, digest, mut head) = {
        let state = engine.state.read();
        let Some((id, snapshot)) = state.snapshot(name.as_str()) else {
            drop(state);
            return Err(failure::unknown(engine, name.as_str()));
        };
        let mut meta = (*snapshot.meta).clone();
        meta.imported = None;
        let head = Head {
            name: snapshot.name.clone(),
            created: nanos(snapshot.at),
            message: snapshot.message.clone(),
            meta,
            hash: ByteBuf::new(),
            from: None,
        };
        (id, View::kept(&state, id), snapshot.digest, head)
    };
    let digest = match digest {
        Some(digest) => digest,
        None => computed(engine, id, &view, name)?,
    };
    head.hash = ByteBuf::from(digest.0);
    Ok(State { view, head })
}

fn computed(engine: &Engine, id: StateId, view: &View, name: &SnapName) -> Result<Digest, Failure> {
    let computed = digest::of_kept(engine, id, view);
    computed.map_err(|errno| unreadable(engine, name, b"", errno))
}

fn unreadable(engine: &Engine, name: &SnapName, path: &[u8], errno: Errno) -> Failure {
    let what = match path {
        b"" => format!("{name} cannot be exported"),
        path => format!("{name} cannot be exported: {}", BytePath::from(path)),
    };
    match errno {
        Errno::EIO => Failure::new(ErrorKind::Damaged, format!("{what}: it is damaged"))
            .with_hint("`llctl verify` tells what is damaged"),
        Errno::ESTALE => Failure::new(
            ErrorKind::NotFound,
            format!("{what}: it was deleted meanwhile"),
        ),
        errno => failure::failed(engine, &what, errno),
    }
}

fn other_than_before() -> Failure {
    let what = "what was exported before is another export";
    Failure::new(ErrorKind::Conflict, what).with_hint("remove the unfinished file and begin again")
}

type Failed<'a> = &'a dyn Fn((Vec<u8>, Errno)) -> Failure;

fn tell(
    engine: &Engine,
    before: Option<&State>,
    state: &State,
    out: &mut Blocks<'_>,
    failed: Failed<'_>,
) -> Result<(), Failure> {
    let at = |path: &[u8]| {
        let path = path.to_vec();
        move |errno| failed((path, errno))
    };
    let mut teller = Teller::default();
    let peeks = Peeks::new(engine);
    let new = Names::new(&peeks, &state.view);
    if let Some(before) = before {
        let old = Names::new(&peeks, &before.view);
        let stop = Stop::default();
        let (was, is) = apart(&old, &new, &stop).map_err(at(b""))?;
        if has_all_links(&new, &is).map_err(at(b""))? {
            let mut head = state.head.clone();
            head.from = Some(before.head.hash.clone());
            out.put(&Item::State(Box::new(head)))?;
            for path in was.keys().rev().filter(|path| !is.contains_key(*path)) {
                out.put(&Item::Gone(BytePath(path.clone())))?;
            }
            for (path, ino) in &is {
                teller.entry(&new, path, *ino, out, failed)?;
            }
            return out.put(&Item::End);
        }
    }
    out.put(&Item::State(Box::new(state.head.clone())))?;
    let mut failure = None;
    let stop = Stop::default();
    let told = all(engine, &state.view, &stop, &mut |names, path, ino| {
        teller.entry(names, path, ino, out, failed).map_err(|why| {
            failure = Some(why);
            Errno::ECANCELED
        })
    });
    match (failure, told) {
        (Some(failure), _) => Err(failure),
        (None, told) => {
            told.map_err(at(b""))?;
            out.put(&Item::End)
        }
    }
}

/// Whether of each file that is told all names are. Else it would be told as another file than the one that its other names lead
/// to.
fn has_all_links(names: &Names<'_>, is: &BTreeMap<Vec<u8>, Ino>) -> Answer<bool> {
    let mut told: HashMap<Ino, usize> = HashMap::new();
    for ino in is.values() {
        *told.entry(*ino).or_default() += 1;
    }
    let linked: BTreeSet<Ino> = (told.keys().copied())
        .filter(|ino| names.is_linked(*ino))
        .collect();
    let mut slots = links(&names.view.root, &linked);
    for (ino, more) in names.peeks.links_of_base(&linked)? {
        slots.entry(ino).or_default().extend(more);
    }
    for ino in &linked {
        let mut there: BTreeSet<Slot> = BTreeSet::new();
        let maybe = slots.remove(ino).unwrap_or_default().into_iter();
        for slot in maybe.chain(names.likely(*ino)) {
            if names.means(&slot, *ino)? {
                there.insert(slot);
            }
        }
        if told.get(ino).is_some_and(|told| there.len() > *told) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Tells the entries of one state.
#[derive(Default)]
struct Teller {
    /// Entries so far.
    count: u64,
    /// Files that have several names, and as which entry they were told.
    linked: HashMap<Ino, u64>,
}

impl Teller {
    fn entry(
        &mut self,
        names: &Names<'_>,
        path: &[u8],
        ino: Ino,
        out: &mut Blocks<'_>,
        failed: Failed<'_>,
    ) -> Result<(), Failure> {
        let at = |errno| failed((path.to_vec(), errno));
        let mut entry = described(names, path, ino).map_err(at)?;
        if entry.links > 1 {
            entry.link = self.linked.get(&ino).copied();
            self.linked.entry(ino).or_insert(self.count);
        }
        self.count += 1;
        let size = entry.size;
        let has_data = entry.kind == u8::from(Kind::File) && entry.link.is_none();
        out.put(&Item::Entry(Box::new(entry)))?;
        if has_data {
            content(names, ino, size, out, &at)?;
        }
        Ok(())
    }
}

fn described(names: &Names<'_>, path: &[u8], ino: Ino) -> Answer<Entry> {
    let time = |time: Time| (time.sec, time.nsec);
    let mut entry = match names.object(ino)? {
        Object::Over(i) => Entry {
            path: BytePath::from(path),
            kind: i.kind.into(),
            perm: i.perm,
            uid: i.uid,
            gid: i.gid,
            atime: time(i.atime),
            mtime: time(i.mtime),
            ctime: time(i.ctime),
            links: i.nlink,
            size: i.size,
            device: i.rdev,
            target: None,
            xattrs: Vec::new(),
            link: None,
        },
        Object::Base(s) => Entry {
            path: BytePath::from(path),
            kind: s.kind.into(),
            perm: s.perm,
            uid: s.uid,
            gid: s.gid,
            atime: s.atime,
            mtime: s.mtime,
            ctime: s.ctime,
            links: s.nlink,
            size: s.size,
            device: s.rdev,
            target: None,
            xattrs: Vec::new(),
            link: None,
        },
    };
    let is = |kind: Kind| entry.kind == u8::from(kind);
    let (file, dir, link) = (is(Kind::File), is(Kind::Dir), is(Kind::Symlink));
    if !is(Kind::Char) && !is(Kind::Block) {
        entry.device = 0;
    }
    if !file {
        entry.size = 0;
    }
    if dir {
        entry.links = 0;
    }
    if link {
        entry.target = Some(ByteBuf::from(target(names, ino)?));
    }
    let all = xattrs(names, ino)?;
    let copied = |(name, value): (&Vec<u8>, &ByteBuf)| (ByteBuf::from(name.clone()), value.clone());
    entry.xattrs = all.iter().map(copied).collect();
    Ok(entry)
}

/// Tells the bytes of a file, but for its holes.
fn content(
    names: &Names<'_>,
    ino: Ino,
    size: u64,
    out: &mut Blocks<'_>,
    failed: &dyn Fn(Errno) -> Failure,
) -> Result<(), Failure> {
    let engine = names.peeks.engine;
    let file = (names.view.pieces(engine, ino, 0, u64::MAX)).map_err(failed)?;
    for piece in &file.list {
        let end = ((piece.from + piece.len) * BLOCK).min(size);
        let mut at = piece.from * BLOCK;
        while at < end {
            let stop;
            (at, stop) = data_in(engine, ino, piece, (at, end), file.base_len);
            while at < stop {
                let mut bytes = vec![0; (stop - at).min(DATA_MAX as u64) as usize];
                let got = names.view.read(engine, ino, at, &mut bytes);
                let got = got.map_err(failed)?;
                if got < bytes.len() {
                    // It is shorter than it was when it was looked at.
                    return Err(failed(Errno::ESTALE));
                }
                let bytes = ByteBuf::from(bytes);
                out.put(&Item::Data { at, bytes })?;
                at += got as u64;
            }
        }
    }
    Ok(())
}

/// The next stretch of data in a part of a piece, in whole blocks; an empty one at its end if there is none.
fn data_in(
    engine: &Engine,
    ino: Ino,
    piece: &Piece,
    (at, end): (u64, u64),
    base_len: u64,
) -> (u64, u64) {
    match piece.src {
        Some(Src::Layer { .. }) => (at, end),
        Some(Src::Zero) => (end, end),
        None if at >= base_len => (end, end),
        None => {
            // In whole blocks, though it may have grown: what the base has of the last one is followed by zeros.
            let end_of_base = base_len.next_multiple_of(BLOCK).min(end);
            let data = match engine.base.seek_data_hole(ino, at, Seek::Data) {
                Ok(data) => data.max(at) / BLOCK * BLOCK,
                Err(Errno::ENXIO) => return (end, end),
                // A base that can't tell has data everywhere.
                Err(_) => return (at, end_of_base),
            };
            if data >= end_of_base {
                return (end, end);
            }
            let hole = match engine.base.seek_data_hole(ino, data, Seek::Hole) {
                Ok(hole) => hole.div_ceil(BLOCK) * BLOCK,
                Err(_) => end_of_base,
            };
            // A base that has nothing where it said that it has data is read as it is.
            let data = data.max(at);
            (data, hole.clamp(data + 1, end_of_base))
        }
    }
}

/// Items on their way, in blocks.
struct Blocks<'a> {
    block: Vec<u8>,
    /// Blocks so far.
    number: u64,
    skip: u64,
    skipped: u64,
    /// The checksum of those that were skipped.
    sum: u64,
    sink: Sink<'a, Vec<u8>>,
}

impl Blocks<'_> {
    fn put(&mut self, item: &Item) -> Result<(), Failure> {
        let before = self.block.len();
        let encoded = item::encode(item, &mut self.block);
        encoded.map_err(|error| Failure::new(ErrorKind::Internal, error.to_string()))?;
        if self.block.len() <= BLOCK_MAX {
            return Ok(());
        }
        let last = self.block.split_off(before);
        self.flush()?;
        if last.len() > BLOCK_MAX {
            let why = "the attributes of one file are too long to be exported";
            return Err(Failure::new(ErrorKind::Unsupported, why));
        }
        self.block = last;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let block = std::mem::take(&mut self.block);
        if block.is_empty() {
            return Ok(());
        }
        self.number += 1;
        if self.number <= self.skip {
            self.sum = xxh3_64_with_seed(&block, self.sum);
            if self.number == self.skip && self.sum != self.skipped {
                return Err(other_than_before());
            }
            return Ok(());
        }
        (self.sink)(block).map_err(|error| Failure::io("the client has left", &error))
    }
}
