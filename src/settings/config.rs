//! The validated configuration of a run: one struct a group of settings.

use serde::{Deserialize, Serialize};

use super::{CheckpointState, Session, StartSettings, WorkerMasks};
use crate::data::DataSource;
use crate::device::{Device, Precision};
use crate::distributed::Aggregate;
use crate::graph::scoring::{ScoreRule, Statistics, Target};
use crate::graph::{Layout, ModelId};
use crate::mask::{Error, Kind, Quota};
use crate::ops::Power;
use crate::optim::{PiecewiseLinear, UpdateRule};

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
    /// What it starts from.
    pub start: StartSettings,
    /// Which weights are trained.
    pub mask: MaskSettings,
    /// What is kept on disk, and when.
    pub checkpoint: CheckpointSettings,
    /// How many workers train, and how they merge.
    pub workers: WorkerSettings,
    /// What computes.
    pub device: DeviceSettings,
    /// Each start of the run, once there is one. They are no settings: nothing that is computed depends on
    /// them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sessions: Vec<Session>,
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

/// The course of the learning rate: from 0 up to the peak, and down again until the end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleSettings {
    /// Epochs, or parts of them, before the peak.
    pub peak_epoch: f64,
    /// Share of the peak's learning rate that is left at the end.
    #[serde(rename = "final")]
    pub final_share: f64,
}

/// Which weights are trained. A dense run trains all of them and reads no other field.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskSettings {
    /// How the weights that are trained are chosen.
    pub kind: Kind,
    /// Share of the weights that a mask keeps; of a mask of a file, what the file says once it is read.
    pub keep_ratio: f64,
    /// Training images whose gradients score the weights.
    pub samples: usize,
    /// The classes whose losses are differentiated.
    pub target: Target,
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
    /// Whether the weights of the best test accuracy so far are kept beside the final ones.
    pub best: bool,
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

impl Config {
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

    /// The learning rate by epochs trained.
    pub fn schedule(&self) -> PiecewiseLinear {
        let (epochs, lr) = (f64::from(self.train.epochs), self.optimizer.lr);
        let ScheduleSettings { peak_epoch, final_share } = self.schedule;
        PiecewiseLinear::triangle((peak_epoch, lr), (epochs, lr * final_share))
    }

    /// Training images of a worker, of `images` in all.
    pub fn worker_images(&self, images: usize) -> usize {
        if self.shards() { images / self.workers.count } else { images }
    }
}

impl MaskSettings {
    /// How many weights a mask keeps.
    ///
    /// # Errors
    /// As [`Quota::new`].
    pub fn quota(&self, layout: &Layout) -> Result<Quota, Error> {
        Quota::new(layout, self.keep_ratio)
    }

    /// How samples are scored before an epoch: with the running statistics once there are any.
    pub fn rule(&self, epoch: u32) -> ScoreRule {
        let statistics = if epoch > 0 { Statistics::Running } else { Statistics::Own };
        ScoreRule { power: self.power, target: self.target, statistics }
    }
}

impl WorkerSettings {
    /// How many weights the workers keep between them.
    ///
    /// # Errors
    /// As [`Quota::new`], and when there are not as many.
    pub fn quota(&self, mask: &MaskSettings, layout: &Layout) -> Result<Quota, Error> {
        let quota = mask.quota(layout)?;
        match self.masks {
            WorkerMasks::Same => Ok(quota),
            WorkerMasks::Interleaved => quota.times(self.count),
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
