//! Winograd convolution, 3x3 stride 1 pad 1: `transform` has the formula.
//!
//! fprop and dgrad are one function: dgrad convolves dy with the filter rotated by half a turn and its
//! channels exchanged. Images are taken in chunks whose transforms V \[points,tiles,C\] and M
//! \[points,tiles,K\] stay in cache. With a small filter each chunk is one task. With a large one, whose
//! transform U \[points,C,K\] should be read as rarely as possible, chunks are large and the tasks are
//! images, then points, then images again.

use rayon::prelude::*;

use super::sums;
use super::tiles::{Images, Points, PointsMut, Taps, filter, filter_gradient, gather, scatter};
use super::transform::Tile;
use super::workspace::{Dgrad, Fprop, Need, Workspace, split, transpose};
use crate::device::matmul::{Matrix, matmul};
use crate::device::scratch::lines;
use crate::ops::conv::Conv;

/// f32 elements of V and M in a chunk that is one task, unless half of U, which every task reads, is larger.
const TASK: usize = 1 << 17;
/// f32 elements of V and M in a chunk that all tasks share.
const CHUNK: usize = 1 << 22;
/// f32 elements of V and dM in a chunk of wgrad, unless dU, which every chunk reads and writes, is larger.
const WGRAD_CHUNK: usize = 1 << 19;
/// A filter transform of more f32 elements than this is read once for a large chunk.
const LARGE_FILTER: usize = 1 << 20;
/// Rows of the filter that one task transforms.
const FILTER_ROWS: usize = 8;

/// Elements from one point to the next: an odd number of cache lines, so that the points of a tile fall into
/// different cache sets.
fn pitch(rows: usize, width: usize) -> usize {
    (rows * width).div_ceil(16) / 2 * 32 + 16
}

fn large(points: usize, conv: &Conv) -> bool {
    points * conv.c * conv.k > LARGE_FILTER
}

/// Images in a chunk of at most `elements` of V and M (or dM).
fn chunk_images(points: usize, tiles: usize, conv: &Conv, elements: usize) -> usize {
    (elements / (points * tiles * (conv.c + conv.k))).clamp(1, conv.n.max(1))
}

/// Elements of V and M in a chunk of fprop and dgrad.
fn chunk(points: usize, conv: &Conv) -> usize {
    if large(points, conv) { CHUNK } else { TASK.max(points * conv.c * conv.k / 2) }
}

/// Elements of V and dM in a chunk of wgrad.
fn wgrad_chunk(points: usize, conv: &Conv) -> usize {
    WGRAD_CHUNK.max(points * conv.c * conv.k)
}

pub(super) fn need<T: Tile<M, A>, const M: usize, const A: usize>(conv: &Conv) -> Need {
    let points = A * A;
    let tiles = Images { h: conv.h, w: conv.w, c: conv.c }.tiles(M);
    let scratch = |elements| {
        let rows = chunk_images(points, tiles, conv, elements) * tiles;
        points * (pitch(rows, conv.c) + pitch(rows, conv.k))
    };
    let (task, wgrad) = (scratch(chunk(points, conv)), scratch(wgrad_chunk(points, conv)));
    let (shared, local) = if large(points, conv) { (task.max(wgrad), 0) } else { (wgrad, task) };
    let filter = points * pitch(conv.c, conv.k);
    Need { shared: filter + shared.max(lines(9 * conv.c * conv.k)), local, sums: conv.n * 2 * conv.k }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Fprop,
    Dgrad,
}

/// What a convolution in either direction reads and writes.
struct Pass<'a> {
    direction: Direction,
    x: &'a [f32],
    filter: &'a [f32],
    y: &'a mut [f32],
    accumulate: bool,
    sums: Option<&'a mut [f64]>,
}

