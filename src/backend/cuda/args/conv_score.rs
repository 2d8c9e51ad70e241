//! `kernels/conv_score.cu`.

use half::f16;

use super::conv::ConvShape;
use crate::driver::Kernel;

/// Scores of a filter, from each sample's own gradient.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ConvScoreArgs {
    /// Sizes.
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
pub struct ConvScoreSumArgs {
    /// \[shares\]\[K,taps,C\].
    pub partials: *const f32,
    /// \[K,C,taps\], added to.
    pub scores: *mut f32,
    /// Shares.
    pub shares: u32,
    /// K.
    pub k: u32,
    /// R R.
    pub taps: u32,
    /// C.
    pub c: u32,
    /// Channels of a block: with all taps, at most [`SUM_SCORES`].
    pub channels: u32,
}

/// Most scores of a block of [`CONV_SCORE_SUM`].
pub const SUM_SCORES: u32 = 288;

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
