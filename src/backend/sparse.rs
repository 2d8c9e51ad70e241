//! What masks need of a device: scores from each sample's own gradient, the largest of them, and optimiser steps that
//! know which weights are kept.
//!
//! A score is the sum over samples of a power of that sample's gradient: N separate gradients, never the gradient of a
//! batch (SPEC section 4). Operations named `*_score` *add* to scores, so that batches follow each other. Scores lie in
//! canonical order, a convolution's as \[K,C,R,R\], unlike weights and gradients.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{Backend, Conv, Error, Linear, Loss, Norm, NormBackward, NormForward, Sgd};

/// How a sample's gradient g counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Power {
    /// g^2.
    #[default]
    Square,
    /// |g|.
    Absolute,
}

impl Power {
    /// What a gradient adds to a score.
    #[inline(always)]
    pub(super) fn of(self, gradient: f32) -> f32 {
        match self {
            Power::Square => gradient * gradient,
            Power::Absolute => gradient.abs(),
        }
    }
}

/// The class whose loss is differentiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The sample's label.
    Label,
    /// This class, its power of the gradient weighted by the probability p that the logits give it: the gradient is
    /// multiplied by sqrt(p) for [`Power::Square`] and by p for [`Power::Absolute`].
    Class(usize),
}

/// Whose statistics images are normalised with, each image on its own.
pub enum Moments<'a, B: Backend + ?Sized> {
    /// Its own, over the pixels of this input \[N,H,W,C\] alone.
    Sample(&'a B::Tensor),
    /// The running mean and variance, \[2,C\] at this range.
    Running(&'a B::Vector, Range<usize>),
}

/// A device that can score weights and train some of them.
pub trait Sparse: Backend {
    /// Indices of the flat vector, ascending, in memory order.
    type Indices;

    /// Makes room for what these operations' scoring needs beside their buffers; called once, before any of it.
    fn reserve_scoring(&mut self, convs: &[Conv], norms: &[Norm]) -> Result<(), Error>;
    /// Bytes [`Sparse::reserve_scoring`] takes.
    fn scoring_bytes(convs: &[Conv], norms: &[Norm]) -> usize;
    /// Zeros.
    fn clear(&mut self, vector: &mut Self::Vector) -> Result<(), Error>;

    /// Mean and 1/sqrt(var + eps) of each of N images, \[N,2,C\] at `at`, overwritten. Running statistics do not change.
    fn sample_moments(
        &mut self,
        norm: &Norm,
        of: Moments<Self>,
        moments: &mut Self::Vector,
        at: Range<usize>,
    ) -> Result<(), Error>;
    /// [`Backend::norm_forward`] with moments by image, \[N,2,C\] at [`NormForward::at`].
    fn sample_norm_forward(&mut self, norm: &Norm, buffers: NormForward<Self>) -> Result<(), Error>;
    /// [`Backend::norm_backward`] with moments by image, \[N,2,C\]; `through` says whether they depend on x, as an image's
    /// own do, or are constants. [`NormBackward::gradients`] are scores of scale and shift, added to.
    fn sample_norm_backward(
        &mut self,
        norm: &Norm,
        power: Power,
        through: bool,
        buffers: NormBackward<Self>,
    ) -> Result<(), Error>;
    /// Scores of a convolution's filter, added to.
    fn conv_score(
        &mut self,
        conv: &Conv,
        power: Power,
        x: &Self::Tensor,
        dy: &Self::Tensor,
        scores: &mut Self::Vector,
        filter: Range<usize>,
    ) -> Result<(), Error>;
    /// [`Backend::linear_backward`] with scores of weight and bias, added to, in place of gradients.
    #[allow(clippy::too_many_arguments)] // As linear_backward's.
    fn linear_score(
        &mut self,
        linear: &Linear,
        power: Power,
        x: &Self::Tensor,
        dy: &Self::Tensor,
        weights: &Self::Vector,
        weight: Range<usize>,
        bias: Option<Range<usize>>,
        dx: &mut Self::Tensor,
        scores: &mut Self::Vector,
    ) -> Result<(), Error>;
    /// Gradient by the logits \[N,classes\] of each image's own loss for a target, overwritten. Totals do not change.
    fn score_gradient(
        &mut self,
        loss: &Loss,
        power: Power,
        target: Target,
        logits: &Self::Tensor,
        labels: &Self::Bytes,
        dlogits: &mut Self::Tensor,
    ) -> Result<(), Error>;

    /// The indices of the `k` largest of the first `n` scores, ascending; of equal scores, those of lower index. Scores are
    /// ordered as [`f32::total_cmp`] has it.
    fn top_k(&mut self, scores: &Self::Vector, n: usize, k: usize) -> Result<Vec<u32>, Error>;

    /// Indices on the device.
    fn indices(&self, indices: &[u32]) -> Result<Self::Indices, Error>;
    /// A vector's values at these indices, in their order.
    fn gather(&self, indices: &Self::Indices, vector: &Self::Vector) -> Result<Vec<f32>, Error>;
    /// Replaces a vector's values at these indices, in their order.
    fn scatter(
        &self,
        indices: &Self::Indices,
        values: &[f32],
        vector: &mut Self::Vector,
    ) -> Result<(), Error>;
    /// One optimiser step over the kept weights alone; `velocity` has one value for each of them, in their order. Nothing
    /// else is touched, nor read.
    fn sgd_strict(
        &mut self,
        sgd: &Sgd,
        kept: &Self::Indices,
        gradients: &Self::Vector,
        velocity: &mut Self::Vector,
        weights: &mut Self::Vector,
    ) -> Result<(), Error>;
    /// One optimiser step over the whole flat vector, in which the gradient counts only where `kept`, one byte a weight, is
    /// not 0: momentum and decay move every weight. Gradients elsewhere may be anything.
    fn sgd_published(
        &mut self,
        sgd: &Sgd,
        kept: &Self::Bytes,
        gradients: &Self::Vector,
        velocity: &mut Self::Vector,
        weights: &mut Self::Vector,
    ) -> Result<(), Error>;
}
