//! A network as a list of named nodes with inferred shapes; [`plan`] turns it into steps, [`network`] runs them.

pub mod layout;
pub mod models;
pub mod network;
pub mod plan;
mod replica;
pub mod scoring;
pub mod summary;

use crate::ops::{Conv, Pool};
pub use layout::{Init, Layout};
pub use models::{Model, ModelId};
pub use network::{Network, Statistics};
pub use plan::Plan;
pub use replica::Replica;
pub use scoring::Scoring;

/// Why a graph or its plan cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A node's input does not fit its operation.
    #[error("{node}: {reason}")]
    Shape {
        /// The node's name.
        node: String,
        /// What does not fit.
        reason: String,
    },
    /// The plan knows no step for this operation where it stands.
    #[error("{node}: no step computes this operation on its own")]
    NoStep {
        /// The node's name.
        node: String,
    },
}

/// Height, width and channels of a node's output for one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
    /// Channels.
    pub c: usize,
}

impl Shape {
    /// Values for one image.
    pub fn elements(&self) -> usize {
        self.h * self.w * self.c
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{}x{}x{}", self.h, self.w, self.c)
    }
}

/// Position of a node in its graph.
pub type NodeId = usize;

/// What a node computes. Numbers called `weight`, `bias` and `filter` are positions in [`Layout::parameters`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op {
    /// The images.
    Input,
    /// Convolution without bias.
    Conv {
        /// Filter rows and columns.
        r: usize,
        /// Step between outputs.
        stride: usize,
        /// Zero rows and columns around the input.
        pad: usize,
        /// Its parameter.
        filter: usize,
    },
    /// Batch normalisation.
    BatchNorm {
        /// Its scale.
        weight: usize,
        /// Its shift.
        bias: usize,
        /// Position in [`Layout::statistics`].
        statistic: usize,
    },
    /// max(x, 0).
    Relu,
    /// Sum of two nodes.
    Add,
    /// Largest value of each window.
    MaxPool(Pool),
    /// Mean over all pixels.
    GlobalAveragePool,
    /// Matrix product with a \[K,C\] weight.
    Linear {
        /// Its weight.
        weight: usize,
        /// Its bias, if it has one.
        bias: Option<usize>,
    },
    /// Product with a constant.
    Scale(f32),
}

/// A named operation on earlier nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Unique; parameters append `.weight` and `.bias`.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// What it reads.
    pub inputs: Vec<NodeId>,
    /// Its output's shape.
    pub shape: Shape,
}

/// Nodes in an order in which they can be computed, and the layout of their parameters. The last is the output.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// Parameters and statistics in canonical order, which is the order in which nodes were added.
    pub layout: Layout,
}

impl Graph {
    /// A graph of one node, the input; returns it as well.
    pub fn new(input: Shape) -> (Graph, NodeId) {
        let node = Node { name: "input".into(), op: Op::Input, inputs: vec![], shape: input };
        (Graph { nodes: vec![node], layout: Layout::default() }, 0)
    }

    fn push(&mut self, name: &str, op: Op, inputs: &[NodeId], shape: Shape) -> NodeId {
        self.nodes.push(Node { name: name.into(), op, inputs: inputs.to_vec(), shape });
        self.nodes.len() - 1
    }

    /// Adds a square convolution with `k` output channels.
    ///
    /// # Errors
    /// When the filter is larger than the padded input, or the stride 0.
    pub fn conv(&mut self, name: &str, x: NodeId, conv: ConvSpec) -> Result<NodeId, Error> {
        let ConvSpec { k, r, stride, pad, init } = conv;
        let Shape { h, w, c } = self.nodes[x].shape;
        if stride == 0 {
            return Err(Error::Shape { node: name.into(), reason: "a stride of 0 never ends".into() });
        }
        if h.min(w) + 2 * pad < r {
            let reason = format!("a {r}x{r} filter is larger than its {h}x{w} input with padding {pad}");
            return Err(Error::Shape { node: name.into(), reason });
        }
        let filter = self.layout.add_parameter(format!("{name}.weight"), vec![k, c, r, r], init);
        let geometry = Conv { n: 1, h, w, c, k, r, stride, pad };
        let shape = Shape { h: geometry.p(), w: geometry.q(), c: k };
        Ok(self.push(name, Op::Conv { r, stride, pad, filter }, &[x], shape))
    }

