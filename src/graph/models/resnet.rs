//! torchvision's ResNets of basic blocks, with the 3x3 stem that small images need.

use crate::graph::{Error, Graph, Init, NodeId, Shape};
use crate::ops::conv::ConvLayer;
use crate::ops::linear::LinearLayer;
use crate::ops::norm::{Add, BatchNorm, Pool, Relu};
use crate::ops::pool::GlobalAveragePool;

/// Returns a ResNet whose stages have so many `blocks`; a stage has twice the channels of the one before, the
/// first `width`.
pub(super) fn graph(input: Shape, classes: usize, width: usize, blocks: &[usize]) -> Result<Graph, Error> {
    let (mut g, x) = Graph::new(input);
    let x = conv_bn(&mut g, ["conv1", "bn1"], x, (width, 3, 1))?;
    let x = g.layer("relu", &[x], Relu)?;
    let mut x = g.layer("maxpool", &[x], Pool { size: 3, stride: 2, pad: 1 })?;
    for (stage, &count) in blocks.iter().enumerate() {
        for block in 0..count {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            x = basic_block(&mut g, &format!("layer{}.{block}", stage + 1), x, width << stage, stride)?;
        }
    }
    let x = g.layer("avgpool", &[x], GlobalAveragePool)?;
    g.layer("fc", &[x], LinearLayer { k: classes, bias: true })?;
    Ok(g)
}

/// Adds relu(bn(conv(relu(bn(conv(x))))) + shortcut(x)).
fn basic_block(g: &mut Graph, name: &str, x: NodeId, k: usize, stride: usize) -> Result<NodeId, Error> {
    let branch = conv_bn(g, [&format!("{name}.conv1"), &format!("{name}.bn1")], x, (k, 3, stride))?;
    let branch = g.layer(&format!("{name}.relu1"), &[branch], Relu)?;
    let branch = conv_bn(g, [&format!("{name}.conv2"), &format!("{name}.bn2")], branch, (k, 3, 1))?;
    let shortcut = if stride == 1 {
        x
    } else {
        conv_bn(g, [&format!("{name}.downsample.0"), &format!("{name}.downsample.1")], x, (k, 1, stride))?
    };
    let sum = g.layer(&format!("{name}.add"), &[branch, shortcut], Add)?;
    g.layer(&format!("{name}.relu2"), &[sum], Relu)
}

/// Adds a convolution of (K, R, stride) that keeps the image's size at stride 1, and its batch norm.
fn conv_bn(
    g: &mut Graph,
    [conv, bn]: [&str; 2],
    x: NodeId,
    (k, r, stride): (usize, usize, usize),
) -> Result<NodeId, Error> {
    let init = Init::Normal((2.0 / (k * r * r) as f32).sqrt());
    let x = g.layer(conv, &[x], ConvLayer { k, r, stride, pad: r / 2, init })?;
    g.layer(bn, &[x], BatchNorm)
}
