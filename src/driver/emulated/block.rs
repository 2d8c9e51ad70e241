//! Runs one block: its threads in turn, each until it waits.

use std::ffi::c_void;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult};

use super::Entry;
use super::thread::{RUNNING, Running, Statics, Thread, Wait};

/// Bytes of a coroutine's stack.
const STACK: usize = 64 << 10;
/// Bytes of static shared memory a block may have, as on a GPU.
const STATIC_SHARED: usize = 48 << 10;
/// Bytes the lanes of a warp show each other: two turns of 32 lanes of 32 bytes.
const EXCHANGE: usize = 2 * 32 * 32;

unsafe extern "C" {
    /// See `runtime.cpp`.
    fn fishmask_set_thread(thread: *mut Thread);
}

/// One block of a launch.
pub(super) struct Block {
    pub entry: Entry,
    pub args: *const c_void,
    pub index: [u32; 3],
    pub grid: [u32; 3],
    pub threads: u32,
    pub shared: u32,
}

/// Memory to run blocks in, used by one block at a time.
pub(super) struct Worker {
    stacks: Vec<DefaultStack>,
    threads: Vec<Thread>,
    /// Dynamic shared memory, 128-byte aligned.
    shared: Vec<Line>,
    exchange: Vec<Line>,
    statics: Statics,
}

#[derive(Clone, Copy)]
#[repr(C, align(128))]
struct Line([u8; 128]);

// SAFETY: its pointers lead to memory of its own, and it is used by one thread at a time.
unsafe impl Send for Worker {}

impl Default for Worker {
    fn default() -> Self {
        let memory = vec![0_u128; STATIC_SHARED / 16].into_boxed_slice();
        let statics = Statics { arrays: vec![], memory, used: 0 };
        Worker { stacks: vec![], threads: vec![], shared: vec![], exchange: vec![], statics }
    }
}

/// What a thread of a block is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    Waits(Wait),
    Done,
}

impl Worker {
    /// Runs a block to its end, or says why it cannot end.
    pub(super) fn run(&mut self, block: &Block) -> Result<(), String> {
        let count = block.threads as usize;
        // NaN: what nobody wrote shows.
        let fill = Line([0xff; 128]);
        self.shared.clear();
        self.shared.resize((block.shared as usize).div_ceil(128), fill);
        self.exchange.resize(self.exchange.len().max(count / 32 * EXCHANGE / 128), fill);
        self.statics.arrays.clear();
        self.statics.used = 0;
        self.threads.resize_with(self.threads.len().max(count), Thread::default);
        while self.stacks.len() < count {
            self.stacks.push(DefaultStack::new(STACK).map_err(|e| format!("no stack for a thread: {e}"))?);
        }
        let mut fault = None;
        let mut coroutines: Vec<Coroutine<(), Wait, (), DefaultStack>> = Vec::with_capacity(count);
        let exchange: *mut u8 = self.exchange.as_mut_ptr().cast();
        for (i, thread) in self.threads[..count].iter_mut().enumerate() {
            thread.thread = i as u32;
            thread.threads = block.threads;
            (thread.block, thread.grid) = (block.index, block.grid);
            thread.shared = self.shared.as_mut_ptr().cast();
            // SAFETY: there is room for each warp.
            thread.exchange = unsafe { exchange.add(i / 32 * EXCHANGE) };
            (thread.turn, thread.copies, thread.groups) = (0, 0, 0);
            let Some(stack) = self.stacks.pop() else { return Err("no stack for a thread".into()) };
            let (entry, args, thread) = (block.entry, block.args, thread as *mut Thread);
            let (statics, fault) = (&raw mut self.statics, &raw mut fault);
            coroutines.push(Coroutine::with_stack(stack, move |yielder, ()| {
                let running = Running { yielder, statics, fault };
                STARTED.set((&raw const running, thread));
                yielder.suspend(Wait::Warp);
                // SAFETY: an entry of a kernel compiled for these arguments; see `Emulated::launch`.
                unsafe { entry(args) };
            }));
        }
        let outcome = schedule(&mut coroutines, &mut fault);
        for mut coroutine in coroutines {
            if !coroutine.done() {
                // SAFETY: kernels are C++ without destructors, and the closure's own values need none.
                unsafe { coroutine.force_reset() };
            }
            self.stacks.push(coroutine.into_stack());
        }
        outcome
    }
}

thread_local! {
    /// How a coroutine tells its surroundings when it first runs.
    static STARTED: std::cell::Cell<(*const Running, *mut Thread)> =
        const { std::cell::Cell::new((std::ptr::null(), std::ptr::null_mut())) };
}

fn schedule(
    coroutines: &mut [Coroutine<(), Wait, (), DefaultStack>],
    fault: &mut Option<String>,
) -> Result<(), String> {
    let mut surroundings = Vec::with_capacity(coroutines.len());
    for coroutine in coroutines.iter_mut() {
        coroutine.resume(());
        surroundings.push(STARTED.get());
    }
    let mut states = vec![State::Ready; coroutines.len()];
    loop {
        let mut ran = false;
        for first in (0..coroutines.len()).step_by(32) {
            loop {
                for i in first..first + 32 {
                    if states[i] != State::Ready {
                        continue;
                    }
                    ran = true;
                    RUNNING.set(surroundings[i].0);
                    // SAFETY: the thread's description outlives the block.
                    unsafe { fishmask_set_thread(surroundings[i].1) };
                    states[i] = match coroutines[i].resume(()) {
                        CoroutineResult::Yield(wait) => State::Waits(wait),
                        CoroutineResult::Return(()) => State::Done,
                    };
                    if states[i] == State::Waits(Wait::Fault) {
                        let reason = fault.take().unwrap_or_default();
                        return Err(format!("thread {i}: {reason}"));
                    }
                }
                let warp = &mut states[first..first + 32];
                if warp.iter().all(|&state| state == State::Waits(Wait::Warp)) {
                    warp.fill(State::Ready);
                } else {
                    break;
                }
            }
        }
        if states.iter().all(|&state| state == State::Done) {
            return Ok(());
        }
        if states.iter().all(|&state| state == State::Waits(Wait::Block)) {
            states.fill(State::Ready);
        } else if !ran {
            return Err(stuck(&states));
        }
    }
}

/// Which barrier was not reached by all, and by whom.
fn stuck(states: &[State]) -> String {
    let first = |state: State| states.iter().position(|&s| s == state);
    let (waiting, barrier) = match (first(State::Waits(Wait::Warp)), first(State::Waits(Wait::Block))) {
        (Some(thread), _) => (thread, "warp"),
        (None, Some(thread)) => (thread, "block"),
        (None, None) => (0, "block"),
    };
    let group = if barrier == "warp" { waiting / 32 * 32..waiting / 32 * 32 + 32 } else { 0..states.len() };
    let absent = group.clone().find(|&i| states[i] != states[waiting]).unwrap_or(waiting);
    let instead = match states[absent] {
        State::Done => "has ended",
        State::Waits(Wait::Block) => "waits for the block",
        _ => "waits for its warp",
    };
    format!(
        "a barrier not reached by all: thread {waiting} waits for its {barrier}, thread {absent} {instead}"
    )
}
