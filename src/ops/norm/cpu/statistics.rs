//! What batch norm normalises with: statistics \[2,C\] of a batch, of each image, or the running ones.

use rayon::prelude::*;

use crate::device::simd::vectorised;
use crate::ops::norm::Norm;

/// Channels whose statistics are taken together, in registers.
const CHANNELS: usize = 16;

/// Mean and 1/sqrt(var + eps) from sums over `count` values, and one update of the running statistics.
/// `sums`, `statistics`, `running`: \[2,C\].
pub(super) fn of_sums(count: usize, sums: &[f64], statistics: &mut [f32], running: &mut [f32]) {
    let c = statistics.len() / 2;
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
        statistics[i] = mean as f32;
        statistics[c + i] = (1.0 / (variance + f64::from(Norm::EPS)).sqrt()) as f32;
        blend(i, mean);
        blend(c + i, variance * n / (n - 1.0).max(1.0));
    }
}

/// Mean and 1/sqrt(var + eps) from running statistics; both \[2,C\].
pub(super) fn of_running(running: &[f32], statistics: &mut [f32]) {
    let c = running.len() / 2;
    statistics[..c].copy_from_slice(&running[..c]);
    for (rstd, variance) in statistics[c..].iter_mut().zip(&running[c..]) {
        *rstd = 1.0 / (variance + Norm::EPS).sqrt();
    }
}

/// Mean and 1/sqrt(var + eps) of each image of x \[N,H,W,C\], the variance about the mean.
pub(super) fn of_images(norm: &Norm, x: &[f32], statistics: &mut [f32]) {
    let image = norm.h * norm.w * norm.c;
    let statistics = statistics.par_chunks_exact_mut(2 * norm.c);
    statistics.zip(x[..norm.n * image].par_chunks_exact(image)).for_each(|(statistics, x)| {
        vectorised(
            #[inline(always)]
            || of_image(norm.c, x, statistics),
        );
    });
}

#[inline(always)]
fn of_image(c: usize, x: &[f32], statistics: &mut [f32]) {
    let count = (x.len() / c) as f64;
    let (means, rstds) = statistics.split_at_mut(c);
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
