//! The backward pass of batch norm and what follows it.

use rayon::prelude::*;

use super::{Scratch, input_pixel, period, repeat};
use crate::backend::cpu::Cpu;
use crate::backend::cpu::simd::vectorised;
use crate::backend::{Norm, NormBackward, Pool, ResidualGradient};

/// Buffers of [`backward`]; [`crate::backend::NormBackward`] has the shapes.
pub(in crate::backend::cpu) struct Backward<'a> {
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
    pub(in crate::backend::cpu) fn of(b: NormBackward<'a, Cpu>) -> (Self, ResidualGradient<'a, Vec<f32>>) {
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
pub(in crate::backend::cpu) fn begin(norm: &Norm, b: &mut Backward) {
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
pub(in crate::backend::cpu) fn residual(norm: &Norm, b: &Backward, to: &mut [f32], accumulate: bool) {
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
pub(in crate::backend::cpu) struct Slopes<'a> {
    pub scale: &'a [f32],
    pub shift: &'a [f32],
    pub mean: &'a [f32],
    /// dx = scale dz + slope (x - mean) + offset.
    pub slope: &'a [f32],
    pub offset: &'a [f32],
}

/// Through the ReLU and the normalisation: gradients of scale and shift, and dx. With xhat = (x - mean) rstd,
/// `dx = weight rstd (dz - mean(dz) - xhat mean(dz xhat))`.
pub(in crate::backend::cpu) fn finish(norm: &Norm, b: &mut Backward, scratch: &mut Scratch) {
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
pub(in crate::backend::cpu) fn sum_image(
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
pub(in crate::backend::cpu) fn gradient_image(
    slopes: Slopes,
    open: f32,
    x: &[f32],
    dy: &[f32],
    dx: &mut [f32],
) {
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
pub(in crate::backend::cpu) fn gradient_in_place(slopes: Slopes, open: f32, x: &[f32], dx: &mut [f32]) {
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
