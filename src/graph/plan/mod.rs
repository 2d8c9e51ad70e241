//! A plan: the graph fused into steps, with a buffer slot for every value and gradient. Made once.

mod build;
mod fuse;

use std::ops::Range;

use super::{Error, Graph, NodeId};
use crate::ops::{Affine, AveragePool, Conv, Linear, Norm};

/// Position of a buffer in [`Plan::slots`].
pub type Slot = usize;

/// What a plan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Forward alone.
    Inference,
    /// Forward, then backward once.
    Training,
    /// Forward, then backward any number of times, each from a gradient of the logits written anew: what the backward
    /// steps read of the forward pass is never overwritten.
    Scoring,
}

#[allow(missing_docs)] // The backend's operations of the same names describe each field.
/// A step of the forward pass. Geometries have `n` = the plan's batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Forward {
    /// Convolution, with its output's sums when a batch norm follows.
    Conv { conv: Conv, x: Slot, filter: Range<usize>, y: Slot, statistic: Option<usize> },
    /// Batch norm with what follows it.
    Norm {
        norm: Norm,
        x: Slot,
        residual: Option<Slot>,
        affine: Affine,
        statistic: usize,
        y: Slot,
        winners: Option<usize>,
    },
    /// Mean over all pixels.
    AveragePool { pool: AveragePool, x: Slot, y: Slot },
    /// Linear layer and constant.
    Linear { linear: Linear, x: Slot, weight: Range<usize>, bias: Option<Range<usize>>, y: Slot },
}

/// How the gradient of a batch norm's second input is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residual {
    /// There is none.
    None,
    /// Over dy.
    InPlace,
    /// Into this slot, overwritten.
    Overwrite(Slot),
    /// Added to this slot.
    Accumulate(Slot),
}

#[allow(missing_docs)] // As above.
/// A step of the backward pass.
#[derive(Clone, Debug, PartialEq)]
pub enum Backward {
    /// wgrad and, unless x is the images, dgrad into (slot, accumulate).
    Conv { conv: Conv, x: Slot, dy: Slot, filter: Range<usize>, dx: Option<(Slot, bool)> },
    /// Batch norm with what follows it.
    Norm {
        norm: Norm,
        x: Slot,
        y: Option<Slot>,
        winners: Option<usize>,
        affine: Affine,
        statistic: usize,
        dy: Slot,
        dx: Slot,
        residual: Residual,
    },
    /// Mean over all pixels.
    AveragePool { pool: AveragePool, dy: Slot, dx: Slot },
    /// Linear layer and constant.
    Linear { linear: Linear, x: Slot, dy: Slot, weight: Range<usize>, bias: Option<Range<usize>>, dx: Slot },
}

/// Steps and buffers of one network at one batch size.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Largest number of images in a batch.
    pub batch: usize,
    /// Forward steps, each with the nodes it computes; its last node is its output.
    pub forward: Vec<(Vec<NodeId>, Forward)>,
    /// Backward steps in the order in which they run; none in an inference plan.
    pub backward: Vec<Backward>,
    /// Elements of each activation buffer, largest first.
    pub slots: Vec<usize>,
    /// Bytes of each buffer of pooling winners.
    pub winners: Vec<usize>,
    /// The images' slot.
    pub images: Slot,
    /// The output's slot.
    pub logits: Slot,
    /// The slot of the output's gradient, in a training plan.
    pub dlogits: Option<Slot>,
}

impl Plan {
    /// The plan for batches of up to `batch` images.
    ///
    /// # Errors
    /// When the graph holds an operation where no step can compute it.
    pub fn new(graph: &Graph, batch: usize, mode: Mode) -> Result<Plan, Error> {
        let groups = fuse::fuse(graph)?;
        build::Builder::new(graph, batch, mode).build(groups)
    }

    /// Bytes of all activation buffers at `element` bytes each, winners included.
    pub fn activation_bytes(&self, element: usize) -> usize {
        self.slots.iter().sum::<usize>() * element + self.winners.iter().sum::<usize>()
    }

    /// The convolutions of the forward pass.
    pub fn convs(&self) -> Vec<Conv> {
        let conv = |(_, step): &_| if let Forward::Conv { conv, .. } = step { Some(*conv) } else { None };
        self.forward.iter().filter_map(conv).collect()
    }

    /// The batch norms of the forward pass.
    pub fn norms(&self) -> Vec<Norm> {
        let norm = |(_, step): &_| if let Forward::Norm { norm, .. } = step { Some(*norm) } else { None };
        self.forward.iter().filter_map(norm).collect()
    }
}
