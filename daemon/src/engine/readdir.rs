//! Listing directories.
//!
//! Nobody opens a directory here (OPENDIR is answered ENOSYS), so a listing goes on from nothing but a cookie: the hash
//! of the entry's name. Entries are listed in the order of their cookies, which stays what it is whatever is made or removed
//! meanwhile. A merged listing is kept for a few directories, because the next part of it is asked for soon.

use std::collections::HashMap;
use std::sync::Arc;

use nix::errno::Errno;
use xxhash_rust::xxh3::xxh3_64;

use super::{Answer, Engine, Listed};
use crate::tree::{At, Dentry, FIRST_INO, Ino, Kind, ROOT};

const DOT: u64 = 1;
const DOT_DOT: u64 = 2;
/// Cookies of names lie above those of the two dots and are positive as `off_t`.
const FIRST_COOKIE: u64 = 3;
/// Listings that are kept, and entries of all of them together.
const KEPT: usize = 64;
const KEPT_ENTRIES: usize = 1 << 20;

struct Item {
    cookie: u64,
    name: Box<[u8]>,
    ino: Ino,
    kind: Kind,
}

/// Merged listings of some directories.
#[derive(Default)]
pub(super) struct Listings {
    kept: HashMap<Ino, Arc<Vec<Item>>>,
    entries: usize,
}

impl Listings {
    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.kept.clear();
        self.entries = 0;
    }

    fn keep(&mut self, dir: Ino, listing: &Arc<Vec<Item>>) {
        if self.kept.len() >= KEPT || self.entries + listing.len() > KEPT_ENTRIES {
            self.clear();
        }
        self.entries += listing.len();
        if let Some(old) = self.kept.insert(dir, listing.clone()) {
            self.entries -= old.len();
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
        let listing = self.listing(dir, after == 0)?;
        let start = listing.partition_point(|item| item.cookie <= after.max(DOT_DOT));
        for item in &listing[start..] {
            if !self.still(dir, item) {
                continue;
            }
            let entry = if plus {
                match self.child(dir, item) {
                    Ok(entry) => Some(entry),
                    // It went, or cannot be looked at: an entry without attributes is not to be had here.
                    Err(_) => continue,
                }
            } else {
                None
            };
            let listed = Listed {
                cookie: item.cookie,
                name: &item.name,
                ino: item.ino,
                kind: item.kind,
                entry,
            };
            if emit(&listed) {
                if entry.is_some() {
                    self.unhold(item.ino);
                }
                return Ok(());
            }
        }
        Ok(())
    }

    /// The entry with attributes, counting a lookup.
    fn child(&self, dir: Ino, item: &Item) -> Answer<super::Entry> {
        if item.ino < FIRST_INO && self.inode(item.ino).is_none() {
            // The base learns the place by this, so that the number means something later.
            if self.state.read().head.dentry(At(dir, &item.name)).is_none() {
                let stat = self.base.lookup(dir, &item.name)?;
                return Ok(self.hold(super::lookup::attr_of_base(&stat)));
            }
        }
        self.entry(item.ino)
    }

    fn unhold(&self, ino: Ino) {
        if self.held.lock().forget(ino, 1) && ino < FIRST_INO {
            self.base.forget(ino);
        }
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
        if let Some(parent) = self.inode(dir).and_then(|i| i.parent()) {
            return Ok(parent);
        }
        let place = self.base.place_of(dir).ok_or(Errno::ESTALE)?;
        Ok(place.parent)
    }

    /// The merged listing, made anew at the start of a pass.
    fn listing(&self, dir: Ino, anew: bool) -> Answer<Arc<Vec<Item>>> {
        if !anew && let Some(kept) = self.listings.lock().kept.get(&dir) {
            return Ok(kept.clone());
        }
        let listing = Arc::new(self.merged(dir)?);
        self.listings.lock().keep(dir, &listing);
        Ok(listing)
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
        let state = self.state.read();
        let mut all: Vec<Item> = below
            .into_iter()
            .filter(|e| state.head.dentry(At(dir, &e.name)).is_none())
            .map(|e| Item {
                cookie: cookie(&e.name),
                name: e.name,
                ino: e.ino,
                kind: e.kind,
            })
            .collect();
        for (slot, dentry) in state.head.entries(dir) {
            if let Dentry::Here(ino, kind) = dentry {
                all.push(Item {
                    cookie: cookie(slot.name.as_bytes()),
                    name: slot.name.as_bytes().into(),
                    ino,
                    kind,
                });
            }
        }
        drop(state);
        all.sort_unstable_by(|a, b| (a.cookie, &a.name).cmp(&(b.cookie, &b.name)));
        // Two names of one hash: the second takes the next cookie.
        for i in 1..all.len() {
            if all[i].cookie <= all[i - 1].cookie {
                all[i].cookie = all[i - 1].cookie + 1;
            }
        }
        Ok(all)
    }
}

/// Where a listing goes on after a name: 62 bits of its hash.
fn cookie(name: &[u8]) -> u64 {
    (xxh3_64(name) >> 2) + FIRST_COOKIE
}
