//! Per-channel constants, repeated over a *period* of several pixels that long vector loops can run along,
//! however few channels there are.

use crate::ops::norm::{Norm, Pool};

/// Elements of a period: the least multiple of the channels at or above 256.
pub(super) fn period(channels: usize) -> usize {
    channels * 256_usize.div_ceil(channels)
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

/// Writes the scale and shift of normalised values over a period each: `x scale + shift = weight (x - mean)
/// rstd + bias`. `parameters` are weight and bias \[C\], `statistics` mean and rstd \[2,C\].
pub(super) fn scale_and_shift(
    parameters: (&[f32], &[f32]),
    statistics: &[f32],
    scale: &mut [f32],
    shift: &mut [f32],
) {
    let (weight, bias) = parameters;
    let (mean, rstd) = statistics.split_at(weight.len());
    repeat(weight.len(), scale, |i| weight[i] * rstd[i]);
    repeat(weight.len(), shift, |i| bias[i] - mean[i] * (weight[i] * rstd[i]));
}

/// ReLU as a lower bound: 0, or none. A comparison with it leaves NaN, so that a diverged run shows.
pub(super) fn floor(relu: bool) -> f32 {
    if relu { 0.0 } else { f32::NEG_INFINITY }
}

/// The input pixel at `place` (row by row) of the window of output pixel (row, column), unless it is padding.
#[inline(always)]
pub(super) fn input_pixel(
    norm: &Norm,
    pool: Pool,
    (row, column): (usize, usize),
    place: usize,
) -> Option<usize> {
    let row = (row * pool.stride + place / pool.size).wrapping_sub(pool.pad);
    let column = (column * pool.stride + place % pool.size).wrapping_sub(pool.pad);
    if row < norm.h && column < norm.w { Some(row * norm.w + column) } else { None }
}
