//! What batch norm normalises with: statistics of a batch, of each image, or the running ones.

use std::ops::Range;

use half::f16;

use super::shape::{Shape, holds};
use crate::device::driver::{Driver, Launch};
use crate::device::{Array, Cuda, Error, Place, Vector};
use crate::ops::norm::args::{
    self as kernels, BatchStatisticsArgs, RunningStatisticsArgs, SampleStatisticsArgs, THREADS,
};
use crate::ops::norm::{Groups, Norm};

/// Statistics of a batch from its sums, and one update of the running statistics.
pub(super) fn of_sums<D: Driver>(
    cuda: &mut Cuda<D>,
    norm: &Norm,
    (sums, running): (&Array<D, f64>, &mut Vector<D>),
    to: &mut Vector<D>,
    at: Range<usize>,
) -> Result<(), Error> {
    let c = at.len() / 2;
    let args = BatchStatisticsArgs {
        sums: sums.slice(&at),
        statistics: to.values.slice_mut(&at),
        running: running.values.slice_mut(&at),
        fault: cuda.watch.fault.pointer_mut(),
        step: cuda.watch.step.pointer(),
        place: Place::Forward(at.start).number(),
        c: c as u32,
        count: (norm.n * norm.h * norm.w) as f64,
        eps: f64::from(Norm::EPS),
        momentum: f64::from(Norm::MOMENTUM),
    };
    let launch = Launch::new((c as u32).div_ceil(THREADS), THREADS);
    Ok(cuda.driver.launch(&kernels::BATCH_STATISTICS, launch, args)?)
}

/// The running statistics for each group.
pub(super) fn of_running<D: Driver>(
    cuda: &mut Cuda<D>,
    norm: &Norm,
    groups: Groups,
    running: *const f32,
    statistics: *mut f32,
) -> Result<(), Error> {
    let c = norm.c as u32;
    let args = RunningStatisticsArgs { running, statistics, c, eps: Norm::EPS };
    let grid = [c.div_ceil(THREADS), Shape::new(norm, groups).groups as u32, 1];
    let launch = Launch { grid, block: THREADS, shared: 0 };
    Ok(cuda.driver.launch(&kernels::RUNNING_STATISTICS, launch, args)?)
}

/// Each image's own statistics.
pub(super) fn of_images<D: Driver>(
    cuda: &mut Cuda<D>,
    norm: &Norm,
    x: &Array<D, f16>,
    statistics: *mut f32,
) -> Result<(), Error> {
    let shape = Shape::new(norm, Groups::EachImage);
    holds(x, shape.elements(shape.inputs), "x");
    let (mut tile, mut launch) = shape.tile(shape.inputs, 1);
    (tile.chunk, launch.grid[0]) = (shape.inputs as u32, 1);
    let args = SampleStatisticsArgs {
        x: x.pointer(),
        statistics,
        tile,
        pixels: shape.inputs as u32,
        c: norm.c as u32,
        eps: Norm::EPS,
    };
    let kernel = shape.pick(&kernels::SAMPLE_STATISTICS_8, &kernels::SAMPLE_STATISTICS_1);
    Ok(cuda.driver.launch(kernel, launch, args)?)
}
