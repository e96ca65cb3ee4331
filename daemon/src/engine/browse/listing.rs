//! Listing `.llfs` and the directories of old states.

use nix::errno::Errno;

use super::Past;
use super::node::{Node, VIEWS_DIR};
use crate::engine::lookup::attr_of_base;
use crate::engine::readdir::{Item, merge, sorted};
use crate::engine::{Answer, Attr, Engine, Entry, Listed};
use crate::tree::{FIRST_INO, Ino, Kind, ROOT};

impl Engine {
    /// Lists what is none of the live tree's after the entry with the cookie `after`, as [`Engine::readdir`] does; the two
    /// dots were listed.
    pub(in crate::engine) fn readdir_past(
        &self,
        dir: Ino,
        after: u64,
        plus: bool,
        emit: &mut dyn FnMut(&Listed<'_>) -> bool,
    ) -> Answer<()> {
        let past = match Node::of(dir) {
            Node::Views => None,
            _ => Some(self.past(dir)?),
        };
        let items = self.listing(dir, after, || match &past {
            None => Ok(self.views_items()),
            Some(past) => self.merged_past(past),
        })?;
        let start = items.partition_point(|item| item.cookie <= after);
        for item in &items[start..] {
            let found = match &past {
                None => self.root_entry(item),
                Some(past) => self.entry_past(past, item, plus)?,
            };
            // What cannot be looked at is left out.
            let Some((ino, entry)) = found else { continue };
            let listed = Listed {
                ino,
                entry: if plus { entry } else { None },
                ..item.listed(None)
            };
            if emit(&listed) {
                return Ok(());
            }
            if let Some(entry) = listed.entry {
                let place = past.as_ref().map(|past| (past.ino, &*item.name));
                self.hold_past(ino, entry.attr, place)?;
            }
        }
        self.listing_done(dir);
        Ok(())
    }

    /// The directory above, for `..`.
    pub(in crate::engine) fn parent_past(&self, dir: Ino) -> Answer<Ino> {
        match Node::of(dir) {
            Node::Views => Ok(ROOT),
            Node::Root(_) => Ok(VIEWS_DIR),
            Node::Below(slot, ino) => {
                let past = self.past(dir)?;
                let home = past.root.inode(ino).and_then(|i| i.parent());
                let parent = match home {
                    Some(parent) => parent,
                    None => self.base.place_of(ino).ok_or(Errno::ESTALE)?.parent,
                };
                Ok(match parent {
                    ROOT => Node::Root(past.state).number(),
                    parent => Node::Below(slot, parent).number(),
                })
            }
        }
    }

    /// The checkpoints by name.
    fn views_items(&self) -> Vec<Item> {
        let state = self.state.read();
        let all = state.snapshots.iter().map(|(id, snapshot)| {
            let name = snapshot.name.as_bytes().into();
            Item::new(name, Node::Root(*id).number(), Kind::Dir)
        });
        sorted(all.collect())
    }

    /// A checkpoint's root directory; `None` if it is gone since.
    fn root_entry(&self, item: &Item) -> Option<(Ino, Option<Entry>)> {
        let past = self.past(item.ino).ok()?;
        let attr = self.attr_past(item.ino, &past).ok()?;
        let entry = Entry {
            attr,
            generation: 0,
            lasting: false,
        };
        Some((item.ino, Some(entry)))
    }

    /// An entry of a directory, and what it is if it is asked for.
    fn entry_past(
        &self,
        past: &Past,
        item: &Item,
        plus: bool,
    ) -> Answer<Option<(Ino, Option<Entry>)>> {
        let slot = self.slot_of(past.state)?;
        let number = |ino| Node::Below(slot, ino).number();
        if !plus {
            return Ok(Some((number(item.ino), None)));
        }
        let entry = |attr| Entry {
            attr,
            generation: 0,
            lasting: true,
        };
        let over = |ino: Ino| past.root.inode(ino).map(|i| self.attr_over(ino, i));
        if let Some(attr) = over(item.ino) {
            let number = number(item.ino);
            let attr = Attr {
                ino: number,
                ..attr
            };
            return Ok(Some((number, Some(entry(attr)))));
        }
        if item.ino >= FIRST_INO {
            return Ok(None);
        }
        let of_base = self.base.dir(past.ino)?.peek(&item.name).ok();
        // Not every filesystem has in its directories the numbers that its objects have.
        Ok(of_base.map(|stat| {
            let number = number(stat.ino);
            let attr = over(stat.ino).unwrap_or_else(|| attr_of_base(&stat));
            let attr = Attr {
                ino: number,
                ..attr
            };
            (number, Some(entry(attr)))
        }))
    }

    fn merged_past(&self, past: &Past) -> Answer<Vec<Item>> {
        let below = match past.root.inode(past.ino) {
            Some(inode) if inode.kind != Kind::Dir => return Err(Errno::ENOTDIR),
            None if past.ino >= FIRST_INO => return Err(Errno::ESTALE),
            _ if past.ino >= FIRST_INO => Vec::new(),
            _ => self.base.list(past.ino)?,
        };
        Ok(sorted(merge(below, &past.root, past.ino)))
    }
}
