//! A CUDA thread as the kernels see it, and the calls they make to wait for others.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_void};
use std::ptr;

use corosensei::Yielder;

/// Mirrors `EmulatedThread` in `kernels/include/emulated.cuh`; a test compares sizes.
#[repr(C)]
pub(super) struct Thread {
    pub thread: u32,
    pub threads: u32,
    pub block: [u32; 3],
    pub grid: [u32; 3],
    pub shared: *mut u8,
    pub exchange: *mut u8,
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
            thread: 0,
            threads: 0,
            block: [0; 3],
            grid: [0; 3],
            shared: ptr::null_mut(),
            exchange: ptr::null_mut(),
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
    /// All lanes of the warp.
    Warp,
    /// Nothing more: the launch is to be stopped.
    Fault,
}

/// What the running coroutine needs of its block.
pub(super) struct Running {
    pub yielder: *const Yielder<(), Wait>,
    pub statics: *mut Statics,
    pub fault: *mut Option<String>,
}

thread_local! {
    /// Set whenever a coroutine is resumed on this host thread.
    pub(super) static RUNNING: Cell<*const Running> = const { Cell::new(ptr::null()) };
}

/// Static shared arrays of a block: (key, place), in memory that is never moved while the block runs.
pub(super) struct Statics {
    pub arrays: Vec<(usize, usize)>,
    pub memory: Box<[u128]>,
    pub used: usize,
}

/// The running coroutine's surroundings.
fn running() -> &'static Running {
    // SAFETY: kernels run only inside coroutines, and the scheduler sets the pointer before it resumes one; what it
    // points to lives until the coroutine is done.
    unsafe { &*RUNNING.get() }
}

fn wait(what: Wait) {
    let running = running();
    // SAFETY: the yielder is the running coroutine's own.
    unsafe { (*running.yielder).suspend(what) };
}

#[unsafe(no_mangle)]
extern "C" fn fishmask_block_sync() {
    wait(Wait::Block);
}

#[unsafe(no_mangle)]
extern "C" fn fishmask_warp_sync() {
    wait(Wait::Warp);
}

#[unsafe(no_mangle)]
extern "C" fn fishmask_static_shared(key: *const c_void, bytes: usize) -> *mut c_void {
    // SAFETY: only the running coroutine of the block touches it, and not across a suspension.
    let statics = unsafe { &mut *running().statics };
    let place = match statics.arrays.iter().find(|array| array.0 == key as usize) {
        Some(array) => array.1,
        None => {
            let place = statics.used.next_multiple_of(16);
            if place + bytes > size_of_val(&*statics.memory) {
                fault(format!("more than {} bytes of static shared memory", size_of_val(&*statics.memory)));
            }
            statics.arrays.push((key as usize, place));
            statics.used = place + bytes;
            place
        }
    };
    // SAFETY: inside the memory, by the check above.
    unsafe { statics.memory.as_mut_ptr().cast::<u8>().add(place).cast() }
}

#[unsafe(no_mangle)]
extern "C" fn fishmask_fault(message: *const c_char) -> ! {
    // SAFETY: the kernels pass string constants.
    fault(unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned());
}

/// Stops the launch: the calling thread is never resumed.
pub(super) fn fault(message: String) -> ! {
    // SAFETY: as in `fishmask_static_shared`.
    unsafe { *running().fault = Some(message) };
    loop {
        wait(Wait::Fault);
    }
}
