//! A network's forward and backward pass: a plan's steps, one after another.

use std::ops::Range;

use super::{Activations, Network, Parameters, Statistics};
use crate::device::Error;
use crate::graph::Graph;
use crate::graph::plan::{Backward, Forward, Residual};
use crate::ops::{
    AveragePool, Backend, Conv, ConvDgrad, ConvFprop, ConvWgrad, Groups, In, Linear, LinearBackward,
    LinearForward, LinearParameters, Loss, Norm, NormBackward, NormForward, Out, ResidualGradient,
    StatisticsOf,
};

/// What a backward step is to compute.
#[derive(Clone, Copy)]
pub(in crate::graph) struct Wanted {
    weights: bool,
    input: bool,
}

impl<B: Backend> Network<B> {
    /// Leaves out of the backward passes to come what no trained weight needs: `trained` says whether a range of the flat
    /// vector has one. A filter without any keeps the gradient it had, and nothing is computed below the lowest
    /// layer with one. Recordings made before do not know of it.
    pub fn train_only(&mut self, trained: impl Fn(&Range<usize>) -> bool) {
        self.wanted = self.wanted(trained);
    }

    /// Every gradient but that of the images.
    pub(in crate::graph) fn everything_wanted(&self) -> Vec<Wanted> {
        self.wanted(|_| true)
    }

    fn wanted(&self, trained: impl Fn(&Range<usize>) -> bool) -> Vec<Wanted> {
        let steps = self.training.iter().flat_map(|plan| &plan.backward);
        let has_trained = |step: &Backward| match step {
            Backward::Conv { filter, .. } => trained(filter),
            Backward::Norm { affine, .. } => trained(&affine.weight) || trained(&affine.bias),
            Backward::AveragePool { .. } => false,
            Backward::Linear { weight, bias, .. } => trained(weight) || bias.as_ref().is_some_and(&trained),
        };
        let mut wanted: Vec<Wanted> =
            steps.map(|step| Wanted { weights: has_trained(step), input: true }).collect();
        let lowest = wanted.iter().rposition(|wanted| wanted.weights);
        wanted.truncate(lowest.map_or(0, |lowest| lowest + 1));
        if let Some(lowest) = wanted.last_mut() {
            lowest.input = false;
        }
        wanted
    }

    /// Runs the forward steps on the first `n` images and adds their loss to the backend's totals; with
    /// `training`, keeps what the backward pass needs.
    ///
    /// # Errors
    /// When the device fails.
    pub fn forward(
        &mut self,
        training: bool,
        statistics: Statistics,
        n: usize,
        smoothing: f32,
    ) -> Result<(), Error> {
        let plan = match &self.training {
            Some(plan) if training => plan,
            _ => &self.inference,
        };
        for (_, step) in &plan.forward {
            let Network { graph, backend, activations, parameters, .. } = self;
            forward_step(step, n, statistics, graph, backend, activations, parameters)?;
        }
        let loss = Loss { n, classes: self.classes, smoothing };
        let Activations { tensors, labels, .. } = &self.activations;
        let mut dlogits = plan.dlogits.map(|slot| tensors[slot].borrow_mut());
        let logits = tensors[plan.logits].borrow();
        self.backend.softmax_cross_entropy(&loss, &logits, labels, dlogits.as_deref_mut())
    }

    /// Runs the backward steps after a training forward pass over `n` images with batch statistics: the flat
    /// gradient is overwritten. A network without a training plan has no gradient, and this does nothing.
    ///
    /// # Errors
    /// When the device fails.
    pub fn backward(&mut self, n: usize) -> Result<(), Error> {
        let steps = self.training.iter().flat_map(|plan| &plan.backward);
        for (step, wanted) in steps.zip(&self.wanted) {
            let Network { graph, backend, activations, parameters, .. } = self;
            backward_step(step, *wanted, n, graph, backend, activations, parameters)?;
        }
        Ok(())
    }
}

