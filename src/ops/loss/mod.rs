//! Softmax cross-entropy: its sum over a batch, and the gradients of each sample's own loss.

pub mod args;
mod cpu;
mod cuda;

use super::flat::Power;
use crate::device::{Buffers, Error};

/// Softmax cross-entropy summed over the batch, against one-hot labels smoothed by `smoothing`:
/// (1 - smoothing) on the label and smoothing / classes on every class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
    /// Images.
    pub n: usize,
    /// Logits of an image.
    pub classes: usize,
    /// Share of the target spread over all classes, in \[0, 1\].
    pub smoothing: f32,
}

/// What the loss has summed since the totals were last set.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Sum of the images' losses.
    pub loss: f64,
    /// Images whose largest logit is their label's (the first of equal ones).
    pub correct: u64,
    /// Images counted.
    pub images: u64,
}

impl std::iter::Sum for Totals {
    fn sum<I: Iterator<Item = Totals>>(all: I) -> Totals {
        all.fold(Totals::default(), |sum, Totals { loss, correct, images }| Totals {
            loss: sum.loss + loss,
            correct: sum.correct + correct,
            images: sum.images + images,
        })
    }
}

/// The class whose loss is differentiated for scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScoredClass {
    /// The sample's label.
    Label,
    /// The class of this number, its power of the gradient weighted by the probability p that the logits give
    /// it: the gradient is multiplied by sqrt(p) for [`Power::Square`] and by p for [`Power::Absolute`].
    Number(usize),
}

/// Losses on a device.
pub trait LossOps: Buffers {
    /// Adds the batch's loss and correct count to the totals; `dlogits` \[N,classes\], if given, is
    /// overwritten.
    fn softmax_cross_entropy(
        &mut self,
        loss: &Loss,
        logits: &Self::Tensor,
        labels: &Self::Bytes,
        dlogits: Option<&mut Self::Tensor>,
    ) -> Result<(), Error>;
    /// Gradient by the logits of each image's own loss. Totals do not change.
    fn score_gradient(&mut self, loss: &Loss, b: ScoreGradient<Self>) -> Result<(), Error>;
    /// Returns what the losses have summed to.
    fn totals(&mut self) -> Result<Totals, Error>;
    /// Sets the totals, to zero or to what a checkpoint held, and forgets the fault. Done once before
    /// anything is recorded.
    fn set_totals(&mut self, totals: Totals) -> Result<(), Error>;
}

/// Buffers of [`LossOps::score_gradient`], and what it is the gradient of.
pub struct ScoreGradient<'a, B: Buffers + ?Sized> {
    /// The power of the gradients that scores sum.
    pub power: Power,
    /// The class whose loss it is.
    pub class: ScoredClass,
    /// Logits \[N,classes\].
    pub logits: &'a B::Tensor,
    /// Labels \[N\].
    pub labels: &'a B::Bytes,
    /// Gradients \[N,classes\], overwritten.
    pub dlogits: &'a mut B::Tensor,
}
