//! Opens a device by its name, and does some work on it.

use super::Error;
use crate::backend::Sparse;
use crate::backend::cpu::Cpu;
use crate::backend::cuda::Cuda;
use crate::driver::cuda::Gpu;
#[cfg(fishmask_emulated)]
use crate::driver::emulated::Emulated;
use crate::settings::Device;

/// Work that is done on whatever device it is given.
pub(super) trait Work {
    /// The work's result.
    type Done;

    /// Does the work.
    ///
    /// # Errors
    /// When the work fails.
    fn on<B: Sparse>(self, backend: B) -> Result<Self::Done, Error>;
}

/// Opens a device and does the work on it.
///
/// # Errors
/// When the device cannot be opened, or the work fails.
pub(super) fn on_device<W: Work>(device: Device, work: W) -> Result<W::Done, Error> {
    match device {
        Device::Auto | Device::Cpu => work.on(Cpu::new()),
        Device::Cuda(ordinal) => work.on(Cuda::new(Gpu::open(ordinal)?)?),
        #[cfg(fishmask_emulated)]
        Device::Emulated => work.on(Cuda::new(Emulated::new())?),
        #[cfg(not(fishmask_emulated))]
        Device::Emulated => Err(Error::NoEmulated),
    }
}
