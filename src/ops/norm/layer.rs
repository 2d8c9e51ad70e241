//! Batch norm as a layer of a graph, the layers that only join it, and the step that computes them together.

use std::any::Any;

use super::{Affine, Groups, Norm, NormBackward, NormForward, Pool, ResidualGradient, StatisticsOf};
use crate::device::{Error, Scratch};
use crate::ops::backend::Backend;
use crate::ops::flat::Work;
use crate::ops::layer::{Init, Layer, NewParameter, Shape, single};
use crate::ops::step::{Destination, Gradients, Operands, Pass, Run, Statistics, Step};

/// Batch normalisation by channel. Its weight begins at 1, its bias at 0. A convolution that nothing else
/// reads comes before it.
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

    fn step<B: Backend>(&self, n: usize, Shape { h, w, c }: Shape) -> Option<Box<dyn Step<B>>> {
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

/// The largest value of each window; joins a batch norm.
impl Layer for Pool {
    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let Shape { h, w, c } = single(inputs)?;
        let Pool { size, stride, pad } = *self;
        if h.min(w) + 2 * pad < size {
            return Err(format!("a {size}x{size} window is larger than its {h}x{w} input"));
        }
        if stride == 0 {
            return Err("a stride of 0 never ends".into());
        }
        if 2 * pad > size {
            return Err(format!("padding {pad} is more than half of a {size}x{size} window"));
        }
        if size > 15 {
            return Err(format!("a {size}x{size} window has more places than a byte can number"));
        }
        Ok(Shape { h: self.outputs(h), w: self.outputs(w), c })
    }
}

impl<B: Backend> Step<B> for Norm {
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

    fn scratch(&self, work: Work) -> Scratch {
        B::norm_scratch(self, work)
    }

    fn forward(&self, at: &Operands, run: &mut Run<B>) -> Result<(), Error> {
        let norm = Norm { n: run.n, ..*self };
        let normalising = self.statistics(at, run);
        let x = run.tensors[at.inputs[0]].borrow();
        let residual = at.inputs.get(1).map(|&slot| run.tensors[slot].borrow());
        let groups = groups(run.pass);
        let of = match run.pass {
            Pass::Train => StatisticsOf::Batch { sums: run.sums, running: run.running },
            Pass::Score { statistics: Statistics::Own, .. } => StatisticsOf::EachImage { x: &*x },
            Pass::Infer | Pass::Score { .. } => {
                StatisticsOf::Running { running: run.running, from: at.statistics.clone(), groups }
            }
        };
        run.backend.norm_statistics(&norm, of, run.statistics, normalising.clone())?;
        let buffers = NormForward {
            x: &*x,
            residual: residual.as_deref(),
            weights: run.weights,
            affine: &affine(at),
            groups,
            statistics: run.statistics,
            at: normalising,
            y: &mut *run.tensors[at.output].borrow_mut(),
            winners: at.saved.map(|i| &mut run.saved[i]),
        };
        run.backend.norm_forward(&norm, buffers)
    }

    fn backward(&self, at: &Operands, gradients: &Gradients, run: &mut Run<B>) -> Result<(), Error> {
        // A plan always gives its gradient a slot: this step cannot write nowhere.
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
            statistics: run.statistics,
            at: normalising,
            constant: matches!(run.pass, Pass::Score { statistics: Statistics::Running, .. }),
            dy: &mut *run.tensors[gradients.output].borrow_mut(),
            dx: &mut *run.tensors[dx].borrow_mut(),
            residual: match (to, residual.as_deref_mut()) {
                (Destination::Overwrite(_), Some(tensor)) => ResidualGradient::Overwrite(tensor),
                (Destination::Accumulate(_), Some(tensor)) => ResidualGradient::Accumulate(tensor),
                (Destination::InPlace, _) => ResidualGradient::InPlace,
                _ => ResidualGradient::None,
            },
            into: run.pass.out(run.gradients),
        };
        run.backend.norm_backward(&norm, buffers)
    }
}

/// Which images this pass normalises together.
fn groups(pass: Pass) -> Groups {
    match pass {
        Pass::Infer | Pass::Train => Groups::Batch,
        Pass::Score { .. } => Groups::EachImage,
    }
}

fn affine(at: &Operands) -> Affine {
    Affine { weight: at.parameters[0].clone(), bias: at.parameters[1].clone() }
}

impl Norm {
    /// Where the statistics lie that normalise in this pass; scoring has a mean and deviation for each image.
    fn statistics<B: Backend>(&self, at: &Operands, run: &Run<B>) -> std::ops::Range<usize> {
        let own = &at.statistics;
        match groups(run.pass) {
            Groups::Batch => own.clone(),
            Groups::EachImage => self.n * own.start..self.n * own.start + run.n * own.len(),
        }
    }
}
