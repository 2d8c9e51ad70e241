//! Evaluates a model.

use std::path::Path;
use std::sync::Arc;

use super::{Error, Saved};
use crate::data::Split;
use crate::device::Device;
use crate::graph::network::{Batches, plans};
use crate::graph::{Graph, ModelId, Network, Phase};
use crate::optim::{TrainingBackend, Work, with_device};
use crate::train;

/// An evaluation of a model: of a file of weights, this program's or PyTorch's, or of a run.
pub struct Evaluation {
    graph: Graph,
    saved: Saved,
    device: Device,
    batch_size: usize,
    keeps_logits: bool,
    watch: Watch,
}

/// Is told how much of how much is done.
pub(super) type Watch = Box<dyn FnMut(usize, usize)>;

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
    /// How many images of each class were taken for each: [classes, classes], a row a true class, a column a
    /// predicted one.
    pub confusion: Vec<u64>,
    /// The logits \[images, classes\] in the images' order, if they were to be kept.
    pub logits: Vec<f32>,
}

impl Evaluation {
    /// Reads the weights of a model, to evaluate them on the CPU in steps of 500 images.
    ///
    /// # Errors
    /// When the file cannot be read, or holds another model's weights.
    pub fn new(model: ModelId, weights: &Path) -> Result<Evaluation, Error> {
        Evaluation::of(Saved::file(model, weights)?)
    }

    /// Evaluates a model that was read, on the CPU in steps of 500 images.
    ///
    /// # Errors
    /// When there is no such network.
    pub fn of(saved: Saved) -> Result<Evaluation, Error> {
        let graph = saved.id.graph()?;
        let watch: Watch = Box::new(|_, _| {});
        Ok(Evaluation { graph, saved, device: Device::Cpu, batch_size: 500, keeps_logits: false, watch })
    }

    /// What the user should know of how the weights were read, a line each.
    pub fn notes(&self) -> &[String] {
        &self.saved.notes
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

    /// Tells `watch` after each step how many images of how many are evaluated.
    pub fn watch(mut self, watch: impl FnMut(usize, usize) + 'static) -> Self {
        self.watch = Box::new(watch);
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
        let Evaluation { graph, saved, batch_size, keeps_logits, mut watch, .. } = self.evaluation;
        let split = Arc::new((self.load)()?);
        let images = split.len();
        let inference = batch_size.min(images.max(1));
        let plans = plans(&graph, Batches { training: None, inference })?;
        let classes = saved.id.classes;
        let mut network = Network::new(graph, plans, backend, &saved.weights, &saved.running)?;
        let mut data = network.backend().data(&split, None)?;
        let (mut logits, mut confusion) = (vec![], vec![0; classes * classes]);
        let (mut labels, mut done) = (split.labels.iter(), 0);
        let keep = |network: &Network<B>, n| {
            let batch = network.logits(Phase::Inference, n)?;
            for (row, &label) in batch.chunks_exact(classes).zip(labels.by_ref()) {
                confusion[usize::from(label) * classes + largest(row)] += 1;
            }
            if keeps_logits {
                logits.extend(batch);
            }
            done += n;
            watch(done, images);
            Ok(true)
        };
        let totals =
            train::evaluate(&mut network, &mut data, 0..images, &mut None, keep)?.unwrap_or_default();
        let n = images as f64;
        let (loss, accuracy) = (totals.loss / n, 100.0 * totals.correct as f64 / n);
        Ok(Evaluated { images, loss, accuracy, classes, confusion, logits })
    }
}

/// The place of the largest logit, the first of equal ones, as [`train::evaluate`] counts correct answers.
fn largest(logits: &[f32]) -> usize {
    let first = (0, f32::NEG_INFINITY);
    let larger = |(best, largest), (i, &v)| if v > largest { (i, v) } else { (best, largest) };
    logits.iter().enumerate().fold(first, larger).0
}
