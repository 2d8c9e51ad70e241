//! Scores of a convolution's filter: sums over samples of a power of each one's own gradient.

use half::f16;

use super::choice::{Algorithm, PROCESSORS, Tile};
use super::launch::{elementwise, shape, tiled};
use crate::device::driver::{Driver, Kernel, Launch};
use crate::device::{Array, Cuda, Error};
use crate::ops::conv::Conv;
use crate::ops::conv::args::*;
use crate::ops::flat::Power;

/// What a block computes, whatever the algorithm on tensor cores.
const TILE: Tile = Tile::T64x64;
/// Pixels of y that a part of a sample has: one matrix instruction's.
const PART: usize = 16;
/// Blocks that the device holds.
const RESIDENT: usize = 3 * PROCESSORS;

/// Blocks of one share of the samples.
fn blocks(conv: &Conv) -> usize {
    conv.k.div_ceil(TILE.rows()) * (conv.r * conv.r * conv.c).div_ceil(TILE.columns())
}

/// Most shares: with them the device is filled four times over.
fn most_shares(conv: &Conv) -> usize {
    (4 * RESIDENT / blocks(conv)).min(conv.n).max(1)
}

/// Samples of a share: those that are done soonest, a block's beginning and end costing as much as 16 parts,
/// and a part of all resident blocks as much as the traffic of 2 MB of partial sums. It follows from the
/// shape alone.
fn samples(conv: &Conv) -> usize {
    let parts = (conv.p() * conv.q()).div_ceil(PART);
    // Written and read.
    let bytes = 8 * conv.filter();
    let cost = |&shares: &usize| {
        let waves = (blocks(conv) * shares).div_ceil(RESIDENT);
        waves * (conv.n.div_ceil(shares) * parts + 16) + shares * bytes / 2_000_000
    };
    let shares = (1..=most_shares(conv)).min_by_key(cost).unwrap_or(1);
    conv.n.div_ceil(shares)
}

/// f32 values of scratch that scores need, at this n or a smaller one.
pub fn scratch(conv: &Conv) -> usize {
    most_shares(conv) * conv.filter()
}

fn kernel(algorithm: Algorithm, power: Power) -> &'static Kernel<ConvScoreArgs> {
    match (algorithm, power) {
        (Algorithm::Analytic, Power::Square) => &CONV_SCORE_SQUARE,
        (Algorithm::Analytic, Power::Absolute) => &CONV_SCORE_ABSOLUTE,
        (Algorithm::Gather, Power::Square) => &CONV_SCORE_GATHER_SQUARE,
        (Algorithm::Gather, Power::Absolute) => &CONV_SCORE_GATHER_ABSOLUTE,
        (Algorithm::Tensor(_), Power::Square) => &CONV_SCORE_64X64_SQUARE,
        (Algorithm::Tensor(_), Power::Absolute) => &CONV_SCORE_64X64_ABSOLUTE,
    }
}

/// Adds the power of each sample's gradient to `scores` \[K,C,R,R\]; so many samples to a share, or a number
/// that suits the shape.
pub(super) fn conv_score<D: Driver>(
    cuda: &mut Cuda<D>,
    (algorithm, samples): (Algorithm, Option<usize>),
    conv: &Conv,
    power: Power,
    ([x, dy], scores): ([&Array<D, f16>; 2], *mut f32),
) -> Result<(), Error> {
    let samples = samples.unwrap_or_else(|| self::samples(conv));
    let shares = conv.n.div_ceil(samples);
    let mut args = ConvScoreArgs {
        shape: shape(conv),
        x: x.pointer(),
        dy: dy.pointer(),
        scores,
        partials: std::ptr::null_mut(),
        samples: samples as u32,
    };
    let kernel = kernel(algorithm, power);
    if algorithm == Algorithm::Analytic {
        return Ok(cuda.driver.launch(kernel, elementwise(conv.filter()), args)?);
    }
    args.partials = cuda.partials(shares * conv.filter(), conv);
    let (rows, taps) = (conv.k, conv.r * conv.r);
    cuda.driver.launch(kernel, tiled(TILE, rows, taps * conv.c, shares), args)?;
    let channels = (SUM_SCORES as usize / taps).min(conv.c);
    let args = ConvScoreSumArgs {
        partials: args.partials,
        scores,
        shares: shares as u32,
        k: conv.k as u32,
        taps: taps as u32,
        c: conv.c as u32,
        channels: channels as u32,
    };
    let grid = [conv.c.div_ceil(channels) as u32, conv.k as u32, 1];
    Ok(cuda.driver.launch(&CONV_SCORE_SUM, Launch { grid, block: 128, shared: 0 }, args)?)
}
