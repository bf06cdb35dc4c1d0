//! Counts the bytes that one thread has allocated, so that a test can bound them.

#![allow(unsafe_code, reason = "a global allocator cannot be written without it; this one only counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(change: isize) {
    // Threads that are ending have no counters any more, and nobody measures them.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + change);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
    });
}

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(pointer, layout) }
    }

    // `realloc` is the provided one: allocate, copy, free. That counts both copies while they exist, the worst case.
}

/// Runs `work` and returns the most bytes it had allocated at any one time.
pub fn peak_of<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = LIVE.get();
    PEAK.set(before);
    let result = work();
    ((PEAK.get() - before).max(0) as usize, result)
}

#[test]
fn peak_counts_what_was_freed_again() {
    let (peak, _) = peak_of(|| {
        drop(vec![0u8; 1000]);
        vec![0u8; 300]
    });
    assert_eq!(peak, 1000);
}
