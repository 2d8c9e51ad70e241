//! Nesterov SGD over the flat vector.

use pulp::Arch;
use rayon::prelude::*;

use crate::backend::Sgd;

/// Weights a task updates.
const CHUNK: usize = 1 << 14;

/// One step; see [`Sgd`]. All three vectors have the same length.
pub(super) fn step(sgd: &Sgd, gradients: &[f32], velocity: &mut [f32], weights: &mut [f32]) {
    let &Sgd { lr, momentum, weight_decay } = sgd;
    let chunks = gradients.par_chunks(CHUNK).zip(velocity.par_chunks_mut(CHUNK));
    chunks.zip(weights.par_chunks_mut(CHUNK)).for_each(|((gradients, velocity), weights)| {
        Arch::new().dispatch(
            #[inline(always)]
            || {
                for ((g, v), w) in gradients.iter().zip(velocity).zip(weights) {
                    let d = -lr * weight_decay.mul_add(*w, *g);
                    *v = momentum.mul_add(*v, d);
                    *w += momentum.mul_add(*v, d);
                }
            },
        );
    });
}
