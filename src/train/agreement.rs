//! Whether a run's configuration is that of another process, or of the flags that resume it.

use std::fmt::Display;

use super::{Config, ConfigError, Device, Flags};

impl Config {
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
