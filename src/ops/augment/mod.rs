//! Batches drawn from a data set: shuffled, augmented and normalised.

pub mod args;
mod cpu;
mod cuda;

use std::sync::Arc;

use crate::data::Split;
use crate::device::{Buffers, Error};

/// A place in a split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Epoch, from 0, which the order and augmentation of training images depend on.
    pub epoch: u32,
    /// Images of the epoch before this place.
    pub image: usize,
}

/// Batches of a data set on a device.
pub trait AugmentOps: Buffers {
    /// A split of the data set, ready to be drawn from.
    type Data;

    /// Makes a split ready to draw images from; for training, in batches of so many images, shuffled and
    /// augmented by a seed.
    ///
    /// # Errors
    /// [`Error::Data`] if the split cannot be read in batches of that size.
    fn data(&mut self, split: &Arc<Split>, training: Option<(usize, u64)>) -> Result<Self::Data, Error>;
    /// Makes the next batch begin here.
    ///
    /// # Errors
    /// [`Error::Images`] if the split ends before it.
    fn seek(&mut self, data: &mut Self::Data, position: Position) -> Result<(), Error>;
    /// Draws the next `n` normalised images \[n,32,32,3\] and their labels: in the data's order or, if it is
    /// for training, shuffled and augmented, `n` being its batch.
    ///
    /// # Errors
    /// [`Error::Batch`] if `n` is not the training batch, [`Error::Images`] if the split ends before the last
    /// image.
    fn next_batch(
        &mut self,
        data: &mut Self::Data,
        n: usize,
        images: &mut Self::Tensor,
        labels: &mut Self::Bytes,
    ) -> Result<(), Error>;
}
