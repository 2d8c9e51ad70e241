//! The backward pass through the first ReLU and the normalisation: gradients or scores of scale and shift,
//! and dx. With xhat = (x - mean) rstd, `dx = weight rstd (dz - mean(dz) - xhat mean(dz xhat))`, means over
//! the pixels of a group, and no means where the statistics are constants.
//!
//! Sums over pixels are f32 within an image and f64 over images, in order.

use rayon::prelude::*;

use super::backward::Backward;
use super::period::{floor, period, repeat, scale_and_shift};
use crate::device::simd::vectorised;
use crate::ops::flat::Power;
use crate::ops::norm::Norm;

/// Periods of a group's constants: scale, shift, mean, slope, offset.
const CONSTANTS: usize = 5;
/// Periods of an image's sums: dz, dz (x - mean).
const SUMS: usize = 2;

/// f32 elements of scratch of a batch: its constants, and the sums of each image.
pub(super) fn batch_scratch(norm: &Norm) -> usize {
    (CONSTANTS + SUMS * norm.n) * period(norm.c)
}

/// f32 elements of scratch of images that are normalised alone: the constants and sums of each.
pub(super) fn images_scratch(norm: &Norm) -> usize {
    norm.n * (CONSTANTS + SUMS) * period(norm.c)
}

/// With statistics of the batch: its gradients of scale and shift, overwritten, and dx.
pub(super) fn batch(norm: &Norm, b: &mut Backward, scratch: &mut [f32]) {
    let (c, image, period) = (norm.c, norm.h * norm.w * norm.c, period(norm.c));
    let pooled = norm.pool.is_some();
    let rstd = &b.statistics[c..];
    let (constants, partials) = scratch.split_at_mut(CONSTANTS * period);
    let [scale, shift, mean, slope, offset] = constants_of(b.parameters, b.statistics, constants);

    let partials = &mut partials[..SUMS * norm.n * period];
    let dz = if pooled { &*b.dx } else { &*b.dy };
    let images = dz.par_chunks_exact(image).zip(b.x.par_chunks_exact(image));
    partials.par_chunks_exact_mut(SUMS * period).zip(images).for_each(|(sums, (dz, x))| {
        let constants = [&*scale, &*shift, &*mean];
        vectorised(
            #[inline(always)]
            || sum_image(constants, floor(norm.relu), dz, x, sums),
        );
    });
    let count = (norm.n * norm.h * norm.w) as f64;
    for channel in 0..c {
        let (sum, product) = totals(partials, c, period, channel);
        let (weight, rstd) = (f64::from(b.parameters.0[channel]), f64::from(rstd[channel]));
        b.into.0[channel] = (product * rstd) as f32;
        b.into.1[channel] = sum as f32;
        slope[channel] = (-weight * rstd * rstd * rstd * product / count) as f32;
        offset[channel] = (-weight * rstd * sum / count) as f32;
    }
    repeat_first(c, [slope, offset]);

    let slopes = Slopes { scale, shift, mean, slope, offset, open: floor(norm.relu) };
    let dx = b.dx[..norm.n * image].par_chunks_exact_mut(image);
    let images = dx.zip(b.x.par_chunks_exact(image)).enumerate();
    images.for_each(|(i, (dx, x))| {
        input_gradient(slopes, x, (!pooled).then(|| &b.dy[i * image..][..image]), dx);
    });
}

/// With statistics of each image: scores of scale and shift, to which the power of each image's gradients is
/// added, and dx.
pub(super) fn images(norm: &Norm, power: Power, b: &mut Backward, scratch: &mut [f32]) {
    let (c, image, period) = (norm.c, norm.h * norm.w * norm.c, period(norm.c));
    let pooled = norm.pool.is_some();
    let count = (norm.h * norm.w) as f64;
    let (parameters, dy, constant) = (b.parameters, &*b.dy, b.constant);
    let images = b.dx[..norm.n * image].par_chunks_exact_mut(image).zip(b.x.par_chunks_exact(image));
    let images = images.zip(b.statistics.par_chunks_exact(2 * c)).enumerate();
    let scratches = scratch.par_chunks_exact_mut((CONSTANTS + SUMS) * period);
    images.zip(scratches).for_each(|((i, ((dx, x), statistics)), scratch)| {
        let (constants, sums) = scratch.split_at_mut(CONSTANTS * period);
        let [scale, shift, mean, slope, offset] = constants_of(parameters, statistics, constants);
        let dy = (!pooled).then(|| &dy[i * image..][..image]);
        let dz = dy.unwrap_or(&*dx);
        vectorised(
            #[inline(always)]
            || sum_image([&*scale, &*shift, &*mean], floor(norm.relu), dz, x, sums),
        );
        for channel in 0..c {
            let (sum, product) = totals(sums, c, period, channel);
            let (weight, rstd) = (f64::from(parameters.0[channel]), f64::from(statistics[c + channel]));
            // The image's gradients of scale and shift take the place of what they are made of.
            (sums[period + channel], sums[channel]) = ((product * rstd) as f32, sum as f32);
            let part = if constant { 0.0 } else { -weight * rstd / count };
            slope[channel] = (part * rstd * rstd * product) as f32;
            offset[channel] = (part * sum) as f32;
        }
        repeat_first(c, [slope, offset]);
        input_gradient(Slopes { scale, shift, mean, slope, offset, open: floor(norm.relu) }, x, dy, dx);
    });
    let gradients = scratch.chunks_exact((CONSTANTS + SUMS) * period).take(norm.n);
    let gradients = || gradients.clone().map(|all| &all[CONSTANTS * period..]);
    let (weight, bias) = (&mut b.into.0, &mut b.into.1);
    for (channel, (weight, bias)) in weight.iter_mut().zip(bias.iter_mut()).enumerate() {
        let sum = |at: usize| gradients().map(|all| f64::from(power.of(all[at]))).sum::<f64>();
        *weight = (f64::from(*weight) + sum(period + channel)) as f32;
        *bias = (f64::from(*bias) + sum(channel)) as f32;
    }
}

