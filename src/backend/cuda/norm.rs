//! Batch norm with what follows it: batch, running and per-sample statistics.

use std::ops::Range;

use half::f16;

use super::args::batch_norm::{
    self as kernels, BACKWARD_BATCH, BatchMomentsArgs, FORWARD_BATCH, GRADIENT_LANES, NormForwardArgs,
    NormGradientsArgs, NormInputArgs, NormSumsArgs, RunningMomentsArgs, SampleMomentsArgs, THREADS, Tile,
    Window,
};
use super::{Array, Cuda, Vector, loss};
use crate::backend::{Affine, DEAD, Error, Norm, NormBackward, NormForward, Place, Pool, ResidualGradient};
use crate::driver::{Driver, Kernel, Launch};

const _: () = assert!(kernels::DEAD == DEAD as u32);

/// Most blocks of a launch over a whole batch: several for each multiprocessor of any GPU, and few enough for their
/// partial sums to be a small part of the work.
const BLOCKS: usize = 1024;
/// Most blocks along x for each image alone. Not fewer when there are many images, so that an image's sums have the
/// same bits in any batch.
const SAMPLE_BLOCKS: usize = 4;

/// Images normalised together: all of a batch, or each alone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    Batch,
    Sample,
}

/// What a launch over one norm's pixels is made of.
struct Shape {
    /// Groups.
    groups: usize,
    /// Input pixels of a group.
    inputs: usize,
    /// Output pixels of a group.
    outputs: usize,
    /// Channels.
    c: usize,
    /// Whether all images are one group.
    together: bool,
}

impl Shape {
    fn new(norm: &Norm, group: Group) -> Shape {
        let (groups, images) = match group {
            Group::Batch => (1, norm.n),
            Group::Sample => (norm.n, 1),
        };
        let side = |length| norm.pool.map_or(length, |pool| pool.outputs(length));
        Shape {
            groups,
            inputs: images * norm.h * norm.w,
            outputs: images * side(norm.h) * side(norm.w),
            c: norm.c,
            together: group == Group::Batch,
        }
    }

    /// Channels of a thread: 16 bytes, where each pixel begins at a multiple of that.
    fn width(&self) -> usize {
        if self.c.is_multiple_of(8) { 8 } else { 1 }
    }

    /// (Threads side by side along C, blocks along y, pixels of a block at a time). Up to 32 threads are 512 bytes side
    /// by side; the rest of a block takes the next pixels.
    fn block(&self) -> (usize, usize, usize) {
        let threads = self.c / self.width();
        let columns = threads.div_ceil(32);
        let lanes = threads.div_ceil(columns);
        (lanes, columns, THREADS as usize / lanes)
    }

    /// Most blocks along x over `pixels` of each group, whose threads have `batch` of them under way at a time. It
    /// grows with the pixels.
    fn blocks(&self, pixels: usize, batch: u32) -> usize {
        let (_, columns, rows) = self.block();
        let most = if self.together { (BLOCKS / columns).max(1) } else { SAMPLE_BLOCKS };
        pixels.div_ceil(rows * batch as usize).clamp(1, most)
    }

    fn tile(&self, pixels: usize, batch: u32) -> (Tile, Launch) {
        let (lanes, columns, rows) = self.block();
        let chunk = pixels.div_ceil(self.blocks(pixels, batch)).next_multiple_of(rows);
        let grid = [pixels.div_ceil(chunk) as u32, columns as u32, self.groups as u32];
        let tile = Tile { lanes: lanes as u32, rows: rows as u32, chunk: chunk as u32 };
        (tile, Launch { grid, block: THREADS, shared: 0 })
    }

    fn elements(&self, pixels: usize) -> usize {
        self.groups * pixels * self.c
    }

    /// One of a kernel's two widths.
    fn pick<A>(&self, eight: &'static Kernel<A>, one: &'static Kernel<A>) -> &'static Kernel<A> {
        if self.width() == 8 { eight } else { one }
    }
}

/// Pixels a thread of the sums has under way at a time.
fn sums_batch(norm: &Norm) -> u32 {
    if norm.pool.is_some() { 1 } else { BACKWARD_BATCH }
}

