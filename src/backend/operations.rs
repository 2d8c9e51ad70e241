//! The operations' shapes, and what they take and give.

use std::ops::Range;

use super::Backend;

/// Geometry of one square convolution: x \[N,H,W,C\], filter \[K,R,R,C\], y \[N,P,Q,K\], no bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv {
    /// Images.
    pub n: usize,
    /// Input rows.
    pub h: usize,
    /// Input columns.
    pub w: usize,
    /// Input channels.
    pub c: usize,
    /// Output channels.
    pub k: usize,
    /// Filter rows and columns.
    pub r: usize,
    /// Step between outputs, in input pixels.
    pub stride: usize,
    /// Zero rows and columns around the input.
    pub pad: usize,
}

impl Conv {
    /// Output rows.
    pub fn p(&self) -> usize {
        (self.h + 2 * self.pad - self.r) / self.stride + 1
    }

    /// Output columns.
    pub fn q(&self) -> usize {
        (self.w + 2 * self.pad - self.r) / self.stride + 1
    }

    /// Elements of x.
    pub fn inputs(&self) -> usize {
        self.n * self.h * self.w * self.c
    }

    /// Elements of y.
    pub fn outputs(&self) -> usize {
        self.n * self.p() * self.q() * self.k
    }

    /// Floating-point operations of one direct fprop, dgrad or wgrad: two for each multiply-add.
    pub fn flops(&self) -> u64 {
        2 * (self.n * self.p() * self.q() * self.k) as u64 * (self.r * self.r * self.c) as u64
    }
}

/// Square max-pooling windows. Padding never wins; of equal values the first, row by row, wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Rows and columns of a window; at most 15, so that a place in it fits a byte.
    pub size: usize,
    /// Step between windows.
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
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
    /// Channels.
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

/// A linear layer and the constant after it: `y = scale * (x weight^T + bias)`; x \[N,C\], weight \[K,C\], y \[N,K\].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Linear {
    /// Images.
    pub n: usize,
    /// Inputs.
    pub c: usize,
    /// Outputs.
    pub k: usize,
    /// The constant.
    pub scale: f32,
}

/// Mean over all pixels of x \[N,H,W,C\].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AveragePool {
    /// Images.
    pub n: usize,
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
    /// Channels.
    pub c: usize,
}

/// Softmax cross-entropy summed over the batch, against one-hot labels smoothed by `smoothing`:
/// (1 - smoothing) on the label and smoothing / classes on every class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
    /// Images.
    pub n: usize,
    /// Classes.
    pub classes: usize,
    /// Share of the target spread over all classes, in \[0, 1\].
    pub smoothing: f32,
}

/// What the loss has summed since the totals were last cleared.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Sum of the images' losses.
    pub loss: f64,
    /// Images whose largest logit is their label's (the first of equal ones).
    pub correct: u64,
    /// Images.
    pub images: u64,
}

impl std::iter::Sum for Totals {
    fn sum<I: Iterator<Item = Totals>>(all: I) -> Totals {
        all.fold(Totals::default(), |sum, Totals { loss, correct, images }| Totals {
            loss: sum.loss + loss,
            correct: sum.correct + correct,
            images: sum.images + images,
        })
    }
}

/// One step of Nesterov SGD (SPEC section 3): `d = -lr (g + wd w); v = momentum v + d; w += d + momentum v`, with
/// the next of the learning rates that [`Backend::set_rates`] has set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Share of the velocity that stays.
    pub momentum: f32,
    /// Decay for the summed loss.
    pub weight_decay: f32,
}

/// A place in a split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Epoch, from 0, which the order and augmentation of training images depend on.
    pub epoch: u32,
    /// Images of the epoch before this place.
    pub image: usize,
}

/// A batch norm's parameters in the flat vector: two ranges of C elements each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affine {
    /// Scale.
    pub weight: Range<usize>,
    /// Shift.
    pub bias: Range<usize>,
}

/// Both inputs and output of a fused batch norm, by value of a plan's slot.
pub struct NormForward<'a, B: Backend + ?Sized> {
    /// Input \[N,H,W,C\].
    pub x: &'a B::Tensor,
    /// Second input, where [`Norm::residual`] says so.
    pub residual: Option<&'a B::Tensor>,
    /// The flat vector.
    pub weights: &'a B::Vector,
    /// Where scale and shift lie in it.
    pub affine: &'a Affine,
    /// Mean and 1/sqrt(var + eps) to normalise with, [`Backend::batch_statistics`]'s or
    /// [`Backend::running_statistics`]'s.
    pub moments: &'a B::Vector,
    /// Where they lie: 2 C elements.
    pub at: Range<usize>,
    /// Output \[N,P,Q,C\], overwritten.
    pub y: &'a mut B::Tensor,
    /// For training through a pool: the winner's place in each window \[N,P,Q,C\], overwritten; [`DEAD`] where
    /// a last ReLU lets no gradient through.
    pub winners: Option<&'a mut B::Bytes>,
}

/// A window no gradient passes.
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
pub struct NormBackward<'a, B: Backend + ?Sized> {
    /// The forward pass's input \[N,H,W,C\].
    pub x: &'a B::Tensor,
    /// The forward pass's output, where [`Norm::relu_sum`] holds and nothing is pooled.
    pub y: Option<&'a B::Tensor>,
    /// The forward pass's winners, where it pooled.
    pub winners: Option<&'a B::Bytes>,
    /// The flat vector.
    pub weights: &'a B::Vector,
    /// Where scale and shift, and their gradients, lie.
    pub affine: &'a Affine,
    /// The moments the forward pass normalised with.
    pub moments: &'a B::Vector,
    /// Where they lie.
    pub at: Range<usize>,
    /// Gradient of y \[N,P,Q,C\]; replaced by the residual's gradient when that is in place.
    pub dy: &'a mut B::Tensor,
    /// Gradient of x, overwritten.
    pub dx: &'a mut B::Tensor,
    /// Gradient of the residual.
    pub residual: ResidualGradient<'a, B::Tensor>,
    /// The flat gradient, whose two ranges are overwritten.
    pub gradients: &'a mut B::Vector,
}
