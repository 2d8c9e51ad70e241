//! The plans of a run's network, and the memory that they take.

use crate::data::IMAGE;
use crate::graph::network::shared_slots;
use crate::graph::plan::Mode;
use crate::graph::{self, Graph, Plan};
use crate::mask::kinds::fisher;
use crate::optim::{Sgd, TrainingBackend};
use crate::settings::Config;
use crate::train::Error;

/// Images in an evaluation step, at most.
const EVALUATION_BATCH: usize = 500;

/// A run's network and the plans that it is trained, evaluated and scored by.
pub struct Plans<B: TrainingBackend> {
    /// The network.
    pub graph: Graph,
    /// Plan of a training step.
    pub training: Plan<B>,
    /// Plan of an evaluation step.
    pub inference: Plan<B>,
    /// Plan for scoring samples, if masks are chosen by scores.
    pub scoring: Option<Plan<B>>,
}

impl<B: TrainingBackend> Plans<B> {
    /// Plans what a configuration asks for.
    ///
    /// # Errors
    /// When the network cannot be planned.
    pub fn new(config: &Config) -> Result<Self, graph::Error> {
        let graph = config.network.graph()?;
        let training = Plan::new(&graph, config.train.batch_size, Mode::Training)?;
        let inference = Plan::new(&graph, EVALUATION_BATCH, Mode::Inference)?;
        let scored = config.masked().filter(|mask| mask.kind.needs_samples());
        let scoring = scored.map(|mask| fisher::plan(&graph, mask.samples)).transpose()?;
        Ok(Plans { graph, training, inference, scoring })
    }

    /// What a run keeps on its device, with `replicas` workers that have weights of their own (0 for a single
    /// worker) and so many images.
    pub fn memory(&self, replicas: usize, images: usize) -> Memory {
        let Plans { graph, training, inference, scoring } = self;
        let value = size_of::<f32>();
        // The network has its weights and gradients; it, or each of several workers, what moves.
        let (network, state) = (B::WEIGHT + value, value * Sgd::STATE.len());
        let weight = match replicas {
            0 => network + state,
            replicas => network + replicas * (B::WEIGHT + state),
        };
        let activations: usize = shared_slots(Some(training), inference).iter().sum();
        let saved: usize = training.saved.iter().sum();
        let plans = [Some(inference), Some(training), scoring.as_ref()];
        let scratch = plans.into_iter().flatten().map(Plan::scratch).collect();
        Memory {
            activations: activations * B::ACTIVATION + saved,
            weights: graph.layout.weight_count() * weight,
            scratch: B::scratch_bytes(scratch),
            scoring: scoring.as_ref().map_or(0, |plan| {
                let (scores, statistics) = (graph.layout.weight_count(), graph.layout.statistic_count());
                plan.activation_bytes(B::ACTIVATION) + value * (scores + plan.batch * statistics)
            }),
            // Pixels and a label.
            data: images * (IMAGE + 1),
        }
    }
}

/// Checks that a run fits into the memory that its device has left: with `local` workers of this process and
/// so many training and test images.
///
/// # Errors
/// When it does not, or the network cannot be planned.
pub fn check_room<B: TrainingBackend>(
    backend: &B,
    config: &Config,
    local: usize,
    [train, test]: [usize; 2],
) -> Result<(), Error> {
    let plans = Plans::<B>::new(config)?;
    let replicas = if config.has_workers() { local } else { 0 };
    // Parts of the images are copies; the whole is shared.
    let held = if config.shards() { local * config.worker_images(train) } else { train };
    let needed = plans.memory(replicas, held + test).total();
    let free = backend.free_bytes()?;
    if needed <= free {
        return Ok(());
    }
    let [needed, free] = [needed, free].map(|bytes| bytes / 1_000_000);
    let (device, batch_size) = (backend.device(), config.train.batch_size);
    let (model, width) = (config.network.model, config.network.width);
    Err(Error::NoRoom { model, width, batch_size, workers: local, needed, device, free })
}

/// Bytes that a run keeps on its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Activations, their gradients and the winners of max pooling.
    pub activations: usize,
    /// Weights, gradients and velocity; of several workers each one's weights and velocity, and the merged
    /// model.
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