fn window(norm: &Norm) -> Window {
    let Some(pool) = norm.pool else { return Window::default() };
    let Pool { size, stride, pad } = pool;
    assert!((1..=15).contains(&size) && stride > 0, "a place in a window fits a byte: {pool:?}");
    Window {
        h: norm.h as u32,
        w: norm.w as u32,
        p: pool.outputs(norm.h) as u32,
        q: pool.outputs(norm.w) as u32,
        size: size as u32,
        stride: stride as u32,
        pad: pad as u32,
        reciprocal: (1_u32 << 31).div_ceil(stride as u32),
    }
}

/// Values of scratch a batch norm's backward pass needs: partial sums, then slopes, for any `n` up to the norm's,
/// together or each image alone.
pub(super) fn scratch(norm: &Norm) -> usize {
    let of = |group| {
        let shape = Shape::new(norm, group);
        shape.groups * (shape.blocks(shape.outputs, sums_batch(norm)) + 1) * 2 * norm.c
    };
    of(Group::Batch).max(of(Group::Sample))
}

/// Lower bound that a ReLU is, or none.
fn floor(relu: bool) -> f32 {
    if relu { 0.0 } else { f32::NEG_INFINITY }
}

fn pointer<D: Driver, T: bytemuck::Pod>(array: Option<&Array<D, T>>) -> *const T {
    array.map_or(std::ptr::null(), Array::pointer)
}

#[track_caller]
fn holds<D: Driver, T: bytemuck::Pod>(array: &Array<D, T>, elements: usize, what: &str) {
    assert!(array.len() >= elements, "{what} has {} elements of {elements}", array.len());
}

/// The parameters lie in the flat vector.
#[track_caller]
fn affine_pointers<D: Driver>(weights: &Vector<D>, affine: &Affine, c: usize) -> (*const f32, *const f32) {
    assert!(affine.weight.len() == c && affine.bias.len() == c, "a scale and a shift a channel");
    (weights.values.slice(&affine.weight), weights.values.slice(&affine.bias))
}

