//! Scores of a filter: each sample's own wgrad, squared (or its magnitude) and summed over samples.
//!
//! A sample's gradient never reaches memory. A task has 8 output channels, 32 input channels and every tap;
//! one sample after another, it sums dy x over the pixels of a tap in registers and adds the squares to its
//! scores, which stay in the first cache levels for all samples. For that x is packed by 32 channels and dy
//! by 8, image after image, so that a tap reads rows of both from end to end; pixels that a tap finds outside
//! the image are not visited at all.
//!
//! Where 32 channels are far more than there are, what every tap reads is unrolled instead: a 1x1 convolution
//! of R R C channels. For a 1x1 filter with a stride this packs only the pixels that the filter reads.
//!
//! Sums run over pixels row by row within a sample, and over samples in order: the same bits whatever the
//! threads and the width of vectors.

mod pack;

use bytemuck::Zeroable;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::device::Scratch;
use crate::device::scratch::{Memory, bytes, take};
use crate::ops::conv::Conv;
use crate::ops::flat::Power;
use pack::{C, Inputs, K, Outputs, PackedConv, Pairs, pack_dy, pack_x};

/// Returns the scratch that scores of a convolution need.
pub(super) fn scratch(conv: &Conv) -> Scratch {
    let [x, dy, scores] = PackedConv::new(conv).lengths();
    let shared = bytes::<Inputs>(x) + bytes::<Outputs>(dy) + bytes::<Inputs>(scores);
    Scratch { shared, ..Scratch::default() }
}

/// Adds to `scores` \[K,C,R,R\] the power of each sample's gradient of the filter, from x \[N,H,W,C\] and dy
/// \[N,P,Q,K\].
///
/// # Panics
/// If no scratch was reserved for `conv` with this or a larger n.
pub(super) fn score(
    conv: &Conv,
    power: Power,
    [x, dy]: [&[f32]; 2],
    scores: &mut [f32],
    memory: &mut Memory,
) {
    if conv.n == 0 {
        return;
    }
    let (packed, pairs) = (PackedConv::new(conv), Pairs::new(conv));
    let (mut shared, _) = memory.parts();
    // x (C / 32, images, H W), dy (K / 8, images, P Q), scores (K / 8, C / 32, taps, 8).
    let [all_x, all_dy, tiles] = packed.lengths();
    let (all_x, all_dy): (&mut [Inputs], &mut [Outputs]) =
        (take(&mut shared, all_x), take(&mut shared, all_dy));
    let tiles: &mut [Inputs] = take(&mut shared, tiles);
    tiles.fill(Inputs::zeroed());
    let (image, gradient) = (conv.h * conv.w * conv.c, packed.outputs * conv.k);
    for (x, dy) in x.chunks(packed.images * image).zip(dy.chunks(packed.images * gradient)) {
        let n = x.len() / image;
        let packed_x = &mut all_x[..n * packed.inputs * packed.c_panels];
        let packed_dy = &mut all_dy[..n * packed.outputs * packed.k_panels];
        pack_x(&packed, x, packed_x);
        pack_dy(&packed, dy, packed_dy);
        let (packed_x, packed_dy) = (&*packed_x, &*packed_dy);
        tiles.par_chunks_mut(packed.taps * K).enumerate().for_each(|(task, scores)| {
            let (k, c) = (task / packed.c_panels, task % packed.c_panels);
            let x = &packed_x[c * n * packed.inputs..][..n * packed.inputs];
            let dy = &packed_dy[k * n * packed.outputs..][..n * packed.outputs];
            Arch::new().dispatch(Tiles { packed: &packed, pairs: pairs.as_ref(), power, x, dy, scores });
        });
    }
    add(&packed, tiles, scores);
}

/// Adds tiles \[K / 8\]\[C / 32\]\[taps\]\[8\]\[32\] to scores \[K, C, taps\].
fn add(packed: &PackedConv, tiles: &[Inputs], scores: &mut [f32]) {
    let (row, taps) = (packed.conv.c * packed.conv.r * packed.conv.r, packed.taps);
    scores.par_chunks_mut(row).enumerate().for_each(|(k, scores)| {
        let tiles = &tiles[k / K * packed.c_panels * taps * K..][..packed.c_panels * taps * K];
        for (scores, tiles) in scores.chunks_mut(C * taps).zip(tiles.chunks_exact(taps * K)) {
            for (tap, tile) in tiles.chunks_exact(K).enumerate() {
                let scores = scores[tap..].iter_mut().step_by(taps);
                scores.zip(&tile[k % K].0).for_each(|(score, sum)| *score += sum);
            }
        }
    });
}

