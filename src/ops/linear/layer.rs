//! The linear layer and the constant that joins it, as layers of a graph and a step of a plan.

use std::any::Any;

use super::{Linear, LinearBackward, LinearForward, LinearParameters};
use crate::device::Error;
use crate::ops::backend::Backend;
use crate::ops::layer::{Init, Layer, NewParameter, Shape, single};
use crate::ops::step::{Gradients, Operands, Run, Step};

/// A matrix product with a weight \[K,C\], and a bias if it is to have one. Both begin as [`Init::fan_in`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinearLayer {
    /// Outputs.
    pub k: usize,
    /// Whether a bias is added.
    pub bias: bool,
}

/// The product with a constant; joins a linear layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale(pub f32);

impl Layer for LinearLayer {
    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        match single(inputs)? {
            Shape { h: 1, w: 1, .. } => Ok(Shape { h: 1, w: 1, c: self.k }),
            x => Err(format!("a linear layer needs one pixel, not {x}")),
        }
    }

    fn parameters(&self, inputs: &[Shape]) -> Vec<NewParameter> {
        let c = inputs.iter().map(|x| x.c).sum();
        let init = Init::fan_in(c);
        let weight = NewParameter { suffix: "weight", shape: vec![self.k, c], init };
        let bias = self.bias.then(|| NewParameter { suffix: "bias", shape: vec![self.k], init });
        [weight].into_iter().chain(bias).collect()
    }

    fn step<B: Backend>(&self, n: usize, x: Shape) -> Option<Box<dyn Step<B>>> {
        Some(Box::new(Linear { n, c: x.c, k: self.k, scale: 1.0 }))
    }
}

impl Layer for Scale {
    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        single(inputs)
    }
}

impl<B: Backend> Step<B> for Linear {
    fn absorb(&mut self, layer: &dyn Any) -> bool {
        let Some(Scale(factor)) = layer.downcast_ref() else { return false };
        let first = self.scale == 1.0;
        if first {
            self.scale = *factor;
        }
        first
    }

    fn flops(&self) -> u64 {
        2 * (self.c * self.k) as u64
    }

    fn forward(&self, at: &Operands, run: &mut Run<B>) -> Result<(), Error> {
        let buffers = LinearForward {
            x: &*run.tensors[at.inputs[0]].borrow(),
            weights: run.weights,
            parameters: &parameters(at),
            y: &mut *run.tensors[at.output].borrow_mut(),
        };
        run.backend.linear_forward(&Linear { n: run.n, ..*self }, buffers)
    }

    fn backward(&self, at: &Operands, gradients: &Gradients, run: &mut Run<B>) -> Result<(), Error> {
        // A plan always gives its gradient a slot: this step cannot write nowhere.
        let Some(dx) = gradients.inputs[0].slot() else { return Ok(()) };
        let buffers = LinearBackward {
            x: &*run.tensors[at.inputs[0]].borrow(),
            dy: &*run.tensors[gradients.output].borrow(),
            weights: run.weights,
            parameters: &parameters(at),
            dx: &mut *run.tensors[dx].borrow_mut(),
            into: run.pass.out(run.gradients),
        };
        run.backend.linear_backward(&Linear { n: run.n, ..*self }, buffers)
    }
}

fn parameters(at: &Operands) -> LinearParameters {
    LinearParameters { weight: at.parameters[0].clone(), bias: at.parameters.get(1).cloned() }
}
