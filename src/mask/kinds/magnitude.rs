//! The magnitude kind: a weight's score is its absolute value, as in magnitude pruning.

use crate::device::Error;
use crate::graph::Network;
use crate::mask::select::Draw;
use crate::ops::Backend;

/// Returns a score for each weight, in canonical order.
///
/// # Errors
/// When the weights cannot be read from the device.
pub fn scores<B: Backend>(network: &mut Network<B>, _: &Draw) -> Result<Vec<f32>, Error> {
    let mut scores = network.graph().layout.to_canonical(&network.read_weights()?);
    scores.iter_mut().for_each(|weight| *weight = weight.abs());
    Ok(scores)
}
