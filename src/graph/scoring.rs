//! Scores of every weight from each sample's own gradient (SPEC section 4), for many samples at once.

use std::cell::RefCell;

use super::network::{Activations, forward_step, residual_gradient, scratch};
use super::plan::{Backward, Forward, Mode, Plan, Residual};
use super::{Error as GraphError, Graph, Network, Statistics};
use crate::device::Error;
use crate::ops::{
    AveragePool, Backend, Conv, ConvDgrad, ConvWgrad, Groups, In, Linear, LinearBackward, LinearParameters,
    Loss, Norm, NormBackward, NormForward, Out, Power, ScoreGradient, ScoredClass, StatisticsOf, Work,
};

/// How samples are scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The power of the gradient.
    pub power: Power,
    /// Whether every class counts, weighted by its predicted probability, rather than the label.
    pub expect: bool,
    /// Whether images are normalised with the running statistics rather than with their own, each alone.
    pub running: bool,
}

/// The buffers in which samples are scored. Apart from training's, for their activations all stay alive.
pub struct Scoring<B: Backend> {
    plan: Plan,
    activations: Activations<B>,
    /// Of each batch norm \[N,2,C\], at N times its place among the statistics.
    moments: B::Vector,
    scores: B::Vector,
    classes: usize,
}

/// The plan for scoring batches of up to `batch` samples.
///
/// # Errors
/// As [`Plan::new`].
pub fn plan(graph: &Graph, batch: usize) -> Result<Plan, GraphError> {
    Plan::new(graph, batch, Mode::Scoring)
}

