//! Where operations read and write the flat vector: values in, gradients or scores out.
//!
//! A score is the sum over samples of a power of that sample's own gradient: N separate gradients, never the
//! gradient of a batch. Scores lie in canonical order, a convolution's as \[K,C,R,R\], unlike weights and
//! gradients.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::device::Buffers;

/// Values that an operation reads of a flat vector.
pub struct In<'a, B: Buffers + ?Sized> {
    /// The whole vector.
    pub vector: &'a B::Vector,
    /// Where the values lie in it.
    pub at: Range<usize>,
}

/// What a backward pass leaves of a layer's parameters, and where.
pub enum Out<'a, B: Buffers + ?Sized> {
    /// Gradients summed over the batch overwrite the parameters' ranges of this flat vector.
    Gradients(&'a mut B::Vector),
    /// This power of each sample's own gradient is added to the parameters' ranges of this flat vector.
    Scores(Power, &'a mut B::Vector),
}

/// What the operations of a plan are run for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Forward passes, and backward passes that leave gradients.
    Train,
    /// Forward passes, and backward passes that leave scores; each image is normalised alone.
    Score,
}

/// How a sample's gradient g counts in a score.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Power {
    /// g^2.
    #[default]
    Square,
    /// |g|.
    Absolute,
}

impl Power {
    /// What a gradient adds to a score.
    #[inline(always)]
    pub(super) fn of(self, gradient: f32) -> f32 {
        match self {
            Power::Square => gradient * gradient,
            Power::Absolute => gradient.abs(),
        }
    }
}
