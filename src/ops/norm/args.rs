//! `kernels/norm_forward.cu`, `norm_backward.cu` and `norm_statistics.cu`. Images are normalised in groups,
//! each by its own statistics: all N together, or each alone. A kernel's name ends in the number of channels
//! a thread works on.

use half::f16;

use crate::device::driver::Kernel;

/// How a block of [`THREADS`] threads covers pixels (along x of the grid) and channels (along y); along z,
/// groups.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Threads side by side along C.
    pub lanes: u32,
    /// Pixels at a time; `lanes rows <= THREADS`.
    pub rows: u32,
    /// Pixels of a block.
    pub chunk: u32,
}

/// Max-pooling windows, or zeros.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct Window {
    pub h: u32,
    pub w: u32,
    pub p: u32,
    pub q: u32,
    /// Rows and columns of a window.
    pub size: u32,
    /// Step between windows.
    pub stride: u32,
    pub pad: u32,
    /// 2^31 / stride, rounded up: `2 i * reciprocal >> 32` is `i / stride` while `i * stride < 2^31`.
    pub reciprocal: u32,
}

/// The forward pass.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct NormForwardArgs {
    /// \[N,H,W,C\].
    pub x: *const f16,
    /// \[N,H,W,C\], or null.
    pub residual: *const f16,
    /// \[C\].
    pub weight: *const f32,
    /// \[C\].
    pub bias: *const f32,
    /// \[G,2,C\]: mean, then 1/sqrt(var + eps).
    pub statistics: *const f32,
    /// \[N,P,Q,C\], overwritten.
    pub y: *mut f16,
    /// \[N,P,Q,C\], overwritten, or null.
    pub winners: *mut u8,
    /// Over output pixels.
    pub tile: Tile,
    pub window: Window,
    /// Input pixels of a group.
    pub inputs: u32,
    /// Output pixels of a group.
    pub outputs: u32,
    pub c: u32,
    /// Lower bound of the normalised value before the residual is added: 0, or -infinity without a ReLU.
    pub floor: f32,
    /// Lower bound of the result. A window passes a gradient if its largest value is above this.
    pub floor_last: f32,
}

/// Sums by channel of the gradient behind the ReLUs, and of its product with x - mean, for each block.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct NormSumsArgs {
    /// \[N,H,W,C\].
    pub x: *const f16,
    /// \[N,H,W,C\] for the last ReLU's mask, or null.
    pub y: *const f16,
    /// \[N,P,Q,C\].
    pub dy: *const f16,
    /// The residual's gradient \[N,H,W,C\], or null; it may be dy. Not for pools.
    pub residual: *mut f16,
    /// Whether it is added to.
    pub accumulate: u32,
    /// \[N,P,Q,C\], for pools.
    pub winners: *const u8,
    /// \[C\].
    pub weight: *const f32,
    /// \[C\].
    pub bias: *const f32,
    /// \[G,2,C\].
    pub statistics: *const f32,
    /// \[G,B,2,C\], B blocks along x: overwritten.
    pub partials: *mut f32,
    /// Over output pixels.
    pub tile: Tile,
    pub window: Window,
    /// Input pixels of a group.
    pub inputs: u32,
    /// Output pixels of a group.
    pub outputs: u32,
    pub c: u32,
    /// The gradient passes where the normalised value is above this: 0, or -infinity without a ReLU.
    pub open: f32,
}

/// The blocks' sums to gradients of weight and bias, and to the constants of [`NormInputArgs`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct NormGradientsArgs {
    /// \[G,B,2,C\].
    pub partials: *const f32,
    /// \[C\].
    pub weight: *const f32,
    /// \[G,2,C\].
    pub statistics: *const f32,
    /// Gradient of the weight \[C\], overwritten; the next group's is `stride` further on.
    pub dweight: *mut f32,
    /// Gradient of the bias \[C\], overwritten; the next group's is `stride` further on.
    pub dbias: *mut f32,
    /// \[G,2,C\], overwritten: slope and offset.
    pub slopes: *mut f32,
    /// Where a gradient that is not finite is noted, or null.
    pub fault: *mut u64,
    /// The optimiser's step \[1\].
    pub step: *const u32,
    /// The place to note.
    pub place: u32,
    /// From one group's gradients to the next one's.
    pub stride: u32,
    pub blocks: u32,
    /// Input pixels of a group.
    pub count: u32,
    pub c: u32,
    /// 1: the statistics are constants, 0: they are those of x.
    pub constant: u32,
}

/// Scores of weight and bias from each image's gradients.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct NormScoresArgs {
    /// \[N,2,C\]: weight's, then bias's.
    pub gradients: *const f32,
    /// Scores of the weight \[C\], added to.
    pub weight: *mut f32,
    /// Scores of the bias \[C\], added to.
    pub bias: *mut f32,
    pub n: u32,
    pub c: u32,
    /// 1: magnitudes are summed, 0: squares.
    pub absolute: u32,
}

/// The gradient of x: `dx = scale dz + slope x + offset`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct NormInputArgs {
    /// \[N,H,W,C\].
    pub x: *const f16,
    /// \[N,H,W,C\] for the last ReLU's mask, or null where dy has it already.
    pub y: *const f16,
    /// \[N,P,Q,C\].
    pub dy: *const f16,
    /// \[N,P,Q,C\], for pools.
    pub winners: *const u8,
    /// \[C\].
    pub weight: *const f32,
    /// \[C\].
    pub bias: *const f32,
    /// \[G,2,C\].
    pub statistics: *const f32,
    /// \[G,2,C\].
    pub slopes: *const f32,
    /// \[N,H,W,C\], overwritten.
    pub dx: *mut f16,
    /// The residual's gradient \[N,H,W,C\], or null. For pools.
    pub residual: *mut f16,
    /// Whether it is added to.
    pub accumulate: u32,
    /// Over input pixels.
    pub tile: Tile,
    pub window: Window,
    /// Input pixels of a group.
    pub inputs: u32,
    /// Output pixels of a group.
    pub outputs: u32,
    pub c: u32,
    /// The gradient passes where the normalised value is above this: 0, or -infinity without a ReLU.
    pub open: f32,
}

