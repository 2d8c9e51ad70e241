//! Where the arithmetic happens: the operations a plan's steps are made of.
//!
//! Activations are NHWC, filters KRSC. Every operation takes buffers its caller owns and a plain description of
//! shapes, and says whether it overwrites or accumulates. `n`, the number of images, may be anything up to the
//! number the buffers were made for.

pub mod cpu;
pub mod cuda;
mod sparse;

use std::ops::Range;
use std::sync::Arc;

use crate::data::Split;
pub use sparse::{Moments, Power, Sparse, Target};

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The training data could not be read ahead.
    #[error(transparent)]
    Data(#[from] crate::data::Error),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] crate::driver::Error),
    /// A training split gives whole batches only.
    #[error("this split was prepared for batches of {expected} images, and {found} were asked for")]
    Batch {
        /// The batch it was prepared for.
        expected: usize,
        /// The batch asked for.
        found: usize,
    },
    /// Images beyond the end of a split were asked for.
    #[error("image {last} was asked of a split of {images}")]
    Images {
        /// The last of the batch, from 1.
        last: usize,
        /// There are.
        images: usize,
    },
    /// A sample's gradient is infinite or not a number.
    #[error(
        "the score of weight {index} is not finite: the weights, or a sample's gradient, are too large; score weights that \
         train well, or with --fisher-power absolute"
    )]
    Score {
        /// Its canonical index.
        index: u32,
    },
    /// A layer has more activations than a device's kernels count.
    #[error(
        "a layer has {values} activations, and the kernels count {most} at most: choose a smaller --batch-size or --width"
    )]
    Activations {
        /// The layer's.
        values: usize,
        /// At most.
        most: usize,
    },
    /// An epoch has more steps than a device keeps learning rates for.
    #[error("an epoch has at most {most} steps, not {steps}")]
    Steps {
        /// Asked for.
        steps: usize,
        /// There is room for.
        most: usize,
    },
}

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

/// Where a value that is not finite first appeared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The optimiser's step, counted as [`Backend::set_rates`] does.
    pub step: u32,
    /// What it appeared in.
    pub place: Place,
}

/// What a value that is not finite appeared in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The input of the batch norm whose statistics begin here.
    Forward(usize),
    /// The logits.
    Logits,
    /// The gradient of the batch norm whose statistics begin here.
    Backward(usize),
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

/// A device that can train: its buffers and the operations on them.
pub trait Backend {
    /// Activations and their gradients.
    type Tensor;
    /// f32 values over the flat vector or the statistics.
    type Vector;
    /// f64 (or as exact) sums by channel.
    type Sums;
    /// Labels and winners.
    type Bytes;
    /// A split of the data set, ready to be drawn from.
    type Data;
    /// Operations that can be done again.
    type Recording;

    /// Bytes of an activation.
    const ACTIVATION: usize;
    /// Bytes of a weight, its gradient and its velocity.
    const WEIGHT: usize;
    /// Whether operations are queued, so that reading any result waits for all of them.
    const QUEUES: bool;

    /// The device in a few words.
    fn device(&self) -> String;
    /// Bytes of memory that are free, as far as is known.
    fn free_bytes(&self) -> Result<usize, Error>;
    /// Activations, not initialised to anything in particular.
    fn tensor(&self, elements: usize) -> Result<Self::Tensor, Error>;
    /// A vector holding `values`.
    fn vector(&self, values: &[f32]) -> Result<Self::Vector, Error>;
    /// A vector holding `values` that operations take as weights.
    fn weights(&self, values: &[f32]) -> Result<Self::Vector, Error>;
    /// Sums, all zero.
    fn sums(&self, elements: usize) -> Result<Self::Sums, Error>;
    /// Bytes, all zero.
    fn bytes(&self, elements: usize) -> Result<Self::Bytes, Error>;
    /// A vector's values.
    fn read(&self, vector: &Self::Vector) -> Result<Vec<f32>, Error>;
    /// A part of a vector's values.
    fn read_range(&self, vector: &Self::Vector, range: Range<usize>) -> Result<Vec<f32>, Error>;
    /// Replaces a vector's values, all of them, where they are.
    fn write(&self, values: &[f32], vector: &mut Self::Vector) -> Result<(), Error>;
    /// The first `elements` of some activations, as f32.
    fn read_tensor(&self, tensor: &Self::Tensor, elements: usize) -> Result<Vec<f32>, Error>;
    /// Replaces the first elements of some activations.
    fn write_tensor(&self, values: &[f32], tensor: &mut Self::Tensor) -> Result<(), Error>;
    /// Replaces the first bytes.
    fn write_bytes(&self, values: &[u8], bytes: &mut Self::Bytes) -> Result<(), Error>;
    /// Makes room for what these operations need beside their buffers; called once, before any of them.
    fn reserve(&mut self, convs: &[Conv], norms: &[Norm]) -> Result<(), Error>;
    /// Bytes [`Backend::reserve`] takes for these operations.
    fn scratch_bytes(convs: &[Conv], norms: &[Norm]) -> usize;

    /// Begins a recording: the operations that follow, up to [`Backend::recorded`], are not done but noted.
    fn record(&mut self) -> Result<(), Error>;
    /// Ends a recording; none from a device that does not record, on which the operations have been done.
    fn recorded(&mut self) -> Result<Option<Self::Recording>, Error>;
    /// Does the recorded operations again, on the same buffers, with the batch and learning rate that are next.
    fn replay(&mut self, recording: &Self::Recording) -> Result<(), Error>;

