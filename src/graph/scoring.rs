//! Scores of every weight: sums over samples of a power of each sample's own gradient, for many samples at
//! once.

use serde::{Deserialize, Serialize};

use super::network::{Activations, Vectors};
use super::plan::{Mode, Plan};
use super::{Error as GraphError, Graph, Network};
use crate::device::Error;
pub use crate::ops::step::Statistics;
use crate::ops::step::{Pass, Run, Wanted};
use crate::ops::{Backend, Loss, Power, ScoreGradient, ScoredClass};

/// How samples are scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScoreRule {
    /// The power that gradients are raised to.
    pub power: Power,
    /// The classes whose losses are differentiated.
    pub target: Target,
    /// What normalises each image.
    pub statistics: Statistics,
}

/// The classes whose losses are differentiated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Each sample's label.
    #[default]
    Label,
    /// Every class, weighted by the probability that the network gives it: the expectation over the network's
    /// own predictions.
    Expect,
}

/// A plan, buffers and scores. The buffers are not training's: the activations of all layers stay alive in
/// them.
///
/// Methods that return a device's [`Error`] do so when the device fails.
pub struct Scoring<B: Backend> {
    plan: Plan<B>,
    activations: Activations<B>,
    /// [`Run::statistics`], for each image of a batch.
    statistics: B::Vector,
    scores: B::Vector,
    classes: usize,
}

/// Returns the plan for scoring batches of up to `batch` samples.
///
/// # Errors
/// As [`Plan::new`].
pub fn plan<B: Backend>(graph: &Graph, batch: usize) -> Result<Plan<B>, GraphError> {
    Plan::new(graph, batch, Mode::Scoring)
}

/// Scores that are looked at in one piece.
const PIECE: usize = 1 << 20;

impl<B: Backend> Scoring<B> {
    /// Allocates everything on a network's device. Scores are zero.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn new(network: &mut Network<B>, plan: Plan<B>) -> Result<Self, Error> {
        let graph = network.graph();
        let (weights, statistics) = (graph.layout.weight_count(), graph.layout.statistic_count());
        let classes = graph.nodes[graph.output()].shape.c;
        let backend = network.backend();
        backend.reserve(plan.scratch())?;
        Ok(Scoring {
            activations: Activations::new(backend, &plan.slots, &plan.saved, plan.batch)?,
            statistics: backend.vector(&vec![0.0; plan.batch * statistics])?,
            scores: backend.vector(&vec![0.0; weights])?,
            plan,
            classes,
        })
    }

    /// Returns the largest number of samples in a batch.
    pub fn batch(&self) -> usize {
        self.plan.batch
    }

    /// Adds the scores of normalised images \[N,H,W,C\] with labels \[N\]. Nothing of the network changes.
    pub fn add(
        &mut self,
        network: &mut Network<B>,
        rule: ScoreRule,
        images: &[f32],
        labels: &[u8],
    ) -> Result<(), Error> {
        let ScoreRule { power, target, statistics } = rule;
        let Scoring { plan, activations, classes, .. } = self;
        let (backend, Vectors { weights, running, sums, .. }) = network.parts();
        backend.write_tensor(images, activations.tensors[plan.images].get_mut())?;
        backend.write_bytes(labels, &mut activations.labels)?;
        let mut run = Run {
            backend,
            n: labels.len(),
            pass: Pass::Score { power, statistics },
            wanted: Wanted::ALL,
            tensors: &activations.tensors,
            saved: &mut activations.saved,
            weights,
            running,
            statistics: &mut self.statistics,
            sums,
            gradients: &mut self.scores,
        };
        plan.forward(&mut run)?;
        let loss = Loss { n: run.n, classes: *classes, smoothing: 0.0 };
        let labels = &activations.labels;
        let mut backward = |class| {
            if let Some(slot) = plan.dlogits {
                let logits = &*run.tensors[plan.logits].borrow();
                let dlogits = &mut *run.tensors[slot].borrow_mut();
                run.backend.score_gradient(&loss, ScoreGradient { power, class, logits, labels, dlogits })?;
            }
            plan.backward(std::iter::repeat(Wanted::ALL), &mut run)
        };
        match target {
            Target::Label => backward(ScoredClass::Label),
            Target::Expect => (0..*classes).try_for_each(|class| backward(ScoredClass::Number(class))),
        }
    }

    /// Returns the scores in canonical order.
    pub fn read(&self, network: &mut Network<B>) -> Result<Vec<f32>, Error> {
        network.backend().read(&self.scores)
    }

    /// Replaces all scores, in canonical order.
    pub fn write(&mut self, network: &mut Network<B>, scores: &[f32]) -> Result<(), Error> {
        network.backend().write(scores, &mut self.scores)
    }

    /// Makes all scores zero.
    pub fn clear(&mut self, network: &mut Network<B>) -> Result<(), Error> {
        network.backend().clear(&mut self.scores)
    }

    /// Returns the canonical indices of the `k` largest among the first `n` scores, ascending.
    ///
    /// # Errors
    /// When a score is not finite, or the device fails.
    pub fn top_k(&mut self, network: &mut Network<B>, n: usize, k: usize) -> Result<Vec<u32>, Error> {
        let backend = network.backend();
        // All of them, piece by piece: a NaN ranks above all numbers or below them, by its sign.
        for begin in (0..n).step_by(PIECE) {
            let piece = backend.read_range(&self.scores, begin..n.min(begin + PIECE))?;
            if let Some(at) = piece.iter().position(|score| !score.is_finite()) {
                return Err(Error::Score { index: (begin + at) as u32 });
            }
        }
        backend.top_k(&self.scores, n, k)
    }
}