impl<B: Backend> Scoring<B> {
    /// Allocates everything for a network's device. Scores are zero.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn new(network: &mut Network<B>, plan: Plan) -> Result<Self, Error> {
        let layout = &network.graph().layout;
        let (weights, statistics) = (layout.weight_count(), layout.statistic_count());
        let nodes = &network.graph().nodes;
        let classes = nodes[nodes.len() - 1].shape.c;
        let backend = network.backend();
        backend.reserve(scratch::<B>(&plan, Work::Score))?;
        Ok(Scoring {
            activations: Activations::new(backend, &plan.slots, &plan.winners, plan.batch)?,
            moments: backend.vector(&vec![0.0; plan.batch * statistics])?,
            scores: backend.vector(&vec![0.0; weights])?,
            plan,
            classes,
        })
    }

    /// Samples in a batch, at most.
    pub fn batch(&self) -> usize {
        self.plan.batch
    }

    /// Adds the scores of normalised images \[N,32,32,3\] with labels \[N\]. Nothing of the network changes.
    ///
    /// # Errors
    /// When the device fails.
    pub fn add(
        &mut self,
        network: &mut Network<B>,
        rule: Rule,
        images: &[f32],
        labels: &[u8],
    ) -> Result<(), Error> {
        let n = labels.len();
        let backend = network.backend();
        backend.write_tensor(images, self.activations.tensors[self.plan.images].get_mut())?;
        backend.write_bytes(labels, &mut self.activations.labels)?;
        for i in 0..self.plan.forward.len() {
            self.forward(i, network, rule, n)?;
        }
        match rule.expect {
            false => self.backward(network, rule, n, ScoredClass::Label),
            true => {
                (0..self.classes).try_for_each(|c| self.backward(network, rule, n, ScoredClass::Number(c)))
            }
        }
    }

    /// Scores in canonical order.
    ///
    /// # Errors
    /// When the device fails.
    pub fn read(&self, network: &mut Network<B>) -> Result<Vec<f32>, Error> {
        network.backend().read(&self.scores)
    }

    /// Replaces all scores, in canonical order.
    ///
    /// # Errors
    /// When the device fails.
    pub fn write(&mut self, network: &mut Network<B>, scores: &[f32]) -> Result<(), Error> {
        network.backend().write(scores, &mut self.scores)
    }

    /// Makes all scores zero.
    ///
    /// # Errors
    /// When the device fails.
    pub fn clear(&mut self, network: &mut Network<B>) -> Result<(), Error> {
        network.backend().clear(&mut self.scores)
    }

    /// The canonical indices of the `k` largest among the first `n` scores, ascending.
    ///
    /// # Errors
    /// When a score is not finite, or the device fails.
    pub fn top_k(&mut self, network: &mut Network<B>, n: usize, k: usize) -> Result<Vec<u32>, Error> {
        let backend = network.backend();
        // Infinity and NaN rank above all numbers.
        for largest in backend.top_k(&self.scores, n, n.min(1))? {
            let at = largest as usize;
            if !backend.read_range(&self.scores, at..at + 1)?.iter().all(|score| score.is_finite()) {
                return Err(Error::Score { index: largest });
            }
        }
        backend.top_k(&self.scores, n, k)
    }

    fn forward(&mut self, i: usize, network: &mut Network<B>, rule: Rule, n: usize) -> Result<(), Error> {
        let Scoring { plan, activations, moments, .. } = self;
        let (graph, backend, parameters) = network.parts();
        let (_, step) = &plan.forward[i];
        let Forward::Norm { norm, x, residual, affine, statistic, y, winners } = step else {
            // Running: a convolution leaves no sums.
            return forward_step(step, n, Statistics::Running, graph, backend, activations, parameters);
        };
        let Activations { tensors, winners: all_winners, .. } = activations;
        let norm = Norm { n, ..*norm };
        let own = graph.layout.statistics[*statistic].range();
        let at = plan.batch * own.start..plan.batch * own.start + n * own.len();
        let x = tensors[*x].borrow();
        let of = match rule.running {
            true => {
                let (running, groups) = (&parameters.running, Groups::EachImage);
                StatisticsOf::Running { running, from: own, groups }
            }
            false => StatisticsOf::EachImage { x: &*x },
        };
        backend.norm_statistics(&norm, of, moments, at.clone())?;
        let residual = residual.map(|slot| tensors[slot].borrow());
        let buffers = NormForward {
            x: &*x,
            residual: residual.as_deref(),
            weights: &parameters.weights,
            affine,
            groups: Groups::EachImage,
            statistics: moments,
            at,
            y: &mut *tensors[*y].borrow_mut(),
            winners: winners.map(|i| &mut all_winners[i]),
        };
        backend.norm_forward(&norm, buffers)
    }

    fn backward(
        &mut self,
        network: &mut Network<B>,
        rule: Rule,
        n: usize,
        target: ScoredClass,
    ) -> Result<(), Error> {
        let Scoring { plan, activations, classes, .. } = self;
        if let Some(dlogits) = plan.dlogits {
            let Activations { tensors, labels, .. } = activations;
            let (logits, mut dlogits) = (tensors[plan.logits].borrow(), tensors[dlogits].borrow_mut());
            let loss = Loss { n, classes: *classes, smoothing: 0.0 };
            let (power, logits, dlogits) = (rule.power, &*logits, &mut *dlogits);
            let b = ScoreGradient { power, class: target, logits, labels, dlogits };
            network.backend().score_gradient(&loss, b)?;
        }
        for i in 0..self.plan.backward.len() {
            self.backward_step(i, network, rule, n)?;
        }
        Ok(())
    }

    fn backward_step(
        &mut self,
        i: usize,
        network: &mut Network<B>,
        rule: Rule,
        n: usize,
    ) -> Result<(), Error> {
        let Scoring { plan, activations, moments, scores, .. } = self;
        let Activations { tensors, winners: all_winners, .. } = activations;
        let (graph, backend, parameters) = network.parts();
        let slot = |slot: usize| -> &RefCell<B::Tensor> { &tensors[slot] };
        let weights = &parameters.weights;
        match &plan.backward[i] {
            Backward::Conv { conv, x, dy, filter, dx } => {
                let conv = Conv { n, ..*conv };
                let dy = slot(*dy).borrow();
                let (x, into) = (&*slot(*x).borrow(), Out::Scores(rule.power, scores));
                backend.conv_wgrad(&conv, ConvWgrad { x, dy: &dy, filter: filter.clone(), into })?;
                let Some((dx, accumulate)) = *dx else { return Ok(()) };
                let (dx, filter) = (&mut *slot(dx).borrow_mut(), In { vector: weights, at: filter.clone() });
                backend.conv_dgrad(&conv, ConvDgrad { dy: &dy, filter, dx, accumulate })
            }
            Backward::Norm { norm, x, y, winners, affine, statistic, dy, dx, residual } => {
                let own = graph.layout.statistics[*statistic].range();
                let at = plan.batch * own.start..plan.batch * own.start + n * own.len();
                let y = y.map(|y| slot(y).borrow());
                let mut other = match residual {
                    Residual::Overwrite(to) | Residual::Accumulate(to) => Some(slot(*to).borrow_mut()),
                    Residual::None | Residual::InPlace => None,
                };
                let buffers = NormBackward {
                    x: &*slot(*x).borrow(),
                    y: y.as_deref(),
                    winners: winners.map(|i| &all_winners[i]),
                    weights,
                    affine,
                    statistics: moments,
                    at,
                    constant: rule.running,
                    dy: &mut *slot(*dy).borrow_mut(),
                    dx: &mut *slot(*dx).borrow_mut(),
                    residual: residual_gradient(*residual, other.as_deref_mut()),
                    into: Out::Scores(rule.power, scores),
                };
                backend.norm_backward(&Norm { n, ..*norm }, buffers)
            }
            Backward::AveragePool { pool, dy, dx } => {
                let (dy, mut dx) = (slot(*dy).borrow(), slot(*dx).borrow_mut());
                backend.average_pool_backward(&AveragePool { n, ..*pool }, &dy, &mut dx)
            }
            Backward::Linear { linear, x, dy, weight, bias, dx } => {
                let linear = Linear { n, ..*linear };
                let (x, dy, mut dx) = (slot(*x).borrow(), slot(*dy).borrow(), slot(*dx).borrow_mut());
                let parameters = &LinearParameters { weight: weight.clone(), bias: bias.clone() };
                let (dx, into) = (&mut *dx, Out::Scores(rule.power, scores));
                backend.linear_backward(
                    &linear,
                    LinearBackward { x: &x, dy: &dy, weights, parameters, dx, into },
                )
            }
        }
    }
}
