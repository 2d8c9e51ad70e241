//! The three networks (SPEC section 2), for 32x32 RGB images and ten classes.

use serde::{Deserialize, Serialize};

use super::{ConvSpec, Error, Graph, Init, NodeId, Shape};
use crate::backend::Pool;
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
    /// The network with `width` stem channels.
    ///
    /// # Errors
    /// None for a width of at least 1.
    pub fn graph(self, width: usize) -> Result<Graph, Error> {
        match self {
            Model::Resnet9 => resnet9(width),
            Model::Resnet18 => resnet(&[2, 2, 2, 2], width),
            Model::Resnet34 => resnet(&[3, 4, 6, 3], width),
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

const INPUT: Shape = Shape { h: 32, w: 32, c: 3 };

fn resnet9(width: usize) -> Result<Graph, Error> {
    let (mut g, x) = Graph::new(INPUT);
    let x = block9(&mut g, "prep", x, width)?;
    let x = block9(&mut g, "layer1", x, 2 * width)?;
    let x = g.max_pool("layer1_pool", x, Pool::square(2))?;
    let x = residual9(&mut g, "layer1_residual", x, 2 * width)?;
    let x = block9(&mut g, "layer2", x, 4 * width)?;
    let x = g.max_pool("layer2_pool", x, Pool::square(2))?;
    let x = block9(&mut g, "layer3", x, 8 * width)?;
    let x = g.max_pool("layer3_pool", x, Pool::square(2))?;
    let x = residual9(&mut g, "layer3_residual", x, 8 * width)?;
    let x = g.max_pool("pool", x, Pool::square(4))?;
    let x = g.linear("linear", x, CLASSES.len(), false)?;
    g.scale("logits", x, 0.125);
    Ok(g)
}

/// conv3x3 + BN + ReLU.
fn block9(g: &mut Graph, name: &str, x: NodeId, k: usize) -> Result<NodeId, Error> {
    let init = Init::fan_in(9 * g.nodes[x].shape.c);
    let x = g.conv(&format!("{name}_conv"), x, ConvSpec { k, r: 3, stride: 1, pad: 1, init })?;
    let x = g.batch_norm(&format!("{name}_bn"), x);
    Ok(g.relu(&format!("{name}_relu"), x))
}

/// x + relu(bn(conv(relu(bn(conv(x)))))).
fn residual9(g: &mut Graph, name: &str, x: NodeId, k: usize) -> Result<NodeId, Error> {
    let branch = block9(g, &format!("{name}_res1"), x, k)?;
    let branch = block9(g, &format!("{name}_res2"), branch, k)?;
    g.add(&format!("{name}_add"), x, branch)
}

fn resnet(blocks: &[usize], width: usize) -> Result<Graph, Error> {
    let (mut g, x) = Graph::new(INPUT);
    let x = conv_bn(&mut g, ["conv1", "bn1"], x, (width, 3, 1))?;
    let x = g.relu("relu", x);
    let mut x = g.max_pool("maxpool", x, Pool { size: 3, stride: 2, pad: 1 })?;
    for (stage, &count) in blocks.iter().enumerate() {
        for block in 0..count {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            x = basic_block(&mut g, &format!("layer{}.{block}", stage + 1), x, width << stage, stride)?;
        }
    }
    let x = g.global_average_pool("avgpool", x);
    g.linear("fc", x, CLASSES.len(), true)?;
    Ok(g)
}

/// relu(bn(conv(relu(bn(conv(x))))) + shortcut(x)).
fn basic_block(g: &mut Graph, name: &str, x: NodeId, k: usize, stride: usize) -> Result<NodeId, Error> {
    let branch = conv_bn(g, [&format!("{name}.conv1"), &format!("{name}.bn1")], x, (k, 3, stride))?;
    let branch = g.relu(&format!("{name}.relu1"), branch);
    let branch = conv_bn(g, [&format!("{name}.conv2"), &format!("{name}.bn2")], branch, (k, 3, 1))?;
    let shortcut = if stride == 1 {
        x
    } else {
        conv_bn(g, [&format!("{name}.downsample.0"), &format!("{name}.downsample.1")], x, (k, 1, stride))?
    };
    let sum = g.add(&format!("{name}.add"), branch, shortcut)?;
    Ok(g.relu(&format!("{name}.relu2"), sum))
}

/// A convolution that keeps the image's size at stride 1, and its batch norm; (K, R, stride).
fn conv_bn(
    g: &mut Graph,
    [conv, bn]: [&str; 2],
    x: NodeId,
    (k, r, stride): (usize, usize, usize),
) -> Result<NodeId, Error> {
    let init = Init::Normal((2.0 / (k * r * r) as f32).sqrt());
    let x = g.conv(conv, x, ConvSpec { k, r, stride, pad: r / 2, init })?;
    Ok(g.batch_norm(bn, x))
}
