//! The flags of masks, and what they come to.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::preset::Recipe;
use super::{CheckpointSettings, Config, ConfigError, MaskSettings, Precision, WorkerSettings};
use crate::backend::Power;
use crate::graph::{Layout, scoring};
use crate::mask::{Error, Kind, Quota};
use crate::optim::UpdateRule;

/// Which losses' gradients count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum FisherTarget {
    /// That of the sample's label.
    #[default]
    Label,
    /// Those of all classes, weighted by their predicted probability.
    Expect,
}

/// Whether checkpoints of a masked run hold what resuming takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum CheckpointState {
    /// Velocities and position with the values.
    #[default]
    On,
    /// The values alone.
    Off,
}

/// The flags that say which weights are trained.
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
pub struct MaskFlags {
    /// Weights that are trained [default: dense, which is all; fisher in the presets with masks]
    #[arg(long, value_enum)]
    pub mask: Option<Kind>,
    /// Share of the weights that a mask keeps [default: 0.02]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub keep_ratio: Option<f64>,
    /// Training images whose gradients score the weights [default: 1024; workers and the quick presets 256]
    #[arg(long, value_name = "N")]
    pub fisher_samples: Option<usize>,
    /// The class whose loss is differentiated: the label, or each by its predicted probability [default: label]
    #[arg(long, value_enum)]
    pub fisher_target: Option<FisherTarget>,
    /// How a sample's gradient counts [default: square]
    #[arg(long, value_enum)]
    pub fisher_power: Option<Power>,
    /// Epochs that train all weights before the first mask [default: 0; workers 5, workers-quick 1]
    #[arg(long, value_name = "EPOCHS")]
    pub warmup_epochs: Option<u32>,
    /// Epochs until a mask is selected anew; 0 never [default: 0]
    #[arg(long, value_name = "EPOCHS")]
    pub mask_every: Option<u32>,
    /// What a mask leaves alone: strict the weights outside it, published only their gradients [default: strict]
    #[arg(long, value_enum)]
    pub update_rule: Option<UpdateRule>,
    /// Whether a strict mask's checkpoints hold velocities and position, to resume from [default: on]
    #[arg(long, value_enum)]
    pub checkpoint_state: Option<CheckpointState>,
    /// How a strict mask's checkpoints store values; f16 rounds them, for runs that need not be resumed [default: f32]
    #[arg(long, value_enum)]
    pub checkpoint_values: Option<Precision>,
}

impl MaskFlags {
    /// What the flags ask for, with a recipe's defaults.
    ///
    /// # Errors
    /// When a flag is given that only masks know, and there is none.
    pub(super) fn resolve(
        &self,
        recipe: &Recipe,
        checkpoint_every: Option<u32>,
    ) -> Result<(MaskSettings, CheckpointSettings), ConfigError> {
        let kind = self.mask.unwrap_or(recipe.mask);
        let (wanted, need) = match kind {
            Kind::Dense => ("", "this is for --mask fisher or --mask random"),
            _ => ("fisher", "this is for --mask fisher"),
        };
        if kind != Kind::Fisher {
            let mut given = self.given().into_iter().filter(|(flag, _)| flag.starts_with(wanted));
            if let Some((flag, value)) = given.find_map(|(flag, value)| Some((flag, value?))) {
                return Err(ConfigError::Value { flag, value, need: need.into() });
            }
        }
        let mask = MaskSettings {
            kind,
            keep_ratio: self.keep_ratio.unwrap_or(0.02),
            samples: self.fisher_samples.unwrap_or(recipe.fisher_samples),
            target: self.fisher_target.unwrap_or_default(),
            power: self.fisher_power.unwrap_or_default(),
            warmup_epochs: self.warmup_epochs.unwrap_or(recipe.warmup_epochs),
            every: self.mask_every.unwrap_or(0),
            rule: self.update_rule.unwrap_or_default(),
        };
        let checkpoint = CheckpointSettings {
            every: checkpoint_every.unwrap_or(1),
            state: self.checkpoint_state.unwrap_or_default(),
            values: self.checkpoint_values.unwrap_or(Precision::F32),
        };
        Ok((mask, checkpoint))
    }

