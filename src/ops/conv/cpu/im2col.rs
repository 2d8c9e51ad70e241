//! Convolution by unrolling: y \[pixels,K\] = cols \[pixels,R*R*C\] filter^T, where row (n,p,q) of cols holds
//! the window under output pixel (n,p,q), zeros where it leaves the image. Blocks of cols live in a scratch
//! that stays in cache; the whole of it is never in memory.

use rayon::prelude::*;

use super::sums;
use super::workspace::{Dgrad, Fprop, Need, Workspace, split, transpose};
use crate::device::matmul::{Matrix, matmul};
use crate::device::scratch::lines;
use crate::ops::conv::Conv;

/// f32 elements of a block of cols in fprop and dgrad: half of a 1 MB level-2 cache.
const BLOCK: usize = 1 << 17;
/// f32 elements of the cols that wgrad keeps at a time, unless dfilter, which each chunk reads and writes, is
/// larger.
const CHUNK: usize = 1 << 19;
/// Upper limit for the partial filter gradients of wgrad, f32 elements.
const PARTIALS: usize = 1 << 20;
/// Tasks that wgrad's product is cut into.
const TASKS: usize = 8;

/// Elements of one window.
fn window(conv: &Conv) -> usize {
    conv.r * conv.r * conv.c
}

/// Output rows (of Q pixels) in a block: enough pixels for an efficient product, few enough to stay in cache.
fn block_rows(conv: &Conv) -> usize {
    let pixels = (BLOCK / window(conv)).clamp(64, 1024);
    (pixels / conv.q()).max(1)
}

/// Images in one dgrad task: small images are taken together, for the sake of the product.
fn block_images(conv: &Conv) -> usize {
    (block_rows(conv) / conv.p()).max(1)
}

/// How wgrad cuts \[K,R*R*C\] x pixels: (groups of pixels, rows of the filter in a task).
fn wgrad_tasks(conv: &Conv) -> (usize, usize) {
    let groups = (PARTIALS / (conv.k * window(conv))).clamp(1, TASKS);
    let groups = 1 << groups.ilog2();
    (groups, conv.k.div_ceil(TASKS / groups))
}

fn wgrad_images(conv: &Conv) -> usize {
    let cols = CHUNK.max(conv.k * window(conv));
    (cols / (conv.p() * conv.q() * window(conv))).clamp(1, conv.n.max(1))
}

pub(super) fn need(conv: &Conv) -> Need {
    let filter = conv.k * window(conv);
    let block = block_rows(conv) * conv.q() * window(conv);
    let chunk = wgrad_images(conv) * conv.p() * conv.q() * window(conv);
    let (groups, _) = wgrad_tasks(conv);
    Need {
        shared: lines(filter).max(lines(chunk) + lines(groups * filter)),
        local: lines(block),
        sums: (conv.n * conv.p()).div_ceil(block_rows(conv)) * 2 * conv.k,
    }
}

pub(super) fn fprop(conv: &Conv, Fprop { x, filter, y, sums }: Fprop, workspace: Workspace) {
    let (q, k, window) = (conv.q(), conv.k, window(conv));
    let rows = block_rows(conv);
    let Workspace { shared, locals, sums: partials } = workspace;
    let (by_tap, _) = split(shared, k * window);
    transpose(filter, k, window, by_tap);
    let by_tap = Matrix::rows(by_tap, k);
    sums::by_block(k, rows * q * k, y, sums, partials, |block, y| {
        let pixels = y.len() / k;
        let mut local = locals.take();
        let cols = &mut local.slice()[..pixels * window];
        for (row, cols) in cols.chunks_exact_mut(q * window).enumerate() {
            unroll(conv, x, block * rows + row, cols);
        }
        matmul((pixels, k, window), y, k, false, Matrix::rows(cols, window), by_tap);
    });
}

pub(super) fn dgrad(conv: &Conv, Dgrad { dy, filter, dx, accumulate }: Dgrad, workspace: Workspace) {
    let (p, q, k, window) = (conv.p(), conv.q(), conv.k, window(conv));
    let (rows, images) = (block_rows(conv), block_images(conv));
    let image = conv.h * conv.w * conv.c;
    let locals = workspace.locals;
    dx.par_chunks_mut(images * image).enumerate().for_each(|(task, dx)| {
        if !accumulate {
            dx.fill(0.0);
        }
        let (first, count) = (task * images, dx.len() / image);
        let mut local = locals.take();
        let dy = &dy[first * p * q * k..][..count * p * q * k];
        for (block, dy) in dy.chunks(rows * q * k).enumerate() {
            let pixels = dy.len() / k;
            let cols = &mut local.slice()[..pixels * window];
            let (dy, filter) = (Matrix::rows(dy, k), Matrix::rows(filter, window));
            matmul((pixels, window, k), cols, window, false, dy, filter);
            for (row, cols) in cols.chunks_exact(q * window).enumerate() {
                roll(conv, cols, block * rows + row, dx);
            }
        }
    });
}

