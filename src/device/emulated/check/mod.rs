//! The checked build's rules: what each access of a kernel must hold to.
//!
//! `hooks.rs` is called before each access to memory, and asks here. Every byte of a buffer and of shared
//! memory has two cells: who wrote it last, and who read it last. A cell names a block's run, a thread, and
//! the thread's tick, which barriers move on; so it can be told whether that access came before this one by a
//! barrier, or only by chance. Where several readers (or atomics) are all the last, the cell says of how many
//! a kind they are.
//!
//! Two workers may change a cell at once and lose one of the changes: a fault may then go unseen in that run,
//! but none is made up.

mod report;

use std::cell::Cell;
use std::ops::Range;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::memory::{Region, Shadow};
use super::stack::STACK;
use super::thread::{BlockState, Thread};

// A cell, from its lowest bit: MANY (2 bits), ATOMIC, PENDING, thread (10), tick (18), run (32).
/// The last are several lanes of a warp.
const WARP: u64 = 1;
/// The last are several warps of a block.
const BLOCK: u64 = 2;
/// The last are several blocks.
const GRID: u64 = 3;
/// Atomic writes.
const ATOMIC: u64 = 4;
/// The target of an asynchronous copy that has not been waited for.
const PENDING: u64 = 8;
const THREAD: u32 = 4;
const TICK: u32 = 14;
const RUN: u32 = 32;
/// Barriers a block may pass.
const TICKS: u32 = 1 << (RUN - TICK);

/// Bytes of stack in which a fault is put into words.
pub(super) const REPORT: usize = 8 << 10;

/// What an access does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
    Atomic,
    /// The start of an asynchronous copy to here.
    CopyBegins,
    /// The end of an asynchronous copy.
    CopyEnds,
}

/// What is known of the running block and thread.
pub(super) struct Check {
    /// This run of a block, unlike any other's.
    run: u64,
    /// The first run of this launch: runs from here on are not ordered with this one.
    first: u64,
    running: *mut Thread,
    thread: u32,
    /// The running thread's tick.
    now: u32,
    /// Both, and the run, as a cell.
    mine: u64,
    /// The tick of the latest block barrier.
    base: u32,
    /// Each warp's.
    ticks: Vec<u32>,
    pub(super) stack: Range<usize>,
    block: *const BlockState,
    shared: Range<usize>,
    shared_shadow: Shadow,
    /// Where kernels may also read: the arguments, the warps' exchange, the program's constants.
    exempt: [Range<usize>; 3],
    regions: Arc<[Region]>,
    /// The region of the last access.
    last: usize,
    /// Guesses of the region by bits 16 to 23 of the address; guards keep buffers further apart than that.
    guesses: [u32; 256],
}

thread_local! {
    /// Set while a checked block runs on this host thread.
    pub(super) static CHECK: Cell<*mut Check> = const { Cell::new(ptr::null_mut()) };
}

/// A launch for the check.
pub(super) struct Launched<'a> {
    pub first: u64,
    pub regions: &'a Arc<[Region]>,
    pub args: Range<usize>,
}

impl Check {
    pub(super) fn new(shared_bytes: usize) -> Self {
        Check {
            run: 0,
            first: 0,
            running: ptr::null_mut(),
            thread: 0,
            now: 0,
            mine: 0,
            base: 0,
            ticks: vec![],
            stack: 0..0,
            block: ptr::null(),
            shared: 0..0,
            shared_shadow: Shadow::new(shared_bytes),
            exempt: [0..0, 0..0, image()],
            regions: Arc::new([]),
            last: 0,
            guesses: [0; 256],
        }
    }

    /// Before a block.
    pub(super) fn start(
        &mut self,
        launched: &Launched<'_>,
        block_of_grid: u64,
        warps: usize,
        block: *const BlockState,
        exchange: Range<usize>,
    ) {
        self.first = launched.first;
        self.run = launched.first + block_of_grid;
        (self.now, self.base) = (1, 1);
        self.ticks.clear();
        self.ticks.resize(warps, 1);
        self.block = block;
        // SAFETY: the block's state, which no one changes meanwhile.
        let shared = unsafe { &(*block).shared };
        self.shared = shared.address()..shared.address() + shared.bytes();
        self.exempt[0] = launched.args.clone();
        self.exempt[1] = exchange;
        self.regions = launched.regions.clone();
        self.last = 0;
        CHECK.set(self);
    }

    /// After a block.
    pub(super) fn end() {
        CHECK.set(ptr::null_mut());
    }

    /// This thread runs from here on.
    #[inline]
    pub(super) fn enter(&mut self, running: *mut Thread, index: usize, limit: usize) {
        self.running = running;
        self.thread = index as u32;
        self.now = self.ticks[index / 32];
        self.mine = self.run << RUN | u64::from(self.now) << TICK | u64::from(self.thread) << THREAD;
        self.stack = limit..limit + STACK;
    }

    /// A warp has passed a barrier.
    pub(super) fn warp_barrier(&mut self, warp: usize) -> Result<(), String> {
        self.ticks[warp] += 1;
        self.in_range(self.ticks[warp])
    }

    /// The block has passed a barrier.
    pub(super) fn block_barrier(&mut self) -> Result<(), String> {
        self.base = 1 + self.ticks.iter().max().unwrap_or(&0);
        self.ticks.fill(self.base);
        self.in_range(self.base)
    }

    fn in_range(&self, tick: u32) -> Result<(), String> {
        if tick < TICKS {
            Ok(())
        } else {
            Err(format!("the checked build follows {TICKS} barriers of a block"))
        }
    }

