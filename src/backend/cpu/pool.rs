//! Global average pooling. Max pooling is part of the fused batch norm, in `norm`.

use rayon::prelude::*;

use crate::backend::AveragePool;

/// y \[N,C\] = mean of x \[N,H,W,C\] over H, W.
pub(super) fn average_forward(pool: &AveragePool, x: &[f32], y: &mut [f32]) {
    let share = 1.0 / (pool.h * pool.w) as f32;
    let images = x.par_chunks_exact(pool.h * pool.w * pool.c);
    y[..pool.n * pool.c].par_chunks_exact_mut(pool.c).zip(images).for_each(|(y, x)| {
        y.fill(0.0);
        for pixel in x.chunks_exact(pool.c) {
            y.iter_mut().zip(pixel).for_each(|(y, x)| *y += x);
        }
        y.iter_mut().for_each(|y| *y *= share);
    });
}

/// dx \[N,H,W,C\] = dy \[N,C\] / (H W).
pub(super) fn average_backward(pool: &AveragePool, dy: &[f32], dx: &mut [f32]) {
    let share = 1.0 / (pool.h * pool.w) as f32;
    let image = pool.h * pool.w * pool.c;
    let rows = dy.par_chunks_exact(pool.c);
    dx[..pool.n * image].par_chunks_exact_mut(image).zip(rows).for_each(|(dx, dy)| {
        for pixel in dx.chunks_exact_mut(pool.c) {
            pixel.iter_mut().zip(dy).for_each(|(dx, dy)| *dx = dy * share);
        }
    });
}
