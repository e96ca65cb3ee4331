//! The system's allocator, but that the memory into which requests are read is there from the beginning.
//!
//! The kernel copies a request to the worker page by page. Where it has to find a page first, a worker that is killed meanwhile fails
//! the request with `EIO` (`fuse_dev_do_read` in fs/fuse/dev.c), and some program's write with it. Copies to pages that are there
//! do not wait, and are finished. The library allocates its buffer itself and tells nobody where it is.

use std::alloc::{GlobalAlloc, Layout, System};

/// The library's buffer is larger than this (`MAX_WRITE_SIZE` of fuser). Anything else of that size loses nothing by it.
const LARGE: usize = 16 << 20;
/// What the kernel fills of it: a write of 1 MiB (`fuse::MAX_WRITE`) and its headers.
const FILLED: usize = (1 << 20) + 2 * PAGE;
const PAGE: usize = 4096;

/// The program's `#[global_allocator]`.
#[derive(Debug)]
pub struct Allocator;

/// Has all threads share one heap: with one for each, what the heaps hold that nobody needs any more doubles the memory of a
/// worker with many threads.
pub(super) fn one_heap() {
    // SAFETY: a setting of the allocator (mallopt(3)), which touches nothing that is in use.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

// SAFETY: all of it is the system's allocator; zeros are written where it promises zeros.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that it needs.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the same.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the same.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the same.
        let memory = unsafe { System.alloc_zeroed(layout) };
        if layout.size() > LARGE && !memory.is_null() {
            for at in (0..FILLED).step_by(PAGE) {
                // SAFETY: it lies within what was just allocated, and is nobody else's yet.
                unsafe { memory.add(at).write_volatile(0) };
            }
        }
        memory
    }
}
