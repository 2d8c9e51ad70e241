//! `kernels/conv.cu`, `kernels/conv_fprop.cu`, `kernels/conv_dgrad.cu`, `kernels/conv_wgrad.cu`.

use half::f16;

use crate::device::driver::Kernel;

/// A square convolution: x \[N,H,W,C\], filter \[K,R,R,C\], y \[N,P,Q,K\].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct ConvShape {
    pub n: u32,
    /// Rows of x.
    pub h: u32,
    /// Columns of x.
    pub w: u32,
    /// Channels of x.
    pub c: u32,
    /// Channels of y.
    pub k: u32,
    /// Rows and columns of the filter.
    pub r: u32,
    /// Step between outputs.
    pub stride: u32,
    /// Zero rows and columns around x.
    pub pad: u32,
    /// Rows of y.
    pub p: u32,
    /// Columns of y.
    pub q: u32,
}

/// y = x * filter.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct ConvFpropArgs {
    pub shape: ConvShape,
    /// \[N,H,W,C\].
    pub x: *const f16,
    /// \[K,R,R,C\].
    pub filter: *const f16,
    /// \[N,P,Q,K\], overwritten.
    pub y: *mut f16,
    /// \[blocks of rows\]\[2\]\[K\], overwritten: each block's sums and sums of squares of y as rounded; or
    /// null. The analytic kernel does not write it.
    pub partials: *mut f32,
}

/// The gradient of x.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct ConvDgradArgs {
    pub shape: ConvShape,
    /// \[N,P,Q,K\].
    pub dy: *const f16,
    /// \[K,R,R,C\].
    pub filter: *const f16,
    /// \[N,H,W,C\].
    pub dx: *mut f16,
    /// 1: added to, 0: overwritten.
    pub accumulate: u32,
}

/// The gradient of the filter.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct ConvWgradArgs {
    pub shape: ConvShape,
    /// \[N,H,W,C\].
    pub x: *const f16,
    /// \[N,P,Q,K\].
    pub dy: *const f16,
    /// \[splits\]\[K,R,R,C\], overwritten: each split's share of the sum. The analytic kernel has one split.
    pub dfilter: *mut f32,
    /// Steps of 32 pixels of y that a split sums.
    pub steps: u32,
}

/// Sums by channel of rows of y.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct ChannelSumsArgs {
    /// \[rows\]\[channels\].
    pub y: *const f16,
    /// \[blocks along x\]\[2\]\[channels\], overwritten.
    pub partials: *mut f32,
    pub rows: u32,
    pub channels: u32,
    /// Rows a block sums.
    pub rows_per_block: u32,
}

/// Sums of columns, in a fixed order.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct SumRowsArgs {
    /// \[rows\]\[columns\].
    pub partials: *const f32,
    /// \[columns\], overwritten; or null.
    pub doubles: *mut f64,
    /// \[columns\], overwritten; or null.
    pub floats: *mut f32,
    /// Partial sums of a column.
    pub rows: u32,
    pub columns: u32,
    /// Threads that share a column, a power of two; each takes every so many rows.
    pub sharers: u32,
}

/// Scores of a filter, from each sample's own gradient.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct ConvScoreArgs {
    pub shape: ConvShape,
    /// \[N,H,W,C\].
    pub x: *const f16,
    /// \[N,P,Q,K\].
    pub dy: *const f16,
    /// \[K,C,R,R\], added to; for the analytic kernel.
    pub scores: *mut f32,
    /// \[shares\]\[K,R,R,C\], overwritten: each share's sums; for the others.
    pub partials: *mut f32,
    /// Samples of a share.
    pub samples: u32,
}

/// scores += the shares' sums.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct ConvScoreSumArgs {
    /// \[shares\]\[K,taps,C\].
    pub partials: *const f32,
    /// \[K,C,taps\], added to.
    pub scores: *mut f32,
    pub shares: u32,
    pub k: u32,
    pub taps: u32,
    pub c: u32,
    /// Channels of a block: with all taps, at most [`SUM_SCORES`].
    pub channels: u32,
}

/// Most scores of a block of [`CONV_SCORE_SUM`].
pub const SUM_SCORES: u32 = 288;

/// One thread an element of y, 256 a block.
pub const CONV_FPROP: Kernel<ConvFpropArgs> = Kernel::new("conv", "conv_fprop");
/// One thread an element of dx, 256 a block.
pub const CONV_DGRAD: Kernel<ConvDgradArgs> = Kernel::new("conv", "conv_dgrad");
/// One thread an element of the filter, 256 a block.
pub const CONV_WGRAD: Kernel<ConvWgradArgs> = Kernel::new("conv", "conv_wgrad");
/// Blocks along x: rows; along y: 64 channels. 64 threads.
pub const CHANNEL_SUMS: Kernel<ChannelSumsArgs> = Kernel::new("conv", "channel_sums");
/// (threads / sharers) columns a block, at most 1024 threads.
pub const SUM_ROWS: Kernel<SumRowsArgs> = Kernel::new("conv", "sum_rows");

