//! Words that settings take.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

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

/// A word as it is typed.
pub(super) fn typed(value: impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_string())
}

/// Returns a number of things in words: one, or several.
pub fn counted(number: impl TryInto<u64>, what: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
