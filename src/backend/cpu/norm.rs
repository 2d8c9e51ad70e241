//! Batch norm fused with ReLU, residual add and max pooling.
//!
//! Work is split by image, whatever the number of threads. Sums over pixels are f32 within an image and f64 over
//! images, in order. Channels are innermost, so per-channel constants are repeated into a *period* of several
//! pixels that long vector loops can run along, however few channels there are.

use rayon::prelude::*;

use super::Cpu;
use super::simd::vectorised;
use crate::backend::{DEAD, Norm, NormBackward, NormForward, Pool, ResidualGradient};

/// Elements of a period: the least multiple of the channels at or above 256.
pub(super) fn period(channels: usize) -> usize {
    channels * 256_usize.div_ceil(channels)
}

/// Channels handled together in the pooling loops.
const LANES: usize = 16;

/// Room for one norm's constants and its images' partial sums; grown only by [`Scratch::reserve`].
#[derive(Default)]
pub(super) struct Scratch {
    /// Six periods of constants.
    constants: Vec<f32>,
    /// Two periods of sums for each image.
    partials: Vec<f32>,
}

/// Elements of (constants, partials) for one norm.
fn lengths(norm: &Norm) -> (usize, usize) {
    (6 * period(norm.c), 2 * norm.n * period(norm.c))
}

/// Bytes [`Scratch`] holds after reserving for `norms`.
pub(super) fn scratch_bytes(norms: &[Norm]) -> usize {
    let largest = |part: fn((usize, usize)) -> usize| norms.iter().map(|n| part(lengths(n))).max();
    size_of::<f32>() * (largest(|l| l.0).unwrap_or(0) + largest(|l| l.1).unwrap_or(0))
}

impl Scratch {
    pub(super) fn reserve(&mut self, norms: &[Norm]) {
        for (constants, partials) in norms.iter().map(lengths) {
            self.constants.resize(self.constants.len().max(constants), 0.0);
            self.partials.resize(self.partials.len().max(partials), 0.0);
        }
    }
}

/// Mean and 1/sqrt(var + eps) from sums over `count` values, and one update of the running statistics.
/// `sums`, `moments`, `running`: \[2,C\].
pub(super) fn batch_statistics(count: usize, sums: &[f64], moments: &mut [f32], running: &mut [f32]) {
    let c = moments.len() / 2;
    let n = count as f64;
    let momentum = f64::from(Norm::MOMENTUM);
    let mut blend = |i: usize, value: f64| {
        running[i] = ((1.0 - momentum) * f64::from(running[i]) + momentum * value) as f32;
    };
    for i in 0..c {
        let mean = sums[i] / n;
        // max() would turn a NaN into 0 and hide it.
        let difference = sums[c + i] / n - mean * mean;
        let variance = if difference < 0.0 { 0.0 } else { difference };
        moments[i] = mean as f32;
        moments[c + i] = (1.0 / (variance + f64::from(Norm::EPS)).sqrt()) as f32;
        blend(i, mean);
        blend(c + i, variance * n / (n - 1.0).max(1.0));
    }
}

/// Mean and 1/sqrt(var + eps) from running statistics; both \[2,C\].
pub(super) fn running_statistics(running: &[f32], moments: &mut [f32]) {
    let c = running.len() / 2;
    moments[..c].copy_from_slice(&running[..c]);
    for (rstd, variance) in moments[c..].iter_mut().zip(&running[c..]) {
        *rstd = 1.0 / (variance + Norm::EPS).sqrt();
    }
}

/// Writes `value(channel)` over a period.
pub(super) fn repeat(channels: usize, to: &mut [f32], value: impl Fn(usize) -> f32) {
    for (i, v) in to[..channels].iter_mut().enumerate() {
        *v = value(i);
    }
    for start in (channels..to.len()).step_by(channels) {
        to.copy_within(..channels, start);
    }
}

/// ReLU as a lower bound: 0, or none. `bound(NaN)` stays NaN, so that a diverged run shows.
pub(super) fn floor(relu: bool) -> f32 {
    if relu { 0.0 } else { f32::NEG_INFINITY }
}

#[inline(always)]
fn bound(value: f32, floor: f32) -> f32 {
    if value < floor { floor } else { value }
}

