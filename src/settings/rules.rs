//! Which values go together: the checks of a whole configuration.

use super::choices::{CheckpointState, WorkerMasks};
use super::setting::Written;
use super::table::settings;
use super::{Config, ConfigError};
use crate::device::Precision;
use crate::distributed::Aggregate;
use crate::graph::Layout;
use crate::mask::{Kind, Samples};
use crate::optim::UpdateRule;

/// More threads than any machine this program is for has cores.
const MAX_THREADS: usize = 4096;

impl Config {
    /// Whether every value is in its range and goes with the others, as far as can be told without the data.
    ///
    /// # Errors
    /// The first that does not, named by its key, with what it must be.
    pub fn check(&self) -> Result<(), ConfigError> {
        for setting in settings() {
            let value = self.get(setting.key);
            let written = Written::of(&value);
            setting.read(&written).map_err(|need| ConfigError::value(setting.key, written.toml(), need))?;
        }
        let (epochs, peak) = (self.train.epochs, self.schedule.peak_epoch);
        if !(0.0..=f64::from(epochs)).contains(&peak) {
            let need = format!("must be from 0 to the {epochs} epochs");
            return Err(ConfigError::value("schedule.peak_epoch", peak, need));
        }
        let (name, stored) = (self.device.name, self.device.name.precision());
        if self.device.precision != stored {
            let need = format!("{name} stores {stored}; leave it out, or choose another --device");
            return Err(ConfigError::value("device.precision", self.device.precision, need));
        }
        if self.is_masked() || self.has_workers() || self.start.has_files() {
            let width = self.network.width;
            let graph = self.network.graph();
            let layout = graph.map_err(|e| ConfigError::value("network.width", width, e.to_string()))?.layout;
            self.check_start(&layout)?;
            self.check_mask(&layout)?;
            self.check_workers(&layout)?;
        }
        self.data.images.map_or(Ok(()), |images| self.check_images(images))
    }

    fn check_start(&self, layout: &Layout) -> Result<(), ConfigError> {
        if let Some(pattern) = self.start.idle_pattern(layout) {
            let named = layout.parameters.first().map_or("", |parameter| &parameter.name);
            let model = self.network.model;
            let need = format!("{pattern:?} is the name of no tensor of {model}, whose first is {named}");
            return Err(ConfigError::value("start.weights_only", &self.start.weights_only, need));
        }
        if self.mask.kind == Kind::File && self.start.mask.is_none() {
            return Err(ConfigError::value("mask.kind", "file", "give the mask's file by --mask-file"));
        }
        Ok(())
    }

    fn check_mask(&self, layout: &Layout) -> Result<(), ConfigError> {
        let refuse = |key, value: &str, need: &str| Err(ConfigError::value(key, value, need));
        let (Some(mask), epochs) = (self.masked(), self.train.epochs) else { return Ok(()) };
        if mask.kind.is_chosen()
            && let Err(error) = mask.quota(layout)
        {
            return refuse("mask.keep_ratio", &mask.keep_ratio.to_string(), &error.to_string());
        }
        if mask.warmup_epochs >= epochs {
            let need = format!("must be below the {epochs} epochs, or no mask is ever used");
            return refuse("mask.warmup_epochs", &mask.warmup_epochs.to_string(), &need);
        }
        let (strict, state) = (mask.rule == UpdateRule::Strict, self.checkpoint.state);
        let full = "the published rule moves every weight: its checkpoints are full";
        if !strict && state == CheckpointState::Off {
            return refuse("checkpoint.state", "off", full);
        }
        if self.checkpoint.values == Precision::F16 && state == CheckpointState::On {
            let rounded = "rounded values cannot be resumed from; give --checkpoint-state off as well";
            return refuse("checkpoint.values", "f16", if strict { rounded } else { full });
        }
        Ok(())
    }

    fn check_workers(&self, layout: &Layout) -> Result<(), ConfigError> {
        let refuse = |key, value: &str, need: &str| Err(ConfigError::value(key, value, need));
        let Some(workers) = self.several() else { return Ok(()) };
        let sum = workers.aggregate == Aggregate::Sum;
        if sum && workers.masks == WorkerMasks::Same {
            let need = "workers that train the same weights would move them several times as far; give \
                        --worker-masks interleaved, or --aggregate mean";
            return refuse("workers.aggregate", "sum", need);
        }
        if !self.is_masked() {
            let need = "a dense run has no masks; give a --mask";
            return match workers.masks {
                WorkerMasks::Same => Ok(()),
                WorkerMasks::Interleaved => refuse("workers.masks", "interleaved", need),
            };
        }
        if self.mask.every != 0 {
            let need = "with several workers a mask is selected after merges; give --reselect-merges";
            return refuse("mask.every", &self.mask.every.to_string(), need);
        }
        if sum && self.mask.rule == UpdateRule::Published {
            let need = "the published rule moves every weight of every worker; give --update-rule strict, or \
                        --aggregate mean";
            return refuse("workers.aggregate", "sum", need);
        }
        if !self.mask.kind.is_chosen() {
            let need = "a file holds one mask, which all workers train; leave it out";
            return match workers.masks {
                WorkerMasks::Same => Ok(()),
                WorkerMasks::Interleaved => refuse("workers.masks", "interleaved", need),
            };
        }
        let quota = workers.quota(&self.mask, layout);
        quota.map(drop).or_else(|error| {
            let need =
                format!("{error}; choose a smaller --keep-ratio, fewer --workers, or --worker-masks same");
            refuse("workers.masks", "interleaved", &need)
        })
    }

    /// The number of training images used, of `available` ones.
    ///
    /// # Errors
    /// When there are not as many as asked for, or fewer than a batch.
    pub fn images(&self, available: usize) -> Result<usize, ConfigError> {
        match self.data.images {
            Some(wanted) if wanted > available => {
                let need = format!("{} has only {available} training images", self.data.set);
                Err(ConfigError::value("data.images", wanted, need))
            }
            wanted => {
                let images = wanted.unwrap_or(available);
                self.check_images(images)?;
                Ok(images)
            }
        }
    }

    fn check_images(&self, images: usize) -> Result<(), ConfigError> {
        let (own, batch) = (self.worker_images(images), self.train.batch_size);
        if self.mask.kind.needs_samples() {
            // Parts are even, and together may be fewer than there are images.
            let all = if own == images { images } else { own * self.workers.count };
            let samples = self.mask.samples;
            Samples::check(samples, all)
                .map_err(|error| ConfigError::value("mask.samples", samples, error.to_string()))?;
        }
        if batch <= own {
            return Ok(());
        }
        if self.shards() {
            let need = format!(
                "with --shard-data each has {own} of the {images} training images, fewer than a batch of \
                 {batch}; use fewer workers, or a smaller --batch-size"
            );
            return Err(ConfigError::value("workers.count", self.workers.count, need));
        }
        let need = format!("larger than the training set of {images} images; an epoch would have no step");
        Err(ConfigError::value("train.batch_size", batch, need))
    }
}

/// The number of threads meant by `--threads`: one a core when it is not given.
///
/// # Errors
/// When it is 0 or absurd.
pub fn threads(given: Option<usize>) -> Result<usize, ConfigError> {
    match given {
        None => Ok(std::thread::available_parallelism().map_or(1, |cores| cores.get())),
        Some(threads) if (1..=MAX_THREADS).contains(&threads) => Ok(threads),
        Some(threads) => Err(ConfigError::Value {
            key: "",
            shown: format!("--threads {threads}"),
            need: format!("must be from 1 to {MAX_THREADS}"),
        }),
    }
}
