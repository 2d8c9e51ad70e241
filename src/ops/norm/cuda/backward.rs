//! The backward pass of batch norm and what follows it: sums over the pixels, gradients of scale and shift
//! from them, and a second pass over the pixels for the gradient of x.

use half::f16;

use super::shape::{Shape, floor, holds, parameters, pointer, sums_batch, window};
use crate::device::driver::{Driver, Launch};
use crate::device::{Array, Cuda, Error, Place, Vector};
use crate::ops::flat::{Out, Power};
use crate::ops::norm::args::{
    self as kernels, BACKWARD_BATCH, GRADIENT_LANES, NormGradientsArgs, NormInputArgs, NormScoresArgs,
    NormSumsArgs, THREADS,
};
use crate::ops::norm::{Groups, Norm, NormBackward, ResidualGradient};

/// Values of scratch that a backward pass needs, for any `n` up to the norm's: of images each one's
/// gradients; partial sums, then slopes.
pub(super) fn scratch(norm: &Norm, groups: Groups) -> usize {
    let shape = Shape::new(norm, groups);
    let gradients = if groups == Groups::EachImage { 2 * norm.c * norm.n } else { 0 };
    gradients + shape.groups * (shape.blocks(shape.outputs, sums_batch(norm)) + 1) * 2 * norm.c
}

/// Where a backward pass leaves gradients of scale and shift, and what it may use on the way.
struct Results {
    groups: Groups,
    /// Gradient of the scale \[C\]; the next group's is `stride` further on.
    dweight: *mut f32,
    /// Gradient of the shift \[C\]; the next group's is `stride` further on.
    dbias: *mut f32,
    stride: usize,
    /// Where `room` values of scratch begin.
    scratch: *mut f32,
    room: usize,
    /// Where a gradient that is not finite is noted, or null.
    fault: *mut u64,
}

/// Where the second pass finds the gradient behind the last ReLU.
enum Behind {
    /// In dy: there is no last ReLU, or pooling's winners undo it.
    Dy,
    /// Where the first pass has stored it: in the residual's gradient, which may be dy.
    Stored(*const f16),
    /// Nowhere: it makes it again of dy and this y.
    Remade(*const f16),
}

/// The gradient behind the last ReLU, and of it the residual's.
struct Last {
    /// The output, whose signs the last ReLU's mask are, or null.
    y: *const f16,
    dy: *const f16,
    /// Where the residual's gradient goes, or null.
    residual: *mut f16,
    /// Whether it is added there.
    accumulate: bool,
    behind: Behind,
}

impl Last {
    /// Decides, before any launch, where that gradient goes and is found again.
    fn new<D: Driver>(
        norm: &Norm,
        y: Option<&Array<D, f16>>,
        dy: &mut Array<D, f16>,
        to: ResidualGradient<Array<D, f16>>,
        inputs: usize,
    ) -> Last {
        let null = std::ptr::null_mut();
        let (residual, accumulate) = match to {
            ResidualGradient::None => (null, false),
            ResidualGradient::InPlace => {
                assert!(norm.pool.is_none(), "behind a pool the residual's gradient is larger than dy");
                // Without a ReLU, dy is it already.
                (if y.is_some() { dy.pointer_mut() } else { null }, false)
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
        let behind = match y {
            None => Behind::Dy,
            Some(_) if !residual.is_null() && !accumulate => Behind::Stored(residual),
            Some(y) => Behind::Remade(y.pointer()),
        };
        Last { y: pointer(y), dy: dy.pointer(), residual, accumulate, behind }
    }

    /// The y and dy of which the second pass makes that gradient.
    fn second(&self) -> (*const f16, *const f16) {
        match self.behind {
            Behind::Dy => (std::ptr::null(), self.dy),
            Behind::Stored(at) => (std::ptr::null(), at),
            Behind::Remade(y) => (y, self.dy),
        }
    }
}

fn vector<'a, D: Driver>(into: &'a mut Out<Cuda<D>>) -> &'a mut Vector<D> {
    match into {
        Out::Gradients(vector) | Out::Scores(_, vector) => vector,
    }
}

/// With the statistics of the batch.
pub(super) fn gradients<D: Driver>(
    cuda: &mut Cuda<D>,
    norm: &Norm,
    mut b: NormBackward<Cuda<D>>,
) -> Result<(), Error> {
    assert!(!b.constant, "gradients are those of the batch's own statistics");
    let gradients = &mut vector(&mut b.into).values;
    let results = Results {
        groups: Groups::Batch,
        dweight: gradients.slice_mut(&b.affine.weight),
        dbias: gradients.slice_mut(&b.affine.bias),
        stride: 0,
        scratch: cuda.scratch.pointer_mut(),
        room: cuda.scratch.len(),
        fault: cuda.watch.fault.pointer_mut(),
    };
    passes(cuda, norm, results, b)
}

