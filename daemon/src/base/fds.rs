//! A bounded cache of open descriptors, least recently used out first.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// At most `capacity` open objects by inode number. Callers share what they got, so an evicted
/// descriptor closes when its last user is done.
pub(super) struct FdCache<T> {
    capacity: usize,
    state: Mutex<State<T>>,
}

struct State<T> {
    open: HashMap<u64, Slot<T>>,
    /// Counts uses; the slot with the lowest stamp is the least recently used.
    clock: u64,
}

struct Slot<T> {
    fd: Arc<T>,
    used: u64,
}

impl<T> FdCache<T> {
    /// An empty cache for `capacity` descriptors, at least one.
    pub fn new(capacity: usize) -> Self {
        FdCache {
            capacity: capacity.max(1),
            state: Mutex::new(State {
                open: HashMap::with_capacity(capacity + 1),
                clock: 0,
            }),
        }
    }

    /// The cached descriptor of `ino`.
    pub fn get(&self, ino: u64) -> Option<Arc<T>> {
        let mut state = self.state.lock();
        state.clock += 1;
        let now = state.clock;
        let slot = state.open.get_mut(&ino)?;
        slot.used = now;
        Some(Arc::clone(&slot.fd))
    }

    /// Keeps `fd` for `ino` and returns what is cached now: the descriptor of whoever came first.
    pub fn insert(&self, ino: u64, fd: T) -> Arc<T> {
        let fd = Arc::new(fd);
        // Closing is a system call: what leaves the cache is dropped after the lock.
        let mut evicted = None;
        let kept = {
            let mut state = self.state.lock();
            state.clock += 1;
            let used = state.clock;
            let slot = state.open.entry(ino).or_insert_with(|| Slot {
                fd: Arc::clone(&fd),
                used,
            });
            let kept = Arc::clone(&slot.fd);
            if state.open.len() > self.capacity {
                // A scan of at most `capacity` stamps costs less than the open that made it necessary.
                let oldest = state.open.iter().min_by_key(|(_, slot)| slot.used);
                if let Some(ino) = oldest.map(|(ino, _)| *ino) {
                    evicted = state.open.remove(&ino);
                }
            }
            kept
        };
        drop(evicted);
        kept
    }

    /// Forgets every descriptor.
    pub fn clear(&self) {
        let open = std::mem::take(&mut self.state.lock().open);
        drop(open);
    }

    /// How many descriptors are cached.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.state.lock().open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_leaves_first() {
        let cache = FdCache::new(2);
        cache.insert(1, "one");
        cache.insert(2, "two");
        assert!(cache.get(1).is_some());
        cache.insert(3, "three");
        assert_eq!(cache.len(), 2);
        assert!(cache.get(2).is_none());
        assert_eq!(cache.get(1).as_deref(), Some(&"one"));
        assert_eq!(cache.get(3).as_deref(), Some(&"three"));
    }

    #[test]
    fn the_first_of_two_openers_wins() {
        let cache = FdCache::new(2);
        let first = cache.insert(1, "first");
        let second = cache.insert(1, "second");
        assert!(Arc::ptr_eq(&first, &second));
        cache.clear();
        assert_eq!(cache.len(), 0);
        assert_eq!(*second, "first");
    }
}
