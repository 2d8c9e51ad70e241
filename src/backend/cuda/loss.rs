//! Softmax cross-entropy and what it has summed.

use half::f16;

use super::args::loss::{
    LABEL, LOSS_THREADS, LossArgs, SCORE_GRADIENT, SOFTMAX_CROSS_ENTROPY, ScoreGradientArgs,
};
use super::{Array, Cuda};
use crate::backend::{Error, Fault, Loss, Place, Power, Target, Totals};
use crate::driver::{Driver, Launch};

/// What a step leaves for the host to read.
pub(super) struct State<D: Driver> {
    /// The least of what [`place`] made, in its low half, and the step, in its high half: where a value that is not
    /// finite first appeared. All ones when none did.
    pub fault: Array<D, u64>,
    /// Sum of losses, as f64's bits; correct; images.
    pub totals: Array<D, u64>,
}

/// A place as a number that grows in the order in which a step comes by.
pub(super) fn place(place: Place) -> u32 {
    match place {
        Place::Forward(at) => at as u32,
        Place::Logits => 1 << 30,
        // Backwards.
        Place::Backward(at) => (1 << 31) - at as u32,
    }
}

/// The place that [`place`] made this number of.
fn place_of(number: u32) -> Place {
    match number.cmp(&(1 << 30)) {
        std::cmp::Ordering::Less => Place::Forward(number as usize),
        std::cmp::Ordering::Equal => Place::Logits,
        std::cmp::Ordering::Greater => Place::Backward(((1 << 31) - number) as usize),
    }
}

impl<D: Driver> State<D> {
    pub(super) fn new(driver: &D) -> Result<Self, Error> {
        Ok(State { fault: Array::of(driver, &[u64::MAX])?, totals: Array::zeroed(driver, 3)? })
    }

    pub(super) fn totals(&self, driver: &D) -> Result<Totals, Error> {
        let totals = self.totals.read(driver, 3)?;
        Ok(Totals { loss: f64::from_bits(totals[0]), correct: totals[1], images: totals[2] })
    }

    pub(super) fn set_totals(&mut self, driver: &D, totals: Totals) -> Result<(), Error> {
        self.fault.write(driver, &[u64::MAX])?;
        Ok(self.totals.write(driver, &[totals.loss.to_bits(), totals.correct, totals.images])?)
    }

    pub(super) fn fault(&self, driver: &D) -> Result<Option<Fault>, Error> {
        let fault = self.fault.read(driver, 1)?[0];
        let at = || Fault { step: (fault >> 32) as u32, place: place_of(fault as u32) };
        Ok((fault != u64::MAX).then(at))
    }
}

impl<D: Driver> Cuda<D> {
    pub(super) fn cross_entropy(
        &mut self,
        loss: &Loss,
        logits: &Array<D, f16>,
        labels: &Array<D, u8>,
        dlogits: Option<&mut Array<D, f16>>,
    ) -> Result<(), Error> {
        let &Loss { n, classes, smoothing } = loss;
        let values = n * classes;
        let room = dlogits.as_ref().is_none_or(|dlogits| dlogits.len() >= values);
        assert!(logits.len() >= values && labels.len() >= n && room, "buffers too short for {loss:?}");
        assert!(values <= u32::MAX as usize, "{loss:?} is too large");
        let totals = self.loss.totals.pointer_mut();
        let args = LossArgs {
            logits: logits.pointer(),
            labels: labels.pointer(),
            dlogits: dlogits.map_or(std::ptr::null_mut(), Array::pointer_mut),
            loss: totals.cast(),
            counts: totals.wrapping_add(1),
            fault: self.loss.fault.pointer_mut(),
            step: self.sgd.step.pointer(),
            spread: f64::from(smoothing) / classes as f64,
            share: 1.0 - f64::from(smoothing),
            n: n as u32,
            classes: classes as u32,
            place: place(Place::Logits),
        };
        let threads = args.n.next_multiple_of(32).clamp(32, LOSS_THREADS);
        Ok(self.driver.launch(&SOFTMAX_CROSS_ENTROPY, Launch::new(1, threads), args)?)
    }

    pub(super) fn sample_gradient(
        &mut self,
        loss: &Loss,
        power: Power,
        target: Target,
        logits: &Array<D, f16>,
        labels: &Array<D, u8>,
        dlogits: &mut Array<D, f16>,
    ) -> Result<(), Error> {
        let &Loss { n, classes, smoothing } = loss;
        let values = n * classes;
        let room = logits.len() >= values && dlogits.len() >= values && labels.len() >= n;
        assert!(room, "buffers too short for {loss:?}");
        assert!(values <= u32::MAX as usize, "{loss:?} is too large");
        let wanted = match target {
            Target::Label => LABEL,
            Target::Class(class) => {
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
}
