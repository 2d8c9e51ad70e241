//! From flags to a validated configuration.

use std::fmt::Display;

use serde::{Deserialize, Serialize};

use super::{Device, Flags, Masking, Precision, Workers};
use crate::graph::{Model, ModelId};
use crate::mask::{Kind, Samples};

/// More threads than any machine this program is for has cores.
const MAX_THREADS: usize = 4096;

/// A validated configuration. `config.json` holds it; resuming compares it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The preset its defaults came from.
    pub preset: String,
    /// The network.
    pub model: Model,
    /// Its stem channels.
    pub width: usize,
    /// Passes over the training images.
    pub epochs: u32,
    /// Images in a step.
    pub batch_size: usize,
    /// The schedule's peak, for the mean loss.
    pub lr: f64,
    /// Epoch at which the peak is reached.
    pub peak_epoch: f64,
    /// Share of the velocity that stays.
    pub momentum: f64,
    /// Decay for the mean loss.
    pub weight_decay: f64,
    /// Share of the target spread over all classes.
    pub label_smoothing: f64,
    /// The first so many training images; all when none.
    pub train_images: Option<usize>,
    /// Which weights are trained; all when none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<Masking>,
    /// How several workers train it; none for a single one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<Workers>,
    /// Name of the data set: at first the one asked for, then, and in `config.json`, the one there is.
    pub data: String,
    /// What trains.
    pub device: String,
    /// How activations are stored.
    pub precision: Precision,
    /// Of every random choice.
    pub seed: u64,
    /// Epochs between checkpoints; 0 for none but the last.
    pub checkpoint_every: u32,
}

/// Why a configuration's device and preset are what they are, for the header.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reasons {
    /// The device's.
    pub device: String,
    /// The preset's.
    pub preset: String,
}

/// A flag that cannot be followed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// Its value makes no sense.
    #[error("--{flag} {value}: {need}")]
    Value {
        /// Without the dashes.
        flag: &'static str,
        /// As given, or the preset's.
        value: String,
        /// What it must be.
        need: String,
    },
    /// It contradicts the run that is resumed.
    #[error(
        "--{flag} {given} contradicts the run, whose config.json has {run}; leave the flag out, or start a new run"
    )]
    Contradiction {
        /// Without the dashes.
        flag: &'static str,
        /// The value given.
        given: String,
        /// The run's value.
        run: String,
    },
}

impl ConfigError {
    pub(super) fn value(flag: &'static str, value: impl Display, need: impl Into<String>) -> Self {
        ConfigError::Value { flag, value: value.to_string(), need: need.into() }
    }
}

impl Config {
    /// The configuration that flags ask for, and why its device and preset are what they are. `gpu` is as in
    /// [`Device::choose`].
    ///
    /// # Errors
    /// When a value is out of its range or does not go with the others.
    pub fn new(
        flags: &Flags,
        gpu: impl FnOnce() -> Result<(), String>,
    ) -> Result<(Config, Reasons), ConfigError> {
        let (device, why) = flags.device.unwrap_or_default().choose(gpu);
        let (preset, reason) = flags.preset.unwrap_or_default().choose(device);
        let recipe = preset.recipe();
        let epochs = flags.epochs.unwrap_or(recipe.epochs);
        let mask = flags.mask.masking(&recipe)?;
        let config = Config {
            preset: preset.to_string(),
            model: flags.model.unwrap_or(recipe.model),
            width: flags.width.unwrap_or(recipe.width),
            epochs,
            batch_size: flags.batch_size.unwrap_or(recipe.batch_size),
            lr: flags.lr.unwrap_or(recipe.lr),
            peak_epoch: flags.peak_epoch.unwrap_or_else(|| preset.peak_epoch(epochs)),
            momentum: flags.momentum.unwrap_or(0.9),
            weight_decay: flags.weight_decay.unwrap_or(5e-4),
            label_smoothing: flags.label_smoothing.unwrap_or(0.0),
            train_images: flags.train_images.or(recipe.train_images),
            workers: flags.workers.workers(recipe.workers, mask.as_ref())?,
            mask,
            data: flags.data.unwrap_or_default().to_string(),
            device: device.to_string(),
            precision: flags.precision.unwrap_or(device.precision()),
            seed: flags.seed.unwrap_or(0),
            checkpoint_every: flags.checkpoint_every.unwrap_or(1),
        };
        config.check()?;
        Ok((config, Reasons { device: why, preset: reason }))
    }

