//! `kernels/pool.cu`. A kernel's name ends in the number of channels a thread works on.

use half::f16;

use crate::device::driver::Kernel;

/// Global average pooling, forward or backward.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct AveragePoolArgs {
    /// x \[N,H,W,C\], or dy \[N,C\].
    pub from: *const f16,
    /// y \[N,C\], or dx \[N,H,W,C\]: overwritten.
    pub to: *mut f16,
    pub n: u32,
    /// H W.
    pub pixels: u32,
    pub c: u32,
    /// 1 / (H W).
    pub share: f32,
}

/// Threads of a block; a thread an image and channels, any grid that has enough.
pub const THREADS: u32 = 128;

/// 8 channels a thread.
pub const AVERAGE_FORWARD_8: Kernel<AveragePoolArgs> = Kernel::new("pool", "average_forward_8");
/// One channel.
pub const AVERAGE_FORWARD_1: Kernel<AveragePoolArgs> = Kernel::new("pool", "average_forward_1");
/// 8 channels a thread.
pub const AVERAGE_BACKWARD_8: Kernel<AveragePoolArgs> = Kernel::new("pool", "average_backward_8");
/// One channel.
pub const AVERAGE_BACKWARD_1: Kernel<AveragePoolArgs> = Kernel::new("pool", "average_backward_1");
