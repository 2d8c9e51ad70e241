//! Scores a model's weights and chooses a mask by them.

use std::path::Path;

use super::evaluate::Watch;
use super::{Error, Saved};
use crate::checkpoint::Hash;
use crate::data::Split;
use crate::graph::network::{Batches, plans};
use crate::graph::scoring::{ScoreRule, Statistics, Target};
use crate::graph::{Graph, Layout, Network, Scoring};
use crate::mask::kinds::fisher;
use crate::mask::{Mask, Order, Quota, Samples, file};
use crate::optim::{TrainingBackend, Work, with_device};
use crate::settings::{Config, ConfigError};

/// A choice of a model's weights with the largest Fisher scores.
pub struct Selection {
    config: Config,
    graph: Graph,
    quota: Quota,
    saved: Saved,
    samples: Samples,
    statistics: Statistics,
    watch: Watch,
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
        Selection::of(config, Saved::file(config.network, weights)?)
    }

    /// Scores a model that was read, of the kind that `config` names, likewise.
    ///
    /// # Errors
    /// When no mask keeps what is asked for.
    pub fn of(config: &Config, saved: Saved) -> Result<Selection, Error> {
        let graph = config.network.graph()?;
        let quota = config.mask.quota(&graph.layout)?;
        let (count, seed) = (config.mask.samples, config.train.seed);
        let samples = Samples { first: 0, count, order: Order::Shuffled, augment: true, seed, epoch: 0 };
        let config = config.clone();
        let (statistics, watch): (_, Watch) = (Statistics::Running, Box::new(|_, _| {}));
        Ok(Selection { config, graph, quota, saved, samples, statistics, watch })
    }

    /// What the user should know of how the weights were read, a line each.
    pub fn notes(&self) -> &[String] {
        &self.saved.notes
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

    /// Tells `watch` after each batch how many samples of how many are scored.
    pub fn watch(mut self, watch: impl FnMut(usize, usize) + 'static) -> Self {
        self.watch = Box::new(watch);
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
        let Selection { config, graph, quota, saved, samples, statistics, mut watch } = self.selection;
        let split = (self.load)()?;
        let made = made(&config, &graph, &saved, &split);
        let count = samples.count;
        Samples::check(count, split.len())
            .map_err(|error| ConfigError::value("mask.samples", count, error.to_string()))?;
        let plan = fisher::plan(&graph, count)?;
        let layout = graph.layout.clone();
        // The network is there for its weights: it trains nothing and infers nothing.
        let plans = plans(&graph, Batches { training: None, inference: 1 })?;
        let mut network = Network::new(graph, plans, backend, &saved.weights, &saved.running)?;
        let mut scoring = Scoring::new(&mut network, plan)?;
        let (power, target) = (config.mask.power, config.mask.target);
        let rule = ScoreRule { power, target, statistics };
        let mut done = 0;
        let mut told = |scored: usize| {
            done += scored;
            watch(done, count);
            true
        };
        fisher::score(&mut network, &mut scoring, rule, (&split, &samples), &mut told)?;
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
            made: Some(made),
        };
        Ok(Selected { about, scores, mask, layout })
    }
}

/// The settings that scores and mask depend on.
const SETTINGS: [&str; 11] = [
    "network.model",
    "network.width",
    "data.set",
    "data.images",
    "train.seed",
    "mask.keep_ratio",
    "mask.samples",
    "mask.target",
    "mask.power",
    "device.name",
    "device.precision",
];

/// What scores are made of.
fn made(config: &Config, graph: &Graph, saved: &Saved, split: &Split) -> file::Made {
    file::Made {
        data: split.set.name.into(),
        images: split.len(),
        data_digest: Hash::from(split.fingerprint()),
        weights: saved.path.display().to_string(),
        weights_digest: saved.digest(graph),
        settings: SETTINGS.iter().map(|key| (key.to_string(), config.get(key))).collect(),
        version: env!("FISHMASK_VERSION").into(),
    }
}
