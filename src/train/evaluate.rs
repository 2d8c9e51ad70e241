//! Loss and accuracy over a split.

use std::ops::Range;

use crate::device::Error;
use crate::graph::{Network, Phase};
use crate::ops::{Backend, Position, Totals};

/// Runs a range of the images of `data`, in order, through the network with its running statistics, and sums
/// up loss and correct answers. `visit` is called after each batch with its number of images, and may read
/// the logits \[n,10\]; if it returns false, evaluation ends and returns none.
///
/// The backend's totals are cleared first. `recording` keeps a full batch's operations from one evaluation to
/// the next.
///
/// # Errors
/// When the device fails, and the errors of `visit`.
pub fn evaluate<B: Backend>(
    network: &mut Network<B>,
    data: &mut B::Data,
    images: Range<usize>,
    recording: &mut Option<B::Recording>,
    mut visit: impl FnMut(&Network<B>, usize) -> Result<bool, Error>,
) -> Result<Option<Totals>, Error> {
    network.backend().set_totals(Totals::default())?;
    network.backend().seek(data, Position { epoch: 0, image: images.start })?;
    let batch = network.inference().batch;
    for start in images.clone().step_by(batch) {
        let n = batch.min(images.end - start);
        let mut step = |network: &mut Network<B>| {
            network.draw_batch(Phase::Inference, data, n)?;
            network.forward(Phase::Inference, n, 0.0)
        };
        match n == batch {
            true => network.replay(recording, step)?,
            false => step(network)?,
        }
        if !visit(network, n)? {
            return Ok(None);
        }
    }
    network.backend().totals().map(Some)
}
