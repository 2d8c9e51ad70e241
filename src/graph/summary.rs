//! What a network costs, step by step, without running it.

use super::plan::{Plan, Step};
use super::{Graph, Shape};
use crate::ops::Backend;

/// One step of the forward pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The names of the nodes it computes.
    pub nodes: String,
    /// Shape of its output for one image.
    pub shape: Shape,
    /// Weights of its parameters.
    pub parameters: usize,
    /// Floating-point operations of its forward pass for one image; a multiply-add is two, and only
    /// convolutions and matrix products count.
    pub flops: u64,
}

/// Returns the forward steps of a plan with shapes, parameters and FLOPs.
pub fn rows<B: Backend>(graph: &Graph, plan: &Plan<B>) -> Vec<Row> {
    let row = |Step { nodes, operation, operands, .. }: &Step<B>| {
        let names: Vec<&str> = nodes.iter().map(|&id| graph.nodes[id].name.as_str()).collect();
        Row {
            nodes: names.join(" + "),
            shape: graph.nodes[nodes[nodes.len() - 1]].shape,
            parameters: operands.parameters.iter().map(ExactSizeIterator::len).sum(),
            flops: operation.flops(),
        }
    };
    plan.steps.iter().map(row).collect()
}

/// Returns the floating-point operations of a training step for one image: each convolution and matrix
/// product forward, for its weights' gradient, and for its input's unless that is the image.
pub fn training_flops<B: Backend>(plan: &Plan<B>) -> u64 {
    let flops = || plan.steps.iter().map(|step| step.operation.flops());
    let first = flops().find(|&flops| flops > 0).unwrap_or(0);
    3 * flops().sum::<u64>() - first
}