/// Statistics of a batch from its sums, and one update of the running statistics.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct BatchStatisticsArgs {
    /// \[2,C\]: sums, then sums of squares.
    pub sums: *const f64,
    /// \[2,C\], overwritten.
    pub statistics: *mut f32,
    /// \[2,C\]: mean, then unbiased variance.
    pub running: *mut f32,
    /// Where sums that are not finite are noted.
    pub fault: *mut u64,
    /// The optimiser's step \[1\].
    pub step: *const u32,
    /// The place to note.
    pub place: u32,
    pub c: u32,
    /// Values summed.
    pub count: f64,
    /// Added to the variance.
    pub eps: f64,
    /// Weight of this batch.
    pub momentum: f64,
}

/// Statistics from running statistics, for each of G groups.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct RunningStatisticsArgs {
    /// \[2,C\].
    pub running: *const f32,
    /// \[G,2,C\], overwritten.
    pub statistics: *mut f32,
    pub c: u32,
    /// Added to the variance.
    pub eps: f32,
}

/// Statistics of each image alone.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct SampleStatisticsArgs {
    /// \[N,H,W,C\].
    pub x: *const f16,
    /// \[N,2,C\], overwritten.
    pub statistics: *mut f32,
    /// Over an image's pixels, all in one block.
    pub tile: Tile,
    /// Pixels of an image.
    pub pixels: u32,
    pub c: u32,
    /// Added to the variance.
    pub eps: f32,
}

/// Threads of a block.
pub const THREADS: u32 = 256;
/// Pixels a thread of the unpooled forward pass has under way at a time.
pub const FORWARD_BATCH: u32 = 4;
/// Pixels a thread of the unpooled backward pass has under way at a time.
pub const BACKWARD_BATCH: u32 = 2;
/// A winner no gradient passes: [`super::DEAD`].
pub const DEAD: u32 = 255;
/// Channels of a block of [`NORM_GRADIENTS`].
pub const GRADIENT_LANES: u32 = 8;

/// Without a pool; 8 channels a thread.
pub const NORM_FORWARD_8: Kernel<NormForwardArgs> = Kernel::new("norm_forward", "norm_forward_8");
/// Without a pool; one channel a thread.
pub const NORM_FORWARD_1: Kernel<NormForwardArgs> = Kernel::new("norm_forward", "norm_forward_1");
/// With a pool; 8 channels a thread.
pub const NORM_POOL_FORWARD_8: Kernel<NormForwardArgs> = Kernel::new("norm_forward", "norm_pool_forward_8");
/// With a pool; one channel a thread.
pub const NORM_POOL_FORWARD_1: Kernel<NormForwardArgs> = Kernel::new("norm_forward", "norm_pool_forward_1");
/// Without a pool; 8 channels a thread.
pub const NORM_SUMS_8: Kernel<NormSumsArgs> = Kernel::new("norm_backward", "norm_sums_8");
/// Without a pool; one channel a thread.
pub const NORM_SUMS_1: Kernel<NormSumsArgs> = Kernel::new("norm_backward", "norm_sums_1");
/// With a pool; 8 channels a thread.
pub const NORM_POOL_SUMS_8: Kernel<NormSumsArgs> = Kernel::new("norm_backward", "norm_pool_sums_8");
/// With a pool; one channel a thread.
pub const NORM_POOL_SUMS_1: Kernel<NormSumsArgs> = Kernel::new("norm_backward", "norm_pool_sums_1");
/// [`GRADIENT_LANES`] channels a block along x, groups along z.
pub const NORM_GRADIENTS: Kernel<NormGradientsArgs> = Kernel::new("norm_backward", "norm_gradients");
/// [`GRADIENT_LANES`] channels a block along x, weight and bias along y.
pub const NORM_SCORES: Kernel<NormScoresArgs> = Kernel::new("norm_backward", "norm_scores");
/// Without a pool; 8 channels a thread.
pub const NORM_INPUT_8: Kernel<NormInputArgs> = Kernel::new("norm_backward", "norm_input_8");
/// Without a pool; one channel a thread.
pub const NORM_INPUT_1: Kernel<NormInputArgs> = Kernel::new("norm_backward", "norm_input_1");
/// With a pool; 8 channels a thread.
pub const NORM_POOL_INPUT_8: Kernel<NormInputArgs> = Kernel::new("norm_backward", "norm_pool_input_8");
/// With a pool; one channel a thread.
pub const NORM_POOL_INPUT_1: Kernel<NormInputArgs> = Kernel::new("norm_backward", "norm_pool_input_1");
/// A thread a channel.
pub const BATCH_STATISTICS: Kernel<BatchStatisticsArgs> = Kernel::new("norm_statistics", "batch_statistics");
/// A thread a channel, groups along y.
pub const RUNNING_STATISTICS: Kernel<RunningStatisticsArgs> =
    Kernel::new("norm_statistics", "running_statistics");
/// 8 channels a thread, an image a block along z.
pub const SAMPLE_STATISTICS_8: Kernel<SampleStatisticsArgs> =
    Kernel::new("norm_statistics", "sample_statistics_8");
/// One channel a thread, an image a block along z.
pub const SAMPLE_STATISTICS_1: Kernel<SampleStatisticsArgs> =
    Kernel::new("norm_statistics", "sample_statistics_1");
