//! The forward pass of batch norm and what follows it.

use rayon::prelude::*;

use super::{Scratch, floor, input_pixel, period, repeat};
use crate::backend::cpu::Cpu;
use crate::backend::cpu::simd::vectorised;
use crate::backend::{DEAD, Norm, NormForward, Pool};

/// Channels handled together in the pooling loops.
const LANES: usize = 16;

#[inline(always)]
fn bound(value: f32, floor: f32) -> f32 {
    if value < floor { floor } else { value }
}

/// The normalised value as one multiply-add; the backward pass repeats it to see where the ReLU was open.
pub(in crate::backend::cpu) struct Constants<'a> {
    pub scale: &'a [f32],
    pub shift: &'a [f32],
    pub floor: f32,
    pub floor_sum: f32,
}

/// Buffers of [`forward`]; [`crate::backend::NormForward`] has the shapes.
pub(in crate::backend::cpu) struct Forward<'a> {
    pub x: &'a [f32],
    pub residual: Option<&'a [f32]>,
    /// Scale and shift.
    pub affine: (&'a [f32], &'a [f32]),
    pub moments: &'a [f32],
    pub y: &'a mut [f32],
    pub winners: Option<&'a mut [u8]>,
}

impl<'a> Forward<'a> {
    /// The parts of the flat vectors that a norm reads.
    pub(in crate::backend::cpu) fn of(b: NormForward<'a, Cpu>) -> Self {
        Forward {
            x: b.x,
            residual: b.residual.map(Vec::as_slice),
            affine: (&b.weights[b.affine.weight.clone()], &b.weights[b.affine.bias.clone()]),
            moments: &b.moments[b.at],
            y: b.y,
            winners: b.winners.map(Vec::as_mut_slice),
        }
    }
}

/// y = pool(relu_sum(residual + relu(scale x + shift))), overwritten.
pub(in crate::backend::cpu) fn forward(norm: &Norm, b: Forward, scratch: &mut Scratch) {
    let Forward { x, residual, affine, moments, y, winners } = b;
    let period = period(norm.c);
    let (scale, shift) = scratch.constants[..2 * period].split_at_mut(period);
    let (mean, rstd) = moments.split_at(norm.c);
    repeat(norm.c, scale, |i| affine.0[i] * rstd[i]);
    repeat(norm.c, shift, |i| affine.1[i] - mean[i] * (affine.0[i] * rstd[i]));
    let constants = Constants { scale, shift, floor: floor(norm.relu), floor_sum: floor(norm.relu_sum) };
    let image = norm.h * norm.w * norm.c;
    let output = norm.pool.map_or(image, |p| p.outputs(norm.h) * p.outputs(norm.w) * norm.c);
    let x = x[..norm.n * image].par_chunks_exact(image);
    let y = y[..norm.n * output].par_chunks_exact_mut(output);
    let residual = |i: usize| residual.map(|r| &r[i * image..(i + 1) * image]);
    match (norm.pool, winners) {
        (None, _) => x.zip(y).enumerate().for_each(|(i, (x, y))| {
            vectorised(
                #[inline(always)]
                || forward_image(&constants, x, residual(i), y),
            );
        }),
        (Some(pool), Some(winners)) => {
            let winners = winners[..norm.n * output].par_chunks_exact_mut(output);
            x.zip(y).zip(winners).enumerate().for_each(|(i, ((x, y), winners))| {
                vectorised(
                    #[inline(always)]
                    || pool_image(norm, pool, &constants, x, residual(i), y, Some(winners)),
                );
            });
        }
        (Some(pool), None) => x.zip(y).enumerate().for_each(|(i, (x, y))| {
            vectorised(
                #[inline(always)]
                || pool_image(norm, pool, &constants, x, residual(i), y, None),
            );
        }),
    }
}

#[inline(always)]
pub(in crate::backend::cpu) fn forward_image(
    constants: &Constants,
    x: &[f32],
    residual: Option<&[f32]>,
    y: &mut [f32],
) {
    let &Constants { scale, shift, floor, floor_sum } = constants;
    let period = scale.len();
    match residual {
        None => {
            for (x, y) in x.chunks(period).zip(y.chunks_mut(period)) {
                for ((x, y), (scale, shift)) in x.iter().zip(y).zip(scale.iter().zip(shift)) {
                    *y = bound(x.mul_add(*scale, *shift), floor);
                }
            }
        }
        Some(residual) => {
            let rows = x.chunks(period).zip(residual.chunks(period)).zip(y.chunks_mut(period));
            for ((x, r), y) in rows {
                for (((x, r), y), (scale, shift)) in x.iter().zip(r).zip(y).zip(scale.iter().zip(shift)) {
                    *y = bound(r + bound(x.mul_add(*scale, *shift), floor), floor_sum);
                }
            }
        }
    }
}

/// [`LANES`] values from `at`, the last of them 0 where fewer are left of the pixel.
#[inline(always)]
fn load(from: &[f32], at: usize, lanes: usize) -> [f32; LANES] {
    if lanes == LANES {
        std::array::from_fn(|i| from[at..at + LANES][i])
    } else {
        let mut values = [0.0; LANES];
        values[..lanes].copy_from_slice(&from[at..at + lanes]);
        values
    }
}

#[inline(always)]
pub(in crate::backend::cpu) fn pool_image(
    norm: &Norm,
    pool: Pool,
    constants: &Constants,
    x: &[f32],
    residual: Option<&[f32]>,
    y: &mut [f32],
    mut winners: Option<&mut [u8]>,
) {
    let (c, p, q) = (norm.c, pool.outputs(norm.h), pool.outputs(norm.w));
    // Below it, nothing passes a ReLU that comes last.
    let dead = if norm.relu_sum || (norm.relu && !norm.residual) { 0.0 } else { f32::NEG_INFINITY };
    for output in 0..p * q {
        for first in (0..c).step_by(LANES) {
            let lanes = LANES.min(c - first);
            let scale = load(constants.scale, first, lanes);
            let shift = load(constants.shift, first, lanes);
            let mut best = [f32::NEG_INFINITY; LANES];
            let mut winner = [0_i32; LANES];
            for place in 0..pool.size * pool.size {
                let Some(input) = input_pixel(norm, pool, (output / q, output % q), place) else { continue };
                let mut value = load(x, input * c + first, lanes);
                for i in 0..LANES {
                    value[i] = bound(value[i].mul_add(scale[i], shift[i]), constants.floor);
                }
                if let Some(residual) = residual {
                    let residual = load(residual, input * c + first, lanes);
                    for i in 0..LANES {
                        value[i] = bound(residual[i] + value[i], constants.floor_sum);
                    }
                }
                for i in 0..LANES {
                    // The first of equal values wins; the first NaN beats and outlasts every number.
                    let loses = value[i] <= best[i] || best[i].is_nan();
                    best[i] = if loses { best[i] } else { value[i] };
                    winner[i] = if loses { winner[i] } else { place as i32 };
                }
            }
            let to = output * c + first;
            y[to..to + lanes].copy_from_slice(&best[..lanes]);
            if let Some(winners) = &mut winners {
                for i in 0..LANES {
                    winner[i] = if best[i] > dead { winner[i] } else { i32::from(DEAD) };
                }
                for (to, winner) in winners[to..to + lanes].iter_mut().zip(winner) {
                    *to = winner as u8;
                }
            }
        }
    }
}