/// The normalised value as one multiply-add; the backward pass repeats it to see where the ReLU was open.
pub(super) struct Constants<'a> {
    pub scale: &'a [f32],
    pub shift: &'a [f32],
    pub floor: f32,
    pub floor_sum: f32,
}

/// Buffers of [`forward`]; [`crate::backend::NormForward`] has the shapes.
pub(super) struct Forward<'a> {
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
    pub(super) fn of(b: NormForward<'a, Cpu>) -> Self {
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
pub(super) fn forward(norm: &Norm, b: Forward, scratch: &mut Scratch) {
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
pub(super) fn forward_image(constants: &Constants, x: &[f32], residual: Option<&[f32]>, y: &mut [f32]) {
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

/// The input pixel at `place` (row by row) of the window of output pixel (row, column), unless it is padding.
#[inline(always)]
fn input_pixel(norm: &Norm, pool: Pool, (row, column): (usize, usize), place: usize) -> Option<usize> {
    let row = (row * pool.stride + place / pool.size).wrapping_sub(pool.pad);
    let column = (column * pool.stride + place % pool.size).wrapping_sub(pool.pad);
    if row < norm.h && column < norm.w { Some(row * norm.w + column) } else { None }
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
pub(super) fn pool_image(
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

/// Buffers of [`backward`]; [`crate::backend::NormBackward`] has the shapes.
pub(super) struct Backward<'a> {
    pub x: &'a [f32],
    pub y: Option<&'a [f32]>,
    pub winners: Option<&'a [u8]>,
    /// Scale and shift.
    pub affine: (&'a [f32], &'a [f32]),
    pub moments: &'a [f32],
    pub dy: &'a mut [f32],
    pub dx: &'a mut [f32],
    /// Scale's and shift's.
    pub gradients: (&'a mut [f32], &'a mut [f32]),
}

impl<'a> Backward<'a> {
    /// The parts of the flat vectors that a norm reads and writes; and where the residual's gradient goes.
    pub(super) fn of(b: NormBackward<'a, Cpu>) -> (Self, ResidualGradient<'a, Vec<f32>>) {
        let (weight, bias) = (b.affine.weight.clone(), b.affine.bias.clone());
        let gradients = b.gradients.get_disjoint_mut([weight, bias]);
        #[allow(clippy::expect_used)]
        let [weight, bias] = gradients.expect("a layout's parameters do not overlap");
        let buffers = Backward {
            x: b.x,
            y: b.y.map(Vec::as_slice),
            winners: b.winners.map(Vec::as_slice),
            affine: (&b.weights[b.affine.weight.clone()], &b.weights[b.affine.bias.clone()]),
            moments: &b.moments[b.at],
            dy: b.dy,
            dx: b.dx,
            gradients: (weight, bias),
        };
        (buffers, b.residual)
    }
}

/// The gradient behind the last ReLU and the pool lands in dy (nothing pooled) or dx (pooled), where the
/// residual's gradient is then read; see [`residual`]. Run [`finish`] after that.
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

/// Per-channel constants of the backward pass, each a period long.
#[derive(Clone, Copy)]
pub(super) struct Slopes<'a> {
    pub scale: &'a [f32],
    pub shift: &'a [f32],
    pub mean: &'a [f32],
    /// dx = scale dz + slope (x - mean) + offset.
    pub slope: &'a [f32],
    pub offset: &'a [f32],
}

/// Through the ReLU and the normalisation: gradients of scale and shift, and dx. With xhat = (x - mean) rstd,
/// `dx = weight rstd (dz - mean(dz) - xhat mean(dz xhat))`.
pub(super) fn finish(norm: &Norm, b: &mut Backward, scratch: &mut Scratch) {
    let period = period(norm.c);
    let image = norm.h * norm.w * norm.c;
    let pooled = norm.pool.is_some();
    let (mean, rstd) = b.moments.split_at(norm.c);
    let constants = &mut scratch.constants[..5 * period];
    let [scale, shift, means, slope, offset] = constants
        .get_disjoint_mut([0, 1, 2, 3, 4].map(|i| i * period..(i + 1) * period))
        .unwrap_or_else(|_| unreachable!("five periods lie side by side"));
    repeat(norm.c, scale, |i| b.affine.0[i] * rstd[i]);
    repeat(norm.c, shift, |i| b.affine.1[i] - mean[i] * (b.affine.0[i] * rstd[i]));
    repeat(norm.c, means, |i| mean[i]);
    let open = if norm.relu { 0.0 } else { f32::NEG_INFINITY };

    let partials = &mut scratch.partials[..2 * norm.n * period];
    let dz = if pooled { &*b.dx } else { &*b.dy };
    let images = dz.par_chunks_exact(image).zip(b.x.par_chunks_exact(image));
    partials.par_chunks_exact_mut(2 * period).zip(images).for_each(|(sums, (dz, x))| {
        let (scale, shift, means) = (&*scale, &*shift, &*means);
        vectorised(
            #[inline(always)]
            || sum_image(scale, shift, means, open, dz, x, sums),
        );
    });
    let count = (norm.n * norm.h * norm.w) as f64;
    for channel in 0..norm.c {
        let (mut sum, mut product) = (0.0_f64, 0.0_f64);
        for sums in partials.chunks_exact(2 * period) {
            for i in (channel..period).step_by(norm.c) {
                sum += f64::from(sums[i]);
                product += f64::from(sums[period + i]);
            }
        }
        let rstd = f64::from(rstd[channel]);
        b.gradients.0[channel] = (product * rstd) as f32;
        b.gradients.1[channel] = sum as f32;
        let weight = f64::from(b.affine.0[channel]);
        slope[channel] = (-weight * rstd * rstd * rstd * product / count) as f32;
        offset[channel] = (-weight * rstd * sum / count) as f32;
    }
    for constants in [&mut *slope, &mut *offset] {
        for start in (norm.c..period).step_by(norm.c) {
            constants.copy_within(..norm.c, start);
        }
    }

    let slopes = Slopes { scale, shift, mean: means, slope, offset };
    let dx = b.dx[..norm.n * image].par_chunks_exact_mut(image);
    let rows = dx.zip(b.x.par_chunks_exact(image));
    if pooled {
        rows.for_each(|(dx, x)| {
            vectorised(
                #[inline(always)]
                || gradient_in_place(slopes, open, x, dx),
            );
        });
    } else {
        rows.zip(b.dy.par_chunks_exact(image)).for_each(|((dx, x), dy)| {
            vectorised(
                #[inline(always)]
                || gradient_image(slopes, open, x, dy, dx),
            );
        });
    }
}

/// Where the ReLU let the value through: above 0, or everywhere when `open` is -infinity.
#[inline(always)]
fn through(dz: f32, x: f32, scale: f32, shift: f32, open: f32) -> f32 {
    if x.mul_add(scale, shift) > open { dz } else { 0.0 }
}

/// Sums of dz and dz (x - mean) over an image's pixels, by place in the period.
#[inline(always)]
pub(super) fn sum_image(
    scale: &[f32],
    shift: &[f32],
    mean: &[f32],
    open: f32,
    dz: &[f32],
    x: &[f32],
    sums: &mut [f32],
) {
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
pub(super) fn gradient_image(slopes: Slopes, open: f32, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    let period = slopes.scale.len();
    for ((x, dy), dx) in x.chunks(period).zip(dy.chunks(period)).zip(dx.chunks_mut(period)) {
        let Slopes { scale, shift, mean, slope, offset } = slopes;
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
pub(super) fn gradient_in_place(slopes: Slopes, open: f32, x: &[f32], dx: &mut [f32]) {
    let period = slopes.scale.len();
    for (x, dx) in x.chunks(period).zip(dx.chunks_mut(period)) {
        let Slopes { scale, shift, mean, slope, offset } = slopes;
        let constants = scale.iter().zip(shift).zip(mean).zip(slope.iter().zip(offset));
        for ((x, dx), (((scale, shift), mean), (slope, offset))) in x.iter().zip(dx).zip(constants) {
            let dz = through(*dx, *x, *scale, *shift, open);
            *dx = scale.mul_add(dz, slope.mul_add(x - mean, *offset));
        }
    }
}
