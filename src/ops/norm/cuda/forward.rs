//! The forward pass of batch norm and what follows it.

use super::shape::{Shape, floor, holds, parameters, pointer, window};
use crate::device::driver::Driver;
use crate::device::{Array, Cuda, Error};
use crate::ops::norm::args::{self as kernels, FORWARD_BATCH, NormForwardArgs};
use crate::ops::norm::{Norm, NormForward};

pub(super) fn norm_forward<D: Driver>(
    cuda: &mut Cuda<D>,
    norm: &Norm,
    b: NormForward<Cuda<D>>,
) -> Result<(), Error> {
    let shape = Shape::new(norm, b.groups);
    let residual = b.residual.filter(|_| norm.residual);
    assert!(norm.residual == residual.is_some(), "a norm with a residual has one: {norm:?}");
    assert!(b.at.len() == b.groups.statistics(norm), "two statistics a channel of each group");
    holds(b.x, shape.elements(shape.inputs), "x");
    holds(b.y, shape.elements(shape.outputs), "y");
    residual.iter().for_each(|r| holds(r, shape.elements(shape.inputs), "the residual"));
    b.winners.iter().for_each(|w| holds(w, shape.elements(shape.outputs), "winners"));
    let (weight, bias) = parameters(b.weights, b.affine, norm.c);
    let batch = if norm.pool.is_some() { 1 } else { FORWARD_BATCH };
    let (tile, launch) = shape.tile(shape.outputs, batch);
    let args = NormForwardArgs {
        x: b.x.pointer(),
        residual: pointer(residual),
        weight,
        bias,
        statistics: b.statistics.values.slice(&b.at),
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
    Ok(cuda.driver.launch(kernel, launch, args)?)
}
