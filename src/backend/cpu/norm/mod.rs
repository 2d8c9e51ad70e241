//! Batch norm fused with ReLU, residual add and max pooling.
//!
//! Work is split by image, whatever the number of threads. Sums over pixels are f32 within an image and f64 over
//! images, in order. Channels are innermost, so per-channel constants are repeated into a *period* of several
//! pixels that long vector loops can run along, however few channels there are.

mod backward;
mod forward;

use crate::backend::{Norm, Pool};
pub(super) use backward::{
    Backward, Slopes, begin, finish, gradient_image, gradient_in_place, residual, sum_image,
};
pub(super) use forward::{Constants, Forward, forward, forward_image, pool_image};

/// Elements of a period: the least multiple of the channels at or above 256.
pub(super) fn period(channels: usize) -> usize {
    channels * 256_usize.div_ceil(channels)
}

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

/// The input pixel at `place` (row by row) of the window of output pixel (row, column), unless it is padding.
#[inline(always)]
fn input_pixel(norm: &Norm, pool: Pool, (row, column): (usize, usize), place: usize) -> Option<usize> {
    let row = (row * pool.stride + place / pool.size).wrapping_sub(pool.pad);
    let column = (column * pool.stride + place % pool.size).wrapping_sub(pool.pad);
    if row < norm.h && column < norm.w { Some(row * norm.w + column) } else { None }
}
