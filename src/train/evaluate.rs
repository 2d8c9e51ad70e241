//! Loss and accuracy over a split.

use crate::backend::{Backend, Error, Totals};
use crate::graph::{Network, Statistics};

/// Runs the first `count` images of `data`, in order, through the network with its running statistics. Each batch's
/// logits \[n,10\] go to `visit`, which says whether to go on; none is returned when it said no. The backend's
/// totals are cleared first.
///
/// # Errors
/// When the device fails.
pub fn evaluate<B: Backend>(
    network: &mut Network<B>,
    data: &B::Data,
    count: usize,
    mut visit: impl FnMut(&Network<B>, usize) -> Result<bool, Error>,
) -> Result<Option<Totals>, Error> {
    network.backend().set_totals(Totals::default())?;
    let batch = network.inference().batch;
    for start in (0..count).step_by(batch) {
        let range = start..(start + batch).min(count);
        let n = range.len();
        network.draw_evaluation_batch(data, range)?;
        network.forward(false, Statistics::Running, n, 0.0)?;
        if !visit(network, n)? {
            return Ok(None);
        }
    }
    network.backend().totals().map(Some)
}
