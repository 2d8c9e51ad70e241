//! The optimiser's schedule; its arithmetic is [`crate::backend::Backend::sgd`]'s.

mod schedule;
mod update;

use serde::{Deserialize, Serialize};

pub use schedule::PiecewiseLinear;
pub use update::Update;

/// What a mask leaves alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum UpdateRule {
    /// Weights outside the mask keep their bits: neither their gradients, nor momentum, nor decay move them.
    #[default]
    Strict,
    /// Only the gradient is masked: momentum and decay move every weight, as in the authors' code.
    Published,
}
