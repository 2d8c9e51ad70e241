//! Convolution on devices that run kernels: fprop with batch norm's sums, dgrad, wgrad; scores in `score.rs`.

mod choice;
mod launch;
mod score;

use super::args::*;
use super::{Conv, ConvDgrad, ConvFprop, ConvOps, ConvWgrad};
use crate::device::driver::{Driver, Kernel, Launch};
use crate::device::{Cuda, Error, Scratch};
use crate::ops::flat::{Out, Work};
pub use choice::{Algorithm, Pass, Tile};
use launch::{check, elementwise, halves, shape, tiled};

impl<D: Driver> ConvOps for Cuda<D> {
    fn conv_scratch(conv: &Conv, work: Work) -> Scratch {
        let passes = choice::scratch(conv);
        let values = match work {
            Work::Train => passes,
            Work::Score => passes.max(score::scratch(conv)),
        };
        let activations = conv.inputs().max(conv.outputs());
        Scratch { shared: values * size_of::<f32>(), local: 0, activations }
    }

    fn conv_fprop(&mut self, conv: &Conv, b: ConvFprop<Self>) -> Result<(), Error> {
        self.conv_fprop_by(Pass::Fprop.algorithm(conv, b.filter.at.start), conv, b)
    }

    fn conv_dgrad(&mut self, conv: &Conv, b: ConvDgrad<Self>) -> Result<(), Error> {
        self.conv_dgrad_by(Pass::Dgrad.algorithm(conv, b.filter.at.start), conv, b)
    }

    fn conv_wgrad(&mut self, conv: &Conv, b: ConvWgrad<Self>) -> Result<(), Error> {
        let pass = match b.into {
            Out::Gradients(_) => Pass::Wgrad,
            Out::Scores(..) => Pass::Score,
        };
        self.conv_wgrad_by(pass.algorithm(conv, b.filter.start), None, conv, b)
    }
}

/// Passes by a given algorithm.
///
/// # Errors
/// They fail when the device does.
///
/// # Panics
/// If the algorithm cannot do this, a buffer is too short, or scratch was not reserved.
impl<D: Driver> Cuda<D> {
    /// [`ConvOps::conv_fprop`] by a given algorithm.
    pub fn conv_fprop_by(
        &mut self,
        algorithm: Algorithm,
        conv: &Conv,
        b: ConvFprop<Self>,
    ) -> Result<(), Error> {
        let ConvFprop { x, filter, y, sums } = b;
        check((Pass::Fprop, algorithm), conv, x, y, &filter.at);
        let rows = conv.n * conv.p() * conv.q();
        let (kernel, launch, sum_rows) = match algorithm {
            Algorithm::Analytic => (&CONV_FPROP, elementwise(rows * conv.k), choice::ROWS),
            Algorithm::Gather => {
                let blocks = rows.div_ceil(128) * conv.k.div_ceil(64);
                let launch = Launch { shared: GATHER_SHARED, ..Launch::new(blocks as u32, 256) };
                (&CONV_FPROP_GATHER, launch, 128)
            }
            Algorithm::Tensor(tile) => (fprop_kernel(tile), tiled(tile, rows, conv.k, 1), tile.rows()),
        };
        let partials = match &sums {
            Some(_) => self.partials(rows.div_ceil(sum_rows) * 2 * conv.k, conv),
            None => std::ptr::null_mut(),
        };
        let args = ConvFpropArgs {
            shape: shape(conv),
            x: x.pointer(),
            filter: halves(filter.vector).slice(&filter.at),
            y: y.pointer_mut(),
            partials,
        };
        self.driver.launch(kernel, launch, args)?;
        let Some((sums, at)) = sums else { return Ok(()) };
        assert_eq!(at.len(), 2 * conv.k, "sums of {} channels", conv.k);
        let blocks = rows.div_ceil(sum_rows);
        if algorithm == Algorithm::Analytic {
            let args = ChannelSumsArgs {
                y: y.pointer(),
                partials,
                rows: rows as u32,
                channels: conv.k as u32,
                rows_per_block: sum_rows as u32,
            };
            let grid = [blocks as u32, conv.k.div_ceil(64) as u32, 1];
            self.driver.launch(&CHANNEL_SUMS, Launch { grid, block: 64, shared: 0 }, args)?;
        }
        self.sum_rows(blocks, 2 * conv.k, sums.slice_mut(&at), std::ptr::null_mut())
    }

    /// [`ConvOps::conv_dgrad`] by a given algorithm.
    pub fn conv_dgrad_by(
        &mut self,
        algorithm: Algorithm,
        conv: &Conv,
        b: ConvDgrad<Self>,
    ) -> Result<(), Error> {
        let ConvDgrad { dy, filter, dx, accumulate } = b;
        check((Pass::Dgrad, algorithm), conv, dx, dy, &filter.at);
        let (kernel, launch) = match algorithm {
            Algorithm::Analytic => (&CONV_DGRAD, elementwise(conv.inputs())),
            Algorithm::Gather => panic!("dgrad does not gather"),
            Algorithm::Tensor(tile) => {
                // Pixels whose rows and columns leave the same remainders by the stride meet the same taps.
                let classes = conv.stride * conv.stride;
                let rows = conv.n * conv.h.div_ceil(conv.stride) * conv.w.div_ceil(conv.stride);
                (dgrad_kernel(tile), tiled(tile, rows, conv.c, classes))
            }
        };
        let args = ConvDgradArgs {
            shape: shape(conv),
            dy: dy.pointer(),
            filter: halves(filter.vector).slice(&filter.at),
            dx: dx.pointer_mut(),
            accumulate: accumulate.into(),
        };
        Ok(self.driver.launch(kernel, launch, args)?)
    }

