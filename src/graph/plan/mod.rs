//! A plan: the graph fused into steps, with a buffer slot for every value and gradient. It is made once.

mod build;
mod fuse;
mod slots;

use std::any::Any;

use super::NodeId;
use crate::device::{Error, Scratch};
pub use crate::ops::step::{Destination, Gradients, Operands, Slot};
use crate::ops::step::{Run, Wanted};
use crate::ops::{Backend, Work};

/// What a plan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Forward alone.
    Inference,
    /// Forward, then backward once.
    Training,
    /// Forward, then backward any number of times, each from a gradient of the logits written anew: what the
    /// backward steps read of the forward pass is never overwritten.
    Scoring,
}

/// A step of a plan: what it computes, and where its operands lie.
pub struct Step<B: Backend> {
    /// The nodes it computes, first to last; the last one's output is the step's.
    pub nodes: Vec<NodeId>,
    /// The operation, with `n` = the plan's batch.
    pub operation: Box<dyn crate::ops::step::Step<B>>,
    /// What the forward pass reads and writes. The backward pass reads some of the same.
    pub operands: Operands,
    /// What else the backward pass reads and writes; none in an inference plan.
    pub gradients: Option<Gradients>,
}

/// Steps and buffers of one network at one batch size.
pub struct Plan<B: Backend> {
    /// What it is for.
    pub mode: Mode,
    /// Largest number of images in a batch.
    pub batch: usize,
    /// Steps in the order of the forward pass; the backward pass takes them last to first.
    pub steps: Vec<Step<B>>,
    /// Elements of each activation buffer, largest first.
    pub slots: Vec<usize>,
    /// Bytes of each buffer that the forward pass leaves for the backward pass, such as a max pool's winners.
    pub saved: Vec<usize>,
    /// The images' slot.
    pub images: Slot,
    /// The output's slot.
    pub logits: Slot,
    /// The slot of the output's gradient; none in an inference plan.
    pub dlogits: Option<Slot>,
}

impl<B: Backend> Plan<B> {
    /// Runs the forward pass.
    ///
    /// # Errors
    /// Those of the device.
    pub fn forward(&self, run: &mut Run<B>) -> Result<(), Error> {
        self.steps.iter().try_for_each(|step| step.operation.forward(&step.operands, run))
    }

    /// Runs the backward pass down to the last step that `wanted` has an entry for; the first entry is the
    /// last step's. An inference plan has no backward pass, and this does nothing.
    ///
    /// # Errors
    /// Those of the device.
    pub fn backward(&self, wanted: impl IntoIterator<Item = Wanted>, run: &mut Run<B>) -> Result<(), Error> {
        for (step, wanted) in self.steps.iter().rev().zip(wanted) {
            if let Some(gradients) = &step.gradients {
                run.wanted = wanted;
                step.operation.backward(&step.operands, gradients, run)?;
            }
        }
        Ok(())
    }

    /// Returns the bytes of all activation buffers at `element` bytes each, and of what else is saved.
    pub fn activation_bytes(&self, element: usize) -> usize {
        self.slots.iter().sum::<usize>() * element + self.saved.iter().sum::<usize>()
    }

    /// Returns the scratch that its operations need on the device beside their buffers.
    pub fn scratch(&self) -> Scratch {
        let work = match self.mode {
            Mode::Inference | Mode::Training => Work::Train,
            Mode::Scoring => Work::Score,
        };
        self.steps.iter().map(|step| step.operation.scratch(work)).collect()
    }

    /// Returns the operations of one type, in the order of the forward pass.
    pub fn operations<T: Any + Clone>(&self) -> Vec<T> {
        let operation = |step: &Step<B>| (&*step.operation as &dyn Any).downcast_ref::<T>().cloned();
        self.steps.iter().filter_map(operation).collect()
    }
}
