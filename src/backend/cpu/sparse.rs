//! [`Sparse`] for the CPU: scores, the largest of them, and optimiser steps under a mask.

use std::ops::Range;

use rayon::prelude::*;

use super::{Cpu, conv, linear, loss, norm, sample_norm, sgd, top_k};
use crate::backend::{
    Conv, Error, Linear, Loss, Moments, Norm, NormBackward, NormForward, Power, ResidualGradient, Sgd,
    Sparse, Target,
};

/// What scoring works in; empty until [`Sparse::reserve_scoring`].
#[derive(Default)]
pub(super) struct Scratch {
    conv: conv::score::Scratch,
    norm: sample_norm::Scratch,
}

impl Sparse for Cpu {
    type Indices = Vec<u32>;

    fn reserve_scoring(&mut self, convs: &[Conv], norms: &[Norm]) -> Result<(), Error> {
        self.scoring.conv.reserve(convs);
        self.scoring.norm.reserve(norms);
        Ok(())
    }

    fn scoring_bytes(convs: &[Conv], norms: &[Norm]) -> usize {
        conv::score::scratch_bytes(convs) + sample_norm::scratch_bytes(norms)
    }

    fn clear(&mut self, vector: &mut Vec<f32>) -> Result<(), Error> {
        vector.fill(0.0);
        Ok(())
    }

    fn sample_moments(
        &mut self,
        norm: &Norm,
        of: Moments<Self>,
        moments: &mut Vec<f32>,
        at: Range<usize>,
    ) -> Result<(), Error> {
        let moments = &mut moments[at][..norm.n * 2 * norm.c];
        match of {
            Moments::Sample(x) => sample_norm::moments(norm, x, moments),
            Moments::Running(running, at) => {
                for moments in moments.chunks_exact_mut(2 * norm.c) {
                    norm::running_statistics(&running[at.clone()], moments);
                }
            }
        }
        Ok(())
    }

    fn sample_norm_forward(&mut self, norm: &Norm, b: NormForward<Self>) -> Result<(), Error> {
        sample_norm::forward(norm, norm::Forward::of(b), &mut self.scoring.norm);
        Ok(())
    }

    fn sample_norm_backward(
        &mut self,
        norm: &Norm,
        power: Power,
        through: bool,
        b: NormBackward<Self>,
    ) -> Result<(), Error> {
        let (mut buffers, residual) = norm::Backward::of(b);
        norm::begin(norm, &mut buffers);
        match residual {
            ResidualGradient::None | ResidualGradient::InPlace => {}
            ResidualGradient::Overwrite(to) => norm::residual(norm, &buffers, to, false),
            ResidualGradient::Accumulate(to) => norm::residual(norm, &buffers, to, true),
        }
        sample_norm::finish(norm, power, through, &mut buffers, &mut self.scoring.norm);
        Ok(())
    }

    fn conv_score(
        &mut self,
        conv: &Conv,
        power: Power,
        x: &Vec<f32>,
        dy: &Vec<f32>,
        scores: &mut Vec<f32>,
        filter: Range<usize>,
    ) -> Result<(), Error> {
        let (x, dy) = (&x[..conv.inputs()], &dy[..conv.outputs()]);
        conv::score::score(conv, power, x, dy, &mut scores[filter], &mut self.scoring.conv);
        Ok(())
    }

    fn linear_score(
        &mut self,
        linear: &Linear,
        power: Power,
        x: &Vec<f32>,
        dy: &Vec<f32>,
        weights: &Vec<f32>,
        weight: Range<usize>,
        bias: Option<Range<usize>>,
        dx: &mut Vec<f32>,
        scores: &mut Vec<f32>,
    ) -> Result<(), Error> {
        linear::dgrad(linear, dy, &weights[weight.clone()], dx);
        linear::weight_score(linear, power, x, dy, &mut scores[weight]);
        if let Some(bias) = bias {
            linear::bias_score(linear, power, dy, &mut scores[bias]);
        }
        Ok(())
    }

    fn score_gradient(
        &mut self,
        loss: &Loss,
        power: Power,
        target: Target,
        logits: &Vec<f32>,
        labels: &Vec<u8>,
        dlogits: &mut Vec<f32>,
    ) -> Result<(), Error> {
        loss::score_gradient(loss, power, target, logits, labels, dlogits);
        Ok(())
    }

    fn top_k(&mut self, scores: &Vec<f32>, n: usize, k: usize) -> Result<Vec<u32>, Error> {
        Ok(top_k::top_k(&scores[..n], k))
    }

    fn indices(&self, indices: &[u32]) -> Result<Vec<u32>, Error> {
        Ok(indices.to_vec())
    }

    fn gather(&self, indices: &Vec<u32>, vector: &Vec<f32>) -> Result<Vec<f32>, Error> {
        Ok(indices.par_iter().map(|&index| vector[index as usize]).collect())
    }

    fn scatter(&self, indices: &Vec<u32>, values: &[f32], vector: &mut Vec<f32>) -> Result<(), Error> {
        assert!(values.len() == indices.len(), "one value an index");
        indices.iter().zip(values).for_each(|(&index, &value)| vector[index as usize] = value);
        Ok(())
    }

    fn sgd_strict(
        &mut self,
        sgd: &Sgd,
        kept: &Vec<u32>,
        gradients: &Vec<f32>,
        velocity: &mut Vec<f32>,
        weights: &mut Vec<f32>,
    ) -> Result<(), Error> {
        let lr = self.next_rate()?;
        sgd::strict(sgd, lr, kept, gradients, velocity, weights);
        Ok(())
    }

    fn sgd_published(
        &mut self,
        sgd: &Sgd,
        kept: &Vec<u8>,
        gradients: &Vec<f32>,
        velocity: &mut Vec<f32>,
        weights: &mut Vec<f32>,
    ) -> Result<(), Error> {
        let lr = self.next_rate()?;
        sgd::published(sgd, lr, kept, gradients, velocity, weights);
        Ok(())
    }
}
