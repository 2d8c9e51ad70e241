//! What batch norm normalises with: moments of a batch, of each image, or the running ones.

use std::ops::Range;

use half::f16;

use super::{Group, Shape, holds};
use crate::backend::cuda::args::batch_norm::{
    self as kernels, BatchMomentsArgs, RunningMomentsArgs, SampleMomentsArgs, THREADS,
};
use crate::backend::cuda::{Array, Cuda, Vector, loss};
use crate::backend::{Error, Moments, Norm, Place};
use crate::driver::{Driver, Launch};

impl<D: Driver> Cuda<D> {
    pub(in crate::backend::cuda) fn batch_moments(
        &mut self,
        count: usize,
        sums: &Array<D, f64>,
        moments: &mut Vector<D>,
        running: &mut Vector<D>,
        at: Range<usize>,
    ) -> Result<(), Error> {
        let c = at.len() / 2;
        let args = BatchMomentsArgs {
            sums: sums.slice(&at),
            moments: moments.values.slice_mut(&at),
            running: running.values.slice_mut(&at),
            fault: self.loss.fault.pointer_mut(),
            step: self.sgd.step.pointer(),
            place: loss::place(Place::Forward(at.start)),
            c: c as u32,
            count: count as f64,
            eps: f64::from(Norm::EPS),
            momentum: f64::from(Norm::MOMENTUM),
        };
        let launch = Launch::new((c as u32).div_ceil(THREADS), THREADS);
        Ok(self.driver.launch(&kernels::BATCH_MOMENTS, launch, args)?)
    }

    pub(in crate::backend::cuda) fn running_moments(
        &mut self,
        running: &Vector<D>,
        moments: &mut Vector<D>,
        at: Range<usize>,
    ) -> Result<(), Error> {
        let c = at.len() / 2;
        self.constant_moments(running.values.slice(&at), 1, c, moments.values.slice_mut(&at))
    }

    /// The same for each of some groups.
    fn constant_moments(
        &mut self,
        running: *const f32,
        groups: usize,
        c: usize,
        moments: *mut f32,
    ) -> Result<(), Error> {
        let c = c as u32;
        let args = RunningMomentsArgs { running, moments, c, eps: Norm::EPS };
        let grid = [c.div_ceil(THREADS), groups as u32, 1];
        let launch = Launch { grid, block: THREADS, shared: 0 };
        Ok(self.driver.launch(&kernels::RUNNING_MOMENTS, launch, args)?)
    }

    pub(in crate::backend::cuda) fn image_moments(
        &mut self,
        norm: &Norm,
        of: Moments<Self>,
        moments: &mut Vector<D>,
        at: Range<usize>,
    ) -> Result<(), Error> {
        assert!(at.len() == norm.n * 2 * norm.c, "two moments a channel of each image");
        match of {
            Moments::Sample(x) => self.own_moments(norm, x, moments.values.slice_mut(&at)),
            Moments::Running(running, from) => {
                assert!(from.len() == 2 * norm.c, "two running statistics a channel");
                self.constant_moments(
                    running.values.slice(&from),
                    norm.n,
                    norm.c,
                    moments.values.slice_mut(&at),
                )
            }
        }
    }

    fn own_moments(&mut self, norm: &Norm, x: &Array<D, f16>, moments: *mut f32) -> Result<(), Error> {
        let shape = Shape::new(norm, Group::Sample);
        holds(x, shape.elements(shape.inputs), "x");
        let (mut tile, mut launch) = shape.tile(shape.inputs, 1);
        (tile.chunk, launch.grid[0]) = (shape.inputs as u32, 1);
        let args = SampleMomentsArgs {
            x: x.pointer(),
            moments,
            tile,
            pixels: shape.inputs as u32,
            c: norm.c as u32,
            eps: Norm::EPS,
        };
        let kernel = shape.pick(&kernels::SAMPLE_MOMENTS_8, &kernels::SAMPLE_MOMENTS_1);
        Ok(self.driver.launch(kernel, launch, args)?)
    }
}
