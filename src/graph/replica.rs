//! Several sets of weights that share a network's plans and buffers.

use super::Network;
use super::network::Wanted;
use crate::device::Error;
use crate::ops::Backend;

/// Weights and running statistics that can take the place of a network's own, and which of them are trained.
pub struct Replica<B: Backend> {
    weights: B::Vector,
    running: B::Vector,
    wanted: Vec<Wanted>,
}

impl<B: Backend> Network<B> {
    /// A replica with the network's weights and running statistics, all of them trained.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn replica(&mut self) -> Result<Replica<B>, Error> {
        let (weights, running) = (self.read_weights()?, self.read_running()?);
        let (weights, running) = (self.backend().upload_weights(&weights)?, self.backend().vector(&running)?);
        Ok(Replica { weights, running, wanted: self.everything_wanted() })
    }

    /// Lets the network and a replica change places. Recordings are of one or the other: they hold on to its buffers.
    pub fn swap(&mut self, replica: &mut Replica<B>) {
        let (parameters, wanted) = self.replaceable();
        std::mem::swap(&mut parameters.weights, &mut replica.weights);
        std::mem::swap(&mut parameters.running, &mut replica.running);
        std::mem::swap(wanted, &mut replica.wanted);
    }

    /// Replaces all weights, in memory order.
    ///
    /// # Errors
    /// When the device fails.
    pub fn write_weights(&mut self, values: &[f32]) -> Result<(), Error> {
        let (_, backend, parameters) = self.parts();
        backend.write(values, &mut parameters.weights)
    }

    /// Replaces all running statistics.
    ///
    /// # Errors
    /// When the device fails.
    pub fn write_running(&mut self, values: &[f32]) -> Result<(), Error> {
        let (_, backend, parameters) = self.parts();
        backend.write(values, &mut parameters.running)
    }
}

impl<B: Backend> Network<B> {
    /// The weights at these indices.
    ///
    /// # Errors
    /// When the device fails.
    pub fn gather(&mut self, indices: &B::Indices) -> Result<Vec<f32>, Error> {
        let (_, backend, parameters) = self.parts();
        backend.gather(indices, &parameters.weights)
    }

    /// Replaces the weights at these indices.
    ///
    /// # Errors
    /// When the device fails.
    pub fn scatter(&mut self, indices: &B::Indices, values: &[f32]) -> Result<(), Error> {
        let (_, backend, parameters) = self.parts();
        backend.scatter(indices, values, &mut parameters.weights)
    }
}
