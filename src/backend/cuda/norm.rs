//! Batch norm with what follows it: batch, running and per-sample statistics.

use std::ops::Range;

use half::f16;

use super::args::batch_norm::{
    self as kernels, BACKWARD_BATCH, BatchMomentsArgs, FORWARD_BATCH, GRADIENT_LANES, NormForwardArgs,
    NormGradientsArgs, NormInputArgs, NormScoresArgs, NormSumsArgs, RunningMomentsArgs, SampleMomentsArgs,
    THREADS, Tile, Window,
};
use super::{Array, Cuda, Vector, loss};
use crate::backend::{
    Affine, DEAD, Error, Moments, Norm, NormBackward, NormForward, Place, Pool, Power, ResidualGradient,
};
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

/// Values of scratch a backward pass needs: partial sums, then slopes, for any `n` up to the norm's.
fn backward_scratch(norm: &Norm, group: Group) -> usize {
    let shape = Shape::new(norm, group);
    shape.groups * (shape.blocks(shape.outputs, sums_batch(norm)) + 1) * 2 * norm.c
}

/// Values of scratch a batch norm's backward pass needs.
pub(super) fn scratch(norm: &Norm) -> usize {
    backward_scratch(norm, Group::Batch)
}

/// Values of scratch its scores need: each image's gradients, then its backward pass's.
pub(super) fn score_scratch(norm: &Norm) -> usize {
    2 * norm.c * norm.n + backward_scratch(norm, Group::Sample)
}

/// Where a backward pass leaves gradients of scale and shift, and what it may use on the way.
struct Results {
    /// \[C\]; the next group's is `stride` further on.
    dweight: *mut f32,
    /// Alike.
    dbias: *mut f32,
    stride: usize,
    /// `room` values.
    scratch: *mut f32,
    room: usize,
    /// Where a gradient that is not finite is noted, or null.
    fault: *mut u64,
    /// Whether the moments do not depend on x.
    constant: bool,
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

    pub(super) fn image_moments(
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

    pub(super) fn image_norm(&mut self, norm: &Norm, buffers: NormForward<Self>) -> Result<(), Error> {
        self.norm_in_groups(norm, Group::Sample, buffers)
    }

    /// Each image's own gradients go to scratch first.
    pub(super) fn image_norm_scores(
        &mut self,
        norm: &Norm,
        power: Power,
        through: bool,
        buffers: NormBackward<Self>,
    ) -> Result<(), Error> {
        let (all, needed, reserved) = (2 * norm.c * norm.n, score_scratch(norm), self.scoring.len());
        assert!(needed <= reserved, "scores of {norm:?} need {needed} values of scratch, not {reserved}");
        let gradients = self.scoring.pointer_mut();
        let scores = &mut buffers.gradients.values;
        let args = NormScoresArgs {
            gradients,
            weight: scores.slice_mut(&buffers.affine.weight),
            bias: scores.slice_mut(&buffers.affine.bias),
            n: norm.n as u32,
            c: norm.c as u32,
            absolute: (power == Power::Absolute).into(),
        };
        let results = Results {
            dweight: gradients,
            dbias: gradients.wrapping_add(norm.c),
            stride: 2 * norm.c,
            // Behind the gradients.
            scratch: gradients.wrapping_add(all),
            room: reserved - all,
            fault: std::ptr::null_mut(),
            constant: !through,
        };
        self.norm_backward_in_groups(norm, Group::Sample, results, buffers)?;
        let grid = [args.c.div_ceil(GRADIENT_LANES), 2, 1];
        Ok(self.driver.launch(&kernels::NORM_SCORES, Launch { grid, block: THREADS, shared: 0 }, args)?)
    }

    pub(super) fn fused_norm(&mut self, norm: &Norm, buffers: NormForward<Self>) -> Result<(), Error> {
        self.norm_in_groups(norm, Group::Batch, buffers)
    }

    pub(super) fn fused_norm_backward(
        &mut self,
        norm: &Norm,
        buffers: NormBackward<Self>,
    ) -> Result<(), Error> {
        let gradients = &mut buffers.gradients.values;
        let results = Results {
            dweight: gradients.slice_mut(&buffers.affine.weight),
            dbias: gradients.slice_mut(&buffers.affine.bias),
            stride: 0,
            scratch: self.scratch.pointer_mut(),
            room: self.scratch.len(),
            fault: self.loss.fault.pointer_mut(),
            constant: false,
        };
        self.norm_backward_in_groups(norm, Group::Batch, results, buffers)
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
        to: Results,
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
        let needed = partials + 2 * c * shape.groups;
        assert!(needed <= to.room, "a norm needs {needed} values of scratch, not {}", to.room);
        let slopes = to.scratch.wrapping_add(partials);
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
            partials: to.scratch,
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

        let args = NormGradientsArgs {
            partials: to.scratch,
            weight,
            moments,
            dweight: to.dweight,
            dbias: to.dbias,
            slopes,
            fault: to.fault,
            step: self.sgd.step.pointer(),
            place: loss::place(Place::Backward(b.at.start)),
            stride: to.stride as u32,
            blocks: blocks as u32,
            count: shape.inputs as u32,
            c: c as u32,
            constant: to.constant.into(),
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
