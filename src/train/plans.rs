//! The plans of a run's network, and the memory that they take.

use crate::backend::Sparse;
use crate::data::IMAGE;
use crate::graph::network::{operations, shared_slots};
use crate::graph::plan::Mode;
use crate::graph::{self, Graph, Plan, scoring};
use crate::mask::{Kind, select};
use crate::settings::Config;

/// Images in an evaluation step, at most.
const EVALUATION_BATCH: usize = 500;

/// A run's network and the plans that it is trained, evaluated and scored by.
pub struct Plans {
    /// The network.
    pub graph: Graph,
    /// Plan of a training step.
    pub training: Plan,
    /// Plan of an evaluation step.
    pub inference: Plan,
    /// Plan for scoring samples, if masks are chosen by scores.
    pub scoring: Option<Plan>,
}

impl Plans {
    /// Plans what a configuration asks for.
    ///
    /// # Errors
    /// When the network cannot be planned.
    pub fn new(config: &Config) -> Result<Plans, graph::Error> {
        let graph = config.network.graph()?;
        let training = Plan::new(&graph, config.train.batch_size, Mode::Training)?;
        let inference = Plan::new(&graph, EVALUATION_BATCH, Mode::Inference)?;
        let samples = config.mask.samples.min(select::BATCH);
        let scores = config.mask.kind == Kind::Fisher;
        let scoring = scores.then(|| scoring::plan(&graph, samples)).transpose()?;
        Ok(Plans { graph, training, inference, scoring })
    }

    /// What a run keeps on its device, with `replicas` workers that have weights of their own (0 for a single worker) and
    /// so many images.
    pub fn memory<B: Sparse>(&self, replicas: usize, images: usize) -> Memory {
        let Plans { graph, training, inference, scoring } = self;
        // A gradient or velocity.
        let value = size_of::<f32>();
        let weight = match replicas {
            0 => B::WEIGHT,
            replicas => (B::WEIGHT - value) * (1 + replicas),
        };
        let activations: usize = shared_slots(Some(training), inference).iter().sum();
        let winners: usize = training.winners.iter().sum();
        let (convs, norms) = operations([Some(inference), Some(training), scoring.as_ref()]);
        Memory {
            activations: activations * B::ACTIVATION + winners,
            weights: graph.layout.weight_count() * weight,
            scratch: B::scratch_bytes(&convs, &norms),
            scoring: scoring.as_ref().map_or(0, |plan| {
                let (scores, statistics) = (graph.layout.weight_count(), graph.layout.statistic_count());
                plan.activation_bytes(B::ACTIVATION)
                    + size_of::<f32>() * (scores + plan.batch * statistics)
                    + B::scoring_bytes(&plan.convs(), &plan.norms())
            }),
            // Pixels and a label.
            data: images * (IMAGE + 1),
        }
    }
}

/// Bytes that a run keeps on its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Activations, their gradients and the winners of max pooling.
    pub activations: usize,
    /// Weights, gradients and velocity; of several workers each one's weights and velocity, and the merged model.
    pub weights: usize,
    /// Working memory of operations, beside the buffers that they read and write.
    pub scratch: usize,
    /// Scores, and the buffers in which samples are scored.
    pub scoring: usize,
    /// The images and their labels.
    pub data: usize,
}

impl Memory {
    /// The sum of all parts.
    pub fn total(&self) -> usize {
        self.activations + self.weights + self.scratch + self.scoring + self.data
    }
}
