//! Scores the weights of a file and chooses a mask by them.

use std::path::Path;

use super::Error;
use crate::checkpoint::weights;
use crate::data::Split;
use crate::graph::network::{Batches, plans};
use crate::graph::scoring::{ScoreRule, Statistics, Target};
use crate::graph::{Graph, Layout, Network, Scoring};
use crate::mask::kinds::fisher;
use crate::mask::{Mask, Order, Quota, Samples, file};
use crate::optim::{TrainingBackend, Work, with_device};
use crate::settings::{Config, ConfigError};

/// A choice of the weights of a file with the largest Fisher scores.
pub struct Selection {
    config: Config,
    graph: Graph,
    quota: Quota,
    weights: Vec<f32>,
    running: Vec<f32>,
    samples: Samples,
    statistics: Statistics,
}

/// A mask that was chosen, and by which scores.
pub struct Selected {
    /// What the mask is of, and how it was chosen.
    pub about: file::About,
    /// A score for each weight, in canonical order.
    pub scores: Vec<f32>,
    /// The mask.
    pub mask: Mask,
    /// The network's parameters.
    pub layout: Layout,
}

impl Selected {
    /// Writes scores and mask.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        Ok(file::save(path, &self.about, &self.scores, &self.mask)?)
    }
}

impl Selection {
    /// Reads the weights of the model that `config` names, to score them as its mask says, by images as the
    /// first epoch shuffles and augments them, with batch norm's running statistics.
    ///
    /// # Errors
    /// When the file cannot be read, or holds another model's weights, or no mask keeps what is asked for.
    pub fn new(config: &Config, weights: &Path) -> Result<Selection, Error> {
        let graph = config.network.graph()?;
        let quota = config.mask.quota(&graph.layout)?;
        let (weights, running) = weights::load(weights, &graph.layout)?;
        let (count, seed) = (config.mask.samples, config.train.seed);
        let samples = Samples { first: 0, count, order: Order::Shuffled, augment: true, seed, epoch: 0 };
        let config = config.clone();
        Ok(Selection { config, graph, quota, weights, running, samples, statistics: Statistics::Running })
    }

    /// Takes the images in this order.
    pub fn order(mut self, order: Order) -> Self {
        self.samples.order = order;
        self
    }

    /// Augments the images as in training, or leaves them as they are.
    pub fn augment(mut self, augment: bool) -> Self {
        self.samples.augment = augment;
        self
    }

    /// Normalises by these statistics.
    pub fn statistics(mut self, statistics: Statistics) -> Self {
        self.statistics = statistics;
        self
    }

    /// Scores by the images that `load` gives, which is called when the device is open, and chooses.
    ///
    /// # Errors
    /// When the device cannot be opened or fails, there are fewer images than samples, and the errors of
    /// `load`.
    pub fn run(self, load: impl FnOnce() -> Result<Split, Error>) -> Result<Selected, Error> {
        self.on_device(Box::new(load))
    }

    fn on_device(self, load: Load) -> Result<Selected, Error> {
        with_device(self.config.device.name, Job { selection: self, load })?
    }
}

/// Gets a split of a data set.
type Load<'a> = Box<dyn FnOnce() -> Result<Split, Error> + 'a>;

/// A selection, and how its images are got.
struct Job<'a> {
    selection: Selection,
    load: Load<'a>,
}

impl Work for Job<'_> {
    type Output = Result<Selected, Error>;

    fn on<B: TrainingBackend>(self, backend: B) -> Result<Selected, Error> {
        let Selection { config, graph, quota, weights, running, samples, statistics } = self.selection;
        let split = (self.load)()?;
        let count = samples.count;
        Samples::check(count, split.len())
            .map_err(|error| ConfigError::value("mask.samples", count, error.to_string()))?;
        let plan = fisher::plan(&graph, count)?;
        let layout = graph.layout.clone();
        // The network is there for its weights: it trains nothing and infers nothing.
        let plans = plans(&graph, Batches { training: None, inference: 1 })?;
        let mut network = Network::new(graph, plans, backend, &weights, &running)?;
        let mut scoring = Scoring::new(&mut network, plan)?;
        let (power, target) = (config.mask.power, config.mask.target);
        let rule = ScoreRule { power, target, statistics };
        fisher::score(&mut network, &mut scoring, rule, &split, &samples)?;
        let mask = fisher::largest(&mut network, &mut scoring, quota)?;
        let scores = scoring.read(&mut network)?;
        let about = file::About {
            kind: file::Scores::Scores,
            id: config.network,
            keep_ratio: config.mask.keep_ratio,
            samples: count,
            order: samples.order,
            augment: samples.augment,
            seed: samples.seed,
            power,
            expect: target == Target::Expect,
            running: statistics == Statistics::Running,
        };
        Ok(Selected { about, scores, mask, layout })
    }
}
