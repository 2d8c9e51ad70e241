//! Batch norm with what follows it: ReLU, residual sum, max pooling.

pub mod args;
mod cpu;
mod cuda;
mod layer;

use std::ops::Range;

use super::flat::{Out, Work};
use crate::device::{Buffers, Error, Scratch};
pub use layer::{Add, BatchNorm, Relu};

/// Square max-pooling windows. Padding never wins; of equal values the first, row by row, wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Rows and columns of a window; at most 15, so that a place in it fits a byte.
    pub size: usize,
    /// Step between windows, in pixels.
    pub stride: usize,
    /// Rows and columns of padding around the input.
    pub pad: usize,
}

impl Pool {
    /// Windows that tile the input.
    pub const fn square(size: usize) -> Pool {
        Pool { size, stride: size, pad: 0 }
    }

    /// Windows along an axis of `length` pixels.
    pub fn outputs(&self, length: usize) -> usize {
        (length + 2 * self.pad - self.size) / self.stride + 1
    }
}

/// Batch norm and what follows it, in one pass:
/// `y = pool(relu_sum(residual + relu(weight * (x - mean) / sqrt(var + eps) + bias)))`,
/// each part but the first optional. x, residual \[N,H,W,C\].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Norm {
    /// Images.
    pub n: usize,
    /// Rows of x.
    pub h: usize,
    /// Columns of x.
    pub w: usize,
    /// Channels of x and y.
    pub c: usize,
    /// ReLU on the normalised value.
    pub relu: bool,
    /// A second input is added.
    pub residual: bool,
    /// ReLU on that sum.
    pub relu_sum: bool,
    /// Max pooling of the result.
    pub pool: Option<Pool>,
}

impl Norm {
    /// Elements of y.
    pub fn outputs(&self) -> usize {
        let side = |length| self.pool.map_or(length, |pool| pool.outputs(length));
        self.n * side(self.h) * side(self.w) * self.c
    }

    /// Added to the variance.
    pub const EPS: f32 = 1e-5;
    /// Weight of the newest batch in the running statistics.
    pub const MOMENTUM: f32 = 0.1;
}

/// A batch norm's parameters in the flat vector: two ranges of C elements each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affine {
    /// Where the scale lies.
    pub weight: Range<usize>,
    /// Where the shift lies.
    pub bias: Range<usize>,
}

/// Which images are normalised with the same statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Groups {
    /// The whole batch: statistics are \[2,C\].
    Batch,
    /// Each image alone: statistics are \[N,2,C\].
    EachImage,
}

impl Groups {
    /// Values of the statistics of a norm.
    pub fn statistics(self, norm: &Norm) -> usize {
        match self {
            Groups::Batch => 2 * norm.c,
            Groups::EachImage => norm.n * 2 * norm.c,
        }
    }
}

/// What the statistics of a norm are taken of.
pub enum StatisticsOf<'a, B: Buffers + ?Sized> {
    /// The batch: `sums` of x and its squares, as [`super::ConvFprop::sums`] has them. The running mean and
    /// (unbiased) variance get one update. Both lie at the range of the statistics.
    Batch {
        /// Sum and sum of squares \[2,C\].
        sums: &'a B::Sums,
        /// Running mean and variance \[2,C\].
        running: &'a mut B::Vector,
    },
    /// The running mean and variance, the same for each group.
    Running {
        /// Running mean and variance.
        running: &'a B::Vector,
        /// Where they lie \[2,C\].
        from: Range<usize>,
        /// How many statistics are made of them.
        groups: Groups,
    },
    /// Each image's own pixels.
    EachImage {
        /// Input \[N,H,W,C\].
        x: &'a B::Tensor,
    },
}

/// Batch norms on a device.
pub trait NormOps: Buffers {
    /// Returns the scratch that all passes of a norm need, at its n or a smaller one.
    fn norm_scratch(norm: &Norm, work: Work) -> Scratch;
    /// Mean and 1/sqrt(var + eps) of each group, into `statistics` at the range `at`, overwritten.
    fn norm_statistics(
        &mut self,
        norm: &Norm,
        of: StatisticsOf<Self>,
        statistics: &mut Self::Vector,
        at: Range<usize>,
    ) -> Result<(), Error>;
    /// The fused batch norm.
    fn norm_forward(&mut self, norm: &Norm, b: NormForward<Self>) -> Result<(), Error>;
    /// The backward pass of the fused batch norm.
    fn norm_backward(&mut self, norm: &Norm, b: NormBackward<Self>) -> Result<(), Error>;
}

/// Buffers of a fused batch norm.
pub struct NormForward<'a, B: Buffers + ?Sized> {
    /// Input \[N,H,W,C\].
    pub x: &'a B::Tensor,
    /// Second input \[N,H,W,C\], where [`Norm::residual`] says so.
    pub residual: Option<&'a B::Tensor>,
    /// The flat vector.
    pub weights: &'a B::Vector,
    /// Where scale and shift lie in it.
    pub affine: &'a Affine,
    /// Which images share statistics.
    pub groups: Groups,
    /// Mean and 1/sqrt(var + eps) to normalise with, of [`NormOps::norm_statistics`].
    pub statistics: &'a B::Vector,
    /// Where they lie.
    pub at: Range<usize>,
    /// Output \[N,P,Q,C\], overwritten.
    pub y: &'a mut B::Tensor,
    /// For training through a pool: the winner's place in each window \[N,P,Q,C\], overwritten; [`DEAD`]
    /// where a last ReLU lets no gradient through.
    pub winners: Option<&'a mut B::Bytes>,
}

/// A window that no gradient passes.
pub const DEAD: u8 = 255;

/// Where the gradient of a fused batch norm's second input goes.
pub enum ResidualGradient<'a, T> {
    /// There is no second input.
    None,
    /// It replaces dy, in place.
    InPlace,
    /// Into a buffer of its own, overwritten.
    Overwrite(&'a mut T),
    /// Added to a buffer.
    Accumulate(&'a mut T),
}

/// Buffers of a fused batch norm's backward pass.
pub struct NormBackward<'a, B: Buffers + ?Sized> {
    /// The forward pass's input \[N,H,W,C\].
    pub x: &'a B::Tensor,
    /// The forward pass's output, where [`Norm::relu_sum`] holds and nothing is pooled.
    pub y: Option<&'a B::Tensor>,
    /// The forward pass's winners, where it pooled.
    pub winners: Option<&'a B::Bytes>,
    /// The flat vector.
    pub weights: &'a B::Vector,
    /// Where scale and shift, and their gradients or scores, lie.
    pub affine: &'a Affine,
    /// The statistics the forward pass normalised with: the batch's for gradients, each image's for scores.
    pub statistics: &'a B::Vector,
    /// Where they lie.
    pub at: Range<usize>,
    /// Whether the statistics are constants, as running ones are, and not functions of x. Only for scores.
    pub constant: bool,
    /// Gradient of y \[N,P,Q,C\]; replaced by the residual's gradient when that is in place.
    pub dy: &'a mut B::Tensor,
    /// Gradient of x \[N,H,W,C\], overwritten.
    pub dx: &'a mut B::Tensor,
    /// Gradient of the residual.
    pub residual: ResidualGradient<'a, B::Tensor>,
    /// Where the gradients or scores of scale and shift go.
    pub into: Out<'a, B>,
}
