//! What a network costs, step by step, without running it.

use super::plan::{Forward, Plan};
use super::{Graph, Op, Shape};

/// One step of the forward pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The nodes it computes.
    pub nodes: String,
    /// Shape of its output for one image.
    pub shape: Shape,
    /// Its parameters.
    pub parameters: usize,
    /// Floating-point operations of its forward pass for one image; a multiply-add is two, and only
    /// convolutions and matrix products count.
    pub flops: u64,
}

/// The forward steps of a plan with shapes, parameters and FLOPs.
pub fn rows(graph: &Graph, plan: &Plan) -> Vec<Row> {
    let row = |(nodes, step): &(Vec<usize>, Forward)| {
        let count = |&id: &usize| match graph.nodes[id].op {
            Op::Conv { filter, .. } => graph.layout.parameters[filter].count(),
            Op::BatchNorm { weight, .. } => 2 * graph.layout.parameters[weight].count(),
            Op::Linear { weight, bias } => {
                [Some(weight), bias].iter().flatten().map(|&p| graph.layout.parameters[p].count()).sum()
            }
            _ => 0,
        };
        let names: Vec<&str> = nodes.iter().map(|&id| graph.nodes[id].name.as_str()).collect();
        Row {
            nodes: names.join(" + "),
            shape: graph.nodes[nodes[nodes.len() - 1]].shape,
            parameters: nodes.iter().map(count).sum(),
            flops: match step {
                Forward::Conv { conv, .. } => crate::ops::Conv { n: 1, ..*conv }.flops(),
                Forward::Linear { linear, .. } => 2 * (linear.c * linear.k) as u64,
                _ => 0,
            },
        }
    };
    plan.forward.iter().map(row).collect()
}

/// Floating-point operations of a training step for one image: each convolution and matrix product forward, for
/// its weights' gradient, and for its input's unless that is the image.
pub fn training_flops(graph: &Graph, plan: &Plan) -> u64 {
    let rows = rows(graph, plan);
    let first = rows.iter().map(|row| row.flops).find(|&flops| flops > 0).unwrap_or(0);
    3 * rows.iter().map(|row| row.flops).sum::<u64>() - first
}
