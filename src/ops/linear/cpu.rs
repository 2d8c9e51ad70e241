//! The linear layer on the CPU.

use rayon::prelude::*;

use super::{Linear, LinearBackward, LinearForward, LinearOps};
use crate::device::matmul::{Matrix, matmul};
use crate::device::simd::vectorised;
use crate::device::{Cpu, Error};
use crate::ops::flat::{Out, Power};

impl LinearOps for Cpu {
    fn linear_forward(&mut self, linear: &Linear, b: LinearForward<Self>) -> Result<(), Error> {
        let bias = b.parameters.bias.clone().map(|bias| &b.weights[bias]);
        forward(linear, b.x, &b.weights[b.parameters.weight.clone()], bias, b.y);
        Ok(())
    }

    fn linear_backward(&mut self, linear: &Linear, b: LinearBackward<Self>) -> Result<(), Error> {
        let (weight, bias) = (b.parameters.weight.clone(), b.parameters.bias.clone());
        dgrad(linear, b.dy, &b.weights[weight.clone()], b.dx);
        match b.into {
            Out::Gradients(gradients) => {
                wgrad(linear, b.x, b.dy, &mut gradients[weight]);
                if let Some(bias) = bias {
                    bias_grad(linear, b.dy, &mut gradients[bias]);
                }
            }
            Out::Scores(power, scores) => {
                weight_score(linear, power, b.x, b.dy, &mut scores[weight]);
                if let Some(bias) = bias {
                    bias_score(linear, power, b.dy, &mut scores[bias]);
                }
            }
        }
        Ok(())
    }
}

/// y \[N,K\] = scale (x \[N,C\] weight\[K,C\]^T + bias \[K\]), overwritten.
fn forward(linear: &Linear, x: &[f32], weight: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    let &Linear { n, c, k, scale } = linear;
    matmul((n, k, c), y, k, false, Matrix::rows(x, c), Matrix::rows(weight, c).t());
    for row in y.chunks_exact_mut(k).take(n) {
        if let Some(bias) = bias {
            row.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
        }
        row.iter_mut().for_each(|y| *y *= scale);
    }
}

/// dx \[N,C\] = scale dy weight, overwritten.
fn dgrad(linear: &Linear, dy: &[f32], weight: &[f32], dx: &mut [f32]) {
    let &Linear { n, c, k, scale } = linear;
    matmul((n, c, k), dx, c, false, Matrix::rows(dy, k), Matrix::rows(weight, c));
    dx[..n * c].iter_mut().for_each(|dx| *dx *= scale);
}

/// dweight \[K,C\] = scale dy^T x, overwritten.
fn wgrad(linear: &Linear, x: &[f32], dy: &[f32], dweight: &mut [f32]) {
    let &Linear { n, c, k, scale } = linear;
    matmul((k, c, n), dweight, c, false, Matrix::rows(dy, k).t(), Matrix::rows(x, c));
    dweight.iter_mut().for_each(|dw| *dw *= scale);
}

/// dbias \[K\] = scale sum of dy over the batch, overwritten.
fn bias_grad(linear: &Linear, dy: &[f32], dbias: &mut [f32]) {
    let &Linear { n, k, scale, .. } = linear;
    for (i, dbias) in dbias.iter_mut().enumerate() {
        let sum: f64 = dy.chunks_exact(k).take(n).map(|row| f64::from(row[i])).sum();
        *dbias = (sum * f64::from(scale)) as f32;
    }
}

/// Adds to `scores` \[K,C\] the power of each image's gradient of the weight, scale dy x, image by image.
fn weight_score(linear: &Linear, power: Power, x: &[f32], dy: &[f32], scores: &mut [f32]) {
    let &Linear { n, c, k, scale } = linear;
    scores.par_chunks_exact_mut(c).enumerate().for_each(|(i, scores)| {
        vectorised(
            #[inline(always)]
            || {
                for (x, dy) in x.chunks_exact(c).zip(dy.chunks_exact(k)).take(n) {
                    let d = scale * dy[i];
                    scores.iter_mut().zip(x).for_each(|(score, x)| *score += power.of(d * x));
                }
            },
        );
    });
}

/// Adds to `scores` \[K\] the power of each image's gradient of the bias, scale dy.
fn bias_score(linear: &Linear, power: Power, dy: &[f32], scores: &mut [f32]) {
    for dy in dy.chunks_exact(linear.k).take(linear.n) {
        scores.iter_mut().zip(dy).for_each(|(score, dy)| *score += power.of(linear.scale * dy));
    }
}
