//! resnet9, cifar10-fast's network for the DAWNBench contest.

use crate::graph::{Error, Graph, Init, NodeId, Shape};
use crate::ops::conv::ConvLayer;
use crate::ops::linear::{LinearLayer, Scale};
use crate::ops::norm::{Add, BatchNorm, Pool, Relu};

/// Returns resnet9 with `width` channels after its first convolution.
pub(super) fn graph(input: Shape, classes: usize, width: usize) -> Result<Graph, Error> {
    let (mut g, x) = Graph::new(input);
    let x = block(&mut g, "prep", x, width)?;
    let x = block(&mut g, "layer1", x, 2 * width)?;
    let x = g.layer("layer1_pool", &[x], Pool::square(2))?;
    let x = residual(&mut g, "layer1_residual", x, 2 * width)?;
    let x = block(&mut g, "layer2", x, 4 * width)?;
    let x = g.layer("layer2_pool", &[x], Pool::square(2))?;
    let x = block(&mut g, "layer3", x, 8 * width)?;
    let x = g.layer("layer3_pool", &[x], Pool::square(2))?;
    let x = residual(&mut g, "layer3_residual", x, 8 * width)?;
    let x = g.layer("pool", &[x], Pool::square(4))?;
    let x = g.layer("linear", &[x], LinearLayer { k: classes, bias: false })?;
    g.layer("logits", &[x], Scale(0.125))?;
    Ok(g)
}

/// Adds relu(bn(conv3x3(x))) with `k` channels.
fn block(g: &mut Graph, name: &str, x: NodeId, k: usize) -> Result<NodeId, Error> {
    let init = Init::fan_in(9 * g.nodes[x].shape.c);
    let x = g.layer(&format!("{name}_conv"), &[x], ConvLayer { k, r: 3, stride: 1, pad: 1, init })?;
    let x = g.layer(&format!("{name}_bn"), &[x], BatchNorm)?;
    g.layer(&format!("{name}_relu"), &[x], Relu)
}

/// Adds x + block(block(x)).
fn residual(g: &mut Graph, name: &str, x: NodeId, k: usize) -> Result<NodeId, Error> {
    let branch = block(g, &format!("{name}_res1"), x, k)?;
    let branch = block(g, &format!("{name}_res2"), branch, k)?;
    g.layer(&format!("{name}_add"), &[x, branch], Add)
}
