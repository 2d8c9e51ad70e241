//! Nesterov SGD over the flat vector.

use rayon::prelude::*;

use super::simd::vectorised;
use crate::backend::Sgd;

/// Weights a task updates.
const CHUNK: usize = 1 << 14;

/// One step; see [`Sgd`]. All three vectors have the same length.
pub(super) fn step(sgd: &Sgd, lr: f32, gradients: &[f32], velocity: &mut [f32], weights: &mut [f32]) {
    let &Sgd { momentum, weight_decay } = sgd;
    let chunks = gradients.par_chunks(CHUNK).zip(velocity.par_chunks_mut(CHUNK));
    chunks.zip(weights.par_chunks_mut(CHUNK)).for_each(|((gradients, velocity), weights)| {
        vectorised(
            #[inline(always)]
            || {
                for ((g, v), w) in gradients.iter().zip(velocity.iter_mut()).zip(weights.iter_mut()) {
                    let d = -lr * weight_decay.mul_add(*w, *g);
                    *v = momentum.mul_add(*v, d);
                    *w += momentum.mul_add(*v, d);
                }
            },
        );
    });
}
