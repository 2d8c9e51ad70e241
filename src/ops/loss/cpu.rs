//! Softmax cross-entropy on the CPU.

use super::{Loss, LossOps, ScoreGradient, ScoredClass, Totals};
use crate::device::{Cpu, Error, Place};
use crate::ops::flat::Power;

impl LossOps for Cpu {
    fn softmax_cross_entropy(
        &mut self,
        loss: &Loss,
        logits: &Vec<f32>,
        labels: &Vec<u8>,
        dlogits: Option<&mut Vec<f32>>,
    ) -> Result<(), Error> {
        let totals = self.state();
        softmax_cross_entropy(loss, logits, labels, dlogits.map(Vec::as_mut_slice), totals);
        let finite = totals.loss.is_finite();
        self.watch(finite, Place::Logits);
        Ok(())
    }

    fn score_gradient(&mut self, loss: &Loss, b: ScoreGradient<Self>) -> Result<(), Error> {
        score_gradient(loss, b);
        Ok(())
    }

    fn totals(&mut self) -> Result<Totals, Error> {
        Ok(*self.state())
    }

    fn set_totals(&mut self, totals: Totals) -> Result<(), Error> {
        *self.state() = totals;
        self.forget_fault();
        Ok(())
    }
}

/// Adds the batch to `totals`; `dlogits` = softmax(logits) - target, overwritten. A batch has few logits, so
/// one thread does it, image by image and in order, which fixes the sum's bits.
fn softmax_cross_entropy(
    loss: &Loss,
    logits: &[f32],
    labels: &[u8],
    mut dlogits: Option<&mut [f32]>,
    totals: &mut Totals,
) {
    let spread = f64::from(loss.smoothing) / loss.classes as f64;
    for (image, (logits, label)) in logits.chunks_exact(loss.classes).zip(labels).take(loss.n).enumerate() {
        let label = usize::from(*label);
        // The first of equal logits; a NaN anywhere makes the loss NaN below.
        let (best, largest) =
            logits.iter().enumerate().fold((0, f32::NEG_INFINITY), |(best, largest), (i, &v)| {
                if v > largest { (i, v) } else { (best, largest) }
            });
        let largest = f64::from(largest);
        let sum: f64 = logits.iter().map(|&v| (f64::from(v) - largest).exp()).sum();
        let log_sum = largest + sum.ln();
        let target = |i: usize| spread + if i == label { 1.0 - f64::from(loss.smoothing) } else { 0.0 };
        totals.loss +=
            logits.iter().enumerate().map(|(i, &v)| target(i) * (log_sum - f64::from(v))).sum::<f64>();
        totals.correct += u64::from(best == label);
        totals.images += 1;
        if let Some(dlogits) = &mut dlogits {
            let row = &mut dlogits[image * loss.classes..(image + 1) * loss.classes];
            for (i, (d, &v)) in row.iter_mut().zip(logits).enumerate() {
                *d = ((f64::from(v) - log_sum).exp() - target(i)) as f32;
            }
        }
    }
}

/// `dlogits` = softmax(logits) - target of each image, for its label or for a class, overwritten; for a
/// class, times what its probability weighs.
fn score_gradient(loss: &Loss, b: ScoreGradient<Cpu>) {
    let ScoreGradient { power, class, logits, labels, dlogits } = b;
    let &Loss { n, classes, smoothing } = loss;
    let spread = f64::from(smoothing) / classes as f64;
    let rows = logits.chunks_exact(classes).zip(dlogits.chunks_exact_mut(classes));
    for ((logits, dlogits), label) in rows.zip(labels).take(n) {
        let largest = logits.iter().fold(f32::NEG_INFINITY, |largest, &v| largest.max(v));
        let sum: f64 = logits.iter().map(|&v| (f64::from(v) - f64::from(largest)).exp()).sum();
        let probability = |v: f32| (f64::from(v) - f64::from(largest)).exp() / sum;
        let (class, factor) = match (class, power) {
            (ScoredClass::Label, _) => (usize::from(*label), 1.0),
            (ScoredClass::Number(class), Power::Square) => (class, probability(logits[class]).sqrt()),
            (ScoredClass::Number(class), Power::Absolute) => (class, probability(logits[class])),
        };
        for (i, (d, &v)) in dlogits.iter_mut().zip(logits).enumerate() {
            let target = spread + if i == class { 1.0 - f64::from(smoothing) } else { 0.0 };
            *d = (factor * (probability(v) - target)) as f32;
        }
    }
}
