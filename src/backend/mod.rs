//! Where the arithmetic happens: the operations a plan's steps are made of.
//!
//! Activations are NHWC, filters KRSC. Every operation takes buffers its caller owns and a plain description of
//! shapes, and says whether it overwrites or accumulates. `n`, the number of images, may be anything up to the
//! number the buffers were made for.

pub mod cpu;
pub mod cuda;
mod error;
mod operations;
mod sparse;

use std::ops::Range;
use std::sync::Arc;

use crate::data::Split;
pub use error::{Error, Fault, Place};
pub use operations::{
    Affine, AveragePool, Conv, DEAD, Linear, Loss, Norm, NormBackward, NormForward, Pool, Position,
    ResidualGradient, Sgd, Totals,
};
pub use sparse::{Moments, Power, Sparse, Target};

/// A device that can train: its buffers and the operations on them.
pub trait Backend: 'static {
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
