//! The networks that a run can train, one file a family, for 32x32 RGB images.

mod resnet;
mod resnet9;

use serde::{Deserialize, Serialize};

use super::{Error, Graph, Shape};

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
    /// Returns the network with `width` channels after its first convolution, for ten classes.
    ///
    /// # Errors
    /// None for a width from 1 to [`ModelId::MAX_WIDTH`].
    pub fn graph(self, width: usize) -> Result<Graph, Error> {
        ModelId::new(self, width).graph()
    }
}

/// A model at a width, for so many classes: what weights, masks and checkpoints are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelId {
    /// The architecture.
    pub model: Model,
    /// Channels of its stem.
    pub width: usize,
    /// Classes of the data set. Files tell of them only where there are not ten.
    #[serde(default = "ten", skip_serializing_if = "is_ten")]
    pub classes: usize,
}

fn ten() -> usize {
    10
}

fn is_ten(classes: &usize) -> bool {
    *classes == ten()
}

impl ModelId {
    /// The widest network. Every canonical index then fits 32 bits, for each of the models.
    pub const MAX_WIDTH: usize = 512;

    /// The most classes: labels are bytes.
    pub const MAX_CLASSES: usize = 256;

    /// A model at a width, for ten classes.
    pub const fn new(model: Model, width: usize) -> ModelId {
        ModelId { model, width, classes: 10 }
    }

    /// The same model for the classes of another data set.
    pub const fn with_classes(self, classes: usize) -> ModelId {
        ModelId { classes, ..self }
    }

    /// Whether there can be such a network.
    ///
    /// # Errors
    /// A width that is not from 1 to [`ModelId::MAX_WIDTH`], or classes that are not from 1 to
    /// [`ModelId::MAX_CLASSES`].
    pub fn check(self) -> Result<(), Error> {
        let wrong = |what, found, most| Err(Error::Model { what, found, most });
        match (self.width, self.classes) {
            (1..=Self::MAX_WIDTH, 1..=Self::MAX_CLASSES) => Ok(()),
            (1..=Self::MAX_WIDTH, classes) => wrong("number of classes", classes, Self::MAX_CLASSES),
            (width, _) => wrong("width", width, Self::MAX_WIDTH),
        }
    }

    /// The network.
    ///
    /// # Errors
    /// As [`ModelId::check`]; nothing is made of what a damaged file tells.
    pub fn graph(self) -> Result<Graph, Error> {
        self.check()?;
        let (input, ModelId { model, width, classes }) = (Shape { h: 32, w: 32, c: 3 }, self);
        match model {
            Model::Resnet9 => resnet9::graph(input, classes, width),
            Model::Resnet18 => resnet::graph(input, classes, width, &[2, 2, 2, 2]),
            Model::Resnet34 => resnet::graph(input, classes, width, &[3, 4, 6, 3]),
        }
    }
}

impl std::fmt::Display for ModelId {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{} of width {}", self.model, self.width)?;
        if is_ten(&self.classes) { Ok(()) } else { write!(f, " for {} classes", self.classes) }
    }
}
