//! The flags of masks, and what they come to.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::preset::Recipe;
use super::{ConfigError, Precision, Rule, Workers};
use crate::graph::{Layout, scoring};
use crate::mask::{Error, Kind, Quota};
use crate::ops::Power;

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
    pub update_rule: Option<Rule>,
    /// Whether a strict mask's checkpoints hold velocities and position, to resume from [default: on]
    #[arg(long, value_enum)]
    pub checkpoint_state: Option<CheckpointState>,
    /// How a strict mask's checkpoints store values; f16 rounds them, for runs that need not be resumed [default: f32]
    #[arg(long, value_enum)]
    pub checkpoint_values: Option<Precision>,
}

/// How a run is masked.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Masking {
    /// How the weights are chosen; never [`Kind::Dense`].
    pub kind: Kind,
    /// Share of the weights that is kept.
    pub keep_ratio: f64,
    /// Training images scored.
    pub fisher_samples: usize,
    /// Which losses' gradients count.
    pub fisher_target: FisherTarget,
    /// How a gradient counts.
    pub fisher_power: Power,
    /// Epochs of dense training first.
    pub warmup_epochs: u32,
    /// Epochs from one selection to the next; 0 for a mask that stays.
    pub mask_every: u32,
    /// What happens outside the mask.
    pub update_rule: Rule,
    /// What checkpoints hold.
    pub checkpoint_state: CheckpointState,
    /// How they store values.
    pub checkpoint_values: Precision,
}

impl MaskFlags {
    /// What the flags ask for, with a preset's defaults; none for a dense run.
    ///
    /// # Errors
    /// When a flag is given that only masks know, and there is none.
    pub(super) fn masking(&self, recipe: &Recipe) -> Result<Option<Masking>, ConfigError> {
        let kind = self.mask.unwrap_or(recipe.mask);
        if kind == Kind::Dense {
            return match self.given().into_iter().find_map(|(flag, value)| Some((flag, value?))) {
                Some((flag, value)) => {
                    let need = "this is for --mask fisher or --mask random".into();
                    Err(ConfigError::Value { flag, value, need })
                }
                None => Ok(None),
            };
        }
        if kind == Kind::Random {
            let fisher = |(flag, _): &(&str, Option<String>)| flag.starts_with("fisher");
            let given =
                self.given().into_iter().filter(fisher).find_map(|(flag, value)| Some((flag, value?)));
            if let Some((flag, value)) = given {
                return Err(ConfigError::Value { flag, value, need: "this is for --mask fisher".into() });
            }
        }
        Ok(Some(Masking {
            kind,
            keep_ratio: self.keep_ratio.unwrap_or(0.02),
            fisher_samples: self.fisher_samples.unwrap_or(recipe.fisher_samples),
            fisher_target: self.fisher_target.unwrap_or_default(),
            fisher_power: self.fisher_power.unwrap_or_default(),
            warmup_epochs: self.warmup_epochs.unwrap_or(recipe.warmup_epochs),
            mask_every: self.mask_every.unwrap_or(0),
            update_rule: self.update_rule.unwrap_or_default(),
            checkpoint_state: self.checkpoint_state.unwrap_or_default(),
            checkpoint_values: self.checkpoint_values.unwrap_or(Precision::F32),
        }))
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
    pub(super) fn agrees(&self, run: Option<&Masking>) -> Result<(), ConfigError> {
        let contradiction = |flag, given, run| Err(ConfigError::Contradiction { flag, given, run });
        let kind = run.map_or(Kind::Dense, |run| run.kind);
        if let Some(given) = self.mask.filter(|given| *given != kind) {
            return contradiction("mask", typed(given), typed(kind));
        }
        let Some(run) = run else { return self.masking(&Recipe::default()).map(drop) };
        // A random mask has no samples: its run's values of their flags mean nothing.
        self.masking(&Recipe { mask: kind, ..Recipe::default() })?;
        for ((flag, given), (_, run)) in self.given().into_iter().zip(run.flags().given()) {
            if let (Some(given), Some(run)) = (given, run)
                && given != run
            {
                return contradiction(flag, given, run);
            }
        }
        Ok(())
    }
}

impl Masking {
    /// The flags that ask for this.
    fn flags(&self) -> MaskFlags {
        let Masking { fisher_target, fisher_power, update_rule, checkpoint_state, checkpoint_values, .. } =
            *self;
        MaskFlags {
            mask: Some(self.kind),
            keep_ratio: Some(self.keep_ratio),
            fisher_samples: Some(self.fisher_samples),
            fisher_target: Some(fisher_target),
            fisher_power: Some(fisher_power),
            warmup_epochs: Some(self.warmup_epochs),
            mask_every: Some(self.mask_every),
            update_rule: Some(update_rule),
            checkpoint_state: Some(checkpoint_state),
            checkpoint_values: Some(checkpoint_values),
        }
    }

