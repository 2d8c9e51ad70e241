//! Runs one block: its threads in turn, each until it waits.

use std::ffi::c_void;

use corosensei::{Coroutine, CoroutineResult};

use super::check::{Check, Launched};
use super::shared::{SHARED, SharedMemory};
use super::stack::{STACK, Stack, Stacks};
use super::thread::{BlockState, Thread, Wait};

/// A kernel's entry: runs one thread of it.
pub(super) type Entry = unsafe extern "C" fn(*const c_void);

/// Bytes the lanes of a warp show each other: two turns of 32 lanes of 32 bytes.
const EXCHANGE: usize = 2 * 32 * 32;

unsafe extern "C" {
    /// See `runtime.cpp`.
    fn fishmask_set_thread(thread: *mut Thread);
}

type Threads = Coroutine<(), Wait, (), Stack>;

/// One block of a launch.
pub(super) struct Block<'a> {
    pub entry: Entry,
    pub args: *const c_void,
    pub index: [u32; 3],
    pub grid: [u32; 3],
    pub threads: u32,
    pub shared: u32,
    /// For the checked build: the launch, and which of its blocks this is.
    pub checked: Option<(&'a Launched<'a>, u64)>,
}

/// Memory to run blocks in, used by one block at a time.
pub(super) struct Worker {
    threads: Vec<Thread>,
    /// Of the threads that have begun and not ended; dropped before their stacks.
    coroutines: Vec<Option<Threads>>,
    /// Where each one's stack starts.
    limits: Vec<usize>,
    warps: Vec<Warp>,
    stacks: Stacks,
    exchange: Vec<[u128; EXCHANGE / 16]>,
    state: BlockState,
    check: Option<Box<Check>>,
}

// SAFETY: its pointers lead to memory of its own, it is used by one thread at a time, and it holds no
// coroutine between blocks.
unsafe impl Send for Worker {}

impl Default for Worker {
    fn default() -> Self {
        let state = BlockState { shared: SharedMemory::new(SHARED as usize), fault: None };
        Worker {
            threads: vec![],
            coroutines: vec![],
            limits: vec![],
            warps: vec![],
            stacks: Stacks::default(),
            exchange: vec![],
            state,
            check: None,
        }
    }
}

/// Which lanes of a warp wait for what.
#[derive(Clone, Copy, Default)]
struct Warp {
    ready: u32,
    at_block: u32,
    at_warp: u32,
    at_exchange: u32,
    done: u32,
}

/// Some of a warp's lanes.
type Lanes = fn(&Warp) -> u32;

const ALL: u32 = u32::MAX;

impl Worker {
    /// Runs a block to its end, or says why it cannot end.
    pub(super) fn run(&mut self, block: &Block<'_>) -> Result<(), String> {
        self.prepare(block);
        let outcome = self.schedule(block);
        Check::end();
        if outcome.is_err() {
            for coroutine in &mut self.coroutines {
                if let Some(mut unfinished) = coroutine.take() {
                    // SAFETY: kernels are C++ without destructors, and the closure's own values need none.
                    unsafe { unfinished.force_reset() };
                    self.stacks.give_back(unfinished.into_stack());
                }
            }
        }
        let [x, y, z] = block.index;
        outcome.map_err(|reason| format!("block [{x}, {y}, {z}], {reason}"))
    }

    fn prepare(&mut self, block: &Block<'_>) {
        let count = block.threads as usize;
        let warps = count / 32;
        self.state.shared.start(block.shared as usize);
        self.state.fault = None;
        self.exchange.resize(self.exchange.len().max(warps), [0; EXCHANGE / 16]);
        self.threads.resize_with(self.threads.len().max(count), Thread::default);
        self.coroutines.resize_with(self.coroutines.len().max(count), || None);
        self.limits.resize(self.limits.len().max(count), 0);
        self.warps.clear();
        self.warps.resize(warps, Warp { ready: ALL, ..Warp::default() });
        let state: *mut BlockState = &raw mut self.state;
        let dynamic = self.state.shared.dynamic_start();
        let exchange = self.exchange.as_mut_ptr();
        for (i, thread) in self.threads[..count].iter_mut().enumerate() {
            thread.index = i as u32;
            thread.threads = block.threads;
            (thread.block_index, thread.grid) = (block.index, block.grid);
            (thread.block, thread.dynamic) = (state.cast(), dynamic);
            // SAFETY: there is room for each warp.
            thread.exchange = unsafe { exchange.add(i / 32) }.cast();
            thread.checked = block.checked.is_some().into();
            (thread.turn, thread.copies, thread.groups) = (0, 0, 0);
        }
        if let Some((launched, index)) = block.checked {
            let bytes = self.state.shared.bytes();
            let check = self.check.get_or_insert_with(|| Box::new(Check::new(bytes)));
            let exchange = exchange as usize..exchange as usize + warps * EXCHANGE;
            check.start(launched, index, warps, state, exchange);
        }
    }

