//! The validated configuration of a run: one struct a group of settings.

use std::fmt::Display;

use serde::{Deserialize, Serialize};

use super::{
    CheckpointState, DataSource, Device, FisherTarget, Flags, Precision, WorkerMasks, masking, workers,
};
use crate::backend::Power;
use crate::distributed::Aggregate;
use crate::graph::{Model, ModelId};
use crate::mask::{Kind, Samples};
use crate::optim::UpdateRule;

/// More threads than any machine this program is for has cores.
const MAX_THREADS: usize = 4096;

/// A validated configuration. A run's `config.json` holds it, and resuming compares it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the recipe that the values not given came from.
    pub recipe: String,
    /// The network.
    pub network: ModelId,
    /// The images.
    pub data: DataSettings,
    /// How long and in which steps it is trained.
    pub train: TrainSettings,
    /// The optimiser's constants.
    pub optimizer: OptimizerSettings,
    /// The learning rate's course.
    pub schedule: ScheduleSettings,
    /// Which weights are trained.
    pub mask: MaskSettings,
    /// What is kept on disk, and when.
    pub checkpoint: CheckpointSettings,
    /// How many workers train, and how they merge.
    pub workers: WorkerSettings,
    /// What computes.
    pub device: DeviceSettings,
}

/// A data set, and how much of it is used.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSettings {
    /// The data set: at first the one asked for, then, and in `config.json`, the one that was found.
    pub set: DataSource,
    /// Training uses the first so many training images; `None`, in files `"all"`, uses all of them.
    #[serde(with = "all_or_count")]
    pub images: Option<usize>,
}

/// How long training takes and what a step is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSettings {
    /// Passes over the training images.
    pub epochs: u32,
    /// Images in a step.
    pub batch_size: usize,
    /// Key of every random choice.
    pub seed: u64,
    /// Share of the target that is spread over all classes.
    pub label_smoothing: f64,
}

/// Constants of stochastic gradient descent, all for the mean loss of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerSettings {
    /// The learning rate at the schedule's peak.
    pub lr: f64,
    /// Share of the velocity that stays at each step.
    pub momentum: f64,
    /// Weight decay.
    pub weight_decay: f64,
}

/// The course of the learning rate: from 0 up to the peak, and down to 0 at the end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleSettings {
    /// Epochs, or parts of them, before the peak.
    pub peak_epoch: f64,
}

/// Which weights are trained. A dense run trains all of them and reads no other field.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskSettings {
    /// How the weights that are trained are chosen.
    pub kind: Kind,
    /// Share of the weights that a mask keeps.
    pub keep_ratio: f64,
    /// Training images whose gradients score the weights.
    pub samples: usize,
    /// The classes whose losses are differentiated.
    pub target: FisherTarget,
    /// What a sample's gradient adds to a weight's score.
    pub power: Power,
    /// Epochs of dense training before the first mask.
    pub warmup_epochs: u32,
    /// Epochs from one selection of a single worker's mask to the next; 0 keeps the first for good.
    pub every: u32,
    /// What happens to weights outside the mask.
    pub rule: UpdateRule,
}

/// What checkpoints hold and when they are written.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointSettings {
    /// Epochs from one checkpoint to the next; 0 writes one only at the end and when stopped.
    pub every: u32,
    /// Whether checkpoints of a masked run hold what resuming takes.
    pub state: CheckpointState,
    /// How checkpoints of a masked run store values.
    pub values: Precision,
}

/// How many workers train one model and how they merge. A single worker reads no field but the first.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerSettings {
    /// Workers, at least 1.
    pub count: usize,
    /// Steps of each worker from one merge to the next.
    pub merge_steps: u32,
    /// Merges from one selection of a mask to the next; 0 keeps the first for good.
    pub reselect_merges: u32,
    /// Whether workers train the same kept weights or each its own.
    pub masks: WorkerMasks,
    /// How the workers' changes are put together.
    pub aggregate: Aggregate,
    /// Whether each worker sees only its own part of the training images.
    pub shard_data: bool,
}

/// What computes, and in which precision.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceSettings {
    /// The device; never [`Device::Auto`] in a run's configuration.
    pub name: Device,
    /// How activations are stored.
    pub precision: Precision,
}

/// Why a configuration's device and recipe are what they are, for the header.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reasons {
    /// Why this device.
    pub device: String,
    /// Why this recipe.
    pub recipe: String,
}

