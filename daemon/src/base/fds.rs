//! A bounded cache of open descriptors, least recently used out first.

use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use parking_lot::Mutex;

use super::node::hash;

/// Index of a slot that stands for "none".
const NONE: u32 = u32::MAX;

/// At most `capacity` open objects by inode number, every operation in constant time. Callers share what they
/// got, so an evicted descriptor closes when its last user is done.
pub(super) struct FdCache<T> {
    capacity: usize,
    state: Mutex<State<T>>,
}

/// All slots are in use and in one list, the least recently used at its tail.
struct State<T> {
    slots: Vec<Slot<T>>,
    /// Slots by inode number.
    index: HashTable<u32>,
    head: u32,
    tail: u32,
}

struct Slot<T> {
    ino: u64,
    fd: Arc<T>,
    /// Towards the head: used later.
    newer: u32,
    /// Towards the tail: used earlier.
    older: u32,
}

impl<T> FdCache<T> {
    /// An empty cache for `capacity` descriptors, at least one.
    pub fn new(capacity: usize) -> Self {
        FdCache {
            capacity: capacity.max(1),
            state: Mutex::new(State::new()),
        }
    }

    /// The cached descriptor of `ino`.
    pub fn get(&self, ino: u64) -> Option<Arc<T>> {
        let mut state = self.state.lock();
        let at = state.find(ino)?;
        state.touch(at);
        Some(Arc::clone(&state.slots[at as usize].fd))
    }

    /// Keeps `fd` for `ino` and returns what is cached now: the descriptor of whoever came first.
    pub fn insert(&self, ino: u64, fd: Arc<T>) -> Arc<T> {
        let mut state = self.state.lock();
        if let Some(at) = state.find(ino) {
            state.touch(at);
            let kept = Arc::clone(&state.slots[at as usize].fd);
            drop(state);
            return kept;
        }
        let evicted = if state.slots.len() < self.capacity {
            state.push(ino, Arc::clone(&fd));
            None
        } else {
            Some(state.replace_oldest(ino, Arc::clone(&fd)))
        };
        // Closing is a system call: it comes after the lock.
        drop(state);
        drop(evicted);
        fd
    }

    /// Forgets every descriptor.
    pub fn clear(&self) {
        let open = std::mem::replace(&mut *self.state.lock(), State::new());
        drop(open);
    }

    /// How many descriptors are cached.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.state.lock().slots.len()
    }
}

impl<T> State<T> {
    fn new() -> Self {
        State {
            slots: Vec::new(),
            index: HashTable::new(),
            head: NONE,
            tail: NONE,
        }
    }

    fn find(&self, ino: u64) -> Option<u32> {
        self.index
            .find(hash(ino), |at| self.slots[*at as usize].ino == ino)
            .copied()
    }

    /// A further slot, the most recently used.
    fn push(&mut self, ino: u64, fd: Arc<T>) {
        let at = self.slots.len() as u32;
        self.slots.push(Slot {
            ino,
            fd,
            newer: NONE,
            older: NONE,
        });
        self.index_slot(ino, at);
        self.link(at);
    }

    /// The least recently used slot becomes another object's; returns the descriptor that it had.
    fn replace_oldest(&mut self, ino: u64, fd: Arc<T>) -> Arc<T> {
        let at = self.tail;
        let old = self.slots[at as usize].ino;
        match self.index.find_entry(hash(old), |other| *other == at) {
            Ok(entry) => drop(entry.remove()),
            Err(_) => debug_assert!(false, "a descriptor that is not in the index"),
        }
        let slot = &mut self.slots[at as usize];
        slot.ino = ino;
        let evicted = std::mem::replace(&mut slot.fd, fd);
        self.index_slot(ino, at);
        self.touch(at);
        evicted
    }

    fn index_slot(&mut self, ino: u64, at: u32) {
        let slots = &self.slots;
        let entry = self.index.entry(
            hash(ino),
            |other| *other == at,
            |other| hash(slots[*other as usize].ino),
        );
        if let Entry::Vacant(vacant) = entry {
            vacant.insert(at);
        }
    }

    /// Makes a slot of the list the most recently used.
    fn touch(&mut self, at: u32) {
        if self.head == at {
            return;
        }
        let Slot { newer, older, .. } = self.slots[at as usize];
        match newer {
            NONE => self.head = older,
            newer => self.slots[newer as usize].older = older,
        }
        match older {
            NONE => self.tail = newer,
            older => self.slots[older as usize].newer = newer,
        }
        self.link(at);
    }

    /// Puts a slot that is in no list at the head.
    fn link(&mut self, at: u32) {
        let head = self.head;
        let slot = &mut self.slots[at as usize];
        (slot.newer, slot.older) = (NONE, head);
        match head {
            NONE => self.tail = at,
            head => self.slots[head as usize].newer = at,
        }
        self.head = at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_leaves_first() {
        let cache = FdCache::new(2);
        cache.insert(1, Arc::new("one"));
        cache.insert(2, Arc::new("two"));
        assert!(cache.get(1).is_some());
        cache.insert(3, Arc::new("three"));
        assert_eq!(cache.len(), 2);
        assert!(cache.get(2).is_none());
        assert_eq!(cache.get(1).as_deref(), Some(&"one"));
        assert_eq!(cache.get(3).as_deref(), Some(&"three"));
    }

    #[test]
    fn the_first_of_two_openers_wins() {
        let cache = FdCache::new(2);
        let first = cache.insert(1, Arc::new("first"));
        let second = cache.insert(1, Arc::new("second"));
        assert!(Arc::ptr_eq(&first, &second));
        cache.clear();
        assert_eq!(cache.len(), 0);
        assert_eq!(*second, "first");
    }

    /// Against a list that is searched from one end to the other.
    #[test]
    fn any_order_of_use_evicts_the_oldest() {
        const CAPACITY: usize = 5;
        let cache = FdCache::new(CAPACITY);
        let mut model: Vec<u64> = Vec::new();
        let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
        for step in 0..10_000 {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            let ino = dice % 9;
            let known = model.iter().position(|other| *other == ino);
            if dice & 1 << 40 == 0 {
                assert_eq!(
                    cache.get(ino).as_deref().copied(),
                    known.map(|_| ino),
                    "{step}"
                );
                if known.is_none() {
                    continue;
                }
            } else {
                assert_eq!(*cache.insert(ino, Arc::new(ino)), ino);
            }
            if let Some(at) = known {
                model.remove(at);
            }
            model.push(ino);
            if model.len() > CAPACITY {
                model.remove(0);
            }
            if step == 5_000 {
                cache.clear();
                model.clear();
            }
        }
        let left = (0..9).filter(|ino| cache.get(*ino).is_some()).count();
        assert_eq!((left, cache.len()), (CAPACITY, CAPACITY));
    }
}
