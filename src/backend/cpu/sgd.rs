//! Nesterov SGD over the flat vector, whole or where a mask keeps it.

use rayon::prelude::*;

use super::simd::vectorised;
use crate::backend::Sgd;

/// Weights a task updates.
const CHUNK: usize = 1 << 14;

/// The rule, of one weight.
#[inline(always)]
fn update(sgd: &Sgd, lr: f32, g: f32, v: &mut f32, w: &mut f32) {
    let d = -lr * sgd.weight_decay.mul_add(*w, g);
    *v = sgd.momentum.mul_add(*v, d);
    *w += sgd.momentum.mul_add(*v, d);
}

/// One step; see [`Sgd`]. All three vectors have the same length.
pub(super) fn step(sgd: &Sgd, lr: f32, gradients: &[f32], velocity: &mut [f32], weights: &mut [f32]) {
    let chunks = gradients.par_chunks(CHUNK).zip(velocity.par_chunks_mut(CHUNK));
    chunks.zip(weights.par_chunks_mut(CHUNK)).for_each(|((gradients, velocity), weights)| {
        vectorised(
            #[inline(always)]
            || {
                for ((g, v), w) in gradients.iter().zip(velocity.iter_mut()).zip(weights.iter_mut()) {
                    update(sgd, lr, *g, v, w);
                }
            },
        );
    });
}

/// One step whose gradient is 0 where `kept` is. All four have the same length.
pub(super) fn published(
    sgd: &Sgd,
    lr: f32,
    kept: &[u8],
    gradients: &[f32],
    velocity: &mut [f32],
    weights: &mut [f32],
) {
    let chunks = gradients.par_chunks(CHUNK).zip(kept.par_chunks(CHUNK));
    let chunks = chunks.zip(velocity.par_chunks_mut(CHUNK)).zip(weights.par_chunks_mut(CHUNK));
    chunks.for_each(|(((gradients, kept), velocity), weights)| {
        vectorised(
            #[inline(always)]
            || {
                let gradients = gradients.iter().zip(kept).map(|(g, kept)| if *kept != 0 { *g } else { 0.0 });
                for ((g, v), w) in gradients.zip(velocity.iter_mut()).zip(weights.iter_mut()) {
                    update(sgd, lr, g, v, w);
                }
            },
        );
    });
}

/// One step of the weights at the indices `kept`, ascending, with a velocity for each.
///
/// # Panics
/// If an index is beyond the weights, or not above the one before it.
pub(super) fn strict(
    sgd: &Sgd,
    lr: f32,
    kept: &[u32],
    gradients: &[f32],
    velocity: &mut [f32],
    weights: &mut [f32],
) {
    let most = kept.last().map_or(0, |last| *last as usize + 1);
    assert!(most <= weights.len() && kept.len() == velocity.len(), "{} kept, up to {most}", kept.len());
    strict_from(0, sgd, lr, kept, &gradients[..most], velocity, &mut weights[..most]);
}

/// The same, of weights and gradients `base..`: in halves, so that each task has weights of its own.
fn strict_from(
    base: usize,
    sgd: &Sgd,
    lr: f32,
    kept: &[u32],
    gradients: &[f32],
    velocity: &mut [f32],
    weights: &mut [f32],
) {
    if kept.len() > CHUNK {
        let (low, high) = kept.split_at(kept.len() / 2);
        let middle = high[0] as usize;
        let (low_v, high_v) = velocity.split_at_mut(low.len());
        let (low_w, high_w) = weights.split_at_mut(middle - base);
        let (low_g, high_g) = gradients.split_at(middle - base);
        rayon::join(
            || strict_from(base, sgd, lr, low, low_g, low_v, low_w),
            || strict_from(middle, sgd, lr, high, high_g, high_v, high_w),
        );
        return;
    }
    vectorised(
        #[inline(always)]
        || {
            for (index, v) in kept.iter().zip(velocity.iter_mut()) {
                let at = *index as usize - base;
                update(sgd, lr, gradients[at], v, &mut weights[at]);
            }
        },
    );
}
