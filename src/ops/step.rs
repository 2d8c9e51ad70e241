//! What a plan needs to know of an operation, and how it is run: one pass forward and one backward, whatever
//! they are for.

use std::any::Any;
use std::cell::RefCell;
use std::fmt::Debug;
use std::ops::Range;

use super::backend::Backend;
use super::flat::{Out, Power, Work};
use crate::device::{Error, Scratch};

/// Position of an activation buffer among those of a plan.
pub type Slot = usize;

/// What the steps of a plan are run for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Inference: running statistics normalise, and nothing is kept for a backward pass.
    Infer,
    /// Training: statistics of the batch normalise and update the running ones; the backward pass overwrites
    /// gradients.
    Train,
    /// Scores: each image is normalised alone; the backward pass adds a power of each image's own gradient to
    /// the scores, and changes nothing of the network.
    Score {
        /// The power that gradients are raised to.
        power: Power,
        /// What normalises each image.
        statistics: Statistics,
    },
}

impl Pass {
    /// Returns what the backward pass leaves in the flat vector.
    pub fn out<B: Backend>(self, vector: &mut B::Vector) -> Out<'_, B> {
        match self {
            Pass::Infer | Pass::Train => Out::Gradients(vector),
            Pass::Score { power, .. } => Out::Scores(power, vector),
        }
    }
}

/// The mean and variance that normalise an image that is scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistics {
    /// Those of the image's own pixels.
    Own,
    /// The running ones.
    Running,
}

/// What a backward step is to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Whether the gradients of its parameters are needed. A step may compute them all the same, where they
    /// cost little.
    pub gradients: bool,
    /// Whether the gradients of its inputs are needed. A step may compute them all the same.
    pub inputs: bool,
}

impl Wanted {
    /// Every gradient.
    pub const ALL: Wanted = Wanted { gradients: true, inputs: true };
}

/// Where a step's operands lie.
#[derive(Clone, Debug, PartialEq)]
pub struct Operands {
    /// Slots of the inputs: the first node's, then the others' that absorbed nodes brought along.
    pub inputs: Vec<Slot>,
    /// Slot of the output, overwritten.
    pub output: Slot,
    /// Ranges of the flat vector, in the order of [`Layer::parameters`](super::layer::Layer::parameters).
    pub parameters: Vec<Range<usize>>,
    /// Range of a batch norm's statistics, and the same for the step before that leaves it the sums; empty
    /// for others.
    pub statistics: Range<usize>,
    /// Position among the plan's buffers of what the forward pass keeps for the backward pass beside
    /// activations ([`Step::saved_bytes`]).
    pub saved: Option<usize>,
}

/// Where a step's gradients lie.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients {
    /// Slot of the output's gradient, read.
    pub output: Slot,
    /// Where the gradient of each input goes.
    pub inputs: Vec<Destination>,
}

/// Where the gradient of one input of a step goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Nowhere: the input is the images.
    Nowhere,
    /// It takes the place of the output's gradient.
    InPlace,
    /// Into this slot, overwritten.
    Overwrite(Slot),
    /// Added to what this slot holds, the gradient from other readers of the same input.
    Accumulate(Slot),
}

impl Destination {
    /// Returns the slot of its own that the gradient goes to.
    pub fn slot(&self) -> Option<Slot> {
        match *self {
            Destination::Nowhere | Destination::InPlace => None,
            Destination::Overwrite(slot) | Destination::Accumulate(slot) => Some(slot),
        }
    }
}

/// All that steps read and write in one pass over the first `n` images of a batch.
#[allow(missing_docs)] // Fields without a line have the name of what they hold.
pub struct Run<'a, B: Backend> {
    pub backend: &'a mut B,
    pub n: usize,
    pub pass: Pass,
    /// What the backward step that runs now is to compute.
    pub wanted: Wanted,
    /// Activations and their gradients by slot. A step reads some and writes others; the cells check that
    /// they differ.
    pub tensors: &'a [RefCell<B::Tensor>],
    /// By [`Operands::saved`].
    pub saved: &'a mut [B::Bytes],
    /// The flat vector.
    pub weights: &'a B::Vector,
    /// Running means and variances.
    pub running: &'a mut B::Vector,
    /// Mean and 1/sqrt(var + eps) that normalise in this pass. For scores each image has its own: where a
    /// batch norm's running statistics are a range from `i`, these begin at `i` times the plan's batch.
    pub statistics: &'a mut B::Vector,
    /// Sums and sums of squares by channel, where the running statistics are.
    pub sums: &'a mut B::Sums,
    /// What the backward pass leaves by weight: gradients or, for [`Pass::Score`], scores.
    pub gradients: &'a mut B::Vector,
}

/// One step of a plan: an operation with its shapes, for as many images as the plan's batch.
pub trait Step<B: Backend>: Any + Debug {
    /// Takes in the layer that alone reads the output, and returns whether it did. From then on the step's
    /// output is that layer's, and any other input of the layer follows the step's own.
    fn absorb(&mut self, layer: &dyn Any) -> bool {
        let _ = layer;
        false
    }

    /// Returns whether training needs sums of the first input by channel, which the step before has to leave
    /// behind.
    fn needs_sums(&self) -> bool {
        false
    }

    /// Returns whether it can leave such sums of its output.
    fn leaves_sums(&self) -> bool {
        false
    }

    /// Returns whether the backward pass reads the first input.
    fn keeps_input(&self) -> bool {
        true
    }

    /// Returns whether the backward pass reads the output.
    fn keeps_output(&self) -> bool {
        false
    }

    /// Returns the bytes that the forward pass keeps for the backward pass beside activations.
    fn saved_bytes(&self) -> usize {
        0
    }

    /// Returns whether the gradient of an input can go there.
    fn can_write(&self, input: usize, destination: Destination) -> bool {
        let _ = input;
        matches!(destination, Destination::Overwrite(_))
    }

    /// Returns the floating-point operations of the forward pass for one image, a multiply-add being two.
    /// Only convolutions and matrix products count.
    fn flops(&self) -> u64 {
        0
    }

    /// Returns the scratch that it needs beside its buffers when run for this work.
    fn scratch(&self, work: Work) -> Scratch {
        let _ = work;
        Scratch::default()
    }

    /// Computes the output.
    ///
    /// # Errors
    /// Those of the device.
    fn forward(&self, at: &Operands, run: &mut Run<B>) -> Result<(), Error>;

    /// Computes the gradients of inputs and parameters from the output's.
    ///
    /// # Errors
    /// Those of the device.
    fn backward(&self, at: &Operands, gradients: &Gradients, run: &mut Run<B>) -> Result<(), Error>;
}
