//! From scores to a mask: the classifier whole, and of the other weights those with the largest scores.

use super::{Mask, Quota};
use crate::device;
use crate::graph::{Layout, Network};
use crate::ops::Backend;

/// What tells one selection of a mask from another.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    /// How many weights are kept.
    pub quota: Quota,
    /// The run's seed.
    pub seed: u64,
    /// The number of the selection within the run.
    pub number: u32,
}

/// Returns the mask of the largest scores, given in canonical order.
///
/// # Errors
/// When the device fails.
pub fn largest<B: Backend>(
    network: &mut Network<B>,
    scores: &[f32],
    quota: Quota,
) -> Result<Mask, device::Error> {
    let backend = network.backend();
    let scores = backend.vector(scores)?;
    let chosen = backend.top_k(&scores, quota.scored, quota.chosen)?;
    Ok(with_classifier(chosen, quota, &network.graph().layout))
}

/// Adds the classifier to the weights chosen before it.
pub(super) fn with_classifier(mut indices: Vec<u32>, quota: Quota, layout: &Layout) -> Mask {
    let weights = layout.weight_count();
    indices.extend(quota.scored as u32..weights as u32);
    Mask { indices, weights }
}
