//! Memory, counted by the allocator on all threads: a program of one test, so that nothing else allocates
//! meanwhile.
#![allow(unsafe_code)]

mod allocation;
mod chain;
mod header;

use std::alloc::{GlobalAlloc, Layout, System};

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        allocation::count(layout, layout.size());
        chain::more(layout.size());
        // SAFETY: the caller keeps this function's contract, which is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        allocation::count(layout, layout.size());
        chain::more(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        allocation::count(layout, size);
        // Both are there while the content moves.
        chain::more(size);
        chain::fewer(layout.size());
        // SAFETY: as above; `pointer` came from the system's allocator.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        chain::fewer(layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One after the other, as each counts what the other allocates.
#[test]
fn little_is_allocated() {
    allocation::steps_allocate_nothing();
    chain::writing_takes_less_than_the_vector();
    header::headers_take_less_than_three_times_their_length();
}
