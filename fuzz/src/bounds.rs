//! How much memory and time one input may take.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use nix::time::{ClockId, clock_gettime};

/// Bytes that one input may have allocated at any moment. An input is at most 64 KiB; the simulated disk, which copies
/// what a store writes, is the larger part.
pub const MEMORY_MAX: usize = 256 << 20;
/// CPU time of the target's thread for one input, in milliseconds.
pub const CPU_MAX_MS: u64 = 3000;

/// The system's allocator, with a count of what is allocated and the highest it was.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn grown(by: usize) {
    let now = NOW.fetch_add(by, Relaxed).wrapping_add(by);
    PEAK.fetch_max(now, Relaxed);
}

// SAFETY: every call goes to `System` as it came, and counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: the caller keeps `System`'s contract, which is this one's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: `at` came from `System` with this layout.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        grown(size);
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: `at` came from `System` with this layout, and the caller checked `size`.
        unsafe { System.realloc(at, layout, size) }
    }
}

/// Runs `act` and panics if it took more than is allowed.
pub fn within(act: impl FnOnce()) {
    let (before, begin) = (NOW.load(Relaxed), cpu_ms());
    PEAK.store(before, Relaxed);
    act();
    let peak = PEAK.load(Relaxed).saturating_sub(before);
    assert!(peak <= MEMORY_MAX, "it took {peak} bytes of memory");
    let took = cpu_ms() - begin;
    assert!(took <= CPU_MAX_MS, "it took {took} ms of CPU time");
}

/// Panics if `act` has more than `limit` bytes at any moment beyond what there was.
pub fn memory<T>(limit: usize, act: impl FnOnce() -> T) -> T {
    let before = NOW.load(Relaxed);
    let outer = PEAK.swap(before, Relaxed);
    let value = act();
    let peak = PEAK.fetch_max(outer, Relaxed).saturating_sub(before);
    assert!(
        peak <= limit,
        "it took {peak} bytes, where {limit} are allowed"
    );
    value
}

fn cpu_ms() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("Linux has this clock");
    now.tv_sec() as u64 * 1000 + now.tv_nsec() as u64 / 1_000_000
}
