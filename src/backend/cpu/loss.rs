//! Softmax cross-entropy.

use crate::backend::{Loss, Totals};

/// Adds the batch to `totals`; `dlogits` = softmax(logits) - target, overwritten. A batch has few logits, so one
/// thread does it, image by image and in order, which fixes the sum's bits.
pub(super) fn softmax_cross_entropy(
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
