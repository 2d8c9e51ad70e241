//! `kernels/counter.cu`.

use crate::device::driver::Kernel;

/// Moves a counter on.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct AdvanceArgs {
    /// \[1\].
    pub counter: *mut u32,
    pub by: u32,
}

/// One block of 32 threads.
pub const ADVANCE: Kernel<AdvanceArgs> = Kernel::new("counter", "advance");