pub(in crate::graph) fn forward_step<B: Backend>(
    step: &Forward,
    n: usize,
    statistics: Statistics,
    graph: &Graph,
    backend: &mut B,
    activations: &mut Activations<B>,
    parameters: &mut Parameters<B>,
) -> Result<(), Error> {
    let Activations { tensors, winners: all_winners, .. } = activations;
    let Parameters { weights, running, moments, sums, .. } = parameters;
    match step {
        Forward::Conv { conv, x, filter, y, statistic } => {
            let (x, mut y) = (tensors[*x].borrow(), tensors[*y].borrow_mut());
            let sums = match (statistics, statistic) {
                (Statistics::Batch, Some(statistic)) => {
                    Some((sums, graph.layout.statistics[*statistic].range()))
                }
                _ => None,
            };
            let filter = In { vector: weights, at: filter.clone() };
            backend.conv_fprop(&Conv { n, ..*conv }, ConvFprop { x: &x, filter, y: &mut y, sums })
        }
        Forward::Norm { norm, x, residual, affine, statistic, y, winners } => {
            let norm = Norm { n, ..*norm };
            let at = graph.layout.statistics[*statistic].range();
            let of = match statistics {
                Statistics::Batch => StatisticsOf::Batch { sums, running },
                Statistics::Running => {
                    StatisticsOf::Running { running, from: at.clone(), groups: Groups::Batch }
                }
            };
            backend.norm_statistics(&norm, of, moments, at.clone())?;
            let residual = residual.map(|slot| tensors[slot].borrow());
            let norm_buffers = NormForward {
                x: &*tensors[*x].borrow(),
                residual: residual.as_deref(),
                weights,
                affine,
                groups: Groups::Batch,
                statistics: moments,
                at,
                y: &mut *tensors[*y].borrow_mut(),
                winners: winners.map(|i| &mut all_winners[i]),
            };
            backend.norm_forward(&norm, norm_buffers)
        }
        Forward::AveragePool { pool, x, y } => {
            let (x, mut y) = (tensors[*x].borrow(), tensors[*y].borrow_mut());
            backend.average_pool_forward(&AveragePool { n, ..*pool }, &x, &mut y)
        }
        Forward::Linear { linear, x, weight, bias, y } => {
            let (x, mut y) = (tensors[*x].borrow(), tensors[*y].borrow_mut());
            let linear = Linear { n, ..*linear };
            let parameters = &LinearParameters { weight: weight.clone(), bias: bias.clone() };
            backend.linear_forward(&linear, LinearForward { x: &x, weights, parameters, y: &mut y })
        }
    }
}

/// Where a plan wants a residual's gradient, given the tensor of its slot.
pub(in crate::graph) fn residual_gradient<T>(
    residual: Residual,
    slot: Option<&mut T>,
) -> ResidualGradient<'_, T> {
    match (residual, slot) {
        (Residual::Overwrite(_), Some(slot)) => ResidualGradient::Overwrite(slot),
        (Residual::Accumulate(_), Some(slot)) => ResidualGradient::Accumulate(slot),
        (Residual::InPlace, _) => ResidualGradient::InPlace,
        _ => ResidualGradient::None,
    }
}

fn backward_step<B: Backend>(
    step: &Backward,
    wanted: Wanted,
    n: usize,
    graph: &Graph,
    backend: &mut B,
    activations: &mut Activations<B>,
    parameters: &mut Parameters<B>,
) -> Result<(), Error> {
    let Activations { tensors, winners: all_winners, .. } = activations;
    let Parameters { weights, gradients, moments, .. } = parameters;
    match step {
        Backward::Conv { conv, x, dy, filter, dx } => {
            let conv = Conv { n, ..*conv };
            let dy = tensors[*dy].borrow();
            if wanted.weights {
                let (x, into) = (&*tensors[*x].borrow(), Out::Gradients(gradients));
                backend.conv_wgrad(&conv, ConvWgrad { x, dy: &dy, filter: filter.clone(), into })?;
            }
            if let Some((dx, accumulate)) = dx.filter(|_| wanted.input) {
                let (dx, filter) =
                    (&mut *tensors[dx].borrow_mut(), In { vector: weights, at: filter.clone() });
                backend.conv_dgrad(&conv, ConvDgrad { dy: &dy, filter, dx, accumulate })?;
            }
            Ok(())
        }
        Backward::Norm { norm, x, y, winners, affine, statistic, dy, dx, residual } => {
            let y = y.map(|slot| tensors[slot].borrow());
            let mut other = match residual {
                Residual::Overwrite(slot) | Residual::Accumulate(slot) => Some(tensors[*slot].borrow_mut()),
                Residual::None | Residual::InPlace => None,
            };
            let norm_buffers = NormBackward {
                x: &*tensors[*x].borrow(),
                y: y.as_deref(),
                winners: winners.map(|i| &all_winners[i]),
                weights,
                affine,
                constant: false,
                statistics: moments,
                at: graph.layout.statistics[*statistic].range(),
                dy: &mut *tensors[*dy].borrow_mut(),
                dx: &mut *tensors[*dx].borrow_mut(),
                residual: residual_gradient(*residual, other.as_deref_mut()),
                into: Out::Gradients(gradients),
            };
            backend.norm_backward(&Norm { n, ..*norm }, norm_buffers)
        }
        Backward::AveragePool { pool, dy, dx } => {
            let (dy, mut dx) = (tensors[*dy].borrow(), tensors[*dx].borrow_mut());
            backend.average_pool_backward(&AveragePool { n, ..*pool }, &dy, &mut dx)
        }
        Backward::Linear { linear, x, dy, weight, bias, dx } => {
            let linear = Linear { n, ..*linear };
            let (x, dy) = (tensors[*x].borrow(), tensors[*dy].borrow());
            let mut dx = tensors[*dx].borrow_mut();
            let parameters = &LinearParameters { weight: weight.clone(), bias: bias.clone() };
            let (dx, into) = (&mut *dx, Out::Gradients(gradients));
            backend.linear_backward(&linear, LinearBackward { x: &x, dy: &dy, weights, parameters, dx, into })
        }
    }
}
