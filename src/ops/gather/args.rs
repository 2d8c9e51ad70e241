//! `kernels/gather.cu`.

use half::f16;

use crate::device::driver::Kernel;

/// values = vector\[indices\].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct GatherArgs {
    /// The whole flat vector.
    pub vector: *const f32,
    /// \[n\].
    pub indices: *const u32,
    /// \[n\], overwritten.
    pub values: *mut f32,
    pub n: u32,
}

/// vector\[indices\] = values.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct ScatterArgs {
    /// The whole flat vector.
    pub vector: *mut f32,
    /// The flat vector rounded to f16, or null.
    pub halves: *mut f16,
    /// \[n\], none twice.
    pub indices: *const u32,
    /// \[n\].
    pub values: *const f32,
    pub n: u32,
}

/// values = 0; halves = 0.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct ClearArgs {
    /// \[n\], overwritten.
    pub values: *mut f32,
    /// The vector rounded to f16 \[n\], or null.
    pub halves: *mut f16,
    pub n: u64,
}

/// One thread a value, 256 a block.
pub const GATHER: Kernel<GatherArgs> = Kernel::new("gather", "gather");
/// One thread a value, 256 a block.
pub const SCATTER: Kernel<ScatterArgs> = Kernel::new("gather", "scatter");
/// Grid-stride, any grid of 256 threads.
pub const CLEAR: Kernel<ClearArgs> = Kernel::new("gather", "clear");