    /// A split to draw images from; for training, in batches of so many images, shuffled and augmented by a seed.
    fn data(&self, split: &Arc<Split>, training: Option<(usize, u64)>) -> Result<Self::Data, Error>;
    /// Makes the next batch begin here.
    fn seek(&mut self, data: &mut Self::Data, position: Position) -> Result<(), Error>;
    /// The next `n` normalised images \[n,32,32,3\] and their labels: in the data's order or, if it is for training,
    /// shuffled and augmented, `n` being its batch.
    fn next_batch(
        &mut self,
        data: &mut Self::Data,
        n: usize,
        images: &mut Self::Tensor,
        labels: &mut Self::Bytes,
    ) -> Result<(), Error>;

    /// y = x * filter, overwritten. `sums`, at `2 K` elements from the offset, is overwritten with the sum and
    /// the sum of squares of y by channel.
    fn conv_fprop(
        &mut self,
        conv: &Conv,
        x: &Self::Tensor,
        weights: &Self::Vector,
        filter: Range<usize>,
        y: &mut Self::Tensor,
        sums: Option<(&mut Self::Sums, Range<usize>)>,
    ) -> Result<(), Error>;
    /// Gradient of a convolution's input, overwritten or, with `accumulate`, added to.
    fn conv_dgrad(
        &mut self,
        conv: &Conv,
        dy: &Self::Tensor,
        weights: &Self::Vector,
        filter: Range<usize>,
        dx: &mut Self::Tensor,
        accumulate: bool,
    ) -> Result<(), Error>;
    /// Gradient of a convolution's filter, overwritten.
    fn conv_wgrad(
        &mut self,
        conv: &Conv,
        x: &Self::Tensor,
        dy: &Self::Tensor,
        gradients: &mut Self::Vector,
        filter: Range<usize>,
    ) -> Result<(), Error>;

    /// From the sums of `count` values by channel: mean and 1/sqrt(var + eps) into `moments`, and one update
    /// of the running mean and (unbiased) variance. All three at the same range.
    fn batch_statistics(
        &mut self,
        count: usize,
        sums: &Self::Sums,
        moments: &mut Self::Vector,
        running: &mut Self::Vector,
        at: Range<usize>,
    ) -> Result<(), Error>;
    /// Mean and 1/sqrt(var + eps) from running statistics, overwritten.
    fn running_statistics(
        &mut self,
        running: &Self::Vector,
        moments: &mut Self::Vector,
        at: Range<usize>,
    ) -> Result<(), Error>;
    /// The fused batch norm.
    fn norm_forward(&mut self, norm: &Norm, buffers: NormForward<Self>) -> Result<(), Error>;
    /// Its backward pass, through batch statistics.
    fn norm_backward(&mut self, norm: &Norm, buffers: NormBackward<Self>) -> Result<(), Error>;

    /// y \[N,C\] = mean over pixels, overwritten.
    fn average_pool_forward(
        &mut self,
        pool: &AveragePool,
        x: &Self::Tensor,
        y: &mut Self::Tensor,
    ) -> Result<(), Error>;
    /// dx \[N,H,W,C\] = dy / (H W), overwritten.
    fn average_pool_backward(
        &mut self,
        pool: &AveragePool,
        dy: &Self::Tensor,
        dx: &mut Self::Tensor,
    ) -> Result<(), Error>;

    /// The linear layer, y overwritten.
    fn linear_forward(
        &mut self,
        linear: &Linear,
        x: &Self::Tensor,
        weights: &Self::Vector,
        weight: Range<usize>,
        bias: Option<Range<usize>>,
        y: &mut Self::Tensor,
    ) -> Result<(), Error>;
    /// Its backward pass: dx and the gradients' ranges are overwritten.
    #[allow(clippy::too_many_arguments)] // Each is a buffer or a range of one; a struct would only rename them.
    fn linear_backward(
        &mut self,
        linear: &Linear,
        x: &Self::Tensor,
        dy: &Self::Tensor,
        weights: &Self::Vector,
        weight: Range<usize>,
        bias: Option<Range<usize>>,
        dx: &mut Self::Tensor,
        gradients: &mut Self::Vector,
    ) -> Result<(), Error>;

    /// Adds the batch's loss and correct count to the totals; `dlogits` \[N,classes\], if given, is overwritten.
    fn softmax_cross_entropy(
        &mut self,
        loss: &Loss,
        logits: &Self::Tensor,
        labels: &Self::Bytes,
        dlogits: Option<&mut Self::Tensor>,
    ) -> Result<(), Error>;
    /// What the losses have summed to.
    fn totals(&self) -> Result<Totals, Error>;
    /// Sets the totals, to zero or to what a checkpoint held.
    fn set_totals(&mut self, totals: Totals) -> Result<(), Error>;

    /// Where a value that is not finite first appeared since the totals were set.
    fn fault(&self) -> Result<Option<Fault>, Error>;

    /// The learning rates of an epoch's steps, for the summed loss; the optimiser's next step is number `next` of them.
    fn set_rates(&mut self, rates: &[f32], next: usize) -> Result<(), Error>;
    /// One optimiser step over the whole flat vector.
    fn sgd(
        &mut self,
        sgd: &Sgd,
        gradients: &Self::Vector,
        velocity: &mut Self::Vector,
        weights: &mut Self::Vector,
    ) -> Result<(), Error>;
}