/// With the statistics of each image, whose own gradients go to scratch first.
pub(super) fn scores<D: Driver>(
    cuda: &mut Cuda<D>,
    norm: &Norm,
    power: Power,
    mut b: NormBackward<Cuda<D>>,
) -> Result<(), Error> {
    let all = Groups::EachImage.statistics(norm);
    let gradients = cuda.partials(scratch(norm, Groups::EachImage), norm);
    let scores = &mut vector(&mut b.into).values;
    let args = NormScoresArgs {
        gradients,
        weight: scores.slice_mut(&b.affine.weight),
        bias: scores.slice_mut(&b.affine.bias),
        n: norm.n as u32,
        c: norm.c as u32,
        absolute: (power == Power::Absolute).into(),
    };
    let results = Results {
        groups: Groups::EachImage,
        dweight: gradients,
        dbias: gradients.wrapping_add(norm.c),
        stride: 2 * norm.c,
        // Behind the gradients.
        scratch: gradients.wrapping_add(all),
        room: cuda.scratch.len() - all,
        fault: std::ptr::null_mut(),
    };
    passes(cuda, norm, results, b)?;
    let grid = [args.c.div_ceil(GRADIENT_LANES), 2, 1];
    Ok(cuda.driver.launch(&kernels::NORM_SCORES, Launch { grid, block: THREADS, shared: 0 }, args)?)
}

fn passes<D: Driver>(
    cuda: &mut Cuda<D>,
    norm: &Norm,
    to: Results,
    b: NormBackward<Cuda<D>>,
) -> Result<(), Error> {
    let shape = Shape::new(norm, to.groups);
    let (inputs, outputs) = (shape.elements(shape.inputs), shape.elements(shape.outputs));
    let (c, pooled) = (norm.c, norm.pool.is_some());
    assert!(b.at.len() == to.groups.statistics(norm), "two statistics a channel of each group");
    assert!(b.winners.is_some() == pooled, "a pool has winners: {norm:?}");
    assert!(b.y.is_some() == (norm.relu_sum && !pooled), "y is for the last ReLU's mask: {norm:?}");
    holds(b.x, inputs, "x");
    holds(b.dy, outputs, "dy");
    holds(b.dx, inputs, "dx");
    b.y.iter().for_each(|y| holds(y, outputs, "y"));
    b.winners.iter().for_each(|w| holds(w, outputs, "winners"));
    let last = Last::new(norm, b.y, b.dy, b.residual, inputs);
    let (weight, bias) = parameters(b.weights, b.affine, c);
    let statistics = b.statistics.values.slice(&b.at);
    let (x, winners) = (b.x.pointer(), pointer(b.winners));
    // A pool's residual is written by the second pass, which goes over its inputs.
    let (first_residual, second_residual) = match pooled {
        true => (std::ptr::null_mut(), last.residual),
        false => (last.residual, std::ptr::null_mut()),
    };

    let (tile, launch) = shape.tile(shape.outputs, sums_batch(norm));
    let blocks = launch.grid[0] as usize;
    let partials = 2 * c * shape.groups * blocks;
    let needed = partials + 2 * c * shape.groups;
    assert!(needed <= to.room, "a norm needs {needed} values of scratch, not {}", to.room);
    let slopes = to.scratch.wrapping_add(partials);
    let args = NormSumsArgs {
        x,
        y: last.y,
        dy: last.dy,
        residual: first_residual,
        accumulate: last.accumulate.into(),
        winners,
        weight,
        bias,
        statistics,
        partials: to.scratch,
        tile,
        window: window(norm),
        inputs: shape.inputs as u32,
        outputs: shape.outputs as u32,
        c: c as u32,
        open: floor(norm.relu),
    };
    let kernel = match norm.pool {
        None => shape.pick(&kernels::NORM_SUMS_8, &kernels::NORM_SUMS_1),
        Some(_) => shape.pick(&kernels::NORM_POOL_SUMS_8, &kernels::NORM_POOL_SUMS_1),
    };
    cuda.driver.launch(kernel, launch, args)?;

    let args = NormGradientsArgs {
        partials: to.scratch,
        weight,
        statistics,
        dweight: to.dweight,
        dbias: to.dbias,
        slopes,
        fault: to.fault,
        step: cuda.watch.step.pointer(),
        place: Place::Backward(b.at.start).number(),
        stride: to.stride as u32,
        blocks: blocks as u32,
        count: shape.inputs as u32,
        c: c as u32,
        constant: b.constant.into(),
    };
    let grid = [(c as u32).div_ceil(GRADIENT_LANES), 1, shape.groups as u32];
    cuda.driver.launch(&kernels::NORM_GRADIENTS, Launch { grid, block: THREADS, shared: 0 }, args)?;

    let (y, dy) = last.second();
    let (tile, launch) = shape.tile(shape.inputs, if pooled { 1 } else { BACKWARD_BATCH });
    let args = NormInputArgs {
        x,
        y,
        dy,
        winners,
        weight,
        bias,
        statistics,
        slopes,
        dx: b.dx.pointer_mut(),
        residual: second_residual,
        accumulate: last.accumulate.into(),
        tile,
        window: window(norm),
        inputs: shape.inputs as u32,
        outputs: shape.outputs as u32,
        c: c as u32,
        open: floor(norm.relu),
    };
    let kernel = match norm.pool {
        None => shape.pick(&kernels::NORM_INPUT_8, &kernels::NORM_INPUT_1),
        Some(_) => shape.pick(&kernels::NORM_POOL_INPUT_8, &kernels::NORM_POOL_INPUT_1),
    };
    Ok(cuda.driver.launch(kernel, launch, args)?)
}