/// Constants of a group, a period each: scale, shift and mean, and room for slope and offset.
fn constants_of<'a>(
    parameters: (&[f32], &[f32]),
    statistics: &[f32],
    scratch: &'a mut [f32],
) -> [&'a mut [f32]; CONSTANTS] {
    let period = scratch.len() / CONSTANTS;
    let periods = [0, 1, 2, 3, 4].map(|i| i * period..(i + 1) * period);
    let constants = scratch.get_disjoint_mut(periods);
    let [scale, shift, mean, slope, offset] =
        constants.unwrap_or_else(|_| unreachable!("five periods lie side by side"));
    scale_and_shift(parameters, statistics, scale, shift);
    repeat(parameters.0.len(), mean, |i| statistics[i]);
    [scale, shift, mean, slope, offset]
}

/// A channel's sums of dz and dz (x - mean) over the images of `sums` \[images,2,period\].
fn totals(sums: &[f32], c: usize, period: usize, channel: usize) -> (f64, f64) {
    let (mut sum, mut product) = (0.0_f64, 0.0_f64);
    for sums in sums.chunks_exact(SUMS * period) {
        for i in (channel..period).step_by(c) {
            sum += f64::from(sums[i]);
            product += f64::from(sums[period + i]);
        }
    }
    (sum, product)
}

/// Repeats the first C elements over the rest of the periods.
fn repeat_first(c: usize, periods: [&mut [f32]; 2]) {
    for constants in periods {
        for start in (c..constants.len()).step_by(c) {
            constants.copy_within(..c, start);
        }
    }
}

/// Per-channel constants of the input's gradient, each a period long.
#[derive(Clone, Copy)]
struct Slopes<'a> {
    scale: &'a [f32],
    shift: &'a [f32],
    mean: &'a [f32],
    /// dx = scale dz + slope (x - mean) + offset.
    slope: &'a [f32],
    offset: &'a [f32],
    /// The value above which the ReLU lets gradients through.
    open: f32,
}

/// The gradient of an image's input, from dy or, where it was pooled, from what lies in dx.
fn input_gradient(slopes: Slopes, x: &[f32], dy: Option<&[f32]>, dx: &mut [f32]) {
    vectorised(
        #[inline(always)]
        || match dy {
            Some(dy) => gradient_image(slopes, x, dy, dx),
            None => gradient_in_place(slopes, x, dx),
        },
    );
}

/// Where the ReLU let the value through: above 0, or everywhere when `open` is -infinity.
#[inline(always)]
fn through(dz: f32, x: f32, scale: f32, shift: f32, open: f32) -> f32 {
    if x.mul_add(scale, shift) > open { dz } else { 0.0 }
}

/// Sums of dz and dz (x - mean) over an image's pixels, by place in the period.
#[inline(always)]
fn sum_image([scale, shift, mean]: [&[f32]; 3], open: f32, dz: &[f32], x: &[f32], sums: &mut [f32]) {
    sums.fill(0.0);
    let (sum, product) = sums.split_at_mut(scale.len());
    for (dz, x) in dz.chunks(scale.len()).zip(x.chunks(scale.len())) {
        let constants = scale.iter().zip(shift).zip(mean);
        let sums = sum.iter_mut().zip(product.iter_mut());
        for (((dz, x), ((scale, shift), mean)), (sum, product)) in dz.iter().zip(x).zip(constants).zip(sums) {
            let dz = through(*dz, *x, *scale, *shift, open);
            *sum += dz;
            *product = dz.mul_add(x - mean, *product);
        }
    }
}

#[inline(always)]
fn gradient_image(slopes: Slopes, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    let period = slopes.scale.len();
    for ((x, dy), dx) in x.chunks(period).zip(dy.chunks(period)).zip(dx.chunks_mut(period)) {
        let Slopes { scale, shift, mean, slope, offset, open } = slopes;
        let constants = scale.iter().zip(shift).zip(mean).zip(slope.iter().zip(offset));
        for (((x, dy), dx), (((scale, shift), mean), (slope, offset))) in
            x.iter().zip(dy).zip(dx).zip(constants)
        {
            let dz = through(*dy, *x, *scale, *shift, open);
            *dx = scale.mul_add(dz, slope.mul_add(x - mean, *offset));
        }
    }
}

#[inline(always)]
fn gradient_in_place(slopes: Slopes, x: &[f32], dx: &mut [f32]) {
    let period = slopes.scale.len();
    for (x, dx) in x.chunks(period).zip(dx.chunks_mut(period)) {
        let Slopes { scale, shift, mean, slope, offset, open } = slopes;
        let constants = scale.iter().zip(shift).zip(mean).zip(slope.iter().zip(offset));
        for ((x, dx), (((scale, shift), mean), (slope, offset))) in x.iter().zip(dx).zip(constants) {
            let dz = through(*dx, *x, *scale, *shift, open);
            *dx = scale.mul_add(dz, slope.mul_add(x - mean, *offset));
        }
    }
}
