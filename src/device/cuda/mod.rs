//! A device that runs kernels: f16 storage, f32 accumulation and master weights, on any [`Driver`].
//!
//! Operations are queued; reading a result waits for them.

pub mod args;
mod array;

use std::any::Any;
use std::ops::Range;

use half::f16;

use super::buffers::{Buffers, Scratch};
use super::driver::{Driver, Launch};
use super::error::Error;
use super::watch::{Fault, Place};
use args::{ADVANCE, AdvanceArgs};
pub use array::{Array, Vector};

/// Most activations of a buffer that a kernel indexes: their offsets are signed, and have 32 bits.
const MOST: usize = i32::MAX as usize;

/// A device with what its operations need beside their buffers.
pub struct Cuda<D: Driver> {
    pub(crate) driver: D,
    /// Where kernels leave partial results for the kernel after them.
    pub(crate) scratch: Array<D, f32>,
    pub(crate) watch: Watch<D>,
    states: Vec<Box<dyn Any>>,
}

/// What a device keeps of the optimiser's step, and of values that are not finite.
pub(crate) struct Watch<D: Driver> {
    /// The optimiser's step \[1\], counted from the epoch's first.
    pub step: Array<D, u32>,
    /// Where a value that is not finite first appeared \[1\]: the least of the steps, in the upper half, and
    /// the [`Place::number`]s, in the lower one. All ones when none did.
    pub fault: Array<D, u64>,
}

impl<D: Driver> Cuda<D> {
    /// A device with no scratch yet; see [`Buffers::reserve`].
    ///
    /// # Errors
    /// When the device has no room.
    pub fn new(driver: D) -> Result<Self, Error> {
        Ok(Cuda {
            scratch: Array::new(&driver, 0)?,
            watch: Watch { step: Array::zeroed(&driver, 1)?, fault: Array::of(&driver, &[u64::MAX])? },
            states: vec![],
            driver,
        })
    }

    /// What launches the kernels.
    pub fn driver(&self) -> &D {
        &self.driver
    }

    /// What operations keep from one call to the next, one value of each type, made when it is first used;
    /// and the driver. The first use comes before any recording.
    pub(crate) fn state<T: Any>(
        &mut self,
        make: impl FnOnce(&D) -> Result<T, Error>,
    ) -> Result<(&mut T, &D), Error> {
        let known = self.states.iter().position(|state| state.is::<T>());
        let at = match known {
            Some(at) => at,
            None => {
                self.states.push(Box::new(make(&self.driver)?));
                self.states.len() - 1
            }
        };
        let state = self.states[at].downcast_mut();
        Ok((state.unwrap_or_else(|| unreachable!("it has just been found to be a T")), &self.driver))
    }

    /// Where so many values of scratch begin.
    ///
    /// # Panics
    /// If fewer were reserved; `what` needs them.
    pub(crate) fn partials(&mut self, values: usize, what: impl std::fmt::Debug) -> *mut f32 {
        let reserved = self.scratch.len();
        assert!(values <= reserved, "{what:?} needs {values} values of scratch, not {reserved}");
        self.scratch.pointer_mut()
    }

    /// Forgets where a value that is not finite first appeared.
    pub(crate) fn forget_fault(&mut self) -> Result<(), Error> {
        Ok(self.watch.fault.write(&self.driver, &[u64::MAX])?)
    }

    /// Adds to a counter on the device.
    pub(crate) fn advance(&self, counter: *mut u32, by: u32) -> Result<(), Error> {
        Ok(self.driver.launch(&ADVANCE, Launch::new(1, 32), AdvanceArgs { counter, by })?)
    }
}

impl<D: Driver> Buffers for Cuda<D> {
    type Tensor = Array<D, f16>;
    type Vector = Vector<D>;
    type Sums = Array<D, f64>;
    type Bytes = Array<D, u8>;
    type Indices = Array<D, u32>;
    type Recording = D::Graph;

    const ACTIVATION: usize = 2;
    /// In f32, and rounded.
    const WEIGHT: usize = 4 + 2;
    const QUEUES: bool = true;