    /// Whether every value is in its range and goes with the others, as far as can be told without the data.
    ///
    /// # Errors
    /// The first that does not, with what it must be.
    pub fn check(&self) -> Result<(), ConfigError> {
        let range = |flag, value: f64, allowed: bool, need: &str| {
            if allowed { Ok(()) } else { Err(ConfigError::value(flag, value, need)) }
        };
        check_width(self.width)?;
        if self.epochs == 0 {
            return Err(ConfigError::value("epochs", 0, "train for at least 1 epoch"));
        }
        if self.batch_size == 0 {
            return Err(ConfigError::value("batch-size", 0, "a step needs at least 1 image"));
        }
        if self.train_images == Some(0) {
            return Err(ConfigError::value("train-images", 0, "training needs at least 1 image"));
        }
        let Config { lr, peak_epoch, momentum, weight_decay, label_smoothing, .. } = *self;
        range("lr", lr, lr > 0.0 && lr.is_finite(), "must be a number above 0")?;
        let (last, need) = (f64::from(self.epochs), format!("must be from 0 to the {} epochs", self.epochs));
        range("peak-epoch", peak_epoch, (0.0..=last).contains(&peak_epoch), &need)?;
        range("momentum", momentum, (0.0..1.0).contains(&momentum), "must be at least 0 and below 1")?;
        range("weight-decay", weight_decay, (0.0..=1.0).contains(&weight_decay), "must be from 0 to 1")?;
        let allowed = (0.0..1.0).contains(&label_smoothing);
        range("label-smoothing", label_smoothing, allowed, "must be at least 0 and below 1")?;
        let precision = self.device()?.precision();
        if self.precision != precision {
            let need =
                format!("{} stores {precision}; leave the flag out, or choose another --device", self.device);
            return Err(ConfigError::value("precision", self.precision, need));
        }
        if self.mask.is_some() || self.workers.is_some() {
            let graph = self.model.graph(self.width);
            let layout = graph.map_err(|e| ConfigError::value("width", self.width, e.to_string()))?.layout;
            self.mask.map_or(Ok(()), |mask| mask.check(&layout, self.epochs))?;
            self.workers.map_or(Ok(()), |workers| workers.check(self.mask.as_ref(), &layout))?;
        }
        self.train_images.map_or(Ok(()), |images| self.check_images(images))
    }

    /// What trains.
    ///
    /// # Errors
    /// When the text, which a file may hold, names no device.
    pub fn device(&self) -> Result<Device, ConfigError> {
        self.device.parse().map_err(|need| ConfigError::value("device", &self.device, need))
    }

    /// The number of training images used, of `available` ones.
    ///
    /// # Errors
    /// When there are not as many as asked for, or fewer than a batch.
    pub fn images(&self, available: usize) -> Result<usize, ConfigError> {
        match self.train_images {
            Some(wanted) if wanted > available => {
                let need = format!("{} has only {available} training images", self.data);
                Err(ConfigError::value("train-images", wanted, need))
            }
            wanted => {
                let images = wanted.unwrap_or(available);
                self.check_images(images)?;
                Ok(images)
            }
        }
    }

    /// Training images of a worker, of `images` in all.
    pub fn worker_images(&self, images: usize) -> usize {
        match self.workers {
            Some(Workers { count, shard_data: true, .. }) => images / count,
            _ => images,
        }
    }

    /// Workers that train the model.
    pub fn worker_count(&self) -> usize {
        self.workers.map_or(1, |workers| workers.count)
    }

    fn check_images(&self, images: usize) -> Result<(), ConfigError> {
        let own = self.worker_images(images);
        if let Some(Masking { kind: Kind::Fisher, fisher_samples, .. }) = self.mask {
            // Parts are even, and together may be fewer than there are images.
            let all = if own == images { images } else { own * self.worker_count() };
            Samples::check(fisher_samples, all)
                .map_err(|error| ConfigError::value("fisher-samples", fisher_samples, error.to_string()))?;
        }
        if self.batch_size <= own {
            return Ok(());
        }
        if let Some(Workers { count, shard_data: true, .. }) = self.workers {
            let batch = self.batch_size;
            let need = format!(
                "with --shard-data each has {own} of the {images} training images, fewer than a batch of {batch}; use fewer \
                 workers, or a smaller --batch-size"
            );
            return Err(ConfigError::value("workers", count, need));
        }
        let need = format!("larger than the training set of {images} images; an epoch would have no step");
        Err(ConfigError::value("batch-size", self.batch_size, need))
    }
}

/// Whether a network can be this wide.
///
/// # Errors
/// When it cannot, with what it must be.
pub fn check_width(width: usize) -> Result<(), ConfigError> {
    let id = ModelId::new(Model::default(), width);
    id.check().map_err(|need| ConfigError::value("width", width, need))
}

/// The number of threads meant by `--threads`: one a core when it is not given.
///
/// # Errors
/// When it is 0 or absurd.
pub fn threads(given: Option<usize>) -> Result<usize, ConfigError> {
    match given {
        None => Ok(std::thread::available_parallelism().map_or(1, |cores| cores.get())),
        Some(threads) if (1..=MAX_THREADS).contains(&threads) => Ok(threads),
        Some(threads) => {
            Err(ConfigError::value("threads", threads, format!("must be from 1 to {MAX_THREADS}")))
        }
    }
}
