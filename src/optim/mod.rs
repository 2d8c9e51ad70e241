//! Optimisers: what moves the weights, and the schedule of the learning rate.

mod rates;
mod schedule;
pub mod sgd;

use serde::{Deserialize, Serialize};

use crate::device::driver::Driver;
use crate::device::{self, Cpu, Cuda, Device, OnDriver, with_driver};
use crate::ops::Backend;
pub use rates::RateOps;
pub use schedule::PiecewiseLinear;
pub use sgd::{Moves, Sgd, SgdBuffers, SgdOps};

/// What a mask leaves alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum UpdateRule {
    /// Weights outside the mask keep their bits: neither their gradients, nor momentum, nor decay move them.
    #[default]
    Strict,
    /// Only the gradient is masked: momentum and decay move every weight, as in the authors' code.
    Published,
}

/// A device with every operation and the steps of every optimiser.
pub trait TrainingBackend: Backend + SgdOps {}

impl<B: Backend + SgdOps> TrainingBackend for B {}

/// Work for whatever device there is.
pub trait Work {
    /// What the work returns.
    type Output;
    /// Does the work.
    fn on<B: TrainingBackend>(self, backend: B) -> Self::Output;
}

/// Opens the device that is meant and does the work on it.
///
/// # Errors
/// When the device cannot be opened or has no room.
pub fn with_device<W: Work>(device: Device, work: W) -> Result<W::Output, device::Error> {
    match device {
        Device::Auto | Device::Cpu => Ok(work.on(Cpu::new())),
        device => with_driver(device, OnKernels(work))?,
    }
}

/// Work on a device that runs kernels.
struct OnKernels<W>(W);

impl<W: Work> OnDriver for OnKernels<W> {
    type Output = Result<W::Output, device::Error>;

    fn on<D: Driver>(self, driver: D) -> Self::Output {
        Ok(self.0.on(Cuda::new(driver)?))
    }
}
