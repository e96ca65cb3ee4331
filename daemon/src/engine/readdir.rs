//! Listing directories.
//!
//! Nobody opens a directory here (OPENDIR is answered ENOSYS), so a listing goes on from nothing but a cookie: the hash
//! of the entry's name. Entries are listed in the order of their cookies, which stays what it is whatever is made or removed
//! meanwhile. A merged listing is kept for a few directories, because the next part of it is asked for soon.

use std::collections::HashMap;
use std::sync::Arc;

use nix::errno::Errno;
use xxhash_rust::xxh3::xxh3_64;

use super::browse::FIRST_VIEW;
use super::lookup::attr_of_base;
use super::{Answer, Engine, Entry, Listed};
use crate::base::{self, BaseEntry, BaseStat};
use crate::tree::{At, Dentry, FIRST_INO, Ino, InodeRef, Kind, ROOT, Root};

const DOT: u64 = 1;
const DOT_DOT: u64 = 2;
/// Cookies of names lie above those of the two dots and are positive as `off_t`.
const FIRST_COOKIE: u64 = 3;
/// Listings that are kept, and entries of all of them together.
const KEPT: usize = 64;
const KEPT_ENTRIES: usize = 1 << 20;
/// Entries that are looked at together.
const CHUNK: usize = 256;

/// An entry, with its number in its state.
pub(super) struct Item {
    pub cookie: u64,
    pub name: Box<[u8]>,
    pub ino: Ino,
    kind: Kind,
}

/// What the base says of the entries from one on; `None`: nothing, for the overlay has it, or it cannot be looked at.
struct Looked {
    from: usize,
    stats: Vec<Option<BaseStat>>,
}

/// A merged listing that somebody has begun to read.
struct Kept {
    items: Arc<Vec<Item>>,
    /// What was looked at and didn't fit into the last answer.
    ahead: Option<Looked>,
}

/// Merged listings of some directories.
#[derive(Default)]
pub(super) struct Listings {
    kept: HashMap<Ino, Kept>,
    entries: usize,
}

impl Listings {
    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.kept.clear();
        self.entries = 0;
    }

    fn keep(&mut self, dir: Ino, items: &Arc<Vec<Item>>) {
        if self.kept.len() >= KEPT || self.entries + items.len() > KEPT_ENTRIES {
            self.clear();
        }
        let kept = Kept {
            items: items.clone(),
            ahead: None,
        };
        self.entries += items.len();
        if let Some(old) = self.kept.insert(dir, kept) {
            self.entries -= old.items.len();
        }
    }

    /// Its reader has come to the end.
    fn done(&mut self, dir: Ino) {
        if let Some(old) = self.kept.remove(&dir) {
            self.entries -= old.items.len();
        }
    }

    fn take_ahead(&mut self, dir: Ino) -> Option<Looked> {
        self.kept.get_mut(&dir)?.ahead.take()
    }

    fn put_ahead(&mut self, dir: Ino, ahead: Looked) {
        if let Some(kept) = self.kept.get_mut(&dir) {
            kept.ahead = Some(ahead);
        }
    }
}

