//! A network as a list of named nodes with inferred shapes; [`plan`] turns it into steps, [`network`] runs
//! them.

pub mod layout;
pub mod models;
pub mod network;
pub mod plan;
mod replica;
pub mod scoring;
pub mod summary;

pub use crate::ops::Op;
pub use crate::ops::layer::{Init, Shape};
use crate::ops::layer::{Input, Layer};
pub use layout::Layout;
pub use models::{Model, ModelId};
pub use network::{Network, Phase};
pub use plan::Plan;
pub use replica::Replica;
pub use scoring::{ScoreRule, Scoring};

/// Why a graph or its plan cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such network.
    #[error("its {what} is {found}; it must be from 1 to {most}")]
    #[allow(missing_docs)] // A number of the network's, and the most that it can be.
    Model { what: &'static str, found: usize, most: usize },
    /// A node's inputs do not fit its layer.
    #[error("{node}: {reason}")]
    #[allow(missing_docs)] // The node's name, and what does not fit.
    Shape { node: String, reason: String },
    /// The layer only joins a step before it, and none before it takes it.
    #[error("{node}: no step computes this operation on its own")]
    #[allow(missing_docs)] // The node's name.
    NoStep { node: String },
}

/// Position of a node in its graph.
pub type NodeId = usize;

/// A layer that reads the outputs of earlier nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Its name, no other node's; parameters append `.weight` and `.bias`.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// The nodes whose outputs it reads.
    pub inputs: Vec<NodeId>,
    /// The shape of its output.
    pub shape: Shape,
    /// Positions of its parameters in [`Layout::parameters`].
    pub parameters: Vec<usize>,
    /// Position of its running statistics in [`Layout::statistics`], if it has any.
    pub statistic: Option<usize>,
}

/// Nodes in an order in which they can be computed, and the layout of their parameters. The last is the
/// output.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    /// All nodes, the images first.
    pub nodes: Vec<Node>,
    /// Parameters and statistics in canonical order, which is the order in which nodes were added.
    pub layout: Layout,
}

impl Graph {
    /// Returns a graph of one node, images of this shape, and that node.
    pub fn new(input: Shape) -> (Graph, NodeId) {
        let images = Node {
            name: "input".into(),
            op: Input(input).into(),
            inputs: vec![],
            shape: input,
            parameters: vec![],
            statistic: None,
        };
        (Graph { nodes: vec![images], layout: Layout::default() }, 0)
    }

    /// Adds a layer that reads the outputs of `inputs`, and returns its node.
    ///
    /// # Errors
    /// When the inputs do not fit; the graph is then as it was.
    pub fn layer(
        &mut self,
        name: &str,
        inputs: &[NodeId],
        layer: impl Into<Op> + Layer,
    ) -> Result<NodeId, Error> {
        let shapes: Vec<Shape> = inputs.iter().map(|&input| self.nodes[input].shape).collect();
        let shape = layer.output(&shapes).map_err(|reason| Error::Shape { node: name.into(), reason })?;
        let parameters = layer.parameters(&shapes).into_iter().map(|parameter| {
            let name = format!("{name}.{}", parameter.suffix);
            self.layout.add_parameter(name, parameter.shape, parameter.init)
        });
        let node = Node {
            name: name.into(),
            inputs: inputs.to_vec(),
            shape,
            parameters: parameters.collect(),
            statistic: layer.statistics(&shapes).map(|c| self.layout.add_statistic(name.into(), c)),
            op: layer.into(),
        };
        self.nodes.push(node);
        Ok(self.nodes.len() - 1)
    }

    /// Returns the nodes that read `node`.
    pub fn consumers(&self, node: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.iter().enumerate().filter(move |(_, n)| n.inputs.contains(&node)).map(|(i, _)| i)
    }

    /// Returns the last node, whose output is the network's.
    pub fn output(&self) -> NodeId {
        self.nodes.len() - 1
    }
}
