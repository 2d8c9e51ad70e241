//! Values at some indices of a flat vector, between device and host; and zeros in all of it.

pub mod args;
mod cpu;
mod cuda;

use crate::device::{Buffers, Error};

/// Gather, scatter and clear on a device. Only [`GatherOps::clear`] can be recorded.
pub trait GatherOps: Buffers {
    /// Returns a vector's values at these indices, in their order.
    fn gather(&self, indices: &Self::Indices, vector: &Self::Vector) -> Result<Vec<f32>, Error>;
    /// Replaces a vector's values at these indices, in their order.
    fn scatter(
        &self,
        indices: &Self::Indices,
        values: &[f32],
        vector: &mut Self::Vector,
    ) -> Result<(), Error>;
    /// Makes all of a vector zero.
    fn clear(&mut self, vector: &mut Self::Vector) -> Result<(), Error>;
}
