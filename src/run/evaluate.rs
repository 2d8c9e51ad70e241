//! Evaluates a file of weights.

use std::path::Path;
use std::sync::Arc;

use super::Error;
use crate::checkpoint::weights;
use crate::data::Split;
use crate::device::Device;
use crate::graph::network::{Batches, plans};
use crate::graph::{Graph, ModelId, Network, Phase};
use crate::optim::{TrainingBackend, Work, with_device};
use crate::train;

/// An evaluation of a file of weights, this program's or PyTorch's.
pub struct Evaluation {
    graph: Graph,
    weights: Vec<f32>,
    running: Vec<f32>,
    device: Device,
    batch_size: usize,
    keeps_logits: bool,
}

/// What an evaluation has found.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluated {
    /// Images that were evaluated.
    pub images: usize,
    /// Mean of the images' losses.
    pub loss: f64,
    /// Share of the images whose class is right, in percent.
    pub accuracy: f64,
    /// Classes of the network.
    pub classes: usize,
    /// The logits \[images, classes\] in the images' order, if they were to be kept.
    pub logits: Vec<f32>,
}

impl Evaluation {
    /// Reads the weights of a model, to evaluate them on the CPU in steps of 500 images.
    ///
    /// # Errors
    /// When the file cannot be read, or holds another model's weights.
    pub fn new(model: ModelId, weights: &Path) -> Result<Evaluation, Error> {
        let graph = model.graph()?;
        let (weights, running) = weights::load(weights, &graph.layout)?;
        Ok(Evaluation { graph, weights, running, device: Device::Cpu, batch_size: 500, keeps_logits: false })
    }

    /// Computes on this device.
    pub fn device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// Evaluates so many images in a step, at most and at least 1. The result does not depend on it.
    pub fn batch_size(mut self, images: usize) -> Self {
        self.batch_size = images.max(1);
        self
    }

    /// Keeps the logits.
    pub fn keep_logits(mut self, keep: bool) -> Self {
        self.keeps_logits = keep;
        self
    }

    /// Evaluates the images that `load` gives, which is called when the device is open.
    ///
    /// # Errors
    /// When the device cannot be opened or fails, and the errors of `load`.
    pub fn run(self, load: impl FnOnce() -> Result<Split, Error>) -> Result<Evaluated, Error> {
        self.on_device(Box::new(load))
    }

    fn on_device(self, load: Load) -> Result<Evaluated, Error> {
        with_device(self.device, Job { evaluation: self, load })?
    }
}

/// Gets a split of a data set.
type Load<'a> = Box<dyn FnOnce() -> Result<Split, Error> + 'a>;

/// An evaluation, and how its images are got.
struct Job<'a> {
    evaluation: Evaluation,
    load: Load<'a>,
}

impl Work for Job<'_> {
    type Output = Result<Evaluated, Error>;

    fn on<B: TrainingBackend>(self, backend: B) -> Result<Evaluated, Error> {
        let Evaluation { graph, weights, running, batch_size, keeps_logits, .. } = self.evaluation;
        let split = (self.load)()?;
        let images = split.len();
        let inference = batch_size.min(images.max(1));
        let plans = plans(&graph, Batches { training: None, inference })?;
        let mut network = Network::new(graph, plans, backend, &weights, &running)?;
        let mut data = network.backend().data(&Arc::new(split), None)?;
        let mut logits = vec![];
        let keep = |network: &Network<B>, n| {
            if keeps_logits {
                logits.extend(network.logits(Phase::Inference, n)?);
            }
            Ok(true)
        };
        let totals =
            train::evaluate(&mut network, &mut data, 0..images, &mut None, keep)?.unwrap_or_default();
        let n = images as f64;
        let (loss, accuracy) = (totals.loss / n, 100.0 * totals.correct as f64 / n);
        let nodes = &network.graph().nodes;
        let classes = nodes[nodes.len() - 1].shape.c;
        Ok(Evaluated { images, loss, accuracy, classes, logits })
    }
}
