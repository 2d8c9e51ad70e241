//! Convolution fprop, dgrad and wgrad: f32, activations NHWC, filters KRSC.
//!
//! Two implementations. `im2col` does every geometry: blocks of the input are unrolled into a scratch that stays
//! in cache and multiplied. `winograd` does 3x3 stride 1 pad 1 with a quarter (F(4x4,3x3)) or 4/9
//! (F(2x2,3x3)) of the multiplications; [`algorithm`] says which one a shape gets.
//!
//! The partition of the work and the order of every sum follow from the shape alone, so results have the same
//! bits whatever the number of threads. Work is spread over the current rayon pool.

mod im2col;
pub(super) mod score;
mod scratch;
mod square;
mod sums;
mod tiles;
mod transform;
mod winograd;

pub use scratch::Workspace;

use crate::backend::Conv;
use transform::{F2, F4};

/// How a convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Unroll and multiply; any geometry.
    Im2col,
    /// Winograd F(2x2,3x3): 16 products where direct convolution has 36. 3x3, stride 1, pad 1 only.
    Winograd2,
    /// Winograd F(4x4,3x3): 36 products where direct convolution has 144. 3x3, stride 1, pad 1 only.
    Winograd4,
}

/// The fastest way to compute `conv`, by measurement (benches/conv_cpu.rs). Depends on the geometry, not on n.
pub fn algorithm(conv: &Conv) -> Algorithm {
    if conv.r != 3 || conv.stride != 1 || conv.pad != 1 || conv.c < 8 || conv.k < 8 {
        Algorithm::Im2col
    } else if conv.h <= 2 && conv.w <= 2 {
        Algorithm::Winograd2
    } else {
        Algorithm::Winograd4
    }
}

/// y \[N,P,Q,K\] = x \[N,H,W,C\] * filter \[K,R,R,C\]. Overwrites `y`, and `sums` \[2,K\] when given: the sum and
/// the sum of squares of y over N, P, Q.
///
/// # Panics
/// If a slice's length does not fit `conv`, or `workspace` was not made for `conv` with this or a larger n.
pub fn fprop(
    conv: &Conv,
    x: &[f32],
    filter: &[f32],
    y: &mut [f32],
    sums: Option<&mut [f64]>,
    workspace: &mut Workspace,
) {
    fprop_by(algorithm(conv), conv, x, filter, y, sums, workspace);
}

/// dx \[N,H,W,C\] (+)= the gradient of the loss by x, given `dy` \[N,P,Q,K\]. Overwrites `dx`, or adds to it
/// when `accumulate`.
///
/// # Panics
/// As [`fprop`].
pub fn dgrad(
    conv: &Conv,
    dy: &[f32],
    filter: &[f32],
    dx: &mut [f32],
    accumulate: bool,
    workspace: &mut Workspace,
) {
    dgrad_by(algorithm(conv), conv, dy, filter, dx, accumulate, workspace);
}

/// dfilter \[K,R,R,C\] = the gradient of the loss by the filter, summed over the batch. Overwrites `dfilter`.
///
/// # Panics
/// As [`fprop`].
pub fn wgrad(conv: &Conv, x: &[f32], dy: &[f32], dfilter: &mut [f32], workspace: &mut Workspace) {
    wgrad_by(algorithm(conv), conv, x, dy, dfilter, workspace);
}

/// [`fprop`] by a given algorithm, which must be able to do `conv`.
pub fn fprop_by(
    algorithm: Algorithm,
    conv: &Conv,
    x: &[f32],
    filter: &[f32],
    y: &mut [f32],
    sums: Option<&mut [f64]>,
    workspace: &mut Workspace,
) {
    check(algorithm, conv, x, y, filter);
    match algorithm {
        Algorithm::Im2col => im2col::fprop(conv, x, filter, y, sums, workspace),
        Algorithm::Winograd2 => winograd::fprop::<F2, 2, 4>(conv, x, filter, y, sums, workspace),
        Algorithm::Winograd4 => winograd::fprop::<F4, 4, 6>(conv, x, filter, y, sums, workspace),
    }
}

/// [`dgrad`] by a given algorithm, which must be able to do `conv`.
pub fn dgrad_by(
    algorithm: Algorithm,
    conv: &Conv,
    dy: &[f32],
    filter: &[f32],
    dx: &mut [f32],
    accumulate: bool,
    workspace: &mut Workspace,
) {
    check(algorithm, conv, dx, dy, filter);
    match algorithm {
        Algorithm::Im2col => im2col::dgrad(conv, dy, filter, dx, accumulate, workspace),
        Algorithm::Winograd2 => winograd::dgrad::<F2, 2, 4>(conv, dy, filter, dx, accumulate, workspace),
        Algorithm::Winograd4 => winograd::dgrad::<F4, 4, 6>(conv, dy, filter, dx, accumulate, workspace),
    }
}

/// [`wgrad`] by a given algorithm, which must be able to do `conv`.
pub fn wgrad_by(
    algorithm: Algorithm,
    conv: &Conv,
    x: &[f32],
    dy: &[f32],
    dfilter: &mut [f32],
    workspace: &mut Workspace,
) {
    check(algorithm, conv, x, dy, dfilter);
    match algorithm {
        Algorithm::Im2col => im2col::wgrad(conv, x, dy, dfilter, workspace),
        Algorithm::Winograd2 => winograd::wgrad::<F2, 2, 4>(conv, x, dy, dfilter, workspace),
        Algorithm::Winograd4 => winograd::wgrad::<F4, 4, 6>(conv, x, dy, dfilter, workspace),
    }
}

fn check(algorithm: Algorithm, conv: &Conv, x: &[f32], y: &[f32], filter: &[f32]) {
    let three = conv.r == 3 && conv.stride == 1 && conv.pad == 1;
    assert!(algorithm == Algorithm::Im2col || three, "Winograd is for 3x3, stride 1, pad 1, not {conv:?}");
    assert_eq!(x.len(), conv.n * conv.h * conv.w * conv.c, "length of x or dx for {conv:?}");
    assert_eq!(y.len(), conv.n * conv.p() * conv.q() * conv.k, "length of y or dy for {conv:?}");
    assert_eq!(filter.len(), conv.k * conv.r * conv.r * conv.c, "length of the filter for {conv:?}");
}
