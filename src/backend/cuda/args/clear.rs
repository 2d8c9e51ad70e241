//! `kernels/clear.cu`.

use half::f16;

use crate::driver::Kernel;

/// values = 0; halves = 0.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ClearArgs {
    /// \[n\], overwritten.
    pub values: *mut f32,
    /// The same rounded \[n\], or null.
    pub halves: *mut f16,
    /// Values.
    pub n: u64,
}

/// Grid-stride, any grid of 256 threads.
pub const CLEAR: Kernel<ClearArgs> = Kernel::new("clear", "clear");