    /// Each flag but `mask`, and its value as it is typed if it was given.
    fn given(&self) -> [(&'static str, Option<String>); 9] {
        [
            ("keep-ratio", self.keep_ratio.map(|v| v.to_string())),
            ("fisher-samples", self.fisher_samples.map(|v| v.to_string())),
            ("fisher-target", self.fisher_target.map(typed)),
            ("fisher-power", self.fisher_power.map(typed)),
            ("warmup-epochs", self.warmup_epochs.map(|v| v.to_string())),
            ("mask-every", self.mask_every.map(|v| v.to_string())),
            ("update-rule", self.update_rule.map(typed)),
            ("checkpoint-state", self.checkpoint_state.map(typed)),
            ("checkpoint-values", self.checkpoint_values.map(typed)),
        ]
    }

    /// Whether these flags, given with `--resume`, say the same as the run.
    ///
    /// # Errors
    /// The first that says something else.
    pub(super) fn agrees(&self, run: &Config) -> Result<(), ConfigError> {
        let contradiction = |flag, given, run| Err(ConfigError::Contradiction { flag, given, run });
        let kind = run.mask.kind;
        if let Some(given) = self.mask.filter(|given| *given != kind) {
            return contradiction("mask", typed(given), typed(kind));
        }
        // A random mask has no samples: its run's values of their flags mean nothing.
        self.resolve(&Recipe { mask: kind, ..Recipe::default() }, None)?;
        for ((flag, given), (_, run)) in self.given().into_iter().zip(MaskFlags::of(run).given()) {
            if let (Some(given), Some(run)) = (given, run)
                && given != run
            {
                return contradiction(flag, given, run);
            }
        }
        Ok(())
    }

    /// The flags that ask for a run's mask.
    fn of(run: &Config) -> MaskFlags {
        let MaskSettings { kind, keep_ratio, samples, target, power, warmup_epochs, every, rule } = run.mask;
        MaskFlags {
            mask: Some(kind),
            keep_ratio: Some(keep_ratio),
            fisher_samples: Some(samples),
            fisher_target: Some(target),
            fisher_power: Some(power),
            warmup_epochs: Some(warmup_epochs),
            mask_every: Some(every),
            update_rule: Some(rule),
            checkpoint_state: Some(run.checkpoint.state),
            checkpoint_values: Some(run.checkpoint.values),
        }
    }
}

/// Whether a run's mask, if it has one, can be.
///
/// # Errors
/// The first value that is out of its range.
pub(super) fn check(config: &Config, layout: &Layout) -> Result<(), ConfigError> {
    let refuse = |flag, value: String, need: &str| Err(ConfigError::Value { flag, value, need: need.into() });
    let (Some(mask), epochs) = (config.masked(), config.train.epochs) else { return Ok(()) };
    if let Err(error) = mask.quota(layout) {
        return refuse("keep-ratio", mask.keep_ratio.to_string(), &error.to_string());
    }
    if mask.kind == Kind::Fisher && mask.samples == 0 {
        return refuse("fisher-samples", "0".into(), &Error::NoSample.to_string());
    }
    if mask.warmup_epochs >= epochs {
        let need = format!("must be below the {epochs} epochs, or no mask is ever used");
        return refuse("warmup-epochs", mask.warmup_epochs.to_string(), &need);
    }
    let (strict, state) = (mask.rule == UpdateRule::Strict, config.checkpoint.state);
    if !strict && state == CheckpointState::Off {
        return refuse(
            "checkpoint-state",
            "off".into(),
            "the published rule moves every weight: its checkpoints are full",
        );
    }
    if config.checkpoint.values == Precision::F16 && state == CheckpointState::On {
        let need = match strict {
            true => "rounded values cannot be resumed from; give --checkpoint-state off as well",
            false => "the published rule moves every weight: its checkpoints are full",
        };
        return refuse("checkpoint-values", "f16".into(), need);
    }
    Ok(())
}

impl MaskSettings {
    /// How many weights are kept.
    ///
    /// # Errors
    /// As [`Quota::new`].
    pub fn quota(&self, layout: &Layout) -> Result<Quota, Error> {
        Quota::new(layout, self.keep_ratio)
    }

    /// In words, for the header.
    pub fn describe(&self, workers: Option<&WorkerSettings>) -> String {
        let MaskSettings { keep_ratio, samples, target, power, warmup_epochs, every, rule, .. } = *self;
        let mut text = format!("{} {}%, {} rule", typed(self.kind), 100.0 * keep_ratio, typed(rule));
        if self.kind == Kind::Fisher {
            let (target, power) = (typed(target), typed(power));
            text += &format!(", {samples} samples, {target}, {power}");
        }
        if warmup_epochs > 0 {
            text += &format!(", after {warmup_epochs} dense epochs");
        }
        let every = workers.map_or(("epoch", every), |workers| ("merge", workers.reselect_merges));
        match every {
            (_, 0) => text + ", fixed",
            (what, 1) => text + &format!(", selected anew every {what}"),
            (what, every) => text + &format!(", selected anew every {every} {what}s"),
        }
    }

    /// How samples are scored before an epoch: with the running statistics once there are any.
    pub fn rule(&self, epoch: u32) -> scoring::Rule {
        let expect = self.target == FisherTarget::Expect;
        scoring::Rule { power: self.power, expect, running: epoch > 0 }
    }
}

/// A flag's value as it is typed.
pub(super) fn typed(value: impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_string())
}
