//! Forward and backward pass of batch norm and what follows it.

use super::{Group, Shape, holds, score_scratch, sums_batch, window};
use crate::backend::cuda::args::batch_norm::{
    self as kernels, BACKWARD_BATCH, FORWARD_BATCH, GRADIENT_LANES, NormForwardArgs, NormGradientsArgs,
    NormInputArgs, NormScoresArgs, NormSumsArgs, THREADS,
};
use crate::backend::cuda::{Array, Cuda, Vector, loss};
use crate::backend::{Affine, Error, Norm, NormBackward, NormForward, Place, Power, ResidualGradient};
use crate::driver::{Driver, Launch};

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

/// The parameters lie in the flat vector.
#[track_caller]
fn affine_pointers<D: Driver>(weights: &Vector<D>, affine: &Affine, c: usize) -> (*const f32, *const f32) {
    assert!(affine.weight.len() == c && affine.bias.len() == c, "a scale and a shift a channel");
    (weights.values.slice(&affine.weight), weights.values.slice(&affine.bias))
}

impl<D: Driver> Cuda<D> {
    pub(in crate::backend::cuda) fn image_norm(
        &mut self,
        norm: &Norm,
        buffers: NormForward<Self>,
    ) -> Result<(), Error> {
        self.norm_in_groups(norm, Group::Sample, buffers)
    }

    /// Each image's own gradients go to scratch first.
    pub(in crate::backend::cuda) fn image_norm_scores(
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

    pub(in crate::backend::cuda) fn fused_norm(
        &mut self,
        norm: &Norm,
        buffers: NormForward<Self>,
    ) -> Result<(), Error> {
        self.norm_in_groups(norm, Group::Batch, buffers)
    }

    pub(in crate::backend::cuda) fn fused_norm_backward(
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
