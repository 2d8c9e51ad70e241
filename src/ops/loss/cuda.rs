//! Softmax cross-entropy and what it has summed, on devices that run kernels.

use super::args::{LABEL, LOSS_THREADS, LossArgs, SCORE_GRADIENT, SOFTMAX_CROSS_ENTROPY, ScoreGradientArgs};
use super::{Loss, LossOps, ScoreGradient, ScoredClass, Totals};
use crate::device::driver::{Driver, Launch};
use crate::device::{Array, Cuda, Error, Place};
use crate::ops::flat::Power;

/// The totals on the device \[3\]: the sum of losses, as f64's bits; correct images; images.
struct DeviceTotals<D: Driver>(Array<D, u64>);

impl<D: Driver> DeviceTotals<D> {
    fn new(driver: &D) -> Result<Self, Error> {
        Ok(DeviceTotals(Array::zeroed(driver, 3)?))
    }
}

impl<D: Driver> LossOps for Cuda<D> {
    fn softmax_cross_entropy(
        &mut self,
        loss: &Loss,
        logits: &Self::Tensor,
        labels: &Self::Bytes,
        dlogits: Option<&mut Self::Tensor>,
    ) -> Result<(), Error> {
        let &Loss { n, classes, smoothing } = loss;
        let values = n * classes;
        let room = dlogits.as_ref().is_none_or(|dlogits| dlogits.len() >= values);
        assert!(logits.len() >= values && labels.len() >= n && room, "buffers too short for {loss:?}");
        assert!(values <= u32::MAX as usize, "{loss:?} is too large");
        let totals = self.state(DeviceTotals::new)?.0.0.pointer_mut();
        let args = LossArgs {
            logits: logits.pointer(),
            labels: labels.pointer(),
            dlogits: dlogits.map_or(std::ptr::null_mut(), Array::pointer_mut),
            loss: totals.cast(),
            counts: totals.wrapping_add(1),
            fault: self.watch.fault.pointer_mut(),
            step: self.watch.step.pointer(),
            spread: f64::from(smoothing) / classes as f64,
            share: 1.0 - f64::from(smoothing),
            n: n as u32,
            classes: classes as u32,
            place: Place::Logits.number(),
        };
        let threads = args.n.next_multiple_of(32).clamp(32, LOSS_THREADS);
        Ok(self.driver.launch(&SOFTMAX_CROSS_ENTROPY, Launch::new(1, threads), args)?)
    }

    fn score_gradient(&mut self, loss: &Loss, b: ScoreGradient<Self>) -> Result<(), Error> {
        let ScoreGradient { power, class, logits, labels, dlogits } = b;
        let &Loss { n, classes, smoothing } = loss;
        let values = n * classes;
        let room = logits.len() >= values && dlogits.len() >= values && labels.len() >= n;
        assert!(room, "buffers too short for {loss:?}");
        assert!(values <= u32::MAX as usize, "{loss:?} is too large");
        let wanted = match class {
            ScoredClass::Label => LABEL,
            ScoredClass::Number(class) => {
                assert!(class < classes, "class {class} of {classes}");
                class as u32
            }
        };
        let args = ScoreGradientArgs {
            logits: logits.pointer(),
            labels: labels.pointer(),
            dlogits: dlogits.pointer_mut(),
            spread: f64::from(smoothing) / classes as f64,
            share: 1.0 - f64::from(smoothing),
            n: n as u32,
            classes: classes as u32,
            wanted,
            absolute: (power == Power::Absolute).into(),
        };
        let launch = Launch::new(args.n.div_ceil(128).max(1), 128);
        Ok(self.driver.launch(&SCORE_GRADIENT, launch, args)?)
    }

    fn totals(&mut self) -> Result<Totals, Error> {
        let (totals, driver) = self.state(DeviceTotals::new)?;
        let totals = totals.0.read(driver, 3)?;
        Ok(Totals { loss: f64::from_bits(totals[0]), correct: totals[1], images: totals[2] })
    }

    fn set_totals(&mut self, totals: Totals) -> Result<(), Error> {
        self.forget_fault()?;
        let (own, driver) = self.state(DeviceTotals::new)?;
        Ok(own.0.write(driver, &[totals.loss.to_bits(), totals.correct, totals.images])?)
    }
}