/// A flag that cannot be followed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// Its value makes no sense.
    #[error("--{flag} {value}: {need}")]
    Value {
        /// Without the dashes.
        flag: &'static str,
        /// As given, or the recipe's.
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
    /// The configuration that flags ask for, and why its device and recipe are what they are. `gpu` is as in
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
        let (mask, checkpoint) = flags.mask.resolve(&recipe, flags.checkpoint_every)?;
        let config = Config {
            recipe: preset.to_string(),
            network: ModelId::new(flags.model.unwrap_or(recipe.model), flags.width.unwrap_or(recipe.width)),
            data: DataSettings {
                set: flags.data.unwrap_or_default(),
                images: flags.train_images.or(recipe.train_images),
            },
            train: TrainSettings {
                epochs,
                batch_size: flags.batch_size.unwrap_or(recipe.batch_size),
                seed: flags.seed.unwrap_or(0),
                label_smoothing: flags.label_smoothing.unwrap_or(0.0),
            },
            optimizer: OptimizerSettings {
                lr: flags.lr.unwrap_or(recipe.lr),
                momentum: flags.momentum.unwrap_or(0.9),
                weight_decay: flags.weight_decay.unwrap_or(5e-4),
            },
            schedule: ScheduleSettings {
                peak_epoch: flags.peak_epoch.unwrap_or_else(|| preset.peak_epoch(epochs)),
            },
            workers: flags.workers.resolve(recipe.workers, &mask)?,
            mask,
            checkpoint,
            device: DeviceSettings { name: device, precision: flags.precision.unwrap_or(device.precision()) },
        };
        config.check()?;
        Ok((config, Reasons { device: why, recipe: reason }))
    }

    /// Whether every value is in its range and goes with the others, as far as can be told without the data.
    ///
    /// # Errors
    /// The first that does not, with what it must be.
    pub fn check(&self) -> Result<(), ConfigError> {
        let range = |flag, value: f64, allowed: bool, need: &str| {
            if allowed { Ok(()) } else { Err(ConfigError::value(flag, value, need)) }
        };
        check_width(self.network.width)?;
        let TrainSettings { epochs, batch_size, label_smoothing, .. } = self.train;
        if epochs == 0 {
            return Err(ConfigError::value("epochs", 0, "train for at least 1 epoch"));
        }
        if batch_size == 0 {
            return Err(ConfigError::value("batch-size", 0, "a step needs at least 1 image"));
        }
        if self.data.images == Some(0) {
            return Err(ConfigError::value("train-images", 0, "training needs at least 1 image"));
        }
        let OptimizerSettings { lr, momentum, weight_decay } = self.optimizer;
        let peak_epoch = self.schedule.peak_epoch;
        range("lr", lr, lr > 0.0 && lr.is_finite(), "must be a number above 0")?;
        let (last, need) = (f64::from(epochs), format!("must be from 0 to the {epochs} epochs"));
        range("peak-epoch", peak_epoch, (0.0..=last).contains(&peak_epoch), &need)?;
        range("momentum", momentum, (0.0..1.0).contains(&momentum), "must be at least 0 and below 1")?;
        range("weight-decay", weight_decay, (0.0..=1.0).contains(&weight_decay), "must be from 0 to 1")?;
        let allowed = (0.0..1.0).contains(&label_smoothing);
        range("label-smoothing", label_smoothing, allowed, "must be at least 0 and below 1")?;
        let precision = self.device.name.precision();
        if self.device.precision != precision {
            let name = self.device.name;
            let need = format!("{name} stores {precision}; leave the flag out, or choose another --device");
            return Err(ConfigError::value("precision", self.device.precision, need));
        }
        if self.is_masked() || self.has_workers() {
            let (graph, width) = (self.network.graph(), self.network.width);
            let layout = graph.map_err(|e| ConfigError::value("width", width, e.to_string()))?.layout;
            masking::check(self, &layout)?;
            workers::check(self, &layout)?;
        } else if self.workers.count == 0 {
            return Err(ConfigError::value("workers", 0, "training needs at least 1 worker"));
        }
        self.data.images.map_or(Ok(()), |images| self.check_images(images))
    }

    /// The number of training images used, of `available` ones.
    ///
    /// # Errors
    /// When there are not as many as asked for, or fewer than a batch.
    pub fn images(&self, available: usize) -> Result<usize, ConfigError> {
        match self.data.images {
            Some(wanted) if wanted > available => {
                let need = format!("{} has only {available} training images", self.data.set);
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
        if self.shards() { images / self.workers.count } else { images }
    }

    /// Whether a mask chooses the weights that are trained.
    pub fn is_masked(&self) -> bool {
        self.mask.kind != Kind::Dense
    }

    /// The mask's settings, of a run that has a mask.
    pub fn masked(&self) -> Option<MaskSettings> {
        self.is_masked().then_some(self.mask)
    }

    /// Whether several workers train the model.
    pub fn has_workers(&self) -> bool {
        self.workers.count > 1
    }

    /// The workers' settings, of a run that has several.
    pub fn several(&self) -> Option<WorkerSettings> {
        self.has_workers().then_some(self.workers)
    }

    /// Whether each of several workers sees only its own part of the training images.
    pub fn shards(&self) -> bool {
        self.has_workers() && self.workers.shard_data
    }

    /// Whether the run's checkpoints hold what resuming takes: only those of masked runs may not.
    pub fn is_resumable(&self) -> bool {
        !self.is_masked() || self.checkpoint.state == CheckpointState::On
    }

    fn check_images(&self, images: usize) -> Result<(), ConfigError> {
        let (own, batch) = (self.worker_images(images), self.train.batch_size);
        if self.mask.kind == Kind::Fisher {
            // Parts are even, and together may be fewer than there are images.
            let all = if own == images { images } else { own * self.workers.count };
            let samples = self.mask.samples;
            Samples::check(samples, all)
                .map_err(|error| ConfigError::value("fisher-samples", samples, error.to_string()))?;
        }
        if batch <= own {
            return Ok(());
        }
        if self.shards() {
            let need = format!(
                "with --shard-data each has {own} of the {images} training images, fewer than a batch of {batch}; use fewer \
                 workers, or a smaller --batch-size"
            );
            return Err(ConfigError::value("workers", self.workers.count, need));
        }
        let need = format!("larger than the training set of {images} images; an epoch would have no step");
        Err(ConfigError::value("batch-size", batch, need))
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

/// A number of images in files: `"all"` or a number.
mod all_or_count {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Images {
        Count(usize),
        Word(String),
    }

    pub fn serialize<S: Serializer>(images: &Option<usize>, to: S) -> Result<S::Ok, S::Error> {
        images.map_or_else(|| Images::Word("all".into()), Images::Count).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<usize>, D::Error> {
        match Images::deserialize(from)? {
            Images::Count(count) => Ok(Some(count)),
            Images::Word(word) if word == "all" => Ok(None),
            Images::Word(word) => {
                Err(D::Error::custom(format!("images: {word:?} is neither a number nor \"all\"")))
            }
        }
    }
}