    /// Whether every value is in its range, for a model and a number of epochs.
    ///
    /// # Errors
    /// The first that is not.
    pub(super) fn check(&self, layout: &Layout, epochs: u32) -> Result<(), ConfigError> {
        let refuse =
            |flag, value: String, need: &str| Err(ConfigError::Value { flag, value, need: need.into() });
        if self.kind == Kind::Dense {
            return refuse("mask", "dense".into(), "a dense run has no mask's settings");
        }
        if let Err(error) = self.quota(layout) {
            return refuse("keep-ratio", self.keep_ratio.to_string(), &error.to_string());
        }
        if self.kind == Kind::Fisher && self.fisher_samples == 0 {
            return refuse("fisher-samples", "0".into(), &Error::NoSample.to_string());
        }
        if self.warmup_epochs >= epochs {
            let need = format!("must be below the {epochs} epochs, or no mask is ever used");
            return refuse("warmup-epochs", self.warmup_epochs.to_string(), &need);
        }
        let sparse = self.update_rule == Rule::Strict;
        if !sparse && self.checkpoint_state == CheckpointState::Off {
            return refuse(
                "checkpoint-state",
                "off".into(),
                "the published rule moves every weight: its checkpoints are full",
            );
        }
        if self.checkpoint_values == Precision::F16 && self.checkpoint_state == CheckpointState::On {
            let need = match sparse {
                true => "rounded values cannot be resumed from; give --checkpoint-state off as well",
                false => "the published rule moves every weight: its checkpoints are full",
            };
            return refuse("checkpoint-values", "f16".into(), need);
        }
        Ok(())
    }

    /// How many weights are kept.
    ///
    /// # Errors
    /// As [`Quota::new`].
    pub fn quota(&self, layout: &Layout) -> Result<Quota, Error> {
        Quota::new(layout, self.keep_ratio)
    }

    /// In words, for the header.
    pub fn describe(&self, workers: Option<&Workers>) -> String {
        let Masking {
            keep_ratio,
            fisher_samples,
            fisher_target,
            fisher_power,
            warmup_epochs,
            mask_every,
            ..
        } = *self;
        let mut text =
            format!("{} {}%, {} rule", typed(self.kind), 100.0 * keep_ratio, typed(self.update_rule));
        if self.kind == Kind::Fisher {
            let (target, power) = (typed(fisher_target), typed(fisher_power));
            text += &format!(", {fisher_samples} samples, {target}, {power}");
        }
        if warmup_epochs > 0 {
            text += &format!(", after {warmup_epochs} dense epochs");
        }
        let every = workers.map_or(("epoch", mask_every), |workers| ("merge", workers.reselect_merges));
        match every {
            (_, 0) => text + ", fixed",
            (what, 1) => text + &format!(", selected anew every {what}"),
            (what, every) => text + &format!(", selected anew every {every} {what}s"),
        }
    }

    /// How samples are scored before an epoch: with the running statistics once there are any.
    pub fn rule(&self, epoch: u32) -> scoring::Rule {
        let expect = self.fisher_target == FisherTarget::Expect;
        scoring::Rule { power: self.fisher_power, expect, running: epoch > 0 }
    }
}

/// A flag's value as it is typed.
pub(super) fn typed(value: impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_string())
}