pub(super) fn fprop<T: Tile<M, A>, const M: usize, const A: usize>(
    conv: &Conv,
    Fprop { x, filter, y, sums }: Fprop,
    workspace: Workspace,
) {
    let pass = Pass { direction: Direction::Fprop, x, filter, y, accumulate: false, sums };
    convolve::<T, M, A>(conv, pass, workspace);
}

pub(super) fn dgrad<T: Tile<M, A>, const M: usize, const A: usize>(
    conv: &Conv,
    Dgrad { dy, filter, dx, accumulate }: Dgrad,
    workspace: Workspace,
) {
    let pass = Pass { direction: Direction::Dgrad, x: dy, filter, y: dx, accumulate, sums: None };
    convolve::<T, M, A>(conv, pass, workspace);
}

/// y \[N,H,W,to\] (+)= x \[N,H,W,from\] * filter, where (from, to) is (C, K) or, in dgrad, (K, C).
fn convolve<T: Tile<M, A>, const M: usize, const A: usize>(conv: &Conv, pass: Pass, workspace: Workspace) {
    let Pass { direction, x, filter, y, accumulate, sums } = pass;
    let points = A * A;
    let (from, to) = if direction == Direction::Fprop { (conv.c, conv.k) } else { (conv.k, conv.c) };
    let (input, output) = (Images { h: conv.h, w: conv.w, c: from }, Images { h: conv.h, w: conv.w, c: to });
    let tiles = input.tiles(M);
    let Workspace { shared, locals, sums: partials } = workspace;

    let u_pitch = pitch(from, to);
    let (u, rest) = split(shared, points * u_pitch);
    let taps = if direction == Direction::Fprop {
        let (by_tap, _) = split(rest, 9 * from * to);
        transpose(filter, to, 9 * from, by_tap);
        Taps { data: by_tap, row: to, tap: from * to, rotate: false }
    } else {
        Taps { data: filter, row: 9 * to, tap: to, rotate: true }
    };
    transform_filter::<T, M, A>(taps, from, PointsMut::new(u, points, u_pitch, from, to));
    let u = &*u;

    let multiply = |point: usize, rows: usize, v: &[f32], m: &mut [f32]| {
        let u = Matrix::rows(&u[point * u_pitch..], to);
        matmul((rows, to, from), m, to, false, Matrix::rows(v, from), u);
    };
    if !large(points, conv) {
        let images = chunk_images(points, tiles, conv, chunk(points, conv));
        let len = images * output.len();
        sums::by_block(to, len, y, sums, partials, |chunk, y| {
            let count = y.len() / output.len();
            let rows = count * tiles;
            let (v_pitch, m_pitch) = (pitch(rows, from), pitch(rows, to));
            let mut local = locals.take();
            let (v, m) = local.slice().split_at_mut(points * v_pitch);
            let x = &x[chunk * images * input.len()..][..count * input.len()];
            let planes = PointsMut::new(v, points, v_pitch, rows, from);
            // SAFETY: this task alone has `v`.
            #[allow(unsafe_code)]
            unsafe {
                scatter::<T::Input, A, A>(input, M, x, planes, 0);
            }
            for (point, m) in m.chunks_exact_mut(m_pitch).take(points).enumerate() {
                multiply(point, rows, &v[point * v_pitch..], m);
            }
            gather::<T::Output, A, M>(output, Points::new(m, points, m_pitch, to), 0, y, accumulate);
        });
        return;
    }
    let images = chunk_images(points, tiles, conv, chunk(points, conv));
    let mut sums = sums;
    for (chunk, y) in y.chunks_mut(images * output.len()).enumerate() {
        let count = y.len() / output.len();
        let rows = count * tiles;
        let (v_pitch, m_pitch) = (pitch(rows, from), pitch(rows, to));
        let (v, m) = rest.split_at_mut(points * v_pitch);
        let x = &x[chunk * images * input.len()..][..count * input.len()];
        let planes = PointsMut::new(v, points, v_pitch, rows, from);
        x.par_chunks(input.len()).enumerate().for_each(|(image, x)| {
            // SAFETY: each image has its own rows.
            #[allow(unsafe_code)]
            unsafe {
                scatter::<T::Input, A, A>(input, M, x, planes, image * tiles);
            }
        });
        let (v, m) = (&*v, &mut m[..points * m_pitch]);
        m.par_chunks_mut(m_pitch).enumerate().for_each(|(point, m)| {
            multiply(point, rows, &v[point * v_pitch..], m);
        });
        let m = Points::new(m, points, m_pitch, to);
        let partials = sums.is_some().then(|| &mut partials[chunk * images * 2 * to..]);
        sums::blocks(to, output.len(), y, partials, |image, y| {
            gather::<T::Output, A, M>(output, m, image * tiles, y, accumulate);
        });
    }
    if let Some(sums) = &mut sums {
        sums::reduce(&partials[..conv.n * 2 * to], sums);
    }
}

