//! Scores, the largest of them, and optimiser steps over kept weights.

use std::ops::Range;

use super::args::clear::{CLEAR, ClearArgs};
use super::{Array, Cuda, TopKScratch, Vector, conv, norm};
use crate::backend::{
    Conv, Error, Linear, Loss, Moments, Norm, NormBackward, NormForward, Power, Sgd, Sparse, Target,
};
use crate::driver::{Driver, Launch};

/// All but `top_k`, `indices`, `gather` and `scatter` can be recorded.
impl<D: Driver> Sparse for Cuda<D> {
    type Indices = Array<D, u32>;

    fn reserve_scoring(&mut self, convs: &[Conv], norms: &[Norm]) -> Result<(), Error> {
        conv::countable(convs)?;
        self.scoring = Array::new(&self.driver, scratch(convs, norms))?;
        Ok(())
    }

    fn scoring_bytes(convs: &[Conv], norms: &[Norm]) -> usize {
        4 * scratch(convs, norms)
    }

    fn clear(&mut self, vector: &mut Vector<D>) -> Result<(), Error> {
        let n = vector.values.len();
        let halves = vector.halves.as_mut().map_or(std::ptr::null_mut(), Array::pointer_mut);
        let args = ClearArgs { values: vector.values.pointer_mut(), halves, n: n as u64 };
        // Up to 16 values a thread of a small vector, which are enough blocks for any device.
        let blocks = n.div_ceil(16 * 256).clamp(1, 4096);
        Ok(self.driver.launch(&CLEAR, Launch::new(blocks as u32, 256), args)?)
    }

    fn sample_moments(
        &mut self,
        norm: &Norm,
        of: Moments<Self>,
        moments: &mut Vector<D>,
        at: Range<usize>,
    ) -> Result<(), Error> {
        self.image_moments(norm, of, moments, at)
    }

    fn sample_norm_forward(&mut self, norm: &Norm, buffers: NormForward<Self>) -> Result<(), Error> {
        self.image_norm(norm, buffers)
    }

    fn sample_norm_backward(
        &mut self,
        norm: &Norm,
        power: Power,
        through: bool,
        buffers: NormBackward<Self>,
    ) -> Result<(), Error> {
        self.image_norm_scores(norm, power, through, buffers)
    }

    fn conv_score(
        &mut self,
        conv: &Conv,
        power: Power,
        x: &Self::Tensor,
        dy: &Self::Tensor,
        scores: &mut Vector<D>,
        filter: Range<usize>,
    ) -> Result<(), Error> {
        self.filter_scores(conv, power, x, dy, scores, filter)
    }

    fn linear_score(
        &mut self,
        linear: &Linear,
        power: Power,
        x: &Self::Tensor,
        dy: &Self::Tensor,
        weights: &Vector<D>,
        weight: Range<usize>,
        bias: Option<Range<usize>>,
        dx: &mut Self::Tensor,
        scores: &mut Vector<D>,
    ) -> Result<(), Error> {
        self.linear_dgrad(linear, dy, weights, weight.clone(), dx)?;
        self.linear_scores(linear, power, x, dy, scores, weight, bias)
    }

    fn score_gradient(
        &mut self,
        loss: &Loss,
        power: Power,
        target: Target,
        logits: &Self::Tensor,
        labels: &Self::Bytes,
        dlogits: &mut Self::Tensor,
    ) -> Result<(), Error> {
        self.sample_gradient(loss, power, target, logits, labels, dlogits)
    }

    fn top_k(&mut self, scores: &Vector<D>, n: usize, k: usize) -> Result<Vec<u32>, Error> {
        let mut scratch = TopKScratch::new(&self.driver, n)?;
        let mut indices = Array::new(&self.driver, k)?;
        // The kernels' own method, which has this one's name.
        Cuda::top_k(self, &scores.values, n, k, &mut indices, &mut scratch)?;
        Ok(indices.read(&self.driver, k)?)
    }

    fn indices(&self, indices: &[u32]) -> Result<Self::Indices, Error> {
        Ok(Array::of(&self.driver, indices)?)
    }

    fn gather(&self, indices: &Self::Indices, vector: &Vector<D>) -> Result<Vec<f32>, Error> {
        self.gather_values(indices, vector)
    }

    fn scatter(&self, indices: &Self::Indices, values: &[f32], vector: &mut Vector<D>) -> Result<(), Error> {
        self.scatter_values(indices, values, vector)
    }

    fn sgd_strict(
        &mut self,
        sgd: &Sgd,
        kept: &Self::Indices,
        gradients: &Vector<D>,
        velocity: &mut Vector<D>,
        weights: &mut Vector<D>,
    ) -> Result<(), Error> {
        self.sgd_step_strict(sgd, kept, gradients, velocity, weights)
    }

    fn sgd_published(
        &mut self,
        sgd: &Sgd,
        kept: &Self::Bytes,
        gradients: &Vector<D>,
        velocity: &mut Vector<D>,
        weights: &mut Vector<D>,
    ) -> Result<(), Error> {
        self.sgd_step_published(sgd, kept, gradients, velocity, weights)
    }
}

/// Values of scratch that scoring these needs: they run one after another, so the most that one needs.
fn scratch(convs: &[Conv], norms: &[Norm]) -> usize {
    let convs = convs.iter().map(conv::score_scratch);
    let norms = norms.iter().map(norm::score_scratch);
    convs.chain(norms).max().unwrap_or(0)
}