pub(super) fn wgrad(conv: &Conv, x: &[f32], dy: &[f32], dfilter: &mut [f32], workspace: Workspace) {
    let (p, q, k, window) = (conv.p(), conv.q(), conv.k, window(conv));
    let (groups, task_rows) = wgrad_tasks(conv);
    let images = wgrad_images(conv);
    let (partials, shared) = split(workspace.shared, groups * k * window);
    if conv.n == 0 {
        dfilter.fill(0.0);
        return;
    }
    let single = groups == 1;
    let total = if single { &mut *dfilter } else { &mut *partials };
    for (chunk, dy) in dy.chunks(images * p * q * k).enumerate() {
        let pixels = dy.len() / k;
        let (cols, _) = split(shared, pixels * window);
        cols.par_chunks_mut(q * window).enumerate().for_each(|(row, cols)| {
            unroll(conv, x, chunk * images * p + row, cols);
        });
        let group_pixels = pixels.div_ceil(groups);
        total.par_chunks_mut(k * window).enumerate().for_each(|(group, total)| {
            let first = (group * group_pixels).min(pixels);
            let count = group_pixels.min(pixels - first);
            total.par_chunks_mut(task_rows * window).enumerate().for_each(|(task, total)| {
                if count == 0 {
                    if chunk == 0 {
                        total.fill(0.0);
                    }
                    return;
                }
                let dy = Matrix::rows(&dy[first * k + task * task_rows..], k);
                let cols = Matrix::rows(&cols[first * window..], window);
                matmul((total.len() / window, window, count), total, window, chunk > 0, dy.t(), cols);
            });
        });
    }
    if !single {
        const PIECE: usize = 4096;
        let len = dfilter.len();
        dfilter.par_chunks_mut(PIECE).enumerate().for_each(|(piece, out)| {
            let at = piece * PIECE;
            out.copy_from_slice(&partials[at..at + out.len()]);
            for group in 1..groups {
                let part = &partials[group * len + at..][..out.len()];
                out.iter_mut().zip(part).for_each(|(o, v)| *o += v);
            }
        });
    }
}

/// The window of output column `q`, filter row `r`: (first element in the row of the input, first element in
/// the row of the window, elements), leaving out what falls beside the image.
fn overlap(conv: &Conv, q: usize) -> (usize, usize, usize) {
    let left = q * conv.stride;
    let first = left.max(conv.pad);
    let end = (left + conv.r).min(conv.w + conv.pad);
    if end <= first {
        return (0, 0, 0);
    }
    ((first - conv.pad) * conv.c, (first - left) * conv.c, (end - first) * conv.c)
}

/// Writes the windows \[Q,R*R*C\] of output row `row` (n * P + p).
fn unroll(conv: &Conv, x: &[f32], row: usize, cols: &mut [f32]) {
    let (n, p) = (row / conv.p(), row % conv.p());
    let (line, width) = (conv.w * conv.c, conv.r * conv.c);
    for (q, cols) in cols.chunks_exact_mut(window(conv)).enumerate() {
        let (from, to, len) = overlap(conv, q);
        for (r, cols) in cols.chunks_exact_mut(width).enumerate() {
            let h = p * conv.stride + r;
            if h < conv.pad || h >= conv.h + conv.pad || len == 0 {
                cols.fill(0.0);
                continue;
            }
            let x = &x[(n * conv.h + h - conv.pad) * line..][..line];
            cols[..to].fill(0.0);
            copy(&mut cols[to..to + len], &x[from..from + len]);
            cols[to + len..].fill(0.0);
        }
    }
}

/// Copies a row of a window. Three RGB pixels are too few to pay for a call.
#[inline(always)]
fn copy(to: &mut [f32], from: &[f32]) {
    match (<&mut [f32; 9]>::try_from(&mut *to), <&[f32; 9]>::try_from(from)) {
        (Ok(to), Ok(from)) => *to = *from,
        _ => to.copy_from_slice(from),
    }
}

/// Adds the windows \[Q,R*R*C\] of output row `row` (n * P + p, counted from the first image of `dx`) to
/// `dx`.
fn roll(conv: &Conv, cols: &[f32], row: usize, dx: &mut [f32]) {
    let (n, p) = (row / conv.p(), row % conv.p());
    let (line, width) = (conv.w * conv.c, conv.r * conv.c);
    for (q, cols) in cols.chunks_exact(window(conv)).enumerate() {
        let (from, to, len) = overlap(conv, q);
        for (r, cols) in cols.chunks_exact(width).enumerate() {
            let h = p * conv.stride + r;
            if h < conv.pad || h >= conv.h + conv.pad || len == 0 {
                continue;
            }
            let dx = &mut dx[(n * conv.h + h - conv.pad) * line + from..][..len];
            dx.iter_mut().zip(&cols[to..to + len]).for_each(|(d, v)| *d += v);
        }
    }
}