/// U = G g G^T of every filter.
fn transform_filter<T: Tile<M, A>, const M: usize, const A: usize>(taps: Taps, rows: usize, u: PointsMut) {
    (0..rows.div_ceil(FILTER_ROWS)).into_par_iter().for_each(|task| {
        let first = task * FILTER_ROWS;
        // SAFETY: each task has its own rows.
        #[allow(unsafe_code)]
        unsafe {
            filter::<T::Filter, A>(taps, u, first..(first + FILTER_ROWS).min(rows));
        }
    });
}

/// dU \[points,K,C\] = sum over tiles of (T dy T^T)^T (B^T x B), chunk after chunk; dfilter = G^T dU G.
pub(super) fn wgrad<T: Tile<M, A>, const M: usize, const A: usize>(
    conv: &Conv,
    x: &[f32],
    dy: &[f32],
    dfilter: &mut [f32],
    workspace: Workspace,
) {
    let points = A * A;
    let (c, k) = (conv.c, conv.k);
    let (input, output) = (Images { h: conv.h, w: conv.w, c }, Images { h: conv.h, w: conv.w, c: k });
    let tiles = input.tiles(M);
    if conv.n == 0 {
        dfilter.fill(0.0);
        return;
    }
    let u_pitch = pitch(k, c);
    let (u, rest) = split(workspace.shared, points * u_pitch);
    let images = chunk_images(points, tiles, conv, wgrad_chunk(points, conv));
    let chunks = x.chunks(images * input.len()).zip(dy.chunks(images * output.len()));
    for (chunk, (x, dy)) in chunks.enumerate() {
        let rows = x.len() / input.len() * tiles;
        let (v_pitch, m_pitch) = (pitch(rows, c), pitch(rows, k));
        let (v, m) = rest.split_at_mut(points * v_pitch);
        let v_planes = PointsMut::new(v, points, v_pitch, rows, c);
        let m_planes = PointsMut::new(m, points, m_pitch, rows, k);
        let pairs = x.par_chunks(input.len()).zip(dy.par_chunks(output.len()));
        pairs.enumerate().for_each(|(image, (x, dy))| {
            // SAFETY: each image has its own rows.
            #[allow(unsafe_code)]
            unsafe {
                scatter::<T::Input, A, A>(input, M, x, v_planes, image * tiles);
                scatter::<T::OutputGradient, M, A>(output, M, dy, m_planes, image * tiles);
            }
        });
        let (v, m) = (&*v, &*m);
        u.par_chunks_mut(u_pitch).enumerate().for_each(|(point, u)| {
            let (v, m) = (Matrix::rows(&v[point * v_pitch..], c), Matrix::rows(&m[point * m_pitch..], k));
            matmul((k, c, rows), u, c, chunk > 0, m.t(), v);
        });
    }
    let u = Points::new(u, points, u_pitch, c);
    dfilter.par_chunks_mut(FILTER_ROWS * 9 * c).enumerate().for_each(|(task, dfilter)| {
        filter_gradient::<T::FilterGradient, A>(u, task * FILTER_ROWS, dfilter);
    });
}