    fn schedule(&mut self, block: &Block<'_>) -> Result<(), String> {
        let warps = self.warps.len();
        loop {
            let (mut waiting, mut done) = (0, 0);
            for warp in 0..warps {
                self.run_warp(block, warp)?;
                waiting += usize::from(self.warps[warp].at_block == ALL);
                done += usize::from(self.warps[warp].done == ALL);
            }
            if done == warps {
                return Ok(());
            }
            if waiting < warps {
                return Err(self.stuck());
            }
            self.warps.fill(Warp { ready: ALL, ..Warp::default() });
            if block.checked.is_some()
                && let Some(check) = &mut self.check
            {
                check.block_barrier()?;
            }
        }
    }

    /// Runs a warp until none of its lanes can go on. After each barrier of the warp lane 0 goes on first,
    /// then the others in order: `warp_mma` relies on it.
    fn run_warp(&mut self, block: &Block<'_>, index: usize) -> Result<(), String> {
        let mut warp = self.warps[index];
        loop {
            while warp.ready != 0 {
                let lane = warp.ready.trailing_zeros() as usize;
                let bit = 1 << lane;
                warp.ready ^= bit;
                match self.resume(block, 32 * index + lane)? {
                    None => warp.done |= bit,
                    Some(Wait::Block) => warp.at_block |= bit,
                    Some(Wait::Warp) => warp.at_warp |= bit,
                    Some(Wait::Exchange) => warp.at_exchange |= bit,
                    Some(Wait::Fault) => {
                        let reason = self.state.fault.take().unwrap_or_default();
                        return Err(format!("thread {}: {reason}", 32 * index + lane));
                    }
                }
            }
            if warp.at_warp == ALL
                && block.checked.is_some()
                && let Some(check) = &mut self.check
            {
                check.warp_barrier(index)?;
            }
            if warp.at_warp != ALL && warp.at_exchange != ALL {
                self.warps[index] = warp;
                return Ok(());
            }
            warp = Warp { ready: ALL, ..Warp::default() };
        }
    }

    /// Runs a thread until it waits; None: it has ended.
    #[inline]
    fn resume(&mut self, block: &Block<'_>, i: usize) -> Result<Option<Wait>, String> {
        let thread = &raw mut self.threads[i];
        let coroutine = match &mut self.coroutines[i] {
            Some(begun) => begun,
            place => {
                // Taken only now: threads that never wait all run on one stack.
                let (entry, args) = (block.entry, block.args);
                let stack = self.stacks.take();
                self.limits[i] = stack.start();
                place.insert(Coroutine::with_stack(stack, move |yielder, ()| {
                    // SAFETY: the thread outlives its coroutine.
                    unsafe { (*thread).yielder = yielder };
                    // SAFETY: an entry of a kernel compiled for these arguments; see `Emulated::launch`.
                    unsafe { entry(args) };
                }))
            }
        };
        // SAFETY: the thread's description outlives the block.
        unsafe { fishmask_set_thread(thread) };
        if block.checked.is_some()
            && let Some(check) = &mut self.check
        {
            let limit = self.limits[i];
            check.enter(thread, i, limit);
        }
        match coroutine.resume(()) {
            CoroutineResult::Yield(wait) => Ok(Some(wait)),
            CoroutineResult::Return(()) => {
                let whole = match self.coroutines[i].take() {
                    Some(ended) => {
                        let stack = ended.into_stack();
                        let whole = stack.is_whole();
                        self.stacks.give_back(stack);
                        whole
                    }
                    None => true,
                };
                if whole {
                    Ok(None)
                } else {
                    Err(format!("thread {i}: it needs more than {STACK} bytes of stack"))
                }
            }
        }
    }

    /// Which barrier was not reached by all, and by whom.
    fn stuck(&self) -> String {
        let divided = self.warps.iter().position(|warp| warp.at_warp | warp.at_exchange != 0);
        let range = divided.map_or(0..self.warps.len(), |warp| warp..warp + 1);
        let find = |lanes: Lanes| {
            let warp = range.clone().find(|&warp| lanes(&self.warps[warp]) != 0)?;
            Some(32 * warp + lanes(&self.warps[warp]).trailing_zeros() as usize)
        };
        let kinds: [(Lanes, &str); 4] = [
            (|warp| warp.at_exchange, "is at a shuffle or another exchange of its warp"),
            (|warp| warp.at_warp, "waits for its warp"),
            (|warp| warp.at_block, "waits for its block"),
            (|warp| warp.done, "has ended"),
        ];
        let mut found =
            kinds.iter().filter_map(|(lanes, what)| Some(format!("thread {} {what}", find(*lanes)?)));
        let (one, other) = (found.next().unwrap_or_default(), found.next().unwrap_or_default());
        format!("a barrier not reached by all: {one}, {other}")
    }
}
