//! Nesterov SGD on the CPU.

use rayon::prelude::*;

use super::{Moves, Sgd, SgdBuffers, SgdOps};
use crate::device::simd::vectorised;
use crate::device::{Cpu, Error};
use crate::optim::rates::next_rate;

impl SgdOps for Cpu {
    fn sgd(&mut self, sgd: &Sgd, moves: Moves<Self>, b: SgdBuffers<Self>) -> Result<(), Error> {
        let rule = Rule { sgd, lr: next_rate(self)? };
        match moves {
            Moves::All => all(rule, b),
            Moves::At(indices) => at(rule, indices, b),
            Moves::GradientsWhere(kept) => gradients_where(rule, kept, b),
        }
        Ok(())
    }
}

/// Weights a task updates.
const CHUNK: usize = 1 << 14;

/// How a step moves a weight.
#[derive(Clone, Copy)]
struct Rule<'a> {
    sgd: &'a Sgd,
    lr: f32,
}

impl Rule<'_> {
    /// Moves one weight by gradient g, and its velocity.
    #[inline(always)]
    fn update(self, g: f32, v: &mut f32, w: &mut f32) {
        let Rule { sgd, lr } = self;
        let d = -lr * sgd.weight_decay.mul_add(*w, g);
        *v = sgd.momentum.mul_add(*v, d);
        *w += sgd.momentum.mul_add(*v, d);
    }
}

/// Moves every weight.
fn all(rule: Rule, SgdBuffers { gradients, velocity, weights }: SgdBuffers<Cpu>) {
    let chunks = gradients.par_chunks(CHUNK).zip(velocity.par_chunks_mut(CHUNK));
    chunks.zip(weights.par_chunks_mut(CHUNK)).for_each(|((gradients, velocity), weights)| {
        vectorised(
            #[inline(always)]
            || {
                for ((g, v), w) in gradients.iter().zip(velocity.iter_mut()).zip(weights.iter_mut()) {
                    rule.update(*g, v, w);
                }
            },
        );
    });
}

/// Moves every weight, by gradient 0 where `kept` is 0.
fn gradients_where(rule: Rule, kept: &[u8], b: SgdBuffers<Cpu>) {
    let SgdBuffers { gradients, velocity, weights } = b;
    let chunks = gradients.par_chunks(CHUNK).zip(kept.par_chunks(CHUNK));
    let chunks = chunks.zip(velocity.par_chunks_mut(CHUNK)).zip(weights.par_chunks_mut(CHUNK));
    chunks.for_each(|(((gradients, kept), velocity), weights)| {
        vectorised(
            #[inline(always)]
            || {
                let gradients = gradients.iter().zip(kept).map(|(g, kept)| if *kept != 0 { *g } else { 0.0 });
                for ((g, v), w) in gradients.zip(velocity.iter_mut()).zip(weights.iter_mut()) {
                    rule.update(g, v, w);
                }
            },
        );
    });
}

/// Moves the weights at the indices `kept`, ascending, with a velocity for each.
///
/// # Panics
/// If an index is beyond the weights, or not above the one before it.
fn at(rule: Rule, kept: &[u32], b: SgdBuffers<Cpu>) {
    let SgdBuffers { gradients, velocity, weights } = b;
    let most = kept.last().map_or(0, |last| *last as usize + 1);
    assert!(most <= weights.len() && kept.len() == velocity.len(), "{} kept, up to {most}", kept.len());
    Kept { base: 0, kept, gradients: &gradients[..most], velocity, weights: &mut weights[..most] }
        .update(rule);
}

/// Kept weights among the weights `base..`.
struct Kept<'a> {
    base: usize,
    kept: &'a [u32],
    gradients: &'a [f32],
    velocity: &'a mut [f32],
    weights: &'a mut [f32],
}

impl Kept<'_> {
    /// Moves them, in halves, so that each task has weights of its own.
    fn update(self, rule: Rule) {
        let Kept { base, kept, gradients, velocity, weights } = self;
        if kept.len() > CHUNK {
            let (low, high) = kept.split_at(kept.len() / 2);
            let middle = high[0] as usize;
            let (low_v, high_v) = velocity.split_at_mut(low.len());
            let (low_w, high_w) = weights.split_at_mut(middle - base);
            let (low_g, high_g) = gradients.split_at(middle - base);
            let low = Kept { base, kept: low, gradients: low_g, velocity: low_v, weights: low_w };
            let high =
                Kept { base: middle, kept: high, gradients: high_g, velocity: high_v, weights: high_w };
            rayon::join(|| low.update(rule), || high.update(rule));
            return;
        }
        vectorised(
            #[inline(always)]
            || {
                for (index, v) in kept.iter().zip(velocity.iter_mut()) {
                    let at = *index as usize - base;
                    rule.update(gradients[at], v, &mut weights[at]);
                }
            },
        );
    }
}
