//! The linear layer and the constant that joins it, as layers of a graph and a step of a plan.

use std::any::Any;

use crate::backend::{Error, Linear, Sparse};
use crate::ops::layer::{Init, Layer, NewParameter, Shape, single};
use crate::ops::step::{Gradients, Operands, Pass, Run, Step};

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

    fn step<B: Sparse>(&self, n: usize, x: Shape) -> Option<Box<dyn Step<B>>> {
        Some(Box::new(Linear { n, c: x.c, k: self.k, scale: 1.0 }))
    }
}

impl Layer for Scale {
    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        single(inputs)
    }
}

impl<B: Sparse> Step<B> for Linear {
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
        let linear = Linear { n: run.n, ..*self };
        let (x, mut y) = (run.tensors[at.inputs[0]].borrow(), run.tensors[at.output].borrow_mut());
        let (weight, bias) = (at.parameters[0].clone(), at.parameters.get(1).cloned());
        run.backend.linear_forward(&linear, &x, run.weights, weight, bias, &mut y)
    }

    fn backward(&self, at: &Operands, gradients: &Gradients, run: &mut Run<B>) -> Result<(), Error> {
        let Some(dx) = gradients.inputs[0].slot() else { return Ok(()) };
        let linear = Linear { n: run.n, ..*self };
        let (x, dy) = (run.tensors[at.inputs[0]].borrow(), run.tensors[gradients.output].borrow());
        let mut dx = run.tensors[dx].borrow_mut();
        let (weights, to) = (run.weights, &mut *run.gradients);
        let (weight, bias) = (at.parameters[0].clone(), at.parameters.get(1).cloned());
        match run.pass {
            Pass::Score { power, .. } => {
                run.backend.linear_score(&linear, power, &x, &dy, weights, weight, bias, &mut dx, to)
            }
            _ => run.backend.linear_backward(&linear, &x, &dy, weights, weight, bias, &mut dx, to),
        }
    }
}