impl<D: Driver> Cuda<D> {
    pub(super) fn batch_moments(
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

    pub(super) fn running_moments(
        &mut self,
        running: &Vector<D>,
        moments: &mut Vector<D>,
        at: Range<usize>,
    ) -> Result<(), Error> {
        let c = (at.len() / 2) as u32;
        let args = RunningMomentsArgs {
            running: running.values.slice(&at),
            moments: moments.values.slice_mut(&at),
            c,
            eps: Norm::EPS,
        };
        let launch = Launch::new(c.div_ceil(THREADS), THREADS);
        Ok(self.driver.launch(&kernels::RUNNING_MOMENTS, launch, args)?)
    }

    /// Each image's own moments \[N,2,C\] of x \[N,H,W,C\]: its mean, then its 1/sqrt(var + eps), over its pixels alone.
    /// Overwritten; running statistics are not touched.
    ///
    /// # Errors
    /// When the device fails.
    ///
    /// # Panics
    /// If a buffer is too small.
    pub fn sample_statistics(
        &mut self,
        norm: &Norm,
        x: &Array<D, f16>,
        moments: &mut Vector<D>,
    ) -> Result<(), Error> {
        let shape = Shape::new(norm, Group::Sample);
        holds(x, shape.elements(shape.inputs), "x");
        holds(&moments.values, norm.n * 2 * norm.c, "an image's moments");
        let (mut tile, mut launch) = shape.tile(shape.inputs, 1);
        (tile.chunk, launch.grid[0]) = (shape.inputs as u32, 1);
        let args = SampleMomentsArgs {
            x: x.pointer(),
            moments: moments.values.pointer_mut(),
            tile,
            pixels: shape.inputs as u32,
            c: norm.c as u32,
            eps: Norm::EPS,
        };
        let kernel = shape.pick(&kernels::SAMPLE_MOMENTS_8, &kernels::SAMPLE_MOMENTS_1);
        Ok(self.driver.launch(kernel, launch, args)?)
    }

    /// [`crate::backend::Backend::norm_forward`] with each image's own moments, [`Cuda::sample_statistics`]'s: \[N,2,C\] at
    /// [`NormForward::at`].
    ///
    /// # Errors
    /// When the device fails.
    ///
    /// # Panics
    /// If a buffer is too small.
    pub fn sample_norm(&mut self, norm: &Norm, buffers: NormForward<Self>) -> Result<(), Error> {
        self.norm_in_groups(norm, Group::Sample, buffers)
    }

    /// [`crate::backend::Backend::norm_backward`] through each image's own statistics, with moments as in
    /// [`Cuda::sample_norm`]. The gradients are each image's own \[N,2,C\]: weight's, then bias's. Nothing is noted as a fault.
    ///
    /// # Errors
    /// When the device fails.
    ///
    /// # Panics
    /// If a buffer is too small.
    pub fn sample_norm_backward(&mut self, norm: &Norm, buffers: NormBackward<Self>) -> Result<(), Error> {
        self.norm_backward_in_groups(norm, Group::Sample, buffers)
    }

    pub(super) fn fused_norm(&mut self, norm: &Norm, buffers: NormForward<Self>) -> Result<(), Error> {
        self.norm_in_groups(norm, Group::Batch, buffers)
    }

    pub(super) fn fused_norm_backward(
        &mut self,
        norm: &Norm,
        buffers: NormBackward<Self>,
    ) -> Result<(), Error> {
        self.norm_backward_in_groups(norm, Group::Batch, buffers)
    }

    fn norm_in_groups(&mut self, norm: &Norm, group: Group, b: NormForward<Self>) -> Result<(), Error> {
        let shape = Shape::new(norm, group);
        let residual = b.residual.filter(|_| norm.residual);
        assert!(norm.residual == residual.is_some(), "a norm with a residual has one: {norm:?}");
        assert!(b.at.len() == shape.groups * 2 * norm.c, "two moments a channel of each group");
        holds(b.x, shape.elements(shape.inputs), "x");
        holds(b.y, shape.elements(shape.outputs), "y");
        residual.iter().for_each(|r| holds(r, shape.elements(shape.inputs), "the residual"));
        b.winners.iter().for_each(|w| holds(w, shape.elements(shape.outputs), "winners"));
        let (weight, bias) = affine_pointers(b.weights, b.affine, norm.c);
        let batch = if norm.pool.is_some() { 1 } else { FORWARD_BATCH };
        let (tile, launch) = shape.tile(shape.outputs, batch);
        let args = NormForwardArgs {
            x: b.x.pointer(),
            residual: pointer(residual),
            weight,
            bias,
            moments: b.moments.values.slice(&b.at),
            y: b.y.pointer_mut(),
            winners: b.winners.map_or(std::ptr::null_mut(), Array::pointer_mut),
            tile,
            window: window(norm),
            inputs: shape.inputs as u32,
            outputs: shape.outputs as u32,
            c: norm.c as u32,
            floor: floor(norm.relu),
            floor_last: floor(if norm.residual { norm.relu_sum } else { norm.relu }),
        };
        let kernel = match norm.pool {
            None => shape.pick(&kernels::NORM_FORWARD_8, &kernels::NORM_FORWARD_1),
            Some(_) => shape.pick(&kernels::NORM_POOL_FORWARD_8, &kernels::NORM_POOL_FORWARD_1),
        };
        Ok(self.driver.launch(kernel, launch, args)?)
    }

    fn norm_backward_in_groups(
        &mut self,
        norm: &Norm,
        group: Group,
        b: NormBackward<Self>,
    ) -> Result<(), Error> {
        let shape = Shape::new(norm, group);
        let (inputs, outputs) = (shape.elements(shape.inputs), shape.elements(shape.outputs));
        let (c, pooled) = (norm.c, norm.pool.is_some());
        assert!(b.at.len() == shape.groups * 2 * c, "two moments a channel of each group");
        assert!(b.winners.is_some() == pooled, "a pool has winners: {norm:?}");
        assert!(b.y.is_some() == (norm.relu_sum && !pooled), "y is for the last ReLU's mask: {norm:?}");
        holds(b.x, inputs, "x");
        holds(b.dy, outputs, "dy");
        holds(b.dx, inputs, "dx");
        b.y.iter().for_each(|y| holds(y, outputs, "y"));
        b.winners.iter().for_each(|w| holds(w, outputs, "winners"));
        let (weight, bias) = affine_pointers(b.weights, b.affine, c);
        let moments = b.moments.values.slice(&b.at);
        let window = window(norm);
        let open = floor(norm.relu);

        // Behind the last ReLU: where the residual's gradient goes, and where the second pass finds it.
        let (mut y, mut dy) = (pointer(b.y), b.dy.pointer());
        let (residual, accumulate) = match b.residual {
            ResidualGradient::None => (std::ptr::null_mut(), false),
            ResidualGradient::InPlace => {
                assert!(!pooled, "behind a pool the residual's gradient is larger than dy");
                (if y.is_null() { std::ptr::null_mut() } else { b.dy.pointer_mut() }, false)
            }
            ResidualGradient::Overwrite(to) => {
                holds(to, inputs, "the residual's gradient");
                (to.pointer_mut(), false)
            }
            ResidualGradient::Accumulate(to) => {
                holds(to, inputs, "the residual's gradient");
                (to.pointer_mut(), true)
            }
        };
        let (tile, launch) = shape.tile(shape.outputs, sums_batch(norm));
        let blocks = launch.grid[0] as usize;
        let partials = 2 * c * shape.groups * blocks;
        let slopes = self.scratch.slice_mut(&(partials..partials + 2 * c * shape.groups));
        let args = NormSumsArgs {
            x: b.x.pointer(),
            y,
            dy,
            residual: if pooled { std::ptr::null_mut() } else { residual },
            accumulate: u32::from(accumulate),
            winners: pointer(b.winners),
            weight,
            bias,
            moments,
            partials: self.scratch.pointer_mut(),
            tile,
            window,
            inputs: shape.inputs as u32,
            outputs: shape.outputs as u32,
            c: c as u32,
            open,
        };
        let kernel = match norm.pool {
            None => shape.pick(&kernels::NORM_SUMS_8, &kernels::NORM_SUMS_1),
            Some(_) => shape.pick(&kernels::NORM_POOL_SUMS_8, &kernels::NORM_POOL_SUMS_1),
        };
        self.driver.launch(kernel, launch, args)?;

        let gradients = &mut b.gradients.values;
        let (dweight, dbias, stride, fault) = match group {
            Group::Batch => {
                let (dweight, dbias) =
                    (gradients.slice_mut(&b.affine.weight), gradients.slice_mut(&b.affine.bias));
                (dweight, dbias, 0, self.loss.fault.pointer_mut())
            }
            Group::Sample => {
                let all = gradients.slice_mut(&(0..2 * c * norm.n));
                (all, all.wrapping_add(c), 2 * c, std::ptr::null_mut())
            }
        };
        let args = NormGradientsArgs {
            partials: self.scratch.pointer(),
            weight,
            moments,
            dweight,
            dbias,
            slopes,
            fault,
            step: self.sgd.step.pointer(),
            place: loss::place(Place::Backward(b.at.start)),
            stride: stride as u32,
            blocks: blocks as u32,
            count: shape.inputs as u32,
            c: c as u32,
        };
        let grid = [(c as u32).div_ceil(GRADIENT_LANES), 1, shape.groups as u32];
        self.driver.launch(&kernels::NORM_GRADIENTS, Launch { grid, block: THREADS, shared: 0 }, args)?;

        if !y.is_null() && !residual.is_null() && !accumulate {
            (y, dy) = (std::ptr::null(), residual);
        }
        let batch = if pooled { 1 } else { BACKWARD_BATCH };
        let (tile, launch) = shape.tile(shape.inputs, batch);
        let args = NormInputArgs {
            x: b.x.pointer(),
            y,
            dy,
            winners: pointer(b.winners),
            weight,
            bias,
            moments,
            slopes,
            dx: b.dx.pointer_mut(),
            residual: if pooled { residual } else { std::ptr::null_mut() },
            accumulate: u32::from(accumulate),
            tile,
            window,
            inputs: shape.inputs as u32,
            outputs: shape.outputs as u32,
            c: c as u32,
            open,
        };
        let kernel = match norm.pool {
            None => shape.pick(&kernels::NORM_INPUT_8, &kernels::NORM_INPUT_1),
            Some(_) => shape.pick(&kernels::NORM_POOL_INPUT_8, &kernels::NORM_POOL_INPUT_1),
        };
        Ok(self.driver.launch(kernel, launch, args)?)
    }
}