/// Tensor cores: 256 rows (pixels) x 128 columns (K) a block, 256 threads.
pub const CONV_FPROP_256X128: Kernel<ConvFpropArgs> = Kernel::new("conv_fprop", "conv_fprop_256x128");
/// 128 x 128, 128 threads.
pub const CONV_FPROP_128X128: Kernel<ConvFpropArgs> = Kernel::new("conv_fprop", "conv_fprop_128x128");
/// 256 x 64, 128 threads.
pub const CONV_FPROP_256X64: Kernel<ConvFpropArgs> = Kernel::new("conv_fprop", "conv_fprop_256x64");
/// 64 x 64, 128 threads.
pub const CONV_FPROP_64X64: Kernel<ConvFpropArgs> = Kernel::new("conv_fprop", "conv_fprop_64x64");
/// 128 x 64, 256 threads; operands are read element by element.
pub const CONV_FPROP_GATHER: Kernel<ConvFpropArgs> = Kernel::new("conv_fprop", "conv_fprop_gather");
/// Tensor cores: 256 rows (pixels of a class) x 128 columns (C) a block, 256 threads; classes along y.
pub const CONV_DGRAD_256X128: Kernel<ConvDgradArgs> = Kernel::new("conv_dgrad", "conv_dgrad_256x128");
/// 128 x 128, 128 threads.
pub const CONV_DGRAD_128X128: Kernel<ConvDgradArgs> = Kernel::new("conv_dgrad", "conv_dgrad_128x128");
/// 256 x 64, 128 threads.
pub const CONV_DGRAD_256X64: Kernel<ConvDgradArgs> = Kernel::new("conv_dgrad", "conv_dgrad_256x64");
/// 64 x 64, 128 threads.
pub const CONV_DGRAD_64X64: Kernel<ConvDgradArgs> = Kernel::new("conv_dgrad", "conv_dgrad_64x64");
/// Tensor cores: 256 rows (K) x 128 columns (R S C) a block, 256 threads; splits along y.
pub const CONV_WGRAD_256X128: Kernel<ConvWgradArgs> = Kernel::new("conv_wgrad", "conv_wgrad_256x128");
/// 128 x 128, 128 threads.
pub const CONV_WGRAD_128X128: Kernel<ConvWgradArgs> = Kernel::new("conv_wgrad", "conv_wgrad_128x128");
/// 64 x 128, 128 threads.
pub const CONV_WGRAD_64X128: Kernel<ConvWgradArgs> = Kernel::new("conv_wgrad", "conv_wgrad_64x128");
/// 64 x 32, 128 threads; operands whose channels are no multiple of 8 are read element by element.
pub const CONV_WGRAD_GATHER: Kernel<ConvWgradArgs> = Kernel::new("conv_wgrad", "conv_wgrad_gather");
/// Squares are summed. One thread a score, 256 a block.
pub const CONV_SCORE_SQUARE: Kernel<ConvScoreArgs> = Kernel::new("conv_score", "conv_score_square");
/// Magnitudes are summed.
pub const CONV_SCORE_ABSOLUTE: Kernel<ConvScoreArgs> = Kernel::new("conv_score", "conv_score_absolute");
/// Tensor cores: 64 rows (K) x 64 columns (R S C) a block, 128 threads; shares along y.
pub const CONV_SCORE_64X64_SQUARE: Kernel<ConvScoreArgs> =
    Kernel::new("conv_score", "conv_score_64x64_square");
/// Magnitudes.
pub const CONV_SCORE_64X64_ABSOLUTE: Kernel<ConvScoreArgs> =
    Kernel::new("conv_score", "conv_score_64x64_absolute");
/// The same; operands whose channels are no multiple of 8 are read element by element.
pub const CONV_SCORE_GATHER_SQUARE: Kernel<ConvScoreArgs> =
    Kernel::new("conv_score", "conv_score_gather_square");
/// Magnitudes.
pub const CONV_SCORE_GATHER_ABSOLUTE: Kernel<ConvScoreArgs> =
    Kernel::new("conv_score", "conv_score_gather_absolute");
/// Channels along x, K along y, 128 threads.
pub const CONV_SCORE_SUM: Kernel<ConvScoreSumArgs> = Kernel::new("conv_score", "conv_score_sum");
