//! Stacks for the coroutines, reused from thread to thread and block to block.

use std::alloc::{self, Layout};

use corosensei::stack::{self, StackPointer};

/// Bytes of a stack. The build refuses kernels whose frames exceed half of it.
pub(super) const STACK: usize = 32 << 10;
/// Stacks are laid a little more than their size apart: at a power of two, the frames of a warp's lanes would
/// all compete for the same lines of the cache.
const STRIDE: usize = STACK + 17 * 64;
/// Bytes below a slab's lowest stack, for the little that a thread writes beyond its stack before that is
/// noticed.
const SLACK: usize = STACK;
/// Stacks allocated at a time. One large allocation, not a mapping for each: a process may have 65,530
/// mappings.
const SLAB: usize = 32;
/// What lies at a stack's far end, to be found unchanged when its thread has ended.
const CANARY: u64 = 0x5ca1_ab1e_0ddc_0de5;

/// A piece of a slab.
pub(super) struct Stack {
    limit: StackPointer,
}

// SAFETY: base and limit bound 32 KiB, aligned to 64, of a slab that outlives the stack's use (`Stacks` is
// dropped after the coroutines of its worker). In place of a guard page stands that the build bounds the
// kernels' frames (they do not recurse), that the checked build sees accesses beyond the stack, and the
// canary.
unsafe impl stack::Stack for Stack {
    fn base(&self) -> StackPointer {
        self.limit.saturating_add(STACK)
    }

    fn limit(&self) -> StackPointer {
        self.limit
    }
}

impl Stack {
    /// The lowest address of the stack.
    pub(super) fn start(&self) -> usize {
        self.limit.get()
    }

    /// Whether its thread stayed within it, as far as can be told.
    pub(super) fn is_whole(&self) -> bool {
        // SAFETY: the slab's memory, which no one else uses.
        unsafe { *(self.limit.get() as *const u64) == CANARY }
    }
}

/// All stacks of a worker.
#[derive(Default)]
pub(super) struct Stacks {
    slabs: Vec<*mut u8>,
    free: Vec<Stack>,
}

impl Stacks {
    fn layout() -> Layout {
        // 64 is a power of two and the size far below the limit.
        Layout::from_size_align(SLACK + SLAB * STRIDE, 64).unwrap_or(Layout::new::<u64>())
    }

    /// The stack given back last, whose memory is the likeliest to be cached.
    pub(super) fn take(&mut self) -> Stack {
        if let Some(stack) = self.free.pop() {
            return stack;
        }
        // SAFETY: the size is not 0.
        let slab = unsafe { alloc::alloc(Self::layout()) };
        if slab.is_null() {
            alloc::handle_alloc_error(Self::layout());
        }
        self.slabs.push(slab);
        for i in (0..SLAB).rev() {
            // SAFETY: inside the slab; 64-byte aligned, as slab, slack and stride are.
            let limit = unsafe { slab.add(SLACK + i * STRIDE) };
            // SAFETY: as above.
            unsafe { limit.cast::<u64>().write(CANARY) };
            if let Some(limit) = StackPointer::new(limit as usize) {
                self.free.push(Stack { limit });
            }
        }
        self.take()
    }

    /// For the next thread.
    pub(super) fn give_back(&mut self, stack: Stack) {
        // SAFETY: as in `is_whole`.
        unsafe { (stack.limit.get() as *mut u64).write(CANARY) };
        self.free.push(stack);
    }
}

impl Drop for Stacks {
    fn drop(&mut self) {
        for &slab in &self.slabs {
            // SAFETY: allocated in `take` with this layout; its stacks are all free.
            unsafe { alloc::dealloc(slab, Self::layout()) };
        }
    }
}
