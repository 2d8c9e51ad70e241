//! Loss and accuracy over a split.

use std::ops::Range;

use crate::device::Error;
use crate::graph::{Network, Statistics};
use crate::ops::{Backend, Position, Totals};

/// Runs some images of `data`, in order, through the network with its running statistics. Each batch's
/// logits \[n,10\] go to `visit`, which says whether to go on; none is returned when it said no. The backend's
/// totals are cleared first. `recording` keeps a full batch's operations from one evaluation to the next.
///
/// # Errors
/// When the device fails.
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
            network.draw_batch(false, data, n)?;
            network.forward(false, Statistics::Running, n, 0.0)
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