impl Engine {
    /// Lists a directory after the entry with the cookie `after`, 0 for the start, until `emit` says that it is full and
    /// didn't take the entry. With `plus`, entries come with attributes, and each that is taken counts a lookup.
    ///
    /// # Errors
    /// `ENOTDIR`, `ESTALE` for a directory that a revert took away, or what the base says.
    pub fn readdir(
        &self,
        dir: Ino,
        after: u64,
        plus: bool,
        emit: &mut dyn FnMut(&Listed<'_>) -> bool,
    ) -> Answer<()> {
        let _gate = self.gate.read();
        if after < DOT_DOT {
            for (cookie, name) in [(DOT, &b"."[..]), (DOT_DOT, b"..")] {
                let listed = Listed {
                    cookie,
                    name,
                    ino: if cookie == DOT {
                        dir
                    } else {
                        self.parent(dir)?
                    },
                    kind: Kind::Dir,
                    entry: None,
                };
                if cookie > after && emit(&listed) {
                    return Ok(());
                }
            }
        }
        if dir >= FIRST_VIEW {
            return self.readdir_past(dir, after, plus, emit);
        }
        let waits = (plus && after == 0 && dir < FIRST_INO).then(base::waits);
        let items = self.listing(dir, after, || self.merged(dir))?;
        let start = items.partition_point(|item| item.cookie <= after.max(DOT_DOT));
        if start == items.len() {
            // The kernel has heard of the last entry: it does not ask again.
            self.listing_done(dir);
            return Ok(());
        }
        if plus {
            self.list_plus(dir, &items, start, emit)?;
            if let Some(before) = waits {
                let dirs = items.iter().filter(|item| item.kind == Kind::Dir);
                let below = dirs.filter(|item| item.ino < FIRST_INO);
                let waited = base::waits() != before;
                self.base.listed(dir, waited, below.map(|item| &*item.name));
            }
            return Ok(());
        }
        for item in &items[start..] {
            if self.still(dir, item) && emit(&item.listed(None)) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Lists with attributes from the item `start` on.
    fn list_plus(
        &self,
        dir: Ino,
        items: &[Item],
        mut start: usize,
        emit: &mut dyn FnMut(&Listed<'_>) -> bool,
    ) -> Answer<()> {
        let mut ahead = self.listings.lock().take_ahead(dir);
        while start < items.len() {
            let chunk = &items[start..items.len().min(start + CHUNK)];
            let over = self.over_of(dir, chunk);
            let looked = self.look(dir, chunk, &over, start, ahead.take());
            // Not every filesystem has in its directories the numbers that its objects have.
            let number = |at: usize| looked[at].as_ref().map_or(chunk[at].ino, |stat| stat.ino);
            let generations: Vec<u64> = {
                let held = self.held.lock();
                (0..chunk.len())
                    .map(|at| held.generation(number(at)))
                    .collect()
            };
            let mut taken = Vec::with_capacity(chunk.len());
            let mut full = None;
            for (at, item) in chunk.iter().enumerate() {
                let attr = match (&over[at], &looked[at]) {
                    (Over::Is(inode), _) => self.attr_over(item.ino, inode),
                    (Over::Not, Some(stat)) if stat.ino == item.ino => attr_of_base(stat),
                    (Over::Not, Some(stat)) => {
                        self.over(stat.ino).unwrap_or_else(|| attr_of_base(stat))
                    }
                    // It went, or cannot be looked at: an entry without attributes is not to be had here.
                    _ => continue,
                };
                let entry = Entry {
                    attr,
                    generation: generations[at],
                    lasting: true,
                };
                if emit(&item.listed(Some(entry))) {
                    full = Some(at);
                    break;
                }
                taken.push(Taken {
                    ino: number(at),
                    of_base: looked[at].as_ref().map(|_| &*item.name),
                });
            }
            self.handed_out(dir, &taken)?;
            if let Some(at) = full {
                let (from, stats) = (start + at, looked.into_iter().skip(at).collect());
                self.listings.lock().put_ahead(dir, Looked { from, stats });
                return Ok(());
            }
            start += chunk.len();
        }
        Ok(())
    }

    /// What the overlay has to say of entries, each of which means what the listing says or is left out.
    fn over_of(&self, dir: Ino, chunk: &[Item]) -> Vec<Over> {
        let state = self.state.read();
        let one = |item: &Item| {
            let ours = match state.head.dentry(At(dir, &item.name)) {
                Some(Dentry::Here(ino, _)) if ino == item.ino => true,
                None if item.ino < FIRST_INO => false,
                _ => return Over::Gone,
            };
            match state.head.inode(item.ino) {
                Some(inode) => Over::Is(inode.clone()),
                // A name of the overlay's means an inode of the overlay's: this one is just going.
                None if ours => Over::Gone,
                None => Over::Not,
            }
        };
        chunk.iter().map(one).collect()
    }

    /// Asks the base about those entries of which only it has something to say. They are asked in the order of their inode
    /// numbers, for that is how a disk has them; `ahead` is what was asked before.
    fn look(
        &self,
        dir: Ino,
        chunk: &[Item],
        over: &[Over],
        start: usize,
        ahead: Option<Looked>,
    ) -> Vec<Option<BaseStat>> {
        let mut stats = vec![None; chunk.len()];
        if let Some(ahead) = ahead
            && ahead.from == start
        {
            for (slot, stat) in stats.iter_mut().zip(ahead.stats) {
                *slot = stat;
            }
        }
        let mut order: Vec<usize> = (0..chunk.len())
            .filter(|at| matches!(over[*at], Over::Not) && stats[*at].is_none())
            .collect();
        order.sort_unstable_by_key(|at| chunk[*at].ino);
        if order.is_empty() {
            return stats;
        }
        // An entry that cannot be looked at is left out, and so are all if the directory cannot be.
        if let Ok(base) = self.base.dir(dir) {
            for at in order {
                stats[at] = base.peek(&chunk[at].name).ok();
            }
        }
        stats
    }

    /// Counts lookups of entries that the kernel is about to learn of, and has the base remember where its objects are.
    fn handed_out(&self, dir: Ino, taken: &[Taken<'_>]) -> Answer<()> {
        let places = taken.iter().filter_map(|t| Some((t.ino, t.of_base?)));
        // With the counts held: who lets go of one of them takes its place away, too.
        let mut held = self.held.lock();
        self.base.hold_all(dir, places)?;
        for t in taken {
            let (_, first) = held.hold(t.ino);
            if first && t.of_base.is_some() {
                held.place(t.ino, dir);
            }
        }
        Ok(())
    }

    /// The name still means what the listing says.
    fn still(&self, dir: Ino, item: &Item) -> bool {
        match self.state.read().head.dentry(At(dir, &item.name)) {
            Some(Dentry::Here(ino, _)) => ino == item.ino,
            Some(Dentry::Whiteout) => false,
            None => item.ino < FIRST_INO,
        }
    }

    /// The directory above, for `..`.
    fn parent(&self, dir: Ino) -> Answer<Ino> {
        if dir == ROOT {
            return Ok(ROOT);
        }
        if dir >= FIRST_VIEW {
            return self.parent_past(dir);
        }
        if let Some(parent) = self.inode(dir).and_then(|i| i.parent()) {
            return Ok(parent);
        }
        let place = self.base.place_of(dir).ok_or(Errno::ESTALE)?;
        Ok(place.parent)
    }

    /// The listing for a part that begins after the cookie `after`: at the start of a pass it is made anew.
    pub(super) fn listing(
        &self,
        dir: Ino,
        after: u64,
        make: impl FnOnce() -> Answer<Vec<Item>>,
    ) -> Answer<Arc<Vec<Item>>> {
        if after != 0
            && let Some(kept) = self.listings.lock().kept.get(&dir)
        {
            return Ok(kept.items.clone());
        }
        let listing = Arc::new(make()?);
        self.listings.lock().keep(dir, &listing);
        Ok(listing)
    }

    /// The reader of a directory has come to its end.
    pub(super) fn listing_done(&self, dir: Ino) {
        self.listings.lock().done(dir);
    }

    fn merged(&self, dir: Ino) -> Answer<Vec<Item>> {
        if dir >= FIRST_INO {
            match self.inode(dir) {
                Some(inode) if inode.kind == Kind::Dir => {}
                Some(_) => return Err(Errno::ENOTDIR),
                None => return Err(Errno::ESTALE),
            }
        }
        let below = if dir < FIRST_INO {
            self.base.list(dir)?
        } else {
            Vec::new()
        };
        let all = merge(below, &self.state.read().head, dir);
        Ok(sorted(all))
    }
}

/// What the base and a root have in a directory, in no order.
pub(super) fn merge(below: Vec<BaseEntry>, root: &Root, dir: Ino) -> Vec<Item> {
    let mut all: Vec<Item> = below
        .into_iter()
        .filter(|e| root.dentry(At(dir, &e.name)).is_none())
        .map(|e| Item::new(e.name, e.ino, e.kind))
        .collect();
    for (slot, dentry) in root.entries(dir) {
        if let Dentry::Here(ino, kind) = dentry {
            all.push(Item::new(slot.name.as_bytes().into(), ino, kind));
        }
    }
    all
}

/// The entries in the order of their cookies, each with its own.
pub(super) fn sorted(mut all: Vec<Item>) -> Vec<Item> {
    all.sort_unstable_by(|a, b| (a.cookie, &a.name).cmp(&(b.cookie, &b.name)));
    // Two names of one hash: the second takes the next cookie.
    for i in 1..all.len() {
        if all[i].cookie <= all[i - 1].cookie {
            all[i].cookie = all[i - 1].cookie + 1;
        }
    }
    all
}

/// What the overlay says of an entry.
enum Over {
    /// This is it.
    Is(InodeRef),
    /// Nothing: the base has it.
    Not,
    /// It is no more.
    Gone,
}

/// An entry in an answer to the kernel.
struct Taken<'a> {
    /// The inode number that the kernel is told.
    ino: Ino,
    /// Its name, if the base has it there.
    of_base: Option<&'a [u8]>,
}

impl Item {
    pub fn new(name: Box<[u8]>, ino: Ino, kind: Kind) -> Item {
        Item {
            cookie: cookie(&name),
            name,
            ino,
            kind,
        }
    }

    pub fn listed(&self, entry: Option<Entry>) -> Listed<'_> {
        Listed {
            cookie: self.cookie,
            name: &self.name,
            ino: self.ino,
            kind: self.kind,
            entry,
        }
    }
}

/// Where a listing goes on after a name: 62 bits of its hash.
fn cookie(name: &[u8]) -> u64 {
    (xxh3_64(name) >> 2) + FIRST_COOKIE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(count: usize) -> Arc<Vec<Item>> {
        let item = |n: usize| Item {
            cookie: n as u64 + FIRST_COOKIE,
            name: Box::default(),
            ino: FIRST_INO,
            kind: Kind::File,
        };
        Arc::new((0..count).map(item).collect())
    }

    #[test]
    fn listings_that_nobody_reads_on_are_bounded() {
        let mut listings = Listings::default();
        let (few, many) = (items(1), items(KEPT_ENTRIES / 8));
        for dir in 0..10 * KEPT as u64 {
            listings.keep(dir, &few);
            assert!(listings.kept.len() <= KEPT && listings.entries <= KEPT);
            assert!(listings.kept.contains_key(&dir));
        }
        for dir in 0..20 {
            listings.keep(dir, &many);
            assert!(listings.entries <= KEPT_ENTRIES);
            assert!(listings.kept.contains_key(&dir));
        }
    }
}
