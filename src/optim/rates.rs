//! The learning rates of an epoch's steps, where the device finds the next one by itself.

use crate::device::driver::Driver;
use crate::device::{Array, Buffers, Cpu, Cuda, Error};

/// Learning rates on a device.
pub trait RateOps: Buffers {
    /// Sets the learning rates of an epoch's steps, for the summed loss; the optimiser's next step is number
    /// `next` of them.
    ///
    /// # Errors
    /// [`Error::Steps`] if the epoch has more steps than the device keeps rates for.
    fn set_rates(&mut self, rates: &[f32], next: usize) -> Result<(), Error>;
}

/// The rates of an epoch, on the CPU.
#[derive(Default)]
struct Rates(Vec<f32>);

impl RateOps for Cpu {
    fn set_rates(&mut self, rates: &[f32], next: usize) -> Result<(), Error> {
        let own = &mut self.state::<Rates>().0;
        own.clear();
        own.extend_from_slice(rates);
        self.step = next;
        Ok(())
    }
}

/// The next step's learning rate, which that step uses up.
pub(super) fn next_rate(cpu: &mut Cpu) -> Result<f32, Error> {
    let step = cpu.step;
    let rates = &cpu.state::<Rates>().0;
    let &lr = rates.get(step).ok_or(Error::Steps { steps: step + 1, most: rates.len() })?;
    cpu.step += 1;
    Ok(lr)
}

/// Most steps of an epoch: all of CIFAR-10's training images one at a time, and some.
const MOST_STEPS: usize = 1 << 16;

/// The rates of an epoch on a device that runs kernels. NaN after the last step: a replay beyond it cannot go
/// unnoticed.
struct DeviceRates<D: Driver>(Array<D, f32>);

impl<D: Driver> DeviceRates<D> {
    fn new(driver: &D) -> Result<Self, Error> {
        Ok(DeviceRates(Array::of(driver, &vec![f32::NAN; MOST_STEPS + 1])?))
    }
}

impl<D: Driver> RateOps for Cuda<D> {
    fn set_rates(&mut self, rates: &[f32], next: usize) -> Result<(), Error> {
        if rates.len() > MOST_STEPS {
            return Err(Error::Steps { steps: rates.len(), most: MOST_STEPS });
        }
        assert!(next <= rates.len(), "step {next} of {}", rates.len());
        let (own, driver) = self.state(DeviceRates::new)?;
        own.0.write(driver, &[rates, &[f32::NAN]].concat())?;
        Ok(self.watch.step.write(&self.driver, &[next as u32])?)
    }
}

/// Where the rates lie, for kernels.
pub(super) fn rates_pointer<D: Driver>(cuda: &mut Cuda<D>) -> Result<*const f32, Error> {
    Ok(cuda.state(DeviceRates::new)?.0.0.pointer())
}