    /// Whether all that the cell stands for came before this access, by a barrier or in this thread. Shared
    /// memory is another with each block.
    #[inline]
    fn ordered(&self, cell: u64, global: bool) -> bool {
        let run = cell >> RUN;
        if run != self.run || cell & 3 == GRID {
            return !global || run < self.first;
        }
        let tick = (cell >> TICK) as u32 & (TICKS - 1);
        let thread = (cell >> THREAD) as u32 & 1023;
        let warp_mate = thread / 32 == self.thread / 32;
        tick < self.base
            || match cell & 3 {
                0 => thread == self.thread || warp_mate && tick < self.now,
                WARP => warp_mate && tick < self.now,
                _ => false,
            }
    }

    /// The cell for what `cell`, unordered with this access, stands for, and this access.
    fn together(&self, cell: u64) -> u64 {
        let thread = (cell >> THREAD) as u32 & 1023;
        let kind = if cell & 3 == GRID || cell >> RUN != self.run {
            GRID
        } else if cell & 3 != BLOCK && thread / 32 == self.thread / 32 {
            WARP
        } else {
            BLOCK
        };
        self.mine | kind
    }

    #[inline]
    pub(super) fn access(&mut self, address: usize, bytes: usize, access: Access) {
        // The addresses of private variables; no address is near enough to the end to overflow.
        if self.stack.start <= address && address + bytes <= self.stack.end {
            return;
        }
        if self.shared.start <= address && address + bytes <= self.shared.end {
            let offset = address - self.shared.start;
            // SAFETY: the block's state; the running thread does not change it during this call.
            if !unsafe { (*self.block).shared.holds(offset, bytes) } {
                self.outside(address, bytes, access);
            }
            self.cells(&raw const self.shared_shadow, offset, bytes, false, access);
            return;
        }
        let guess = self.guesses[address >> 16 & 255] as usize;
        let hit = match self.regions.get(guess) {
            Some(region) if region.start <= address && address < region.start + region.bytes => guess,
            _ => {
                let found = self.regions.partition_point(|region| region.start <= address).wrapping_sub(1);
                self.guesses[address >> 16 & 255] = found as u32;
                found
            }
        };
        match self.regions.get(hit) {
            Some(Region { start, bytes: length, shadow: Some(shadow) })
                if address + bytes <= start + length =>
            {
                self.last = hit;
                if access == Access::CopyBegins {
                    self.fault(address - start, true, access, bytes, "which is not shared memory");
                }
                self.cells(Arc::as_ptr(shadow), address - start, bytes, true, access);
            }
            _ => {
                let within = |range: &Range<usize>| range.start <= address && address + bytes <= range.end;
                if access != Access::Read || !self.exempt.iter().any(within) {
                    self.outside(address, bytes, access);
                }
            }
        }
    }

    fn cells(&self, shadow: *const Shadow, offset: usize, bytes: usize, global: bool, access: Access) {
        // SAFETY: the shadow of shared memory, or of a region, both held by self.
        let shadow = unsafe { &*shadow };
        // Natural alignment, which a GPU insists on.
        if bytes.is_power_of_two() && bytes <= 16 && !offset.is_multiple_of(bytes) {
            self.fault(offset, global, access, bytes, "which is misaligned");
        }
        // The bytes of an access mostly have the same past.
        let (mut past, mut now) = ([u64::MAX; 2], [0; 2]);
        for (i, cells) in shadow.cells(offset, bytes).iter().enumerate() {
            let found = [0, 1].map(|cell| cells[cell].load(Relaxed));
            if found != past {
                past = found;
                now = self.judge(offset + i, bytes, global, access, found);
            }
            for (cell, (now, found)) in cells.iter().zip(now.into_iter().zip(found)) {
                if now != found {
                    cell.store(now, Relaxed);
                }
            }
        }
    }

    /// What the cells of a byte become by an access, if it is allowed.
    #[inline]
    fn judge(&self, i: usize, bytes: usize, global: bool, access: Access, cells: [u64; 2]) -> [u64; 2] {
        let (mine, [write, read]) = (self.mine, cells);
        let fresh = if global { write == 0 } else { write >> RUN != self.run };
        if fresh && matches!(access, Access::Read | Access::Atomic) {
            self.fault(i, global, access, bytes, "which nobody wrote");
        }
        if write & PENDING != 0 && access != Access::CopyEnds && !global && !fresh {
            self.fault(i, global, access, bytes, "where an asynchronous copy has not been waited for");
        }
        let ordered = self.ordered(write, global);
        if !ordered && (access != Access::Atomic || write & ATOMIC == 0) {
            self.race(i, global, access, bytes, write, "wrote");
        }
        let read_ordered = self.ordered(read, global);
        if access == Access::Read {
            return [write, if read_ordered { mine } else { self.together(read) }];
        }
        if !read_ordered {
            self.race(i, global, access, bytes, read, "reads");
        }
        let tick = (write >> TICK) as u32 & (TICKS - 1);
        let now = match access {
            Access::CopyBegins => mine | PENDING,
            Access::Atomic if !ordered => self.together(write) | ATOMIC,
            // Its own plain write is still unordered with the others' accesses.
            Access::Atomic if write >> RUN == self.run && write & ATOMIC == 0 && tick >= self.base => write,
            Access::Atomic => mine | ATOMIC,
            _ => mine,
        };
        [now, read]
    }
}

/// The program's own code and constants.
#[cfg(target_os = "linux")]
fn image() -> Range<usize> {
    unsafe extern "C" {
        static __executable_start: u8;
        static end: u8;
    }
    &raw const __executable_start as usize..&raw const end as usize
}

/// Where the linker does not tell, reads far from every buffer go unreported.
#[cfg(not(target_os = "linux"))]
fn image() -> Range<usize> {
    0..usize::MAX
}
