//! Sums of y for batch normalisation, taken while a block of y is still in cache.

use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

/// Channels summed together, in registers.
const CHANNELS: usize = 16;

/// Runs `write(block, y_block)` on blocks of `len` elements of y \[..,K\] in parallel. When `sums` \[2,K\] is
/// given, it becomes the sum and the sum of squares of y over all but K: one partial result a block, added in
/// order.
pub(super) fn by_block(
    k: usize,
    len: usize,
    y: &mut [f32],
    sums: Option<&mut [f64]>,
    partials: &mut [f64],
    write: impl Fn(usize, &mut [f32]) + Sync,
) {
    let mut partials = sums.is_some().then(|| &mut partials[..y.len().div_ceil(len) * 2 * k]);
    blocks(k, len, y, partials.as_deref_mut(), write);
    if let (Some(sums), Some(partials)) = (sums, partials) {
        reduce(partials, sums);
    }
}

/// Runs `write(block, y_block)` on blocks of `len` elements in parallel, and takes each block's sums \[2,K\]
/// when `partials` \[blocks,2,K\] is given.
pub(super) fn blocks(
    k: usize,
    len: usize,
    y: &mut [f32],
    partials: Option<&mut [f64]>,
    write: impl Fn(usize, &mut [f32]) + Sync,
) {
    match partials {
        None => y.par_chunks_mut(len).enumerate().for_each(|(block, y)| write(block, y)),
        Some(partials) => {
            let pairs = y.par_chunks_mut(len).zip(partials.par_chunks_mut(2 * k));
            pairs.enumerate().for_each(|(block, (y, partial))| {
                write(block, y);
                add(k, y, partial);
            });
        }
    }
}

/// sums \[2,K\] = the partials \[blocks,2,K\] added in order.
pub(super) fn reduce(partials: &[f64], sums: &mut [f64]) {
    sums.fill(0.0);
    for partial in partials.chunks_exact(sums.len()) {
        sums.iter_mut().zip(partial).for_each(|(s, p)| *s += p);
    }
}

/// sums \[2,K\] = sum and sum of squares of y \[pixels,K\] over the pixels. f64, because the variance is a
/// difference of the two.
pub(super) fn add(k: usize, y: &[f32], sums: &mut [f64]) {
    struct Add<'a>(usize, &'a [f32], &'a mut [f64]);
    impl NullaryFnOnce for Add<'_> {
        type Output = ();
        #[inline(always)]
        fn call(self) {
            let Self(k, y, sums) = self;
            let (sum, squares) = sums.split_at_mut(k);
            let mut at = 0;
            while at + CHANNELS <= k {
                let (mut s, mut t) = ([0.0f64; CHANNELS], [0.0f64; CHANNELS]);
                for pixel in y.chunks_exact(k) {
                    let pixel = &pixel[at..at + CHANNELS];
                    for i in 0..CHANNELS {
                        let v = f64::from(pixel[i]);
                        s[i] += v;
                        t[i] += v * v;
                    }
                }
                sum[at..at + CHANNELS].copy_from_slice(&s);
                squares[at..at + CHANNELS].copy_from_slice(&t);
                at += CHANNELS;
            }
            for at in at..k {
                let (mut s, mut t) = (0.0, 0.0);
                for pixel in y.chunks_exact(k) {
                    let v = f64::from(pixel[at]);
                    s += v;
                    t += v * v;
                }
                (sum[at], squares[at]) = (s, t);
            }
        }
    }
    Arch::new().dispatch(Add(k, y, sums));
}
