//! Words that settings take.

use std::fmt::Display;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Which losses' gradients score the weights.
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

/// Which worker trains which of the kept weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum WorkerMasks {
    /// All of them train the same weights.
    #[default]
    Same,
    /// Each trains its own: as many times more are kept, and dealt out in turn.
    Interleaved,
}

/// Which data set is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum DataSource {
    /// CIFAR-10.
    #[default]
    Cifar10,
    /// Procedural pictures in ten classes.
    Synthetic,
}

/// The name of the data set that is not CIFAR-10.
pub const SYNTHETIC: &str = "synthetic";

impl DataSource {
    /// The data set of this name, which [`crate::data::Dataset::name`] gives.
    pub fn named(name: &str) -> DataSource {
        if name == SYNTHETIC { DataSource::Synthetic } else { DataSource::Cifar10 }
    }
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

/// A word as it is typed.
pub(super) fn typed(value: impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_string())
}
