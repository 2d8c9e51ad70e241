//! Whether a run's configuration is that of another process, or of the flags that resume it.

use std::fmt::Display;

use super::{Config, ConfigError, Device, Flags};

/// The flag of each key.
const FLAGS: &[(&str, &str)] = &[
    ("network.model", "model"),
    ("network.width", "width"),
    ("data.set", "data"),
    ("data.images", "train-images"),
    ("train.epochs", "epochs"),
    ("train.batch_size", "batch-size"),
    ("train.seed", "seed"),
    ("train.label_smoothing", "label-smoothing"),
    ("optimizer.lr", "lr"),
    ("optimizer.momentum", "momentum"),
    ("optimizer.weight_decay", "weight-decay"),
    ("schedule.peak_epoch", "peak-epoch"),
    ("mask.kind", "mask"),
    ("mask.keep_ratio", "keep-ratio"),
    ("mask.samples", "fisher-samples"),
    ("mask.target", "fisher-target"),
    ("mask.power", "fisher-power"),
    ("mask.warmup_epochs", "warmup-epochs"),
    ("mask.every", "mask-every"),
    ("mask.rule", "update-rule"),
    ("checkpoint.every", "checkpoint-every"),
    ("checkpoint.state", "checkpoint-state"),
    ("checkpoint.values", "checkpoint-values"),
    ("workers.count", "workers"),
    ("workers.merge_steps", "merge-steps"),
    ("workers.reselect_merges", "reselect-merges"),
    ("workers.masks", "worker-masks"),
    ("workers.aggregate", "aggregate"),
    ("workers.shard_data", "shard-data"),
    ("device.precision", "precision"),
];

impl Config {
    /// The first flag of which another process of the run has another value, with both: own, then the other's. They may
    /// train on different devices, if these have the same precision.
    pub fn difference(&self, other: &Config) -> Option<(String, String, String)> {
        fn flatten(prefix: &str, value: serde_json::Value, all: &mut Vec<(String, String)>) {
            let serde_json::Value::Object(map) = value else { return };
            for (name, value) in map {
                let name = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
                match value {
                    value @ serde_json::Value::Object(_) => flatten(&name, value, all),
                    serde_json::Value::String(text) => all.push((name, text)),
                    value => all.push((name, value.to_string())),
                }
            }
        }
        let [own, other] = [self, other].map(|config| {
            let mut all = vec![];
            serde_json::to_value(config).map(|value| flatten("", value, &mut all)).ok();
            all
        });
        let mut pairs: Vec<_> = own.into_iter().zip(other).collect();
        // Settings on which others depend come first.
        let first = ["mask.kind", "workers.count", "device.precision"];
        pairs.sort_by_key(|((name, _), _)| !first.contains(&name.as_str()));
        let differs = |((name, own), (_, other)): &((String, String), (String, String))| {
            !["recipe", "device.name"].contains(&name.as_str()) && own != other
        };
        let ((name, own), (_, other)) = pairs.into_iter().find(differs)?;
        let flag = FLAGS.iter().find(|(key, _)| *key == name).map_or(name.as_str(), |(_, flag)| flag);
        Some((flag.to_string(), own, other))
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
        let preset = flags.preset.map(|preset| preset.choose(self.device.name).0);
        same("preset", &preset, &self.recipe)?;
        same("model", &flags.model, self.network.model)?;
        same("width", &flags.width, self.network.width)?;
        same("epochs", &flags.epochs, self.train.epochs)?;
        same("batch-size", &flags.batch_size, self.train.batch_size)?;
        same("lr", &flags.lr, self.optimizer.lr)?;
        same("peak-epoch", &flags.peak_epoch, self.schedule.peak_epoch)?;
        same("momentum", &flags.momentum, self.optimizer.momentum)?;
        same("weight-decay", &flags.weight_decay, self.optimizer.weight_decay)?;
        same("label-smoothing", &flags.label_smoothing, self.train.label_smoothing)?;
        let images = self.data.images.map_or("all".to_string(), |images| images.to_string());
        same("train-images", &flags.train_images, images)?;
        flags.mask.agrees(self)?;
        flags.workers.agrees(self)?;
        same("data", &flags.data, self.data.set)?;
        same("device", &device, self.device.name)?;
        same("precision", &flags.precision, self.device.precision)?;
        same("seed", &flags.seed, self.train.seed)?;
        same("checkpoint-every", &flags.checkpoint_every, self.checkpoint.every)
    }
}