    fn device(&self) -> String {
        self.driver.properties().name.clone()
    }

    fn free_bytes(&self) -> Result<usize, Error> {
        Ok(self.driver.free_bytes()?)
    }

    fn tensor(&self, elements: usize) -> Result<Self::Tensor, Error> {
        Ok(Array::new(&self.driver, elements)?)
    }

    fn vector(&self, values: &[f32]) -> Result<Vector<D>, Error> {
        Ok(Vector { values: Array::of(&self.driver, values)?, halves: None })
    }

    fn upload_weights(&self, values: &[f32]) -> Result<Vector<D>, Error> {
        let halves: Vec<f16> = values.iter().map(|&v| f16::from_f32(v)).collect();
        let halves = Some(Array::of(&self.driver, &halves)?);
        Ok(Vector { values: Array::of(&self.driver, values)?, halves })
    }

    fn sums(&self, elements: usize) -> Result<Self::Sums, Error> {
        Ok(Array::zeroed(&self.driver, elements)?)
    }

    fn bytes(&self, elements: usize) -> Result<Self::Bytes, Error> {
        Ok(Array::zeroed(&self.driver, elements)?)
    }

    fn indices(&self, indices: &[u32]) -> Result<Self::Indices, Error> {
        Ok(Array::of(&self.driver, indices)?)
    }

    fn read(&self, vector: &Vector<D>) -> Result<Vec<f32>, Error> {
        Ok(vector.values.read(&self.driver, vector.values.len())?)
    }

    fn read_range(&self, vector: &Vector<D>, range: Range<usize>) -> Result<Vec<f32>, Error> {
        Ok(vector.values.read_range(&self.driver, range)?)
    }

    fn read_tensor(&self, tensor: &Self::Tensor, elements: usize) -> Result<Vec<f32>, Error> {
        let halves = tensor.read(&self.driver, elements)?;
        Ok(halves.into_iter().map(f32::from).collect())
    }

    fn write(&self, values: &[f32], vector: &mut Vector<D>) -> Result<(), Error> {
        assert!(values.len() == vector.values.len(), "as many values as there were");
        vector.values.write(&self.driver, values)?;
        if let Some(halves) = &mut vector.halves {
            let rounded: Vec<f16> = values.iter().map(|&v| f16::from_f32(v)).collect();
            halves.write(&self.driver, &rounded)?;
        }
        Ok(())
    }

    fn write_tensor(&self, values: &[f32], tensor: &mut Self::Tensor) -> Result<(), Error> {
        let halves: Vec<f16> = values.iter().map(|&v| f16::from_f32(v)).collect();
        Ok(tensor.write(&self.driver, &halves)?)
    }

    fn write_bytes(&self, values: &[u8], bytes: &mut Self::Bytes) -> Result<(), Error> {
        Ok(bytes.write(&self.driver, values)?)
    }

    fn reserve(&mut self, scratch: Scratch) -> Result<(), Error> {
        if scratch.activations > MOST {
            return Err(Error::Activations { values: scratch.activations, most: MOST });
        }
        let values = scratch.shared.div_ceil(size_of::<f32>());
        if values > self.scratch.len() {
            self.scratch = Array::new(&self.driver, values)?;
        }
        Ok(())
    }

    fn scratch_bytes(scratch: Scratch) -> usize {
        scratch.shared
    }

    fn record(&mut self) -> Result<(), Error> {
        Ok(self.driver.begin_recording()?)
    }

    fn recorded(&mut self) -> Result<Option<D::Graph>, Error> {
        Ok(Some(self.driver.end_recording()?))
    }

    fn replay(&mut self, recording: &D::Graph) -> Result<(), Error> {
        Ok(self.driver.replay(recording)?)
    }

    fn fault(&self) -> Result<Option<Fault>, Error> {
        let fault = self.watch.fault.read(&self.driver, 1)?[0];
        let at = || Fault { step: (fault >> 32) as u32, place: Place::of_number(fault as u32) };
        Ok((fault != u64::MAX).then(at))
    }
}