/// One task: the panels' images, and their scores \[taps\]\[8\].
struct Tiles<'a> {
    packed: &'a PackedConv,
    pairs: Option<&'a Pairs>,
    power: Power,
    x: &'a [Inputs],
    dy: &'a [Outputs],
    scores: &'a mut [Inputs],
}

impl WithSimd for Tiles<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        // As many accumulators as leave room for their operands: 16 of 32 registers, or 8 of 16 where vectors
        // have 8 lanes (AVX2).
        match (S::F32_LANES, self.power) {
            (8, Power::Square) => run::<S, 1, true>(s, self),
            (8, Power::Absolute) => run::<S, 1, false>(s, self),
            (_, Power::Square) => run::<S, 2, true>(s, self),
            (_, Power::Absolute) => run::<S, 2, false>(s, self),
        }
    }
}

#[inline(always)]
fn run<S: Simd, const V: usize, const SQUARE: bool>(s: S, tiles: Tiles) {
    let Tiles { packed, pairs, x, dy, scores, .. } = tiles;
    let conv = &packed.conv;
    let whole = packed.unrolled || (conv.r == 1 && conv.stride == 1 && conv.pad == 0);
    let (p, q) = (conv.p(), conv.q());
    for (x, dy) in x.chunks_exact(packed.inputs).zip(dy.chunks_exact(packed.outputs)) {
        for (tap, scores) in scores.chunks_exact_mut(K).enumerate() {
            for first in (0..C).step_by(V * S::F32_LANES) {
                let mut sums = [[s.splat_f32s(0.0); V]; K];
                if whole {
                    multiply(s, first, x.iter().zip(dy), &mut sums);
                } else if let Some(pairs) = pairs {
                    let pairs = pairs.of(tap).iter().map(|&[i, o]| (&x[usize::from(i)], &dy[usize::from(o)]));
                    multiply(s, first, pairs, &mut sums);
                } else {
                    let (rows, row) = inside(tap / conv.r, p, conv.h, conv);
                    let (columns, column) = inside(tap % conv.r, q, conv.w, conv);
                    for (i, p) in rows.enumerate() {
                        let x = &x[(row + i * conv.stride) * conv.w..][column..conv.w];
                        let dy = &dy[p * q..][columns.clone()];
                        if conv.stride == 1 {
                            multiply(s, first, x.iter().zip(dy), &mut sums);
                        } else {
                            multiply(s, first, x.iter().step_by(conv.stride).zip(dy), &mut sums);
                        }
                    }
                }
                for (scores, sums) in scores.iter_mut().zip(sums) {
                    let scores = S::as_mut_simd_f32s(&mut scores.0[first..first + V * S::F32_LANES]).0;
                    for (score, sum) in scores.iter_mut().zip(sums) {
                        *score = if SQUARE {
                            s.mul_add_f32s(sum, sum, *score)
                        } else {
                            s.add_f32s(*score, s.abs_f32s(sum))
                        };
                    }
                }
            }
        }
    }
}

/// The outputs along an axis that find input `length` under a tap, and what the first of them reads.
#[inline(always)]
fn inside(tap: usize, outputs: usize, length: usize, conv: &Conv) -> (std::ops::Range<usize>, usize) {
    let &Conv { stride, pad, .. } = conv;
    // tap + stride p - pad in 0..length
    let begin = pad.saturating_sub(tap).div_ceil(stride);
    let end = (length + pad).saturating_sub(tap).div_ceil(stride).min(outputs);
    if begin < end { (begin..end, tap + stride * begin - pad) } else { (0..0, 0) }
}

/// Adds to `sums` \[8\]\[V\] the products of pixels' dy and channels `first..` of their x.
#[inline(always)]
fn multiply<'a, S: Simd, const V: usize>(
    s: S,
    first: usize,
    pixels: impl Iterator<Item = (&'a Inputs, &'a Outputs)>,
    sums: &mut [[S::f32s; V]; K],
) {
    let mut local = *sums;
    for (x, dy) in pixels {
        let x = S::as_simd_f32s(&x.0[first..first + V * S::F32_LANES]).0;
        for (sums, dy) in local.iter_mut().zip(dy.0) {
            let dy = s.splat_f32s(dy);
            for (sum, x) in sums.iter_mut().zip(x) {
                *sum = s.mul_add_f32s(dy, *x, *sum);
            }
        }
    }
    *sums = local;
}
