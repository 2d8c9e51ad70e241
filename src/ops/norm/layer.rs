//! Batch norm as a layer of a graph, the layers that only join it, and the step that computes them together.

use std::any::Any;

use crate::backend::{
    Affine, Error, Moments, Norm, NormBackward, NormForward, Pool, ResidualGradient, Sparse,
};
use crate::ops::layer::{Init, Layer, NewParameter, Shape, single};
use crate::ops::step::{Destination, Gradients, Operands, Pass, Run, Scratch, Statistics, Step};

/// Batch normalisation by channel. Its weight begins at 1, its bias at 0. A convolution that nothing else reads comes
/// before it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNorm;

/// max(x, 0); joins a batch norm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Relu;

/// The sum of two nodes, one of them a batch norm (perhaps with its ReLU), which it joins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Add;

impl Layer for BatchNorm {
    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        single(inputs)
    }

    fn parameters(&self, inputs: &[Shape]) -> Vec<NewParameter> {
        let parameter = |suffix, value| {
            let shape = inputs.iter().map(|x| x.c).collect();
            NewParameter { suffix, shape, init: Init::Constant(value) }
        };
        vec![parameter("weight", 1.0), parameter("bias", 0.0)]
    }

    fn statistics(&self, inputs: &[Shape]) -> Option<usize> {
        inputs.first().map(|x| x.c)
    }

    fn step<B: Sparse>(&self, n: usize, Shape { h, w, c }: Shape) -> Option<Box<dyn Step<B>>> {
        Some(Box::new(Norm { n, h, w, c, relu: false, residual: false, relu_sum: false, pool: None }))
    }
}

impl Layer for Relu {
    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        single(inputs)
    }
}

impl Layer for Add {
    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        match *inputs {
            [a, b] if a == b => Ok(a),
            [a, b] => Err(format!("cannot add {a} and {b}")),
            _ => Err(format!("adds two inputs, not {}", inputs.len())),
        }
    }
}

impl<B: Sparse> Step<B> for Norm {
    /// Takes in a ReLU, an addition, a ReLU of the sum, and a max pool, each at most once and in this order.
    fn absorb(&mut self, layer: &dyn Any) -> bool {
        let Norm { relu, residual, relu_sum, pool, .. } = self;
        if pool.is_some() {
            return false;
        }
        if layer.is::<Relu>() {
            let place = if *residual { relu_sum } else { relu };
            return !std::mem::replace(place, true);
        }
        if layer.is::<Add>() {
            return !std::mem::replace(residual, true);
        }
        *pool = layer.downcast_ref::<Pool>().copied();
        pool.is_some()
    }

    fn needs_sums(&self) -> bool {
        true
    }

    /// The ReLU of a sum is undone by the sign of y; pooling instead keeps which pixel won.
    fn keeps_output(&self) -> bool {
        self.relu_sum && self.pool.is_none()
    }

    /// The winners of the max pool, a byte each.
    fn saved_bytes(&self) -> usize {
        self.pool.map_or(0, |_| self.outputs())
    }

    fn can_write(&self, input: usize, destination: Destination) -> bool {
        match destination {
            Destination::Nowhere => false,
            Destination::InPlace => input == 1 && self.pool.is_none(),
            Destination::Overwrite(_) => true,
            Destination::Accumulate(_) => input == 1,
        }
    }

    fn scratch(&self, scratch: &mut Scratch) {
        scratch.norms.push(*self);
    }

    fn forward(&self, at: &Operands, run: &mut Run<B>) -> Result<(), Error> {
        let norm = Norm { n: run.n, ..*self };
        let (own, normalising) = (at.statistics.clone(), self.statistics(at, run));
        let x = run.tensors[at.inputs[0]].borrow();
        let residual = at.inputs.get(1).map(|&slot| run.tensors[slot].borrow());
        match run.pass {
            Pass::Infer => run.backend.running_statistics(run.running, run.statistics, own)?,
            Pass::Train => {
                let count = norm.n * norm.h * norm.w;
                run.backend.batch_statistics(count, run.sums, run.statistics, run.running, own)?;
            }
            Pass::Score { statistics, .. } => {
                let of = match statistics {
                    Statistics::Own => Moments::Sample(&*x),
                    Statistics::Running => Moments::Running(&*run.running, own),
                };
                run.backend.sample_moments(&norm, of, run.statistics, normalising.clone())?;
            }
        }
        let buffers = NormForward {
            x: &*x,
            residual: residual.as_deref(),
            weights: run.weights,
            affine: &affine(at),
            moments: run.statistics,
            at: normalising,
            y: &mut *run.tensors[at.output].borrow_mut(),
            winners: at.saved.map(|i| &mut run.saved[i]),
        };
        match run.pass {
            Pass::Score { .. } => run.backend.sample_norm_forward(&norm, buffers),
            _ => run.backend.norm_forward(&norm, buffers),
        }
    }

    fn backward(&self, at: &Operands, gradients: &Gradients, run: &mut Run<B>) -> Result<(), Error> {
        // It follows a convolution, never the images.
        let Some(dx) = gradients.inputs[0].slot() else { return Ok(()) };
        let (norm, normalising) = (Norm { n: run.n, ..*self }, self.statistics(at, run));
        let to = gradients.inputs.get(1).copied().unwrap_or(Destination::Nowhere);
        let y = self.relu_sum.then(|| run.tensors[at.output].borrow()).filter(|_| self.pool.is_none());
        let mut residual = to.slot().map(|slot| run.tensors[slot].borrow_mut());
        let buffers = NormBackward {
            x: &*run.tensors[at.inputs[0]].borrow(),
            y: y.as_deref(),
            winners: at.saved.map(|i| &run.saved[i]),
            weights: run.weights,
            affine: &affine(at),
            moments: run.statistics,
            at: normalising,
            dy: &mut *run.tensors[gradients.output].borrow_mut(),
            dx: &mut *run.tensors[dx].borrow_mut(),
            residual: match (to, residual.as_deref_mut()) {
                (Destination::Overwrite(_), Some(tensor)) => ResidualGradient::Overwrite(tensor),
                (Destination::Accumulate(_), Some(tensor)) => ResidualGradient::Accumulate(tensor),
                (Destination::InPlace, _) => ResidualGradient::InPlace,
                _ => ResidualGradient::None,
            },
            gradients: run.gradients,
        };
        match run.pass {
            Pass::Score { power, statistics } => {
                let through = statistics == Statistics::Own;
                run.backend.sample_norm_backward(&norm, power, through, buffers)
            }
            _ => run.backend.norm_backward(&norm, buffers),
        }
    }
}

fn affine(at: &Operands) -> Affine {
    Affine { weight: at.parameters[0].clone(), bias: at.parameters[1].clone() }
}

impl Norm {
    /// Where the statistics lie that normalise in this pass; scoring has a mean and deviation for each image.
    fn statistics<B: Sparse>(&self, at: &Operands, run: &Run<B>) -> std::ops::Range<usize> {
        let own = &at.statistics;
        match run.pass {
            Pass::Score { .. } => self.n * own.start..self.n * own.start + run.n * own.len(),
            _ => own.clone(),
        }
    }
}
