//! Scores of a convolution's filter: sums over samples of a power of each one's own gradient.

use std::ops::Range;

use half::f16;

use super::choice::{Algorithm, PROCESSORS, Pass, Tile};
use super::{check, elementwise, shape, tiled};
use crate::backend::cuda::args::conv_score::*;
use crate::backend::cuda::{Array, Cuda, Vector};
use crate::backend::{Conv, Error, Power};
use crate::driver::{Driver, Kernel, Launch};

/// What a block computes, whatever the algorithm on tensor cores.
const TILE: Tile = Tile::T64x64;
/// Pixels of y that a part of a sample has: one matrix instruction's.
const PART: usize = 16;
/// Blocks that the device holds.
const RESIDENT: usize = 3 * PROCESSORS;

/// Values of a filter.
fn values(conv: &Conv) -> usize {
    conv.k * conv.r * conv.r * conv.c
}

/// Blocks of one share of the samples.
fn blocks(conv: &Conv) -> usize {
    conv.k.div_ceil(TILE.rows()) * (conv.r * conv.r * conv.c).div_ceil(TILE.columns())
}

/// Most shares: with them the device is filled four times over.
fn most_shares(conv: &Conv) -> usize {
    (4 * RESIDENT / blocks(conv)).min(conv.n).max(1)
}

/// Samples of a share: those that are done soonest, a block's beginning and end costing as much as 16 parts, and a part
/// of all resident blocks as much as the traffic of 2 MB of partial sums. It follows from the shape alone.
fn samples(conv: &Conv) -> usize {
    let parts = (conv.p() * conv.q()).div_ceil(PART);
    // Written and read.
    let bytes = 8 * values(conv);
    let cost = |&shares: &usize| {
        let waves = (blocks(conv) * shares).div_ceil(RESIDENT);
        waves * (conv.n.div_ceil(shares) * parts + 16) + shares * bytes / 2_000_000
    };
    let shares = (1..=most_shares(conv)).min_by_key(cost).unwrap_or(1);
    conv.n.div_ceil(shares)
}

/// f32 values of scratch that scores need, at this n or a smaller one.
pub fn scratch(conv: &Conv) -> usize {
    most_shares(conv) * values(conv)
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

impl<D: Driver> Cuda<D> {
    pub(in crate::backend::cuda) fn filter_scores(
        &mut self,
        conv: &Conv,
        power: Power,
        x: &Array<D, f16>,
        dy: &Array<D, f16>,
        scores: &mut Vector<D>,
        filter: Range<usize>,
    ) -> Result<(), Error> {
        let algorithm = Pass::Score.algorithm(conv, filter.start);
        self.conv_score_by(algorithm, None, conv, power, x, dy, scores, filter)
    }

    /// [`Sparse::conv_score`](crate::backend::Sparse::conv_score) by a given algorithm, on tensor cores with so many samples
    /// to a share, or a number that suits the shape.
    ///
    /// # Errors
    /// When the device fails.
    ///
    /// # Panics
    /// If the algorithm cannot do this, a buffer is too short, or scratch was not reserved.
    #[allow(clippy::too_many_arguments)] // The operation's own, and how.
    pub fn conv_score_by(
        &mut self,
        algorithm: Algorithm,
        samples: Option<usize>,
        conv: &Conv,
        power: Power,
        x: &Array<D, f16>,
        dy: &Array<D, f16>,
        scores: &mut Vector<D>,
        filter: Range<usize>,
    ) -> Result<(), Error> {
        check(Pass::Score, algorithm, conv, x, dy, &filter);
        let samples = samples.unwrap_or_else(|| self::samples(conv));
        let shares = conv.n.div_ceil(samples);
        let scores = scores.values.slice_mut(&filter);
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
            return Ok(self.driver.launch(kernel, elementwise(filter.len()), args)?);
        }
        let (needed, reserved) = (shares * filter.len(), self.scoring.len());
        assert!(needed <= reserved, "scores of {conv:?} need {needed} values of scratch, not {reserved}");
        args.partials = self.scoring.pointer_mut();
        let (rows, taps) = (conv.k, conv.r * conv.r);
        self.driver.launch(kernel, tiled(TILE, rows, taps * conv.c, shares), args)?;
        let channels = (SUM_SCORES as usize / taps).min(conv.c);
        let args = ConvScoreSumArgs {
            partials: self.scoring.pointer(),
            scores,
            shares: shares as u32,
            k: conv.k as u32,
            taps: taps as u32,
            c: conv.c as u32,
            channels: channels as u32,
        };
        let grid = [conv.c.div_ceil(channels) as u32, conv.k as u32, 1];
        Ok(self.driver.launch(&CONV_SCORE_SUM, Launch { grid, block: 128, shared: 0 }, args)?)
    }
}
