//! The backward pass through what follows batch norm: the last ReLU, the pool, the residual sum.

use rayon::prelude::*;

use super::period::input_pixel;
use crate::device::Cpu;
use crate::device::simd::vectorised;
use crate::ops::flat::{Out, Power};
use crate::ops::norm::{Norm, NormBackward, Pool, ResidualGradient};

/// What a backward pass reads and writes; [`NormBackward`] has the shapes.
pub(super) struct Backward<'a> {
    pub x: &'a [f32],
    pub y: Option<&'a [f32]>,
    pub winners: Option<&'a [u8]>,
    /// Scale and shift.
    pub parameters: (&'a [f32], &'a [f32]),
    pub statistics: &'a [f32],
    pub constant: bool,
    pub dy: &'a mut [f32],
    pub dx: &'a mut [f32],
    /// Where gradients or scores of scale and shift go.
    pub into: (&'a mut [f32], &'a mut [f32]),
}

/// Splits the buffers of a backward pass into what it reads and writes, where the residual's gradient goes,
/// and the power of the scores, if it is scores that it leaves.
pub(super) fn split<'a>(
    b: NormBackward<'a, Cpu>,
) -> (Backward<'a>, ResidualGradient<'a, Vec<f32>>, Option<Power>) {
    let (into, power) = match b.into {
        Out::Gradients(gradients) => (gradients, None),
        Out::Scores(power, scores) => (scores, Some(power)),
    };
    let (weight, bias) = (b.affine.weight.clone(), b.affine.bias.clone());
    let parameters = (&b.weights[weight.clone()], &b.weights[bias.clone()]);
    #[allow(clippy::expect_used)]
    let [weight, bias] = into.get_disjoint_mut([weight, bias]).expect("a layout's parameters do not overlap");
    let slices = Backward {
        x: b.x,
        y: b.y.map(Vec::as_slice),
        winners: b.winners.map(Vec::as_slice),
        parameters,
        statistics: &b.statistics[b.at],
        constant: b.constant,
        dy: b.dy,
        dx: b.dx,
        into: (weight, bias),
    };
    (slices, b.residual, power)
}

/// The gradient behind the last ReLU and the pool lands in dy (nothing pooled) or dx (pooled), where the
/// residual's gradient is then read; see [`residual`]. What [`super::finish`] has comes after that.
pub(super) fn begin(norm: &Norm, b: &mut Backward) {
    let image = norm.h * norm.w * norm.c;
    match (norm.pool, b.winners) {
        (Some(pool), Some(winners)) => {
            let output = pool.outputs(norm.h) * pool.outputs(norm.w) * norm.c;
            let dx = b.dx[..norm.n * image].par_chunks_exact_mut(image);
            let dy = b.dy.par_chunks_exact(output).zip(winners.par_chunks_exact(output));
            dx.zip(dy).for_each(|(dx, (dy, winners))| {
                vectorised(
                    #[inline(always)]
                    || unpool_image(norm, pool, dy, winners, dx),
                );
            });
        }
        _ => {
            if let Some(y) = b.y {
                let dy = b.dy[..norm.n * image].par_chunks_exact_mut(image);
                dy.zip(y.par_chunks_exact(image)).for_each(|(dy, y)| {
                    vectorised(
                        #[inline(always)]
                        || dy.iter_mut().zip(y).for_each(|(dy, y)| *dy = if *y > 0.0 { *dy } else { 0.0 }),
                    );
                });
            }
        }
    }
}

#[inline(always)]
fn unpool_image(norm: &Norm, pool: Pool, dy: &[f32], winners: &[u8], dx: &mut [f32]) {
    let (c, q) = (norm.c, pool.outputs(norm.w));
    // Where windows tile the input each pixel is written once, and need not be cleared before.
    let whole = |length: usize| length.is_multiple_of(pool.size);
    let tiled = pool == Pool::square(pool.size) && whole(norm.h) && whole(norm.w);
    if !tiled {
        dx.fill(0.0);
    }
    for (output, (dy, winners)) in dy.chunks_exact(c).zip(winners.chunks_exact(c)).enumerate() {
        for place in 0..pool.size * pool.size {
            let Some(input) = input_pixel(norm, pool, (output / q, output % q), place) else { continue };
            let dx = &mut dx[input * c..(input + 1) * c];
            for ((dx, dy), winner) in dx.iter_mut().zip(dy).zip(winners) {
                let gradient = if i32::from(*winner) == place as i32 { *dy } else { 0.0 };
                *dx = if tiled { gradient } else { *dx + gradient };
            }
        }
    }
}

/// Adds to, or overwrites, the residual's gradient after [`begin`].
pub(super) fn residual(norm: &Norm, b: &Backward, to: &mut [f32], accumulate: bool) {
    let elements = norm.n * norm.h * norm.w * norm.c;
    let from = if norm.pool.is_some() { &*b.dx } else { &*b.dy };
    let chunk = norm.h * norm.w * norm.c;
    to[..elements].par_chunks_exact_mut(chunk).zip(from.par_chunks_exact(chunk)).for_each(|(to, from)| {
        if accumulate {
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        } else {
            to.copy_from_slice(from);
        }
    });
}
