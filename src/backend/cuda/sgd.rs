//! Nesterov SGD over the flat vector.

use half::f16;

use super::args::sgd::{SGD_STEP, SgdArgs};
use super::{Array, Cuda, Vector};
use crate::backend::{Error, Sgd};
use crate::driver::{Driver, Launch};

/// Most steps of an epoch: all of CIFAR-10's training images one at a time, and some.
const MOST_STEPS: usize = 1 << 16;

/// The schedule of an epoch, and where in it training is.
pub(super) struct State<D: Driver> {
    /// NaN after the epoch's last step: a replay beyond it cannot go unnoticed.
    rates: Array<D, f32>,
    /// The next step's place in the rates \[1\].
    pub step: Array<D, u32>,
}

impl<D: Driver> State<D> {
    pub(super) fn new(driver: &D) -> Result<Self, Error> {
        let none = vec![f32::NAN; MOST_STEPS + 1];
        Ok(State { rates: Array::of(driver, &none)?, step: Array::zeroed(driver, 1)? })
    }

    pub(super) fn set_rates(&mut self, driver: &D, rates: &[f32], next: usize) -> Result<(), Error> {
        if rates.len() > MOST_STEPS {
            return Err(Error::Steps { steps: rates.len(), most: MOST_STEPS });
        }
        assert!(next <= rates.len(), "step {next} of {}", rates.len());
        let mut all = vec![f32::NAN; MOST_STEPS + 1];
        all[..rates.len()].copy_from_slice(rates);
        self.rates.write(driver, &all)?;
        Ok(self.step.write(driver, &[next as u32])?)
    }
}

impl<D: Driver> Cuda<D> {
    pub(super) fn sgd_step(
        &mut self,
        sgd: &Sgd,
        gradients: &Vector<D>,
        velocity: &mut Vector<D>,
        weights: &mut Vector<D>,
    ) -> Result<(), Error> {
        let n = weights.values.len();
        assert!(
            gradients.values.len() == n && velocity.values.len() == n,
            "one gradient and velocity a weight"
        );
        assert!(n <= u32::MAX as usize, "{n} weights are too many");
        let halves = weights.halves.as_mut().map_or(std::ptr::null_mut::<f16>(), Array::pointer_mut);
        let args = SgdArgs {
            weights: weights.values.pointer_mut(),
            velocity: velocity.values.pointer_mut(),
            gradients: gradients.values.pointer(),
            halves,
            rates: self.sgd.rates.pointer(),
            step: self.sgd.step.pointer(),
            n: n as u32,
            momentum: sgd.momentum,
            weight_decay: sgd.weight_decay,
        };
        // Eight weights a thread.
        let blocks = n.div_ceil(8 * 256).max(1);
        self.driver.launch(&SGD_STEP, Launch::new(blocks as u32, 256), args)?;
        let step = self.sgd.step.pointer_mut();
        self.advance(step, 1)
    }
}
