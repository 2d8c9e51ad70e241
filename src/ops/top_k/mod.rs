//! The k largest of some scores.

pub mod args;
mod cpu;
mod cuda;

use crate::device::{Buffers, Error};
pub use cuda::{TopK, TopKScratch};

/// Top-k on a device.
pub trait TopKOps: Buffers {
    /// Returns the indices of the `k` largest of the first `n` scores, ascending; of equal scores, those of
    /// lower index. Scores are ordered as [`f32::total_cmp`] has it.
    fn top_k(&mut self, scores: &Self::Vector, n: usize, k: usize) -> Result<Vec<u32>, Error>;
}
