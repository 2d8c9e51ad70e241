//! The mean over all pixels as a layer of a graph and a step of a plan.

use super::AveragePool;
use crate::device::Error;
use crate::ops::backend::Backend;
use crate::ops::layer::{Layer, Shape, single};
use crate::ops::step::{Destination, Gradients, Operands, Run, Step};

/// The mean over all pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GlobalAveragePool;

impl Layer for GlobalAveragePool {
    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        Ok(Shape { h: 1, w: 1, c: single(inputs)?.c })
    }

    fn step<B: Backend>(&self, n: usize, Shape { h, w, c }: Shape) -> Option<Box<dyn Step<B>>> {
        Some(Box::new(AveragePool { n, h, w, c }))
    }
}

impl<B: Backend> Step<B> for AveragePool {
    fn keeps_input(&self) -> bool {
        false
    }

    fn can_write(&self, _: usize, destination: Destination) -> bool {
        matches!(destination, Destination::Nowhere | Destination::Overwrite(_))
    }

    fn forward(&self, at: &Operands, run: &mut Run<B>) -> Result<(), Error> {
        let (x, mut y) = (run.tensors[at.inputs[0]].borrow(), run.tensors[at.output].borrow_mut());
        run.backend.average_pool_forward(&AveragePool { n: run.n, ..*self }, &x, &mut y)
    }

    fn backward(&self, _: &Operands, gradients: &Gradients, run: &mut Run<B>) -> Result<(), Error> {
        let Some(dx) = gradients.inputs[0].slot() else { return Ok(()) };
        let (dy, mut dx) = (run.tensors[gradients.output].borrow(), run.tensors[dx].borrow_mut());
        run.backend.average_pool_backward(&AveragePool { n: run.n, ..*self }, &dy, &mut dx)
    }
}
