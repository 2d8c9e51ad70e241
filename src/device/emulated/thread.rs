//! A CUDA thread as the kernels see it, and the calls they make to wait for others.

use std::ffi::{CStr, c_char, c_void};
use std::ptr;

use corosensei::Yielder;

use super::shared::SharedMemory;

/// Mirrors `EmulatedThread` in `kernels/include/emulated.cuh`; a test compares their sizes.
#[repr(C)]
pub(super) struct Thread {
    pub yielder: *const Yielder<(), Wait>,
    /// A `BlockState`.
    pub block: *mut c_void,
    /// The start of dynamic shared memory.
    pub dynamic: *mut u8,
    pub exchange: *mut u8,
    pub index: u32,
    pub threads: u32,
    pub block_index: [u32; 3],
    pub grid: [u32; 3],
    pub checked: u32,
    pub turn: u32,
    pub copies: u32,
    pub groups: u32,
    copy: [Copy16; 64],
}

/// An asynchronous copy under way.
#[repr(C)]
#[derive(Clone, Copy)]
struct Copy16 {
    to: *mut c_void,
    from: *const c_void,
    group: u32,
    valid: bool,
}

impl Default for Thread {
    fn default() -> Self {
        let none = Copy16 { to: ptr::null_mut(), from: ptr::null(), group: 0, valid: false };
        Thread {
            yielder: ptr::null(),
            block: ptr::null_mut(),
            dynamic: ptr::null_mut(),
            exchange: ptr::null_mut(),
            index: 0,
            threads: 0,
            block_index: [0; 3],
            grid: [0; 3],
            checked: 0,
            turn: 0,
            copies: 0,
            groups: 0,
            copy: [none; 64],
        }
    }
}

/// What a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// All threads of the block.
    Block,
    /// All lanes of the warp, which orders their accesses.
    Warp,
    /// All lanes of the warp, at a shuffle or the like, which orders nothing.
    Exchange,
    /// Nothing more: the launch is to be stopped.
    Fault,
}

/// What the threads of a block share besides memory.
pub(super) struct BlockState {
    pub shared: SharedMemory,
    /// Why the launch is to be stopped.
    pub fault: Option<String>,
}

/// Returns when the scheduler resumes the thread.
#[inline]
fn wait(thread: *mut Thread, what: Wait) {
    // SAFETY: the running thread, whose yielder is its own coroutine's.
    unsafe { (*(*thread).yielder).suspend(what) };
}

#[unsafe(no_mangle)]
extern "C" fn fishmask_wait_for_block(thread: *mut Thread) {
    wait(thread, Wait::Block);
}

#[unsafe(no_mangle)]
extern "C" fn fishmask_wait_for_warp(thread: *mut Thread) {
    wait(thread, Wait::Warp);
}

#[unsafe(no_mangle)]
extern "C" fn fishmask_wait_for_exchange(thread: *mut Thread) {
    wait(thread, Wait::Exchange);
}

#[unsafe(no_mangle)]
extern "C" fn fishmask_shared_array(thread: *mut Thread, key: *const c_void, bytes: usize) -> *mut c_void {
    // SAFETY: only the running thread of the block touches it, and not across a suspension.
    let shared = unsafe { &mut (*(*thread).block.cast::<BlockState>()).shared };
    match shared.array(key as usize, bytes) {
        Ok(place) => place.cast(),
        Err(reason) => stop(thread, reason),
    }
}

#[unsafe(no_mangle)]
extern "C" fn fishmask_stop(thread: *mut Thread, message: *const c_char) -> ! {
    // SAFETY: the kernels pass string constants.
    stop(thread, unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned())
}

/// Stops the launch: the calling thread is never resumed.
pub(super) fn stop(thread: *mut Thread, message: String) -> ! {
    // SAFETY: as in `fishmask_shared_array`.
    unsafe { (*(*thread).block.cast::<BlockState>()).fault = Some(message) };
    loop {
        wait(thread, Wait::Fault);
    }
}

#[cfg(test)]
mod tests {
    use super::Thread;

    unsafe extern "C" {
        static fishmask_thread_bytes: u64;
    }

    #[test]
    fn mirrors_the_struct_in_emulated_cuh() {
        // SAFETY: a constant of runtime.cpp.
        assert_eq!(size_of::<Thread>() as u64, unsafe { fishmask_thread_bytes });
    }
}