    /// [`ConvOps::conv_wgrad`] by a given algorithm. On tensor cores a block sums so many steps of 32 pixels
    /// of y, or for scores so many samples, or a number that suits the shape.
    pub fn conv_wgrad_by(
        &mut self,
        algorithm: Algorithm,
        share: Option<usize>,
        conv: &Conv,
        b: ConvWgrad<Self>,
    ) -> Result<(), Error> {
        let ConvWgrad { x, dy, filter, into } = b;
        let gradients = match into {
            Out::Gradients(gradients) => gradients,
            Out::Scores(power, scores) => {
                check((Pass::Score, algorithm), conv, x, dy, &filter);
                let scores = scores.values.slice_mut(&filter);
                return score::conv_score(self, (algorithm, share), conv, power, ([x, dy], scores));
            }
        };
        check((Pass::Wgrad, algorithm), conv, x, dy, &filter);
        let dfilter = gradients.values.slice_mut(&filter);
        let args = |dfilter, steps: usize| ConvWgradArgs {
            shape: shape(conv),
            x: x.pointer(),
            dy: dy.pointer(),
            dfilter,
            steps: steps as u32,
        };
        if algorithm == Algorithm::Analytic {
            return Ok(self.driver.launch(&CONV_WGRAD, elementwise(filter.len()), args(dfilter, 0))?);
        }
        let steps = share.unwrap_or_else(|| choice::wgrad_steps(algorithm, conv));
        let splits = choice::wgrad_splits(conv, steps);
        let blocks = choice::wgrad_blocks(algorithm, conv) as u32;
        let (kernel, block, shared) = match algorithm {
            Algorithm::Tensor(tile) => (wgrad_kernel(tile), tile.threads(), tile.shared()),
            _ => (&CONV_WGRAD_GATHER, 128, (4 * choice::STEP * (64 + 32) * 2) as u32),
        };
        let into = if splits > 1 { self.partials(splits * filter.len(), conv) } else { dfilter };
        let launch = Launch { grid: [blocks, splits as u32, 1], block, shared };
        self.driver.launch(kernel, launch, args(into, steps))?;
        if splits > 1 { self.sum_rows(splits, filter.len(), std::ptr::null_mut(), dfilter) } else { Ok(()) }
    }

    /// Adds up rows of scratch, into f64 or f32.
    fn sum_rows(
        &mut self,
        rows: usize,
        columns: usize,
        doubles: *mut f64,
        floats: *mut f32,
    ) -> Result<(), Error> {
        // A thread adds some 8 rows or more; at most 128 of them share a column, which leaves 8 columns (32
        // bytes) a block.
        let sharers = (rows / 8).clamp(1, 128).next_power_of_two().min(128);
        let threads = if sharers > 32 { 1024 } else { 256 };
        let args = SumRowsArgs {
            partials: self.scratch.pointer(),
            doubles,
            floats,
            rows: rows as u32,
            columns: columns as u32,
            sharers: sharers as u32,
        };
        let blocks = columns.div_ceil(threads / sharers) as u32;
        Ok(self.driver.launch(&SUM_ROWS, Launch::new(blocks, threads as u32), args)?)
    }
}

/// Bytes of shared memory of a gathering block of fprop: the result, 128 x 64 with 8 halves between rows,
/// where each row lies, and four rows of warps' sums; the operands take less.
const GATHER_SHARED: u32 = 128 * (64 + 8) * 2 + 128 * 4 + 4 * 2 * 64 * 4;

fn fprop_kernel(tile: Tile) -> &'static Kernel<ConvFpropArgs> {
    match tile {
        Tile::T256x128 => &CONV_FPROP_256X128,
        Tile::T128x128 => &CONV_FPROP_128X128,
        Tile::T256x64 => &CONV_FPROP_256X64,
        Tile::T64x64 => &CONV_FPROP_64X64,
        Tile::T64x128 => panic!("fprop has no tile of 64 x 128"),
    }
}

fn dgrad_kernel(tile: Tile) -> &'static Kernel<ConvDgradArgs> {
    match tile {
        Tile::T256x128 => &CONV_DGRAD_256X128,
        Tile::T128x128 => &CONV_DGRAD_128X128,
        Tile::T256x64 => &CONV_DGRAD_256X64,
        Tile::T64x64 => &CONV_DGRAD_64X64,
        Tile::T64x128 => panic!("dgrad has no tile of 64 x 128"),
    }
}

fn wgrad_kernel(tile: Tile) -> &'static Kernel<ConvWgradArgs> {
    match tile {
        Tile::T256x128 => &CONV_WGRAD_256X128,
        Tile::T128x128 => &CONV_WGRAD_128X128,
        Tile::T64x128 => &CONV_WGRAD_64X128,
        other => panic!("wgrad has no {other:?}"),
    }
}
