//! Convolution: fprop with batch norm's sums, dgrad, wgrad; scores in `score.rs`.

mod choice;
mod score;

use std::ops::Range;

use half::f16;

use super::args::conv::*;
use super::{Array, Cuda, Vector};
use crate::backend::{Conv, Error};
use crate::driver::{Driver, Kernel, Launch};
pub use choice::{Algorithm, Pass, Tile};
pub(super) use score::scratch as score_scratch;

/// Values of scratch all three passes of a convolution need.
pub(super) fn scratch(conv: &Conv) -> usize {
    choice::scratch(conv)
}

/// Activations a kernel can count: their offsets are signed, and have 32 bits.
const MOST: usize = i32::MAX as usize;

/// Sees that kernels can count the activations of each.
///
/// # Errors
/// When they cannot.
pub(super) fn countable(convs: &[Conv]) -> Result<(), Error> {
    let largest = convs.iter().map(|conv| conv.inputs().max(conv.outputs())).max();
    match largest {
        Some(values) if values > MOST => Err(Error::Activations { values, most: MOST }),
        _ => Ok(()),
    }
}

/// Sizes for kernels.
fn shape(conv: &Conv) -> ConvShape {
    let most = conv.inputs().max(conv.outputs());
    assert!(most <= MOST, "{conv:?} has not been reserved");
    let [n, h, w, c, k] = [conv.n, conv.h, conv.w, conv.c, conv.k].map(|v| v as u32);
    let [r, stride, pad, p, q] = [conv.r, conv.stride, conv.pad, conv.p(), conv.q()].map(|v| v as u32);
    ConvShape { n, h, w, c, k, r, stride, pad, p, q }
}

/// Blocks of 256 threads, one an element.
fn elementwise(elements: usize) -> Launch {
    Launch::new(elements.div_ceil(256) as u32, 256)
}

/// One block a tile, columns first so that blocks with the same rows run together.
fn tiled(tile: Tile, rows: usize, columns: usize, layers: usize) -> Launch {
    let blocks = rows.div_ceil(tile.rows()) * columns.div_ceil(tile.columns());
    Launch { grid: [blocks as u32, layers as u32, 1], block: tile.threads(), shared: tile.shared() }
}

impl<D: Driver> Cuda<D> {
    pub(super) fn fprop(
        &mut self,
        conv: &Conv,
        x: &Array<D, f16>,
        weights: &Vector<D>,
        filter: Range<usize>,
        y: &mut Array<D, f16>,
        sums: Option<(&mut Array<D, f64>, Range<usize>)>,
    ) -> Result<(), Error> {
        let algorithm = Pass::Fprop.algorithm(conv, filter.start);
        self.fprop_by(algorithm, conv, x, weights, filter, y, sums)
    }

    pub(super) fn dgrad(
        &mut self,
        conv: &Conv,
        dy: &Array<D, f16>,
        weights: &Vector<D>,
        filter: Range<usize>,
        dx: &mut Array<D, f16>,
        accumulate: bool,
    ) -> Result<(), Error> {
        let algorithm = Pass::Dgrad.algorithm(conv, filter.start);
        self.dgrad_by(algorithm, conv, dy, weights, filter, dx, accumulate)
    }

    pub(super) fn wgrad(
        &mut self,
        conv: &Conv,
        x: &Array<D, f16>,
        dy: &Array<D, f16>,
        gradients: &mut Vector<D>,
        filter: Range<usize>,
    ) -> Result<(), Error> {
        self.wgrad_by(Pass::Wgrad.algorithm(conv, filter.start), None, conv, x, dy, gradients, filter)
    }

    /// [`Backend::conv_fprop`](crate::backend::Backend::conv_fprop) by a given algorithm.
    ///
    /// # Errors
    /// When the device fails.
    ///
    /// # Panics
    /// If the algorithm cannot do this, a buffer is too short, or scratch was not reserved.
    #[allow(clippy::too_many_arguments)] // The operation's own, and the algorithm.
    pub fn fprop_by(
        &mut self,
        algorithm: Algorithm,
        conv: &Conv,
        x: &Array<D, f16>,
        weights: &Vector<D>,
        filter: Range<usize>,
        y: &mut Array<D, f16>,
        sums: Option<(&mut Array<D, f64>, Range<usize>)>,
    ) -> Result<(), Error> {
        check(Pass::Fprop, algorithm, conv, x, y, &filter);
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
            Some(_) => self.partials(rows.div_ceil(sum_rows) * 2 * conv.k),
            None => std::ptr::null_mut(),
        };
        let args = ConvFpropArgs {
            shape: shape(conv),
            x: x.pointer(),
            filter: halves(weights).slice(&filter),
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

    /// [`Backend::conv_dgrad`](crate::backend::Backend::conv_dgrad) by a given algorithm.
    ///
    /// # Errors
    /// When the device fails.
    ///
    /// # Panics
    /// If the algorithm cannot do this, or a buffer is too short.
    #[allow(clippy::too_many_arguments)] // The operation's own, and the algorithm.
    pub fn dgrad_by(
        &mut self,
        algorithm: Algorithm,
        conv: &Conv,
        dy: &Array<D, f16>,
        weights: &Vector<D>,
        filter: Range<usize>,
        dx: &mut Array<D, f16>,
        accumulate: bool,
    ) -> Result<(), Error> {
        check(Pass::Dgrad, algorithm, conv, dx, dy, &filter);
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
            filter: halves(weights).slice(&filter),
            dx: dx.pointer_mut(),
            accumulate: accumulate.into(),
        };
        Ok(self.driver.launch(kernel, launch, args)?)
    }