    /// Adds a batch norm (weight 1, bias 0).
    pub fn batch_norm(&mut self, name: &str, x: NodeId) -> NodeId {
        let shape = self.nodes[x].shape;
        let weight = self.layout.add_parameter(format!("{name}.weight"), vec![shape.c], Init::Constant(1.0));
        let bias = self.layout.add_parameter(format!("{name}.bias"), vec![shape.c], Init::Constant(0.0));
        let statistic = self.layout.add_statistic(name.into(), shape.c);
        self.push(name, Op::BatchNorm { weight, bias, statistic }, &[x], shape)
    }

    /// Adds a ReLU.
    pub fn relu(&mut self, name: &str, x: NodeId) -> NodeId {
        self.push(name, Op::Relu, &[x], self.nodes[x].shape)
    }

    /// Adds a sum.
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn add(&mut self, name: &str, a: NodeId, b: NodeId) -> Result<NodeId, Error> {
        let (left, right) = (self.nodes[a].shape, self.nodes[b].shape);
        if left != right {
            let reason = format!("cannot add {left} and {right}");
            return Err(Error::Shape { node: name.into(), reason });
        }
        Ok(self.push(name, Op::Add, &[a, b], left))
    }

    /// Adds a max pool.
    ///
    /// # Errors
    /// When the window is larger than the padded input, has more than 15 x 15 places or could be all padding, or the
    /// stride is 0.
    pub fn max_pool(&mut self, name: &str, x: NodeId, pool: Pool) -> Result<NodeId, Error> {
        let Shape { h, w, c } = self.nodes[x].shape;
        if h.min(w) + 2 * pool.pad < pool.size {
            let reason = format!("a {0}x{0} window is larger than its {h}x{w} input", pool.size);
            return Err(Error::Shape { node: name.into(), reason });
        }
        if pool.stride == 0 {
            return Err(Error::Shape { node: name.into(), reason: "a stride of 0 never ends".into() });
        }
        if 2 * pool.pad > pool.size {
            let reason = format!("padding {} is more than half of a {1}x{1} window", pool.pad, pool.size);
            return Err(Error::Shape { node: name.into(), reason });
        }
        if pool.size > 15 {
            let reason = format!("a {0}x{0} window has more places than a byte can number", pool.size);
            return Err(Error::Shape { node: name.into(), reason });
        }
        let shape = Shape { h: pool.outputs(h), w: pool.outputs(w), c };
        Ok(self.push(name, Op::MaxPool(pool), &[x], shape))
    }

    /// Adds the mean over all pixels.
    pub fn global_average_pool(&mut self, name: &str, x: NodeId) -> NodeId {
        let shape = Shape { h: 1, w: 1, c: self.nodes[x].shape.c };
        self.push(name, Op::GlobalAveragePool, &[x], shape)
    }

    /// Adds a linear layer with `k` outputs, drawn from U(-1/sqrt(fan_in), 1/sqrt(fan_in)).
    ///
    /// # Errors
    /// When the input is more than one pixel.
    pub fn linear(&mut self, name: &str, x: NodeId, k: usize, bias: bool) -> Result<NodeId, Error> {
        let input = self.nodes[x].shape;
        if (input.h, input.w) != (1, 1) {
            let reason = format!("a linear layer needs one pixel, not {input}");
            return Err(Error::Shape { node: name.into(), reason });
        }
        let init = Init::fan_in(input.c);
        let weight = self.layout.add_parameter(format!("{name}.weight"), vec![k, input.c], init);
        let bias = bias.then(|| self.layout.add_parameter(format!("{name}.bias"), vec![k], init));
        Ok(self.push(name, Op::Linear { weight, bias }, &[x], Shape { h: 1, w: 1, c: k }))
    }

    /// Adds a product with a constant.
    pub fn scale(&mut self, name: &str, x: NodeId, factor: f32) -> NodeId {
        self.push(name, Op::Scale(factor), &[x], self.nodes[x].shape)
    }

    /// The nodes that read `node`.
    pub fn consumers(&self, node: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.iter().enumerate().filter(move |(_, n)| n.inputs.contains(&node)).map(|(i, _)| i)
    }
}

/// What [`Graph::conv`] adds.
#[derive(Clone, Copy, Debug)]
pub struct ConvSpec {
    /// Output channels.
    pub k: usize,
    /// Filter rows and columns.
    pub r: usize,
    /// Step between outputs.
    pub stride: usize,
    /// Zero rows and columns around the input.
    pub pad: usize,
    /// First values.
    pub init: Init,
}

impl Init {
    /// U(-1/sqrt(fan_in), 1/sqrt(fan_in)).
    pub fn fan_in(fan_in: usize) -> Init {
        Init::Uniform(1.0 / (fan_in as f32).sqrt())
    }
}
