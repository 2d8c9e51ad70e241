//! Batch norm with moments by image \[N,2,C\]: each image as [`super::norm`] would do it alone.

use rayon::prelude::*;

use super::norm::{self, Backward, Constants, Forward, Slopes, period};
use super::simd::vectorised;
use crate::backend::{Norm, Power};

/// Channels whose statistics are taken together, in registers.
const CHANNELS: usize = 16;
/// Periods of an image's constants and sums: scale, shift, mean, slope, offset; dz, dz (x - mean).
const PERIODS: usize = 7;

/// Room for every image's constants and sums; grown only by [`Scratch::reserve`].
#[derive(Default)]
pub(super) struct Scratch(Vec<f32>);

fn length(norm: &Norm) -> usize {
    norm.n * PERIODS * period(norm.c)
}

/// Bytes [`Scratch`] holds after reserving for `norms`.
pub(super) fn scratch_bytes(norms: &[Norm]) -> usize {
    size_of::<f32>() * norms.iter().map(length).max().unwrap_or(0)
}

impl Scratch {
    pub(super) fn reserve(&mut self, norms: &[Norm]) {
        let most = norms.iter().map(length).max().unwrap_or(0);
        self.0.resize(self.0.len().max(most), 0.0);
    }
}

/// Mean and 1/sqrt(var + eps) of each image of x \[N,H,W,C\], the variance about the mean.
pub(super) fn moments(norm: &Norm, x: &[f32], moments: &mut [f32]) {
    let image = norm.h * norm.w * norm.c;
    let moments = moments.par_chunks_exact_mut(2 * norm.c);
    moments.zip(x[..norm.n * image].par_chunks_exact(image)).for_each(|(moments, x)| {
        vectorised(
            #[inline(always)]
            || image_moments(norm.c, x, moments),
        );
    });
}

#[inline(always)]
fn image_moments(c: usize, x: &[f32], moments: &mut [f32]) {
    let count = (x.len() / c) as f64;
    let (means, rstds) = moments.split_at_mut(c);
    for first in (0..c).step_by(CHANNELS) {
        let lanes = CHANNELS.min(c - first);
        let mut sums = [0.0; CHANNELS];
        sum(c, first, lanes, x, &mut sums, |v, _| v);
        let mean = sums.map(|sum| sum / count);
        let mut squares = [0.0; CHANNELS];
        sum(c, first, lanes, x, &mut squares, |v, i| (v - mean[i]) * (v - mean[i]));
        for i in 0..lanes {
            means[first + i] = mean[i] as f32;
            rstds[first + i] = (1.0 / (squares[i] / count + f64::from(Norm::EPS)).sqrt()) as f32;
        }
    }
}

/// Adds `of(value, channel - first)` over the pixels, for `lanes` channels from `first`.
#[inline(always)]
fn sum(
    c: usize,
    first: usize,
    lanes: usize,
    x: &[f32],
    sums: &mut [f64; CHANNELS],
    of: impl Fn(f64, usize) -> f64,
) {
    if lanes == CHANNELS {
        for pixel in x.chunks_exact(c) {
            let pixel = &pixel[first..first + CHANNELS];
            for i in 0..CHANNELS {
                sums[i] += of(f64::from(pixel[i]), i);
            }
        }
    } else {
        for pixel in x.chunks_exact(c) {
            for i in 0..lanes {
                sums[i] += of(f64::from(pixel[first + i]), i);
            }
        }
    }
}

/// An image's scale and shift, repeated over a period.
fn affine(c: usize, affine: (&[f32], &[f32]), moments: &[f32], scale: &mut [f32], shift: &mut [f32]) {
    let (mean, rstd) = moments.split_at(c);
    norm::repeat(c, scale, |i| affine.0[i] * rstd[i]);
    norm::repeat(c, shift, |i| affine.1[i] - mean[i] * (affine.0[i] * rstd[i]));
}

