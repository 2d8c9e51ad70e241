//! Several sets of weights that share a network's plans and buffers.

use super::Network;
use crate::device::Error;
use crate::ops::Backend;
use crate::ops::step::Wanted;

/// Weights and running statistics that can take the place of a network's own, and which of them are trained.
pub struct Replica<B: Backend> {
    weights: B::Vector,
    running: B::Vector,
    wanted: Vec<Wanted>,
}

impl<B: Backend> Network<B> {
    /// Returns a replica with the network's weights and running statistics, all of them trained.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn replica(&mut self) -> Result<Replica<B>, Error> {
        let (weights, running) = (self.read_weights()?, self.read_running()?);
        let (weights, running) = (self.backend().upload_weights(&weights)?, self.backend().vector(&running)?);
        let steps = self.training().map_or(0, |plan| plan.steps.len());
        Ok(Replica { weights, running, wanted: vec![Wanted::ALL; steps] })
    }

    /// Lets the network and a replica change places. Recordings are of one or the other: they hold on to its
    /// buffers.
    pub fn swap(&mut self, replica: &mut Replica<B>) {
        let (vectors, wanted) = self.replaceable();
        std::mem::swap(&mut vectors.weights, &mut replica.weights);
        std::mem::swap(&mut vectors.running, &mut replica.running);
        std::mem::swap(wanted, &mut replica.wanted);
    }
}
