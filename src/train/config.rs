//! From flags to a validated configuration.

use std::fmt::Display;

use serde::{Deserialize, Serialize};

use super::{Device, MaskFlags, Masking, Precision, Preset, WorkerFlags, Workers};
use crate::graph::Model;
use crate::mask::{Kind, Samples};

/// The widest network. Every canonical index then fits 32 bits, for each of the models.
const MAX_WIDTH: usize = 512;
/// More threads than any machine this program is for has cores.
const MAX_THREADS: usize = 4096;

/// The flags that say what is trained and how. Those not given take the preset's value.
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
pub struct Flags {
    /// Recipe for the flags that are not given [default: auto, which is dawn on a GPU and quick on a CPU]
    #[arg(long, value_enum)]
    pub preset: Option<Preset>,
    /// Network [default: resnet9; small-checkpoints resnet34]
    #[arg(long, value_enum)]
    pub model: Option<Model>,
    /// Channels of the network's stem; all others scale with it [default: dawn 64, quick 16]
    #[arg(long, value_name = "CHANNELS")]
    pub width: Option<usize>,
    /// Passes over the training images [default: dawn 24, workers 50, quick 8]
    #[arg(long, value_name = "N")]
    pub epochs: Option<u32>,
    /// Images in a step [default: dawn 512, quick 128]
    #[arg(long, value_name = "IMAGES")]
    pub batch_size: Option<usize>,
    /// The schedule's peak, for the mean loss [default: dawn 0.4, quick 0.2]
    #[arg(long, allow_negative_numbers = true)]
    pub lr: Option<f64>,
    /// Epoch of the peak [default: dawn 5, quick 20% of the epochs]
    #[arg(long, value_name = "EPOCH", allow_negative_numbers = true)]
    pub peak_epoch: Option<f64>,
    /// Share of the velocity that stays at each step [default: 0.9]
    #[arg(long, allow_negative_numbers = true)]
    pub momentum: Option<f64>,
    /// Decay, for the mean loss [default: 0.0005]
    #[arg(long, allow_negative_numbers = true)]
    pub weight_decay: Option<f64>,
    /// Share of the target spread over all classes [default: 0]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub label_smoothing: Option<f64>,
    /// Train on the first so many images [default: dawn all, quick 10000]
    #[arg(long, value_name = "N")]
    pub train_images: Option<usize>,
    /// Which weights are trained.
    #[command(flatten)]
    pub mask: MaskFlags,
    /// How many train it.
    #[command(flatten)]
    pub workers: WorkerFlags,
    /// Data set [default: cifar10]
    #[arg(long, value_enum)]
    pub data: Option<DataSource>,
    /// What trains: auto, cpu, cuda, cuda:N or emulated (the GPU's kernels on the CPU: slow) [default: auto, which is
    /// cuda where it can be used, else cpu]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<Device>,
    /// How activations are stored [default: f16 on cuda and emulated, f32 on cpu]
    #[arg(long, value_enum)]
    pub precision: Option<Precision>,
    /// Seed of every random choice [default: 0]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Epochs between checkpoints; 0 writes one only at the end and when stopped [default: 1]
    #[arg(long, value_name = "EPOCHS")]
    pub checkpoint_every: Option<u32>,
}

/// Which data set is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum DataSource {
    /// CIFAR-10.
    #[default]
    Cifar10,
    /// Procedural pictures in ten classes.
    Synthetic,
}

impl Display for DataSource {
    /// The data set's name, as tables and files show it.
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            DataSource::Cifar10 => "CIFAR-10",
            DataSource::Synthetic => SYNTHETIC,
        })
    }
}

/// The name of the data set that is not CIFAR-10.
pub const SYNTHETIC: &str = "synthetic";

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

    /// The first flag of which another process of the run has another value, with both: own, then the other's. They may
    /// train on different devices, if these have the same precision.
    pub fn difference(&self, other: &Config) -> Option<(String, String, String)> {
        fn flags(value: serde_json::Value, all: &mut Vec<(String, String)>) {
            let serde_json::Value::Object(map) = value else { return };
            for (name, value) in map {
                match value {
                    value @ serde_json::Value::Object(_) => flags(value, all),
                    serde_json::Value::String(text) => all.push((name, text)),
                    value => all.push((name, value.to_string())),
                }
            }
        }
        let [own, other] = [self, other].map(|config| {
            let mut all = vec![];
            serde_json::to_value(config).map(|value| flags(value, &mut all)).ok();
            all
        });
        let mut names: Vec<&String> = own.iter().chain(&other).map(|(name, _)| name).collect();
        // Those on which the others depend come first.
        names.sort_by_key(|name| !["kind", "count", "precision"].contains(&name.as_str()));
        let value = |of: &[(String, String)], name: &str| {
            let found = of.iter().find(|(n, _)| n == name);
            found.map_or_else(|| "(not set)".to_string(), |(_, value)| value.clone())
        };
        let mut differing = names.into_iter().filter(|name| !["preset", "device"].contains(&name.as_str()));
        let name = differing.find(|name| value(&own, name) != value(&other, name))?;
        let flag = match name.as_str() {
            "kind" => "mask".into(),
            "count" => "workers".into(),
            "masks" => "worker-masks".into(),
            name => name.replace('_', "-"),
        };
        Some((flag, value(&own, name), value(&other, name)))
    }

    /// Whether flags given with `--resume` say the same as the run.
    ///
    /// # Errors
    /// The first that says something else, with both values.
    pub fn agrees(&self, flags: &Flags) -> Result<(), ConfigError> {
        fn same<T: Display>(
            flag: &'static str,
            given: &Option<T>,
            run: impl Display,
        ) -> Result<(), ConfigError> {
            match given.as_ref().map(T::to_string) {
                Some(given) if given != run.to_string() => {
                    Err(ConfigError::Contradiction { flag, given, run: run.to_string() })
                }
                _ => Ok(()),
            }
        }
        // What `auto` chose when the run was begun stays chosen.
        let device = flags.device.filter(|&device| device != Device::Auto);
        let ours = self.device.parse().unwrap_or_default();
        let preset = flags.preset.map(|preset| preset.choose(ours).0);
        same("preset", &preset, &self.preset)?;
        same("model", &flags.model, self.model)?;
        same("width", &flags.width, self.width)?;
        same("epochs", &flags.epochs, self.epochs)?;
        same("batch-size", &flags.batch_size, self.batch_size)?;
        same("lr", &flags.lr, self.lr)?;
        same("peak-epoch", &flags.peak_epoch, self.peak_epoch)?;
        same("momentum", &flags.momentum, self.momentum)?;
        same("weight-decay", &flags.weight_decay, self.weight_decay)?;
        same("label-smoothing", &flags.label_smoothing, self.label_smoothing)?;
        let images = self.train_images.map_or("all".to_string(), |images| images.to_string());
        same("train-images", &flags.train_images, images)?;
        flags.mask.agrees(self.mask.as_ref())?;
        flags.workers.agrees(self.workers.as_ref())?;
        same("data", &flags.data, &self.data)?;
        same("device", &device, &self.device)?;
        same("precision", &flags.precision, self.precision)?;
        same("seed", &flags.seed, self.seed)?;
        same("checkpoint-every", &flags.checkpoint_every, self.checkpoint_every)
    }
}

/// Whether a network can be this wide.
///
/// # Errors
/// When it cannot, with what it must be.
pub fn check_width(width: usize) -> Result<(), ConfigError> {
    if (1..=MAX_WIDTH).contains(&width) {
        return Ok(());
    }
    Err(ConfigError::value("width", width, format!("must be from 1 to {MAX_WIDTH} channels")))
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
