//! Nesterov SGD over the flat vector, or over the weights of it that are kept.

use half::f16;

use super::args::sgd::{SGD_PUBLISHED, SGD_STEP, SGD_STRICT, SgdArgs};
use super::{Array, Cuda, Vector};
use crate::backend::{Error, Sgd};
use crate::driver::{Driver, Kernel, Launch};

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
        self.rates.write(driver, &[rates, &[f32::NAN]].concat())?;
        Ok(self.step.write(driver, &[next as u32])?)
    }
}

impl<D: Driver> Cuda<D> {
    /// Arguments of any of the kernels, for `n` weights that move, with neither a mask nor indices.
    fn sgd_args(
        &mut self,
        sgd: &Sgd,
        gradients: &Vector<D>,
        velocity: &mut Vector<D>,
        weights: &mut Vector<D>,
        n: usize,
    ) -> SgdArgs {
        let all = weights.values.len();
        assert!(gradients.values.len() == all, "one gradient a weight");
        assert!(velocity.values.len() == n, "one velocity a weight that moves");
        assert!(all <= u32::MAX as usize, "{all} weights are too many");
        SgdArgs {
            weights: weights.values.pointer_mut(),
            velocity: velocity.values.pointer_mut(),
            gradients: gradients.values.pointer(),
            halves: weights.halves.as_mut().map_or(std::ptr::null_mut::<f16>(), Array::pointer_mut),
            kept: std::ptr::null(),
            indices: std::ptr::null(),
            rates: self.sgd.rates.pointer(),
            step: self.sgd.step.pointer(),
            n: n as u32,
            momentum: sgd.momentum,
            weight_decay: sgd.weight_decay,
        }
    }

    /// Runs a kernel whose threads take so many weights each, and goes on to the next step.
    fn sgd_launch(&mut self, kernel: &Kernel<SgdArgs>, each: usize, args: SgdArgs) -> Result<(), Error> {
        let blocks = (args.n as usize).div_ceil(each * 256).max(1);
        self.driver.launch(kernel, Launch::new(blocks as u32, 256), args)?;
        let step = self.sgd.step.pointer_mut();
        self.advance(step, 1)
    }

    pub(super) fn sgd_step(
        &mut self,
        sgd: &Sgd,
        gradients: &Vector<D>,
        velocity: &mut Vector<D>,
        weights: &mut Vector<D>,
    ) -> Result<(), Error> {
        let n = weights.values.len();
        let args = self.sgd_args(sgd, gradients, velocity, weights, n);
        self.sgd_launch(&SGD_STEP, 8, args)
    }

    pub(super) fn sgd_step_published(
        &mut self,
        sgd: &Sgd,
        kept: &Array<D, u8>,
        gradients: &Vector<D>,
        velocity: &mut Vector<D>,
        weights: &mut Vector<D>,
    ) -> Result<(), Error> {
        let n = weights.values.len();
        assert!(kept.len() >= n, "whether it is kept, for each of {n} weights");
        let args = self.sgd_args(sgd, gradients, velocity, weights, n);
        self.sgd_launch(&SGD_PUBLISHED, 8, SgdArgs { kept: kept.pointer(), ..args })
    }

    pub(super) fn sgd_step_strict(
        &mut self,
        sgd: &Sgd,
        kept: &Array<D, u32>,
        gradients: &Vector<D>,
        velocity: &mut Vector<D>,
        weights: &mut Vector<D>,
    ) -> Result<(), Error> {
        let args = self.sgd_args(sgd, gradients, velocity, weights, kept.len());
        self.sgd_launch(&SGD_STRICT, 1, SgdArgs { indices: kept.pointer(), ..args })
    }
}