/// [`norm::forward`] with moments by image.
pub(super) fn forward(norm: &Norm, b: Forward, scratch: &mut Scratch) {
    let Forward { x, residual, affine: parameters, moments, y, winners } = b;
    let (image, output) = (norm.h * norm.w * norm.c, norm.outputs() / norm.n.max(1));
    let period = period(norm.c);
    let y = y[..norm.n * output].par_chunks_exact_mut(output);
    let residual = |i: usize| residual.map(|r| &r[i * image..(i + 1) * image]);
    let one = |i: usize, y: &mut [f32], winners: Option<&mut [u8]>, constants: &mut [f32]| {
        let x = &x[i * image..(i + 1) * image];
        let (scale, shift) = constants[..2 * period].split_at_mut(period);
        affine(norm.c, parameters, &moments[i * 2 * norm.c..][..2 * norm.c], scale, shift);
        let (floor, floor_sum) = (norm::floor(norm.relu), norm::floor(norm.relu_sum));
        let constants = Constants { scale, shift, floor, floor_sum };
        let mut winners = winners;
        vectorised(
            #[inline(always)]
            || match norm.pool {
                None => norm::forward_image(&constants, x, residual(i), y),
                Some(pool) => {
                    norm::pool_image(norm, pool, &constants, x, residual(i), y, winners.as_deref_mut());
                }
            },
        );
    };
    let constants = scratch.0.par_chunks_exact_mut(PERIODS * period);
    let images = y.zip(constants).enumerate();
    match winners {
        Some(winners) if norm.pool.is_some() => {
            let winners = winners[..norm.n * output].par_chunks_exact_mut(output);
            images
                .zip(winners)
                .for_each(|((i, (y, constants)), winners)| one(i, y, Some(winners), constants));
        }
        _ => images.for_each(|(i, (y, constants))| one(i, y, None, constants)),
    }
}

/// [`norm::finish`] with moments by image, which depend on x if `through`, and are constants otherwise. What
/// [`Backward`] calls gradients are scores of scale and shift: the power of each image's is added.
pub(super) fn finish(norm: &Norm, power: Power, through: bool, b: &mut Backward, scratch: &mut Scratch) {
    let (c, image, period) = (norm.c, norm.h * norm.w * norm.c, period(norm.c));
    let count = (norm.h * norm.w) as f64;
    let pooled = norm.pool.is_some();
    let open = if norm.relu { 0.0 } else { f32::NEG_INFINITY };
    let (parameters, dy) = (b.affine, &*b.dy);
    let images = b.dx[..norm.n * image].par_chunks_exact_mut(image).zip(b.x.par_chunks_exact(image));
    let images = images.zip(b.moments.par_chunks_exact(2 * c)).enumerate();
    let constants = scratch.0.par_chunks_exact_mut(PERIODS * period);
    images.zip(constants).for_each(|((i, ((dx, x), moments)), constants)| {
        let (constants, sums) = constants.split_at_mut(5 * period);
        let [scale, shift, means, slope, offset] = constants
            .get_disjoint_mut([0, 1, 2, 3, 4].map(|i| i * period..(i + 1) * period))
            .unwrap_or_else(|_| unreachable!("five periods lie side by side"));
        affine(c, parameters, moments, scale, shift);
        let (mean, rstd) = moments.split_at(c);
        norm::repeat(c, means, |i| mean[i]);
        let dz = if pooled { &*dx } else { &dy[i * image..(i + 1) * image] };
        vectorised(
            #[inline(always)]
            || norm::sum_image(scale, shift, means, open, dz, x, sums),
        );
        let (sum, product) = sums.split_at_mut(period);
        for channel in 0..c {
            let total = |sums: &[f32]| sums[channel..].iter().step_by(c).map(|&v| f64::from(v)).sum::<f64>();
            let (dz, dz_x) = (total(sum), total(product));
            let (weight, rstd) = (f64::from(parameters.0[channel]), f64::from(rstd[channel]));
            // The image's gradients of scale and shift, which take the place of what they are made of.
            (product[channel], sum[channel]) = ((dz_x * rstd) as f32, dz as f32);
            let part = if through { -weight * rstd / count } else { 0.0 };
            slope[channel] = (part * rstd * rstd * dz_x) as f32;
            offset[channel] = (part * dz) as f32;
        }
        for constants in [&mut *slope, &mut *offset] {
            for start in (c..period).step_by(c) {
                constants.copy_within(..c, start);
            }
        }
        let slopes = Slopes { scale, shift, mean: means, slope, offset };
        vectorised(
            #[inline(always)]
            || {
                if pooled {
                    norm::gradient_in_place(slopes, open, x, dx);
                } else {
                    norm::gradient_image(slopes, open, x, &dy[i * image..(i + 1) * image], dx);
                }
            },
        );
    });
    let gradients = || scratch.0.chunks_exact(PERIODS * period).take(norm.n).map(|all| &all[5 * period..]);
    let (weight, bias) = (&mut b.gradients.0, &mut b.gradients.1);
    for (channel, (weight, bias)) in weight.iter_mut().zip(bias.iter_mut()).enumerate() {
        let sum = |at: usize| gradients().map(|all| f64::from(power.of(all[at]))).sum::<f64>();
        *weight = (f64::from(*weight) + sum(period + channel)) as f32;
        *bias = (f64::from(*bias) + sum(channel)) as f32;
    }
}
