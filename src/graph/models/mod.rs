//! The networks that a run can train, one file a family, for 32x32 RGB images.

mod resnet;
mod resnet9;

use serde::{Deserialize, Serialize};

use super::{Error, Graph, Shape};
use crate::data::CLASSES;

/// A network's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Model {
    /// cifar10-fast's DAWNBench network: eight convolutions, two residual branches.
    #[default]
    Resnet9,
    /// torchvision's basic-block ResNet, stages of 2-2-2-2 blocks.
    Resnet18,
    /// torchvision's basic-block ResNet, stages of 3-4-6-3 blocks.
    Resnet34,
}

impl std::fmt::Display for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Model::Resnet9 => "resnet9",
            Model::Resnet18 => "resnet18",
            Model::Resnet34 => "resnet34",
        })
    }
}

impl Model {
    /// Returns the network with `width` channels after its first convolution.
    ///
    /// # Errors
    /// None for a width of at least 1.
    pub fn graph(self, width: usize) -> Result<Graph, Error> {
        let (input, classes) = (Shape { h: 32, w: 32, c: 3 }, CLASSES.len());
        match self {
            Model::Resnet9 => resnet9::graph(input, classes, width),
            Model::Resnet18 => resnet::graph(input, classes, width, &[2, 2, 2, 2]),
            Model::Resnet34 => resnet::graph(input, classes, width, &[3, 4, 6, 3]),
        }
    }
}

/// A model at a width: what weights, masks and checkpoints are of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelId {
    /// The architecture.
    pub model: Model,
    /// Channels of its stem.
    pub width: usize,
}

impl ModelId {
    /// The widest network. Every canonical index then fits 32 bits, for each of the models.
    pub const MAX_WIDTH: usize = 512;

    /// A model at a width.
    pub const fn new(model: Model, width: usize) -> ModelId {
        ModelId { model, width }
    }

    /// Whether there can be such a network; the error says what its width must be.
    ///
    /// # Errors
    /// A width of 0 or above [`ModelId::MAX_WIDTH`].
    pub fn check(self) -> Result<(), String> {
        match self.width {
            1..=Self::MAX_WIDTH => Ok(()),
            _ => Err(format!("must be from 1 to {} channels", Self::MAX_WIDTH)),
        }
    }

    /// The network.
    ///
    /// # Errors
    /// As [`Model::graph`].
    pub fn graph(self) -> Result<Graph, Error> {
        self.model.graph(self.width)
    }
}

impl std::fmt::Display for ModelId {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{} of width {}", self.model, self.width)
    }
}