    /// [`Backend::conv_wgrad`](crate::backend::Backend::conv_wgrad) by a given algorithm, on tensor cores with so many steps
    /// of 32 pixels of y to a block, or a number that suits the shape.
    ///
    /// # Errors
    /// When the device fails.
    ///
    /// # Panics
    /// If the algorithm cannot do this, a buffer is too short, or scratch was not reserved.
    #[allow(clippy::too_many_arguments)] // The operation's own, and how.
    pub fn wgrad_by(
        &mut self,
        algorithm: Algorithm,
        steps: Option<usize>,
        conv: &Conv,
        x: &Array<D, f16>,
        dy: &Array<D, f16>,
        gradients: &mut Vector<D>,
        filter: Range<usize>,
    ) -> Result<(), Error> {
        check(Pass::Wgrad, algorithm, conv, x, dy, &filter);
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
        let steps = steps.unwrap_or_else(|| choice::wgrad_steps(algorithm, conv));
        let splits = choice::wgrad_splits(conv, steps);
        let blocks = choice::wgrad_blocks(algorithm, conv) as u32;
        let (kernel, block, shared) = match algorithm {
            Algorithm::Tensor(tile) => (wgrad_kernel(tile), tile.threads(), tile.shared()),
            _ => (&CONV_WGRAD_GATHER, 128, (4 * choice::STEP * (64 + 32) * 2) as u32),
        };
        let into = if splits > 1 { self.partials(splits * filter.len()) } else { dfilter };
        let launch = Launch { grid: [blocks, splits as u32, 1], block, shared };
        self.driver.launch(kernel, launch, args(into, steps))?;
        if splits > 1 { self.sum_rows(splits, filter.len(), std::ptr::null_mut(), dfilter) } else { Ok(()) }
    }

    /// Scratch for so many partial sums.
    fn partials(&mut self, values: usize) -> *mut f32 {
        let reserved = self.scratch.len();
        assert!(values <= reserved, "a convolution needs {values} values of scratch, not {reserved}");
        self.scratch.pointer_mut()
    }

    /// Adds up rows of scratch, into f64 or f32.
    fn sum_rows(
        &mut self,
        rows: usize,
        columns: usize,
        doubles: *mut f64,
        floats: *mut f32,
    ) -> Result<(), Error> {
        // A thread adds some 8 rows or more; at most 128 of them share a column, which leaves 8 columns (32 bytes) a block.
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

/// Bytes of shared memory of a gathering block of fprop: the result, 128 x 64 with 8 halves between rows, where each row
/// lies, and four rows of warps' sums; the operands take less.
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

/// The weights as tensor cores read them.
fn halves<D: Driver>(weights: &Vector<D>) -> &Array<D, f16> {
    match &weights.halves {
        Some(halves) => halves,
        None => panic!("a convolution's weights were not made by Backend::weights"),
    }
}

fn check<D: Driver>(
    pass: Pass,
    algorithm: Algorithm,
    conv: &Conv,
    x: &Array<D, f16>,
    y: &Array<D, f16>,
    filter: &Range<usize>,
) {
    assert!(
        pass.algorithms(conv, filter.start).contains(&algorithm),
        "{algorithm:?} cannot do {pass:?} of {conv:?} with a filter at {}",
        filter.start
    );
    assert!(conv.n > 0, "a convolution of no images");
    assert!(x.len() >= conv.inputs(), "x or dx has {} elements, not {}", x.len(), conv.inputs());
    assert!(y.len() >= conv.outputs(), "y or dy has {} elements, not {}", y.len(), conv.outputs());
    assert_eq!(filter.len(), conv.k * conv.r * conv.r * conv.c, "length of the filter of {conv:?}");
}
