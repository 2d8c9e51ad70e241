//! The kinds of mask: a file for each, and the list of them.
//!
//! A kind scores the weights. Whatever the kind, a mask keeps the classifier whole and, of the other weights,
//! those with the largest scores; of equal scores the one at the lower index comes first.

pub mod fisher;
mod magnitude;
mod random;

use serde::{Deserialize, Serialize};

use super::select::Draw;
use crate::device::Error;
use crate::graph::Network;
use crate::ops::Backend;

/// How the weights that a mask keeps are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// There is no mask: all weights are trained.
    #[default]
    Dense,
    /// Those with the largest Fisher information
    Fisher,
    /// Any, by lot
    Random,
    /// Those with the largest absolute values
    Magnitude,
    /// Those of a file that fishmask mask wrote
    File,
}

/// How a kind comes to its scores.
pub enum Choice<B: Backend> {
    /// It has none.
    Nothing,
    /// It has none either: the run is given the mask.
    Given,
    /// By samples: [`fisher::score`]. Each of several workers scores a part of them, and the parts are added
    /// up.
    BySamples,
    /// By the network and the draw alone: a function that gives scores in canonical order, from which the
    /// classifier's may be left out.
    ByNetwork(fn(&mut Network<B>, &Draw) -> Result<Vec<f32>, Error>),
}

impl Kind {
    /// Whether it scores weights by samples, so that the settings of samples are for it.
    pub fn needs_samples(self) -> bool {
        match self {
            Kind::Fisher => true,
            Kind::Dense | Kind::Random | Kind::Magnitude | Kind::File => false,
        }
    }

    /// Whether the run chooses the mask itself, so that the settings of its choice are for it.
    pub fn is_chosen(self) -> bool {
        !matches!(self, Kind::Dense | Kind::File)
    }

    /// How it comes to its scores on a device.
    pub fn choice<B: Backend>(self) -> Choice<B> {
        match self {
            Kind::Dense => Choice::Nothing,
            Kind::File => Choice::Given,
            Kind::Fisher => Choice::BySamples,
            Kind::Random => Choice::ByNetwork(random::scores),
            Kind::Magnitude => Choice::ByNetwork(magnitude::scores),
        }
    }

    /// How it chooses without samples, in words that follow "a mask chosen".
    pub fn how(self) -> &'static str {
        match self {
            Kind::Dense => "from all weights",
            Kind::Fisher => "by samples",
            Kind::Random => "by lot",
            Kind::Magnitude => "by magnitude",
            Kind::File => "from a file",
        }
    }
}
